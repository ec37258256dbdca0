package handshake

import "time"

// Message sizes. Every message of the protocol has exactly one size per suite, so no length is ever read from a peer.
const (
	// SizeM1 is suite || e || AEAD(P1).
	SizeM1 = 1 + dhSize + sizeP1 + tagSize
	// SizeEnrollM1 is suite || invite_id || e || AEAD(P1).
	SizeEnrollM1 = SizeM1 + inviteIDSize
	// SizeM2 is ct || e || AEAD(s) || AEAD(P2).
	SizeM2 = kemCiphertextSize + dhSize + (dhSize + tagSize) + (sizePayload + tagSize)
	// SizeM3 is AEAD(s) || AEAD(P3).
	SizeM3 = (dhSize + tagSize) + (sizePayload + tagSize)
	// SizeR1 is 0x01 || e || AEAD(ek), the first message of a rekey.
	SizeR1 = 1 + dhSize + kemKeySize + tagSize
	// SizeR2 is 0x02 || ct || e || AEAD(""), the second.
	SizeR2 = 1 + kemCiphertextSize + dhSize + tagSize
	// SizeR3 is 0x03, the third.
	SizeR3 = 1

	dhSize            = 32   // X25519
	tagSize           = 16   // both AEADs
	kemKeySize        = 1184 // ML-KEM-768 encapsulation key
	kemCiphertextSize = 1088 // ML-KEM-768 ciphertext
	inviteIDSize      = 8
	sizeP1            = 2 + kemKeySize // version || flags || ek
	sizePayload       = 1024           // P2, P3: len u16 || CBOR || zeros
	maxPayloadCBOR    = sizePayload - 2
)

// Deadlines. A peer that means it answers within milliseconds; every limit below only bounds what a stalled one can hold.
const (
	// TimeoutM1 is how long a connection may take, from accept, until message 1 is complete.
	TimeoutM1 = 2 * time.Second
	// TimeoutHandshake is how long a whole handshake may take: from accept, or from the call of Dial.
	TimeoutHandshake = 5 * time.Second
)

// Bounds of the acceptor.
const (
	// replayEntries is how many recent ephemeral keys are remembered. A replayed M1 costs one M2 and gives the replayer
	// nothing, so forgetting old ones is harmless.
	replayEntries = 4096
	// oldGatesPerSecond bounds the M1 of all sources together that are tried against gates before the previous one: a
	// revoked member keeps the old gates and must not buy more work with them than this.
	oldGatesPerSecond = 20
	// oldGatesPerSource bounds the same per source.
	oldGatesPerSource = 1
	// maxOldGates bounds the gates tried for one M1: 180 days of one rotation a day, the most the protocol makes.
	maxOldGates = 180
	// workQueue is how many handshakes may wait for a processor; more are turned away at once.
	workQueue = 64
	// scratchSize is the memory of one handshake before its peer is known.
	scratchSize = 8192
)

// Bounds of the budget for connections of unproven peers.
const (
	// budgetTotal is the number of connections that have not proved anything yet: at 8 KiB each, 2 MiB.
	budgetTotal = 256
	// budgetKept is the part of the total, in percent, that only addresses of the peer table may use, so that strangers
	// cannot lock out the mesh.
	budgetKept = 50
	// budgetPerSource is per IPv4 address or IPv6 /64, the unit one host controls.
	budgetPerSource = 8
	// budgetPerNetwork is per IPv4 /24 or IPv6 /48, the unit one site controls.
	budgetPerNetwork = 64
	// budgetDropFrom is how full the strangers' part is, in percent, when random early drop begins.
	budgetDropFrom = 50
	// budgetPerMember is the number of connections that one address with a FULL session may have waiting for their first
	// bytes: 1,000 simultaneous opens must not be refused.
	budgetPerMember = 1024
	// budgetMembers bounds those of all such addresses together, below the usual limit of file descriptors.
	budgetMembers = 16384
	// handshakesPerSecond and handshakesBurst bound the handshakes (0x01, 0x02, 0x11) of one source.
	handshakesPerSecond = 20
	handshakesBurst     = 5
	// sourceEntries bounds each table of sources; the one not seen for longest makes room.
	sourceEntries = 4096
)
