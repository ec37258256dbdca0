package beacon

import "time"

// The datagram.
const (
	// nonceSize is XChaCha20's: wide enough to be drawn at random for ever.
	nonceSize = 24
	// tagSize is Poly1305's.
	tagSize = 16
	// Overhead is what sealing adds to the padded plaintext.
	Overhead = nonceSize + tagSize
	// BlockSize is the padding step: the length of a datagram tells an outsider no more than a number from 1 to MaxBlocks.
	BlockSize = 256
	// MaxBlocks keeps every datagram below the smallest MTU IPv6 allows, so a beacon is never fragmented.
	MaxBlocks = 4
	// MaxDatagram is the longest datagram that is read at all.
	MaxDatagram = Overhead + MaxBlocks*BlockSize
	// lengthSize is the u16 before the envelope.
	lengthSize = 2
	// MaxEnvelope is the longest signed envelope a datagram carries.
	MaxEnvelope = MaxBlocks*BlockSize - lengthSize
	// MaxPayload is the longest payload: with one signature it fills an envelope of MaxEnvelope bytes almost exactly.
	MaxPayload = 900
	// AskingBlocks is the least padding of a beacon that asks for an answer: a payload with every field at its maximum needs
	// no more, so an answer is never longer than its question.
	AskingBlocks = 2
	// MaxKeys is the most generations of the group secret tried: one a day for the 180 days an old one is kept, and some.
	MaxKeys = 192
)

// Health summaries.
const (
	// MaxSummary is the longest summary, as package session bounds it with room for what later versions add.
	MaxSummary = 768
	// HealthLife is how long a summary is passed on and shown: what a node said a day ago says nothing of it today.
	HealthLife = 24 * time.Hour
)

// The schedule (mesh.md).
const (
	// DefaultInterval is the seeds' beacon interval.
	DefaultInterval = 5 * time.Second
	// MinInterval and MaxInterval bound the interval a sender may choose and a receiver believes: faster would be a flood,
	// slower would make "stale at four intervals" meaningless.
	MinInterval = 5 * time.Second
	MaxInterval = 60 * time.Second
	// burstCount beacons go out a burstStep apart after a start or a change, each up to burstJitter late so that hosts that
	// start together (power returns) do not collide three times.
	burstCount  = 3
	burstStep   = time.Second
	burstJitter = 250 * time.Millisecond
	// burstPause is how long after the beginning of a burst another one is the same burst: link-up, a new address and a wake come
	// together.
	burstPause = time.Second
	// latenessDivisor reserves the last 1/50 of the interval (100 ms of 5 s) for the lateness of timers, so that the gap seen on
	// the wire stays at or below the interval.
	latenessDivisor = 50
)

// The receiver (protocol §8).
const (
	// sourceEvery and sourceBurst: 20/s, burst 40 per source address. Fifty daemons on one machine send 12/s.
	sourceEvery = time.Second / 20
	sourceBurst = 40
	// maxSources is how many source addresses (and pairs of source and node) have a bucket; the least recently used one is forgotten.
	maxSources = 4096
	// globalEvery and globalBurst: work for 2000 verified beacons per second, at 50 µs a tenth of a core.
	globalEvery = time.Second / 2000
	globalBurst = 2000
	// unopenedRefund is what a datagram no key opens gets back of its charge, because it costs 2 µs and not 50: a flood of noise at
	// 10,000/s then leaves half of the budget to real beacons.
	unopenedRefund = globalEvery * 9 / 10
	// olderEvery and olderBurst: 50 datagrams per second may be tried with every older generation.
	olderEvery = time.Second / 50
	olderBurst = 50
	// pairEvery and pairBurst: 1/s, burst 5 per source address and node id, before a signature is verified.
	pairEvery = time.Second
	pairBurst = 5
	// nodeEvery and nodeBurst: 2/s per proven node; a burst and the answers to its peers' probes fit in six.
	nodeEvery = time.Second / 2
	nodeBurst = 6
	// answerEvery and answerBurst: 100 answers per second in all; signing and sealing one costs 25 µs.
	answerEvery = time.Second / 100
	answerBurst = 200
	// answerSourceEvery and answerSourceBurst: one answer per second and source, so that a forged source address draws no stream.
	answerSourceEvery = time.Second
	answerSourceBurst = 3
	// replayMemory is how long the newest (epoch, counter) of a silent node is remembered.
	replayMemory = 10 * time.Minute
	// sweepEvery is how often forgotten nodes are removed from memory.
	sweepEvery = time.Minute
	// maxKnown bounds the remembered nodes that are enrolled: well above the largest mesh planned for, 10,000.
	maxKnown = 1 << 16
	// maxStrangers bounds the remembered nodes that are not enrolled, of which a member can invent any number.
	maxStrangers = 256
	// maxSkew is how far a sender's clock may be off before its beacon says nothing about when it was sent.
	maxSkew = 120 * time.Second
)

// The sockets.
const (
	// DefaultPort is the UDP port beacons are sent to.
	DefaultPort = 7477
	// rejoinEvery is how often the IPv6 group is joined anew: switches forget members whose reports were lost.
	rejoinEvery = time.Minute
	// readBuffer is the kernel's queue per socket: a second of beacons of 1,000 hosts that all start together.
	readBuffer = 512 << 10
	// controlBuffer holds the control message that names the interface, with room for ones not asked for.
	controlBuffer = 128
	// readPause is the wait after a failed read, so that a persistent error does not spin.
	readPause = 100 * time.Millisecond
	// portAttempts is how often a port free for both families is looked for.
	portAttempts = 16
)
