package trust

import "time"

const (
	// MaxRoot is the longest root envelope: 64 issuers with 16 tags each, 15 keys and the signatures of two roots stay below it,
	// and it fits one control record.
	MaxRoot = 56 << 10
	// MaxEntry is the longest entry envelope. It is a little less than 32 KiB so that two of them, as evidence, fit one control
	// record of 65,535 bytes.
	MaxEntry = 32<<10 - 512
	// MaxHead is the longest head envelope: all its fields are of bounded width.
	MaxHead = 320
	// MaxReceipt is the longest receipt envelope: all its fields are of bounded width.
	MaxReceipt = 320
	// MaxFrame is the longest sync frame, two entries as evidence. The record it travels in holds 65,518 bytes of body.
	MaxFrame = 2*MaxEntry + 16

	// MaxProposal is the longest file of a proposed root or of a root chain: at a kilobyte of root and a change a month, 300 years;
	// or 56 roots of the largest size.
	MaxProposal = 4 << 20

	// maxRootKeys and maxIssuers bound a root so that it stays below MaxRoot.
	maxRootKeys = 15
	maxIssuers  = 64
	// maxHeights bounds the issuers whose progress is remembered of one peer: those of four roots that have none in common.
	maxHeights = 4 * maxIssuers
	// maxIssuerTags bounds what an issuer lists of tags; families of tags are one "k:*".
	maxIssuerTags = 16
	// MaxOps is the most ops of an entry: 256 short enrolments fill 22 kB.
	MaxOps = 256
	// MaxNote is the longest note of a grant.
	MaxNote = 200
	// maxReason is the largest reason code of a removal; reasons are shown, never interpreted.
	maxReason = 255
	// maxTime bounds every time (the year 36812), so that sums of times cannot overflow.
	maxTime = 1 << 40
	// maxSeq bounds sequence numbers, serials, grant ids, generations and versions for the same reason.
	maxSeq = 1 << 53

	// renewGrace is how long after its end a logged certificate may still renew itself (protocol §3).
	renewGrace = 30 * 24 * 3600
	// clockSlack is how far a clock may be off before a time counts as not begun, or as from the future.
	clockSlack = 300
	// floorStep is how far the time floor rises before it is written again: a crash forgets at most this much of it.
	floorStep = 60

	// maxStrays and maxStrayBytes bound the removals kept from branches of a forked issuer that this node does not hold. A thief
	// who fills them has cost memory once; only a root cutoff ends his influence anyway.
	maxStrays     = 1024
	maxStrayBytes = 4 << 20
	// maxForkRoots bounds how many contradicting roots of one version are kept: two prove the fork, the rest is for the operator.
	maxForkRoots = 4
	// MaxRotations is how many rotated keys of a node are followed: an issuer makes no more, since what was granted to the first would
	// be lost.
	MaxRotations = maxSuccession - 1
	// maxSuccession bounds how many rotations are followed from a grant to the node that holds it now: one per month for 20 years.
	maxSuccession = 256
	// maxNearScan bounds the search for the grant that nearly matched: it only serves an error message.
	maxNearScan = 4096

	// maxTagSets bounds the sets of tags that members share in memory; further ones are each member's own.
	maxTagSets = 4096

	// cacheChunk is the piece in which the cached state is written, hashed and read: reading needs so much memory beside the state.
	// maxCacheChunks bounds the file, 256 MiB: more than a million members; maxCacheHead is their hashes and what is signed with them.
	cacheChunk     = 256 << 10
	maxCacheChunks = 1024
	maxCacheHead   = maxCacheChunks*32 + 512
	// maxProgram bounds the name of the program in the cached state.
	maxProgram = 200
	// cacheStep is how many frames behind the cached state make it worth writing again while the log is open, and cacheEnd when it is
	// closed: to verify them takes half a second, or a sixteenth of that.
	cacheStep = 4096
	cacheEnd  = 256
	// enrolmentSlab is how many enrolments are allocated at once when a cached state is read.
	enrolmentSlab = 64

	// unsolicitedRate and unsolicitedBurst bound entries a peer may push that were not asked for (protocol §7).
	unsolicitedRate  = 200
	unsolicitedBurst = 200
	// requestRate is how many entries per second all peers together are asked for: at 46 µs for a signature and as much for the
	// rest this is a quarter of a core.
	requestRate = 2500
	// wantSpan is the most entries of one WANT, and maxWants how many may be outstanding to one peer: together half of the 512
	// records a session queues for a slow peer.
	wantSpan = 64
	maxWants = 4
	// serveRate and serveBurst bound what a peer may make us read for it, in entries: all its outstanding wants at once, and
	// twice as fast as anybody asks.
	serveRate  = 2 * requestRate
	serveBurst = 2 * maxWants * wantSpan
	// HurryRate is requestRate of a newcomer: a little less than what it is served, for what is asked beyond that is not answered.
	HurryRate = serveRate * 4 / 5
	// rootSpan is how many roots answer one VEC or WANT: roots change once a year.
	rootSpan = 16
	// wantTimeout is when an unanswered WANT is given up and may go to another peer.
	wantTimeout = 5 * time.Second
	// askRate and askBurst bound HASH_AT questions of a peer: a search takes at most 53.
	askRate  = 20
	askBurst = 64
	// vecInterval and vecMinGap say when VEC is sent: each 30 s, and on a change at most once per second.
	vecInterval = 30 * time.Second
	vecMinGap   = time.Second
	// searchPause is how long after the start of a search for a fork point the same issuer is not searched again at the same
	// peer: one that answers falsely costs one search per pause.
	searchPause = 30 * time.Second

	// maxQuarantine bounds the hashes remembered of entries whose application failed in this program.
	maxQuarantine = 1024
	// maxShared bounds the results that the logs of a simulation share; each keeps the difference of two states alive.
	maxShared = 4096
	// maxUnwritten is how many received records may wait for the disk before further ones that do not remove are refused: a full
	// disk must not fill the memory.
	maxUnwritten = 8192
)
