package mesh

import (
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
)

// Bounds on what peers, or their absence, can make a node hold. Counts are per node unless they say otherwise.
const (
	// maxSessions is the most sessions: about 8 KiB each, 32 MiB.
	maxSessions = 4096
	// maxSessionsPeer is the most sessions with one peer: two dialling each other, each replacing one.
	maxSessionsPeer = 4
	// maxStreamsPeer is the most streams with one peer, both ways together: what a busy service needs, and 4,096 descriptors.
	maxStreamsPeer = 4096
	// opensPerSecond is how many streams a peer may open per second, and at once: 1,000 simultaneous opens must not be refused.
	opensPerSecond = 5000
	// denialsPerSecond is how many of a peer's opens are decided and denied per second, and at once: more is a peer that guesses
	// names, and each costs a decision and a record that waits for the disk.
	denialsPerSecond = 50
	// denialPeers is how many budgets for denials are kept before full ones are forgotten; with those in use there are never more than
	// members.
	denialPeers = 1024
	// recordsPerSecond and recordsBurst bound the peer records and health summaries of one link, each of which costs a signature check of
	// 50 µs: a peer tells 33 of each when the session begins, its own again when its addresses change, and two of each for each of the 20
	// questions a second that it takes.
	recordsPerSecond = 80
	recordsBurst     = 256
	// maxEnrolments is the most enrolment sessions at a time: each is shown the whole log. maxEnrolmentsSource is for one host, which
	// needs one and may have left one half open; maxEnrolmentsInvite for one invite, so that one that got about leaves room for others.
	maxEnrolments       = 16
	maxEnrolmentsSource = 4
	maxEnrolmentsInvite = 8
	// eventQueue bounds events waiting for the core. Readers that fill it wait: their peers feel TCP's back-pressure.
	eventQueue = 1024
	// linkQueue bounds control records waiting for a peer that takes them slowly; a peer that lets it fill is cut off.
	linkQueue = 512
	// linkUrgent is the queue kept for revocations, which must not stand behind anything else.
	linkUrgent = 64
	// eventBuffer bounds what a slow subscriber has waiting; older events are dropped and Missed tells how many.
	eventBuffer = 256
	// acceptBacklog is how many accepted streams may wait for Accept; the next is refused as unavailable.
	acceptBacklog = 128
	// maxServicesTold is the longest list of services told to one peer: with names and reasons at their longest, one record.
	maxServicesTold = 256
	// maxServiceReason bounds the sentence about a service's state, as the record that carries it does.
	maxServiceReason = 120
	// maxGrantedPeers is how many peer records a newcomer is given: enough to find the mesh with most of them gone.
	maxGrantedPeers = 24
	// tailEntries is how many of its newest entries an issuer sends with an answer: its own enrolment and what came at the same time.
	tailEntries = 16
	// maxSeedAddresses bounds the addresses one seed's name may stand for.
	maxSeedAddresses = 8
	// maxEndpointPeers bounds the peers of which something is remembered beyond the log.
	maxEndpointPeers = 16384
	// maxPins bounds the names this node has ever used: one per member of a large mesh.
	maxPins = 16384
	// maxPinsFile bounds the file of pins: a name and an id for each.
	maxPinsFile = 2 << 20
	// maxGoodTime is the last second of the year 9999, the largest time in the file of known addresses.
	maxGoodTime = 253402300799
	// pinsPerChunk keeps each CBOR list within the dialect's bound of 512.
	pinsPerChunk = 500
	// maxDecisions bounds how often a decision starts over because trust moved under it: a node under a storm of entries refuses
	// rather than spins.
	maxDecisions = 8
	// dialAttempts is how often a stream that was not answered is tried on another session or connection.
	dialAttempts = 3
)

// Times.
const (
	// streamGrace is how long streams outlive the last full session of their peer: a dead path is noticed after 20 s and replaced in
	// a few more.
	streamGrace = 30 * time.Second
	// unrecordedGrace is how long running streams may go on unrecorded under UnrecordedDrain: a full disk is often cleared in time.
	unrecordedGrace = 60 * time.Second
	// housekeepingEvery is how often streams are authorised again without a cause, their paths and limits looked at and tables swept: the bound
	// between an expiry and its effect.
	housekeepingEvery = 5 * time.Second
	// servicesDelay gathers changes of services before peers are told; they must hear within a second.
	servicesDelay = 100 * time.Millisecond
	// bindingLife is how long a binding, and with it a Noise static key, may be presented, in seconds.
	bindingLife = 24 * 3600
	// rebindEvery is half of it, so that what is presented is always good for as long again.
	rebindEvery = 12 * time.Hour
	// connectTimeout bounds a TCP connect: three transmissions of SYN.
	connectTimeout = 5 * time.Second
	// userTimeout is TCP_USER_TIMEOUT: sent data that nobody acknowledges for so long means a dead path.
	userTimeout = 15 * time.Second
	// keepIdle, keepEvery and keepCount are TCP's keepalive of a stream: one that is silent on a dead path ends after 24 s.
	keepIdle  = 15 * time.Second
	keepEvery = 3 * time.Second
	keepCount = 3
	// prepareTimeout bounds the dial of a service's target; the opener waits five seconds for its answer.
	prepareTimeout = 4 * time.Second
	// openWait is how long a stream waits for the peer's READY on the control session, which it may have overtaken.
	openWait = 2 * time.Second
	// enrolTime bounds a whole enrolment at the issuer, but for the time in which a person at the newcomer compares words.
	enrolTime = 30 * time.Second
	// confirmTime is how long that may take: a call to somebody at the issuer. Only holders of an unused invite can hold a place so long,
	// and one invite never has more than half of them.
	confirmTime = 3 * time.Minute
	// learnTick is how often a newcomer asks on for the mesh's log: what may be asked for at a time is answered in less. learnWrite
	// bounds the wait for an issuer that takes nothing.
	learnTick  = 50 * time.Millisecond
	learnWrite = 10 * time.Second
	// seedFast and seedSlow are how often a seed is asked: quickly while the node knows nobody, rarely after that.
	seedFast = 5 * time.Second
	seedSlow = 60 * time.Second
	// solicitAnswers is how many of those on a link answer a newcomer, on average: enough that one gets through.
	solicitAnswers = 4
	// maxReceiptEntries is of how many entries it is remembered where they came from, maxReceipts how many receipts of one are kept.
	maxReceiptEntries = 256
	maxReceipts       = 1 << 14
	// refusalLife is how long it counts that a peer has refused this node: one that is revoked is told so again by then, and one whose
	// revocation a root has voided may hear of it from nobody.
	refusalLife = core.ShutOutMost + time.Minute
	// rekeyAskPause is the time between two REKEY_ASK on one session, sent or obeyed.
	rekeyAskPause = 30 * time.Second
	// rekeyPause and rekeyBurst bound the rekeys of one session that are answered: each costs half a millisecond of a core.
	rekeyPause = time.Second
	rekeyBurst = 4
	// maxTallied bounds the peers, and the services, whose traffic is counted apart: a page of metrics shows some hundred.
	maxTallied = 4096
	// warmMin and warmMax are how many connections are kept ready to a peer in use: the second once streams have found none.
	warmMin = 2
	warmMax = 4
	// warmAfter is how long the next connection waits while one is still ready: the first bytes of the stream that took the last go first.
	warmAfter = 2 * time.Millisecond
	// dialBackAfter is how long a connect is tried before a peer that dialled the session is asked to connect as well, and dialBackAgain when it is
	// asked anew.
	dialBackAfter = 250 * time.Millisecond
	dialBackAgain = time.Second
	// dialDirectAgain is how often a peer that could not be dialled is dialled beside a stream it carries, so that a path that was mended is used.
	dialDirectAgain = time.Minute
	// maxDialBack is the most connections one DIAL asks for, and dialBackPerSecond how many DIALs of one peer are obeyed.
	maxDialBack       = 4
	dialBackPerSecond = 8
	// lastWords is how long what a peer said is read on after a write to it has failed.
	lastWords = 20 * time.Millisecond
	// receiptRate and receiptBurst bound what one peer may pass on: the receipts of a mesh of 10,000 for one entry come by a handful
	// of peers. receiptsPerSecond and receiptsBurst bound this node's own.
	receiptRate       = 500
	receiptBurst      = 4096
	receiptsPerSecond = 20
	receiptsBurst     = 100
	// receiptPause is how long no receipt must have come for the rest to count as not reachable.
	receiptPause = 400 * time.Millisecond
	// maxCutCounts bounds the nodes cut off whose entry has not been answered yet.
	maxCutCounts = 1024
	// renewLook is how often it is looked whether the own certificate is due.
	renewLook = time.Second
	// renewFirst, doubled up to renewCap, is the pause between two requests for a new certificate: the answer takes milliseconds, and a
	// third of the certificate's life is left.
	renewFirst    = 5 * time.Second
	renewCap      = 30 * time.Minute
	renewMaxShift = 9
	// maxIssuersWanted is how many issuers are looked for at a time.
	maxIssuersWanted = 3
	// renewPause and renewBurst bound the requests of one session that are answered, renewsPerSecond those of all: each costs an entry.
	renewPause      = 10 * time.Second
	renewBurst      = 3
	renewsPerSecond = 20
	// doorLogPause and doorLogBurst bound the lines of newcomers that did not join: a few mistakes in a row are shown, a flood is in the
	// audit log with its number.
	doorLogPause = 10 * time.Second
	doorLogBurst = 10
	// lifeAnswer bounds the wait for an issuer's answer about this node's own key: two fsyncs on a slow disk. lifePoll is how often it is
	// looked for sessions meanwhile.
	lifeAnswer = 10 * time.Second
	lifePoll   = 50 * time.Millisecond
	// leaveFlush bounds how long a revocation a node has asked for itself waits until the answer is on its way.
	leaveFlush = 100 * time.Millisecond
	// stopTime bounds telling the peers that this node goes.
	stopTime = 2 * time.Second
	// acceptPause is the wait after a failed accept: out of descriptors, which passes.
	acceptPause = 20 * time.Millisecond
)
