package session

import "time"

// Record sizes. They follow from the u16 length and the 16-byte authentication tag.
const (
	// tagSize is what both AEADs add to a plaintext.
	tagSize = 16
	// headerSize is the length in front of each record.
	headerSize = 2
	// minRecord is the smallest len: a type and nothing else.
	minRecord = 1 + tagSize
	// maxControlRecord is the largest len of a control record: what a u16 holds.
	maxControlRecord = 65535
	// MaxBody is the longest body of a control record. The largest object, a root of 56 KiB, fits.
	MaxBody = maxControlRecord - minRecord
	// MaxData is the most application data in one stream record: larger records gain nothing once several share a system call.
	MaxData = 16384
	// maxStreamRecord is the largest len of a stream record.
	maxStreamRecord = MaxData + minRecord
	// streamFrame is the room a full stream record takes on the connection.
	streamFrame = headerSize + maxStreamRecord
	// maxGather is how many full records one read or one write moves: 256 KiB, after which a system call costs nothing measurable.
	maxGather = 16
	// maxStreamBody bounds the body of every stream record that is not data: the largest, OPEN, has a name and a node id.
	maxStreamBody = 256
)

// The first message of a stream connection.
const (
	// FirstByte is what a stream connection begins with.
	FirstByte = 0x20
	// maxRecord0 is the most record 0 may take, its length included: an OPEN with the longest name needs 140 bytes.
	maxRecord0 = 512
	// S1Timeout is how long a connection may take to complete S1, counted from accept.
	S1Timeout = 2 * time.Second
	// DeadPath is how long sent data may stay unacknowledged, while it is sent again and again, before the path counts as dead: from 1.3 s of
	// round trip on TCP repeats itself less than four times in it. deadRetransmits keeps one lost packet from being enough, deadProbes is of
	// questions to a closed window, seconds to minutes apart.
	DeadPath        = 15 * time.Second
	deadRetransmits = 2
	deadProbes      = 6
	// maxEarly is the most data a sender may send before ACCEPT. The receiver holds none of it: it stays in the kernel, whose window
	// before the first read is of this size.
	maxEarly = 64 << 10
	// maxFirst is the most that goes out with OPEN: most requests are smaller, and what is larger gains nothing from half a round trip.
	maxFirst   = 4 << 10
	firstFrame = headerSize + minRecord + maxFirst
	// AnswerTimeout is how long the opener waits for ACCEPT, REFUSE or WARM before it gives the counter up.
	AnswerTimeout = 5 * time.Second
)

// The accept window of a keyring.
const (
	// windowIdle is how many tags ahead of the highest accepted counter are valid on an idle session: 2 KiB of table.
	windowIdle = 32
	// windowMax is how far use can grow the window, and how many holes are remembered: one for each stream a peer may have.
	windowMax = 4096
	// windowSpan is how far below the highest accepted counter a hole may lie: what the most opens per second pass in holeLife.
	windowSpan = 1 << 16
	// windowGrowth is how many tags of window each recent open earns.
	windowGrowth = 4
	// windowEpoch is how long an open counts as recent.
	windowEpoch = 10 * time.Second
	// holeLife is how long a counter that was overtaken stays valid: longer than S1Timeout and AnswerTimeout together.
	holeLife = 10 * time.Second
	// RetireGrace is how long tags of generation g stay valid after g+1 is in use on both sides.
	RetireGrace = 10 * time.Second
	// DuplicateGrace is how long the tags of a session that lost to a duplicate stay valid.
	DuplicateGrace = 5 * time.Second
	// maxWaiting bounds the connections that wait for the window to reach their tag: four addresses' budgets of 1,024.
	maxWaiting = 4096
)

// Limits of one key and of one session (protocol.md §6).
const (
	// rekeyBytes under one key are due for a new one.
	rekeyBytes = 64 << 30
	// rekeyRecords under one key are due for a new one.
	rekeyRecords = 1 << 32
	// rekeyBusy is the age at which a session that moved more than heartbeats is due.
	rekeyBusy = 120 * time.Second
	// rekeyIdle is the age at which an idle session is due.
	rekeyIdle = 15 * time.Minute
	// rekeyGrace after the trigger the session is over.
	rekeyGrace = 60 * time.Second
	// rekeyJitter is the largest part taken off each trigger, so that the sessions of a mesh do not rekey in step.
	rekeyJitter = 0.10
	// maxKeyBytes under one key, and the key refuses to seal or open: twice the trigger, far below what either AEAD allows.
	maxKeyBytes = 128 << 30
	// maxKeyRecords under one key, and the key refuses: twice the trigger.
	maxKeyRecords = 1 << 33
	// OrphanBytes is what a stream may still move per direction after its session ended without a replacement of its key.
	OrphanBytes = 64 << 30
	// OrphanLife is how long such a stream may live.
	OrphanLife = 24 * time.Hour
	// maxChain is how many keys a receiver keeps for generations its sender has not announced yet.
	maxChain = 64
	// announceAfter unannounced generations an idle sender announces the newest, so that no idle stream meets maxChain.
	announceAfter = 16
)

// Time limits of the control session.
const (
	// writeTimeout bounds the write of one control record: a peer that takes nothing for this long is dead.
	writeTimeout = 15 * time.Second
	// closeWriteTimeout bounds the attempt to write CLOSE or RESET: it is for a socket with room, not for waiting.
	closeWriteTimeout = 20 * time.Millisecond
	// eofTimeout bounds how long Stream.Close waits for room for its EOF record.
	eofTimeout = 5 * time.Second
	// LimitedLife is how long a session may stay below FULL.
	LimitedLife = 30 * time.Second
	// LimitedBytes is what a session below FULL may receive: several thousand entries, or every root there ever was.
	LimitedBytes = 4 << 20
)

// Contents of control bodies. Every list is also bounded by [MaxBody].
const (
	// maxObject bounds certificates, beacons, requests and receipts; the largest, a beacon's envelope, has 1,024 bytes.
	maxObject = 2048
	// maxInviteText bounds the invite of a rotation: its text has at most 1,664 bytes.
	maxInviteText = 2048
	// maxLeftEntry bounds the entry that proves a leave: what one entry of the log may have.
	maxLeftEntry = 32 << 10
	// maxWitness bounds a checkpoint with its consistency proof, 63 hashes at most, and signatures.
	maxWitness = 8192
	// maxServices is the longest service list one node announces to one peer.
	maxServices = 256
	// maxServiceName is one DNS label.
	maxServiceName = 63
	// maxReason bounds the sentence about a service's state.
	maxReason = 120
	// maxHealth bounds the encoded health summary of a heartbeat.
	maxHealth = 512
	// maxVersion bounds the version text in a heartbeat.
	maxVersion = 32
	// maxDial is the most connections one DIAL asks for.
	maxDial = 4
	// maxGrantedPeers is how many peer records a newcomer is given: enough to find the mesh if most are offline.
	maxGrantedPeers = 24
	// firstIgnored is the first kind, key or record type that is ignored when unknown; lower ones end the session.
	firstIgnored = 128
)

// Unknown tags per source (protocol.md §10).
const (
	// tagRate is how many unknown tags a source may show per second.
	tagRate = 20
	// tagBurst is how many at once.
	tagBurst = 64
	// tagPenalty is how long 0x20 from a source is dropped after that.
	tagPenalty = 10 * time.Second
	// tagSources bounds the table of sources; the one unseen longest is forgotten first.
	tagSources = 4096
)

// Buffers of streams. A buffer is out while it holds bytes on their way, never while a stream is idle.
const (
	// poolEasy is how many bytes may be out before buffers become a quarter of their size: enough for 30 bulk streams.
	poolEasy = 8 << 20
	// poolTight is where they become one record: a thousand slow streams stay below 96 MiB.
	poolTight = 24 << 20
)

// Parked connections (performance.md).
const (
	// MaxParked is how many parked connections one peer may have.
	MaxParked = 8
	// ParkOpener is the age at which the opener closes a parked connection.
	ParkOpener = 60 * time.Second
	// ParkAcceptor is the age at which the other end closes it: later, so that the opener never uses one that is going away.
	ParkAcceptor = 90 * time.Second
)
