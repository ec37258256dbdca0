package audit

import "time"

const (
	// maxChain is how many logs are followed back through rotations: no node has had more keys than an issuer makes.
	maxChain = 256
	// The longest text of each field of a leaf. A node id in its compact form has 83 bytes, a service name at most 63; a
	// longer free text is cut, because a refused record would let a hostile peer choose what is not written down.
	maxCode    = 48
	maxActor   = 160
	maxTarget  = 256
	maxReason  = 256
	maxGrant   = 128
	maxSession = 64
	maxChange  = 512

	// maxLeaf bounds one encoded leaf: the sum of the fields above, nine-byte integers and CBOR heads, rounded up. A test
	// builds the largest event and encodes it.
	maxLeaf = 2048

	// maxTimeMs is the year 9999: a time that does not fit a reader's calendar is refused.
	maxTimeMs = 253402300799999

	// batchEntries and batchBytes bound one group commit (mesh.md): what waits longer than one flush goes into the next.
	batchEntries = 64
	batchBytes   = 60 << 10

	// maxFrame bounds one journal frame: a full batch, 64 heads of its leaves, a root and a signature.
	maxFrame = batchBytes + maxLeaf + 1024

	// maxQueue bounds what Later may leave in memory, beyond which the log is degraded: the ends of 16,384 streams at 250 bytes,
	// all that four peers can have, arrive at once while an SD card makes 50 commits a second.
	maxQueue = 4 << 20

	// maxUnsaved bounds the entries that are in the journal but not yet in tiles: they are held in memory. At unsavedSoon
	// Run makes a checkpoint before its time, at maxUnsaved Append and the flush
	// of what Later left do it first.
	unsavedSoon = 2048
	maxUnsaved  = 8192

	// journalBytes is when a journal is replaced by a new one at a checkpoint: at start at most two of them are read.
	journalBytes = 1 << 20

	// checkpointEvery, laterWithin and retryEvery are §13: a checkpoint each 60 s, closes and counters durable within 1 s,
	// resumption within 5 s of the disk's recovery.
	checkpointEvery = 60 * time.Second
	laterWithin     = 500 * time.Millisecond
	retryEvery      = 2 * time.Second
	damagedEvery    = 5 * time.Minute // somebody may have restored a backup

	// historyEntries and historyEvery thin the history of signed checkpoints: one is kept when that many entries, or that
	// much time, lie behind the last one kept. An edit made with rebuilt tiles is narrowed down to such a step.
	historyEntries = tileWidth
	historyEvery   = time.Hour

	// denialsPerSecond is how many denials of one actor are written one by one in a window of denialWindow; the rest
	// becomes one record. denialActors bounds the table of actors, those beyond it share one window.
	denialsPerSecond = 10
	// repeatsPlain is how many denials that are alike but for their moment are written one by one; while more come their number is written
	// once per repeatWindow, which is also what a crash can lose of it. repeatKinds bounds the table, 2 KiB each at the most; a denial beyond
	// it is counted by its actor alone. repeatActorKinds is an actor's part of it: about one merged record a second beside its
	// denialsPerSecond, and more than a program asks for that is set up wrong.
	repeatsPlain     = 3
	repeatWindow     = 60 * time.Second
	repeatKinds      = 1024
	repeatActorKinds = 64
	denialWindow     = time.Second
	denialActors     = 1024

	// maxNote bounds a signed checkpoint: three lines of text, two own signatures, maxCosignatures lines of 256 bytes.
	maxNote         = 8 << 10
	maxCosignatures = 16

	// maxProblems bounds a report; the first bad entry is always in it.
	maxProblems = 64

	// maxReadBatch bounds one Read.
	maxReadBatch = 4096

	// maxDirs bounds the memory of directories known to exist.
	maxDirs = 64
)
