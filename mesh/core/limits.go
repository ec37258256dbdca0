package core

import "time"

const (
	// Interval is the time between beacons, and between heartbeats on an idle session. Jitter only shortens it, so at least four
	// chances fit into Dead.
	Interval = 5 * time.Second
	// jitterLow is the shortest share of an interval.
	jitterLow = 0.8
	// Dead is how long a peer may be silent before it is pruned, or a session before it is closed.
	Dead = 20 * time.Second
	// Probe1 and Probe2 are the ages of silence at which a peer gets a unicast probe, so that lost broadcasts prune nobody.
	Probe1 = 15 * time.Second
	// Probe2 is the second probe.
	Probe2 = 17500 * time.Millisecond
	// Suspect is the age of silence of a session at which it gets a ping and its peer a dial to other addresses.
	Suspect = 10 * time.Second
	// HintLife is how long an address that only a beacon told is kept after the last one.
	HintLife = 60 * time.Second
	// MuteAfter is how long all beacons of an interface must be silent for it to count as mute.
	MuteAfter = 15 * time.Second
	// mutePeers is how many peers must have been heard on an interface up to its silence for that to be the interface's fault.
	mutePeers = 2
	// maxHeardOn bounds the interfaces remembered of one peer; hosts have a handful.
	maxHeardOn = 8
	// slowStep is the lateness of a timer that means that this node itself did not run.
	slowStep = 500 * time.Millisecond
	// faultDead is how long sessions may be silent that are all silent at once: longer, for it may be this host that hears nothing,
	// and yet not for ever.
	faultDead = 60 * time.Second
	// excuseLook is how often it is looked whether the excuse for silent peers holds.
	excuseLook = time.Second

	// dialLow, dialHigh: on a beacon the lower node id dials at once, the higher one later, so that both rarely dial together.
	dialLowJitter  = 200 * time.Millisecond
	dialHighDelay  = 2 * time.Second
	dialHighJitter = time.Second
	// staggerNear and staggerFar part the dials of one campaign.
	staggerNear = 50 * time.Millisecond
	staggerFar  = 250 * time.Millisecond
	// maxDialsPeer and maxDials bound dials under way.
	maxDialsPeer = 4
	maxDials     = 16
	// maxDialsCandidates is how many of them may go to peers the log does not name.
	maxDialsCandidates = 4
	// hangingDial is the age at which a dial that has brought nothing is given up when its target shows that it has just started.
	hangingDial = time.Second
	// backoffFirst doubles with every failure of one address up to a cap that grows with the peer's absence.
	backoffFirst    = time.Second
	backoffActive   = 60 * time.Second
	backoffHour     = 10 * time.Minute
	backoffDay      = time.Hour
	backoffMaxShift = 12
	// ShutOutFirst, doubled each time up to ShutOutMost, is how long a peer that says this node is revoked is not dialled: each try costs it
	// a handshake and a line in its audit log, and only a new root could change its answer.
	ShutOutFirst     = 5 * time.Second
	ShutOutMost      = 10 * time.Minute
	shortSession     = 10 * time.Second
	retryMin         = 10 * time.Millisecond
	restartSpreadMax = 5 * time.Second
	restartSpread    = 5 * time.Millisecond

	// maxAddresses is the most addresses remembered for one peer; the worst are forgotten first.
	maxAddresses = 16
	// maxSessionsPeer is the most sessions of one peer.
	maxSessionsPeer = 4
	// maxCandidates bounds peers that are heard or told of but not enrolled in the log held here.
	maxCandidates = 256
	// maxTimersPerStep bounds the work of one step.
	maxTimersPerStep = 4096

	// silentForPing is how long the older of two sessions must be silent to be asked whether it lives, pongWait how long it has to
	// answer.
	silentForPing = 3 * time.Second
	pongWait      = 2 * time.Second
	// maxAsked bounds the pings of one session that wait for an answer: one for each other session, and for a change of the network.
	maxAsked = 8
	// dupWindow and dupLimit: that many rejected duplicates within the window make the newest win.
	dupWindow = 60 * time.Second
	dupLimit  = 5
	// cloneLimit returns to a boot id seen before within the window raise the clone alarm; maxBoots bounds what is remembered for it.
	cloneLimit = 3
	maxBoots   = 16

	// controlOnly is how long a session may stay in a state that opens no streams.
	controlOnly = 30 * time.Second
	// syncWait is how long a node that just started waits for other peers' views before it authorises without them.
	syncWait = 2 * time.Second
	// listenTime is how long it takes to hear everybody who is there: a burst of beacons is answered at once, and repeated after 1 s.
	listenTime = time.Second
	// readyWait is how long the peer's first READY may take.
	readyWait = 5 * time.Second
	// vecMin is how often a session's sync looks whether something is due.
	vecMin = time.Second
	// vecRate and vecBurst bound the vectors taken from a peer: honest ones come each second at most.
	vecRate  = 2
	vecBurst = 10
	// pongRate and pongBurst bound the answers to a peer's pings.
	pongRate  = 4
	pongBurst = 8
	// pushRate and pushBurst keep what is pushed below the 200 unsolicited entries per second a receiver takes.
	pushRate  = 150
	pushBurst = 150
	// floodLimit frames dropped unseen within floodWindow are a flood: an honest peer's queue holds 512.
	floodLimit  = 2048
	floodWindow = 10 * time.Second
	// sweepEvery is the longest time between two looks at every session's standing.
	sweepEvery = 5 * time.Second
	// showEvery bounds the heartbeats that show a change of the trust log.
	showEvery = 100 * time.Millisecond
	// minSweep keeps a sweep that is due at once from repeating within one second of the log's clock.
	minSweep = 100 * time.Millisecond
	// invalidPause is how long a peer that sent what no honest node sends is not dialled.
	invalidPause = 60 * time.Second
	// pullJitter spreads the pull after a differing digest.
	pullJitter = 2 * time.Second
	// wakeJump is the jump of the wall clock over the monotonic one that means the machine slept.
	wakeJump = 5 * time.Second
	// wakeRedial is the sleep after which every session is replaced rather than pinged.
	wakeRedial = 10 * time.Minute
	// FullMesh is the largest mesh in which everybody has a session with everybody.
	FullMesh = 9
	// degreeMin, degreeTarget and degreeMax are the sessions kept in a larger one: eight random ones leave 99 % of the survivors
	// connected after half of the nodes have vanished, four do not.
	degreeMin    = 6
	degreeTarget = 8
	degreeMax    = 12
	// firstPicks is how many a node dials by itself: the others' choices bring as many again.
	firstPicks = 4
	// minOutbound sessions a node has dialled itself, so that nobody else alone decides whom it is connected with.
	minOutbound = 3
	// nearPicks is how many of them are on a link of this host.
	nearPicks = 4
	// fillDelayMin and fillDelayMax are waited before choosing among those that are heard: who is heard first is heard first by
	// everybody.
	fillDelayMin = 200 * time.Millisecond
	fillDelayMax = 500 * time.Millisecond
	// tickEvery is how often, with a fifth of jitter, the overlay is looked after.
	tickEvery = 5 * time.Second
	// healOdds: one tick in eight dials somebody not seen for unseenFor, and so mends what a partition has left.
	healOdds  = 8
	unseenFor = 60 * time.Second
	// shuffleTicks is how many ticks pass between telling a random neighbour shuffleRecords peer records.
	shuffleTicks   = 6
	shuffleRecords = 4
	// shuffleHealth is how many of the newest health summaries go to that neighbour, 250 bytes each: with this node's own 60 B/s.
	shuffleHealth = 6
	// shedAge is the least age of a session that is shed; shunFor is how long neither end picks the other again.
	shedAge = 10 * time.Second
	shunFor = 60 * time.Second
	// idleData is how long a session that a user wanted is kept without streams, and maxData how many of those.
	idleData = 10 * time.Minute
	maxData  = 256
	// crowdShare stretches the interval of beacons: 20 a second on a link are enough, however many hosts it has.
	crowdShare = time.Second / 20
	// candidateWait is how long a name the log does not know is not dialled in a large mesh: its entry is on its way, and everybody
	// on the link heard it.
	candidateWait = 3 * time.Second
	// maxKnown bounds the members of whose whereabouts something is remembered; an idle one that is not heard makes room.
	maxKnown = 1024
	// maxKept bounds the members whose addresses are kept over restarts, and maxPlaces those of one: with 20 to 30 bytes for each it
	// is one object of the dialect. maxGood of them are such where a handshake succeeded; the rest is as announced.
	maxKept   = 256
	maxPlaces = 6
	maxGood   = 3
	// persistDelay gathers what is news, persistEvery parts two writes: addresses that work change rarely, and losing the last minutes
	// of them costs a few dials.
	persistDelay = 15 * time.Second
	persistEvery = 5 * time.Minute
	// anchorAge is how old a session is whose peer may become the anchor, anchorGone how long one may be out of reach before another
	// is drawn.
	anchorAge  = 30 * time.Second
	anchorGone = time.Hour
	// findRate and findBurst bound the questions taken from a peer, maxFinding those under way, maxAskers who waits for one answer;
	// findWait is how long.
	findRate   = 20
	findBurst  = 40
	maxFinding = 256
	maxAskers  = 8
	findWait   = 5 * time.Second
	// seekMax is the longest pause between questions for a member of a small mesh of whom no address works: it may be switched off for
	// weeks.
	seekMax = 5 * time.Minute
	// askersWanted is how many of those who hear another view of the log on a link dial it, on average, each time they have heard it
	// twice.
	askersWanted = 4
	// maxBranches bounds the views remembered that differ by forked issuers alone: a thief can make many branches, and each costs a
	// comparison as long as it is not remembered.
	maxBranches = 64
	// crowdRecords is peerRecords of a large mesh.
	crowdRecords = 8
	// peerRecords is the most beacon envelopes told to a new session.
	peerRecords = 32
)
