package core

import (
	"container/heap"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// Config is what a core is born with.
type Config struct {
	Self keys.NodeID
	Boot identity.BootID
	Seed [32]byte // of the generator; from the system's randomness in a daemon, from the scenario in a simulation
	// Ledger is the trust log. The core is the only one that applies what peers send.
	Ledger trust.Log
	// Known and Anchor are what the last Persist of an earlier run said; none on a first start.
	Known  []Known
	Anchor keys.NodeID
}

// Core is the state machine. Whoever calls Step owns all of it.
type Core struct {
	// immutable
	cfg    Config
	rng    *rand.Rand
	ledger trust.Log
	hub    *trust.Hub

	// of the step under way
	now Now
	out []Effect

	// time
	started   bool
	stopping  bool
	born      time.Duration // of this run, on the monotonic clock
	wallAhead time.Duration // wall − mono, to notice suspend
	timers    timerHeap
	timerSeq  uint64
	timerSet  time.Duration

	// trust
	st         *trust.State // Ledger's, as of this step
	digest     [8]byte      // of digestOf
	digestOf   *trust.State
	branches   [][8]byte // digests of other branches of forked issuers, compared with this node's view
	branchesOf *trust.State
	swept      uint64        // epoch of the state all members were walked in
	sweptTo    int64         // the walk holds until this trust time; 0: for ever
	views      []keys.NodeID // peers whose view was compared with this node's since the start
	waited     bool          // long enough for views: full is given without them
	listened   bool          // long enough to have heard everybody who is there
	syncFrom   time.Duration // when the wait began
	syncT      *timer
	changeT    *timer

	// peers, sessions, dials
	peers      map[keys.NodeID]*peer
	order      []*peer // sorted by id: the only order peers are walked in
	candidates []*peer // those the log does not name, oldest first
	byID       map[SessionID]*sess
	live       []*sess // the same, sorted by id
	dials      map[DialID]*dial
	guestDials int // of them, to peers the log does not name
	nextDial   DialID
	queue      []*dialJob // dials that wait for a free place
	pingSeq    uint64
	faulty     bool // all sessions are silent together, and that was said

	// overlay
	crowdOf *trust.State // crowd is of this state
	crowd   bool
	fillT   *timer
	tickT   *timer
	ticks   int
	finding []finding // questions of peers passed on, oldest first

	// over restarts
	kept       []*Known // newest session first
	anchor     keys.NodeID
	anchorSeen time.Duration // when it last had a full session, or was chosen, or this run began
	persisted  time.Duration
	persistT   *timer

	// this host
	prefixes []netip.Prefix
	ifaces   map[int]*iface
	beacons  *beacon.Schedule
	beaconT  *timer
}

// New returns a core that has not started; its first step starts it.
func New(cfg Config) *Core {
	c := &Core{
		cfg: cfg, rng: rand.New(rand.NewChaCha8(cfg.Seed)), ledger: cfg.Ledger, hub: trust.NewHub(cfg.Ledger), st: cfg.Ledger.Current(),
		peers: map[keys.NodeID]*peer{}, byID: map[SessionID]*sess{}, dials: map[DialID]*dial{}, ifaces: map[int]*iface{},
	}
	c.beacons = beacon.NewSchedule(c.rng)
	c.persisted, c.anchor = never, cfg.Anchor
	for _, k := range cfg.Known[:min(len(cfg.Known), maxKept)] {
		k.Places = slices.DeleteFunc(slices.Clone(k.Places), func(p Place) bool { return !keepable(p.At) })
		k.Places = k.Places[:min(len(k.Places), maxPlaces)]
		if k.Peer != cfg.Self && len(k.Places) > 0 {
			c.kept = append(c.kept, &k)
		}
	}
	return c
}

// Step takes one event and returns what is to be done about it, in order.
func (c *Core) Step(now Now, ev Event) []Effect {
	c.out = nil
	slept, late := c.noticeSleep(now), c.lateness(now)
	c.now = now
	if !c.started {
		c.start()
	}
	if late > slowStep {
		c.excuse(late)
	}
	if slept > 0 {
		c.wake(slept)
	}
	c.runTimers()
	c.handle(ev)
	c.runTimers()
	if at, ok := c.nextTimer(); ok && (at != c.timerSet || isTimer(ev)) {
		c.timerSet = at
		c.emit(SetTimer{At: at})
	}
	return c.out
}

func isTimer(ev Event) bool {
	_, ok := ev.(Timer)
	return ok
}

func (c *Core) emit(e Effect) { c.out = append(c.out, e) }

func (c *Core) handle(ev Event) {
	if _, up := ev.(SessionUp); c.stopping && !up {
		return // a session that came up too late has to be told
	}
	switch ev := ev.(type) {
	case Start, Timer: // every step starts what has not started, and runs what is due
	case BeaconIn:
		c.beaconIn(ev)
	case HealthIn:
		if p := c.peers[ev.Node]; p != nil && p.enrolled {
			p.health, p.healthIn = ev.Envelope, c.now.Mono
		}
	case DialFailed:
		c.dialFailed(ev)
	case SessionUp:
		c.sessionUp(ev)
	case FrameIn:
		if s := c.heard(ev.ID); s != nil {
			c.frame(s, ev.Body, ev.Raw)
		}
	case HeartbeatIn:
		if s := c.heard(ev.ID); s != nil {
			s.degree = ev.Degree
			c.heartbeatIn(s, ev)
		}
	case SessionDown:
		if s := c.byID[ev.ID]; s != nil {
			if ev.Code == session.CodeRevoked {
				c.shut(s.peer) // before it is dialled again
			}
			c.drop(s, ev.Code)
		}
	case TrustIn:
		c.spread(nil, ev.Changes)
	case NetChange:
		c.netChange(ev.Prefixes)
	case Want:
		c.want(ev.Peer)
	case Using:
		c.use(ev.Peer, ev.Streams)
	case AddSeed:
		if p := c.peerFor(ev.Peer); p != nil {
			c.addAddress(p, ev.At, sourceSeed)
			c.dialSoon(p, c.jitter(0, dialLowJitter))
			c.fillSoon()
		}
	case Replace:
		c.replace(ev.ID)
	case Retire:
		if s := c.byID[ev.ID]; s != nil {
			c.close(s, session.CodeLimit, "its keys were in use for too long")
		}
	case Stop:
		c.stop()
	}
}

// start is the first thing ever done, whichever event comes first: sockets and interface watchers begin when they like.
func (c *Core) start() {
	c.started, c.born, c.wallAhead = true, c.now.Mono, wallAhead(c.now)
	c.anchorSeen = c.now.Mono
	c.sweep()
	c.burst()
	c.beginSync()
	c.recall()
	c.scheduleSweep()
	c.scheduleTick()
}

// peerFor returns the record of a node, made when the log names the node or there is room for one more candidate. The node itself
// has none.
func (c *Core) peerFor(id keys.NodeID) *peer {
	if p := c.peers[id]; p != nil || id == c.cfg.Self {
		return p
	}
	_, enrolled := c.st.Member(id)
	if !enrolled && !c.roomForCandidate() {
		return nil
	}
	if enrolled && len(c.order) >= maxKnown {
		c.forgetSomebody()
	}
	_, revoked := c.st.Revoked(id)
	p := &peer{id: id, born: c.now.Mono, lastBeacon: never, lastTraffic: never, enrolled: enrolled, revoked: revoked}
	c.peers[id] = p
	i, _ := c.place(id)
	c.order = slices.Insert(c.order, i, p)
	if !enrolled {
		c.candidates = append(c.candidates, p)
		c.lookAt(p, HintLife)
	}
	return p
}

func (c *Core) place(id keys.NodeID) (int, bool) {
	return slices.BinarySearchFunc(c.order, id, func(p *peer, id keys.NodeID) int { return compare(p.id, id) })
}

// setEnrolled follows the log: a candidate that it names is none any more, and a member that it does not name becomes one.
func (c *Core) setEnrolled(p *peer, enrolled bool) {
	if p.enrolled == enrolled {
		return
	}
	p.enrolled = enrolled
	if !enrolled {
		c.candidates = append(c.candidates, p) // its timer is that of its presence
		return
	}
	c.candidates = slices.DeleteFunc(c.candidates, func(q *peer) bool { return q == p })
	if c.crowded() {
		c.fillSoon()
	}
	c.dialSoon(p, c.jitter(0, dialLowJitter))
}

// roomForCandidate makes room among peers the log does not name by forgetting a random one without a session. A node that holds the
// group secret can announce any number of names.
func (c *Core) roomForCandidate() bool {
	if len(c.candidates) < maxCandidates {
		return true
	}
	var idle []*peer
	for _, p := range c.candidates {
		if len(p.sessions) == 0 && p.dialing == 0 {
			idle = append(idle, p)
		}
	}
	if len(idle) == 0 {
		return false
	}
	c.forget(idle[c.rng.IntN(len(idle))])
	return true
}

// forget drops a peer without a session and without a dial.
func (c *Core) forget(p *peer) {
	p.dialT.stop()
	p.lookT.stop()
	delete(c.peers, p.id)
	if i, ok := c.place(p.id); ok {
		c.order = slices.Delete(c.order, i, i+1)
	}
	c.candidates = slices.DeleteFunc(c.candidates, func(q *peer) bool { return q == p })
}

// stop tells every peer that this node goes, and does nothing after that.
func (c *Core) stop() {
	if c.persistT.pending() {
		c.persist()
	}
	c.stopping = true
	for _, s := range slices.Clone(c.live) {
		c.close(s, codeShutdown, "shutting down")
	}
	for _, id := range sortedDials(c.dials) {
		c.emit(CancelDial{ID: id})
	}
	clear(c.dials)
	c.guestDials = 0
	c.queue = nil
	c.timers = c.timers[:0]
	heap.Init(&c.timers)
}

// digestNow is the digest of the trust log as of this step.
func (c *Core) digestNow() [8]byte {
	if c.digestOf != c.st {
		c.digest, c.digestOf = c.st.Digest(), c.st
	}
	return c.digest
}
