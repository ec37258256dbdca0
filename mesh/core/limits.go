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
	backoffFirst     = time.Second
	backoffActive    = 60 * time.Second
	backoffHour      = 10 * time.Minute
	backoffDay       = time.Hour
	backoffMaxShift  = 12
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
	// peerRecords is the most beacon envelopes told to a new session.
	peerRecords = 32
)
