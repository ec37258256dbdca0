package durable

import "io/fs"

const (
	// filePerm and dirPerm are the only modes this package creates: what it writes belongs to one user.
	filePerm fs.FileMode = 0o600
	dirPerm  fs.FileMode = 0o700

	// maxFrameCeiling bounds the maxFrame a log may be opened with. The largest object of the protocol (a root) has
	// 56 KiB; recovery reads a whole frame into memory, so a wild value must not get through.
	maxFrameCeiling = 1 << 20

	// groupFrames and groupBytes bound one flush (mesh.md, "Durable files"). They bound the wait of the last
	// appender in a group and, because at most two groups are unsynced at any time (one being flushed, one filling),
	// how much a crash can tear: see tailLimit.
	groupFrames = 64
	groupBytes  = 64 << 10

	// growStep is how far a log file is filled with zeros ahead of its end: 64 KiB are 200 typical records between
	// two extensions, and few enough to cost an SD card no more than some milliseconds.
	growStep = 64 << 10

	// pointStep is the distance of the entries of the in-memory frame index: reading one frame reads at most this
	// much before it, and a log of 1 GiB needs 1 MiB of index.
	pointStep = 16 << 10

	// scanBuffer is the read size of scans: large enough that system calls do not count, small enough for a heap
	// that must stay below 15 MB.
	scanBuffer = 64 << 10

	// maxSegment is the largest number that fits the six digits of a segment's name. A segment is added only after a
	// failed fsync, so a million means a dead disk.
	maxSegment = 999_999

	// maxTempTries bounds the search for a free temporary name: as many writers may replace one file at once.
	maxTempTries = 1000

	// maxTornCopies bounds the search for a free name of a side file at one offset: each try means another crash at
	// that very byte with different content.
	maxTornCopies = 100

	// reserveSlices is how often a reserve can help: each rescue frees one slice, not all, so that one flood of
	// records cannot eat the room of the revocation after it.
	reserveSlices = 4
	// reserveMin and reserveMax bound a reserve: a slice must hold a few blocks of any file system; more than
	// 64 MiB kept back is a typing error.
	reserveMin = 64 << 10
	reserveMax = 64 << 20

	// lockReadMax bounds what is read of a lock file: a process number and a newline.
	lockReadMax = 32
)

// tailLimit is the longest run of bytes that can be unsynced at the end of a log: two groups, each of groupBytes or one
// frame with its mark if that is longer. A damaged tail longer than this was damaged by something else than a crash.
func tailLimit(maxFrame int) int64 {
	return 2 * int64(max(groupBytes, maxFrame+recordHeader+markSize))
}
