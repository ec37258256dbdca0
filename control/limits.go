package control

import "time"

const (
	// MaxAuditPage bounds one page of the audit log: 1,000 records are ~400 KB of JSON, and the client asks again for more.
	MaxAuditPage = 1000
	// MaxWait bounds how long a request may wait for acknowledgements or readiness.
	MaxWait = 5 * time.Minute

	// MaxPolicyText bounds a policy file: two thousand grants in a hundred bytes each, and as much again.
	MaxPolicyText = 256 << 10
	// MaxPolicyList bounds each list of accesses and failures of a policy's result: nobody reads more, and the numbers are beside them.
	MaxPolicyList = 500
	// maxFileName bounds the name of a file in errors: a path of Linux.
	maxFileName = 4096

	// maxBody bounds a request: the largest, a signed root of 56 KiB in base64, has 75 KiB. A policy
	// has a bound of its own.
	maxBody = 96 << 10
	// maxDrop bounds what a cutoff is told not to repeat: each is a word of a list a person has read.
	maxDrop = 256
	// maxRoot is the longest root of the protocol.
	maxRoot = 56 << 10
	// maxHeader bounds a request's header lines; ours has four of them.
	maxHeader = 16 << 10
	// maxAnswer bounds what a client reads of one answer: the status of a mesh of 10,000 members has ~5 MB.
	maxAnswer = 32 << 20
	// maxEvent bounds one line of an event stream.
	maxEvent = 64 << 10
	// maxConns bounds the owner's connections to the socket; maxHeld of them may be held by `connect`, so that a script that
	// opens without end leaves room for a revocation. maxOtherConns bounds those of all other users together.
	maxConns      = 256
	maxHeld       = 224
	maxOtherConns = 32
	// maxProfile bounds how long one profile or trace may take; a profile costs a few per cent, a trace megabytes a second.
	maxProfile     = 60 * time.Second
	defaultProfile = 10 // seconds, where the request names none
	// maxRefusals bounds the clients of the owner, and of all others, that are being told that there is no place: 16 KiB each; more
	// are closed without a word.
	maxRefusals = 16
	// maxAllow bounds the subjects of one expose and the users of one connect.
	maxAllow = 64
	// maxNote is the protocol's bound of a grant's note.
	maxNote = 200
	// maxReason bounds the reason of a revocation, which goes into the audit log.
	maxReason = 200
	// maxUses bounds one invite: beyond a rack of machines, make another.
	maxUses = 100
	// maxInviteTTL bounds an invite's life: it is a bearer secret.
	maxInviteTTL = 7 * 24 * time.Hour
	// maxGuest bounds the membership of a guest: the longest certificate an issuer of ours may give.
	maxGuest = 365 * 24 * time.Hour
	// maxAllowed bounds the services allowed with an enrolment.
	maxAllowed = 16
	// maxRequestFile bounds a request file, whose longest form has 1.8 KB.
	maxRequestFile = 2048
	// maxAt is the last time a decision can be asked for, the end of the year 9999, as of certificates.
	maxAt = 253402300799
	// maxQuery bounds one filter of a query.
	maxQuery = 256

	// eventDelay is how late a client hears of a connection that was opened.
	eventDelay = 5 * time.Millisecond
	// headerTimeout and bodyTimeout bound a client that sends slowly; it is on this machine.
	headerTimeout = 5 * time.Second
	bodyTimeout   = 5 * time.Second
	// idleTimeout closes kept connections.
	idleTimeout = time.Minute
	// maxSamples bounds one family of metrics, maxLabels the labels of a sample, maxLabel the characters of a label's value: a scraper refuses a
	// page that is too large whole, and names are what others choose.
	maxSamples = 1024
	maxLabels  = 8
	maxLabel   = 128
	// answerTimeout bounds the work of one request, beyond what it asked to wait.
	answerTimeout = 30 * time.Second
	// verifyTimeout bounds a verification of the audit log: 10 million records at 1 µs of hashing, with slow disks.
	verifyTimeout = 10 * time.Minute
	// writeTimeout bounds a client that does not read its answer.
	writeTimeout = 10 * time.Second
	// drainTimeout is how long a stopping server waits for answers being written.
	drainTimeout = 2 * time.Second
	// refuseTimeout bounds how long a connection beyond the bounds is waited for: its client is on this machine and writes at once.
	refuseTimeout = 200 * time.Millisecond
	// readyPoll is how often a client looks for the socket of a daemon that is starting.
	readyPoll = 20 * time.Millisecond
	// probeTimeout bounds the question whether a daemon answers on an existing socket.
	probeTimeout = time.Second
	// dialTimeout bounds a client's connect: the daemon's backlog is full or it hangs.
	dialTimeout = 5 * time.Second

	// maxFrame is one frame of a spliced connection: four stream records.
	maxFrame = 64 << 10
	// maxSocketPath is sun_path without its final zero on Linux; the BSDs have 103.
	maxSocketPath = 107
	// maxProbes bounds the search for a free loopback address: collisions of 16-bit hashes among a few services.
	maxProbes = 32
	// maxGroups bounds the supplementary groups read of a caller: the kernel's own limit.
	maxGroups = 65536
)
