package core

import (
	"container/heap"
	"encoding/binary"
	"fmt"
	"hash"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// sim is a mesh of cores on one link, in virtual time, from a seed. What the shell does with effects is done here in the same order,
// over connections and datagrams that take time and get lost.
type sim struct {
	t     testing.TB
	f     *fixture
	rng   *rand.Rand
	now   time.Duration
	queue simQueue
	seq   uint64
	nodes []*simNode
	trace hash.Hash           // of every effect, where a test wants it
	envs  map[string]BeaconIn // announcements by their envelope

	delay     func() time.Duration // one way, of anything
	handshake func() time.Duration // from dial to M2
	loss      float64              // of beacons
	blocked   func(from, to *simNode) bool
	mute      func(from, to *simNode) bool // beacons only
	onStep    func(n *simNode)
}

type simEvent struct {
	at  time.Duration
	seq uint64
	do  func()
}

type simQueue []simEvent

func (q simQueue) Len() int { return len(q) }
func (q simQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q simQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *simQueue) Push(x any)   { *q = append(*q, x.(simEvent)) }
func (q *simQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

// simNode is a host and the daemon on it.
type simNode struct {
	s    *sim
	i    int
	id   keys.NodeID
	cert *identity.SignedCertificate
	at   netip.AddrPort
	udp  netip.AddrPort

	// of one run of the daemon
	core    *Core
	ledger  *trust.Memory
	boot    identity.BootID
	run     int // counts the runs; what was meant for an earlier one is lost
	started time.Duration
	lost    time.Duration // monotonic time not counted, in suspend
	epoch   uint64
	counter uint64
	connSeq uint64
	lastID  SessionID
	timer   int
	dials   map[DialID]bool
	ends    map[SessionID]*end

	up      bool
	powered bool
	frozen  bool
	asleep  bool
	backlog []func()
	wall    time.Duration // its clock's error
	kept    Persist       // on its disk
	log     []logged
}

type logged struct {
	at time.Duration
	e  Effect
}

// end is one end of a session's connection.
type end struct {
	n      *simNode
	run    int
	id     SessionID
	peer   *end
	closed bool
	upAt   time.Duration // when the daemon's loop learns of it
	last   time.Duration // arrival of the last thing on its way to this end
}

func newSim(t testing.TB, f *fixture, seed uint64) *sim {
	s := &sim{
		t: t, f: f, rng: rand.New(rand.NewPCG(seed, 1)), envs: map[string]BeaconIn{},
		blocked: func(_, _ *simNode) bool { return false }, mute: func(_, _ *simNode) bool { return false },
		onStep: func(*simNode) {},
	}
	s.delay = func() time.Duration { return s.between(time.Millisecond, 3*time.Millisecond) }
	s.handshake = func() time.Duration { return s.between(5*time.Millisecond, 15*time.Millisecond) }
	for i := range f.nodes {
		ip := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		s.nodes = append(s.nodes, &simNode{
			s: s, i: i, id: f.nodes[i].NodeID(), cert: f.certs[i], at: netip.AddrPortFrom(ip, 7477), udp: netip.AddrPortFrom(ip, 7478), powered: true,
		})
	}
	return s
}

func (s *sim) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(s.rng.Int64N(int64(hi-lo)+1))
}

func (s *sim) in(d time.Duration, do func()) { s.at(s.now+d, do) }

func (s *sim) at(at time.Duration, do func()) {
	s.seq++
	heap.Push(&s.queue, simEvent{max(at, s.now), s.seq, do})
}

// runTo lets everything up to a time happen.
func (s *sim) runTo(at time.Duration) {
	for len(s.queue) > 0 && s.queue[0].at <= at {
		e := heap.Pop(&s.queue).(simEvent)
		s.now = e.at
		e.do()
	}
	s.now = at
}

func (s *sim) runFor(d time.Duration) { s.runTo(s.now + d) }

// start begins a run of a node's daemon with a log that holds what the mesh began with.
func (n *simNode) start() { n.startWith(n.s.f.ledger()) }

func (n *simNode) startWith(ledger *trust.Memory) {
	n.run++
	n.ledger, n.started, n.lost, n.frozen, n.asleep, n.backlog = ledger, n.s.now, 0, false, false, nil
	binary.BigEndian.PutUint64(n.boot[:], n.s.rng.Uint64())
	n.epoch++
	n.counter, n.up = 0, true
	n.dials, n.ends = map[DialID]bool{}, map[SessionID]*end{}
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n.s.rng.Uint64())
	n.core = New(Config{Self: n.id, Boot: n.boot, Seed: seed, Ledger: ledger, Known: n.kept.Known, Anchor: n.kept.Anchor})
	n.step(NetChange{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}})
	n.step(Start{})
}

// kill ends the daemon; the kernel closes its connections.
func (n *simNode) kill() {
	n.up = false
	for _, id := range sortedEnds(n.ends) {
		e := n.ends[id]
		n.s.in(n.s.delay(), func() { e.peer.down(0) })
	}
	n.run++
}

// cutPower ends the host; nobody is told.
func (n *simNode) cutPower() { n.up, n.powered = false, false; n.run++ }

func (n *simNode) freeze() { n.frozen = true }

// thaw lets the daemon go on: its timers are late, and what came meanwhile waits in the kernel.
func (n *simNode) thaw() {
	n.frozen = false
	work := n.backlog
	n.backlog = nil
	n.step(Timer{})
	for _, do := range work {
		n.do(do)
	}
}

// suspend stops the host for d: its monotonic clock too.
func (n *simNode) suspend(d time.Duration) {
	n.asleep = true
	run := n.run
	n.s.in(d, func() {
		if n.run == run {
			n.asleep = false
			n.lost += d
			n.thaw()
		}
	})
}

// do runs something at the daemon, or when it runs again; what comes to one that is gone or asleep is lost.
func (n *simNode) do(f func()) {
	switch {
	case !n.up || n.asleep:
	case n.frozen:
		n.backlog = append(n.backlog, f)
	default:
		f()
	}
}

// later runs something of the daemon's own, in this run of it; sleep only delays it.
func (n *simNode) later(d time.Duration, f func()) {
	run := n.run
	n.s.in(d, func() {
		switch {
		case n.run != run:
		case n.asleep:
			n.backlog = append(n.backlog, f)
		default:
			n.do(f)
		}
	})
}

func (n *simNode) clock() Now {
	wall := epoch0*1000 + (n.s.now + n.wall).Milliseconds()
	return Now{Mono: n.s.now - n.started - n.lost, Wall: wall, Trust: wall / 1000}
}

func (n *simNode) step(ev Event) {
	effects := n.core.Step(n.clock(), ev)
	for _, e := range effects {
		n.log = append(n.log, logged{n.s.now, e})
		if n.s.trace == nil {
			continue
		}
		if t, ok := e.(TrustChanged); ok {
			t.Change.Entry = nil // a pointer; What says it all
			fmt.Fprintf(n.s.trace, "%d %d %T %v\n", n.s.now, n.i, e, t)
			continue
		}
		fmt.Fprintf(n.s.trace, "%d %d %T %v\n", n.s.now, n.i, e, e)
	}
	for _, e := range effects {
		n.effect(e)
	}
	for _, x := range n.core.live {
		if x.peer.revoked {
			n.s.t.Fatalf("%v: node %d holds a session with a revoked peer", n.s.now, n.i)
		}
	}
	n.s.onStep(n)
}

func (n *simNode) effect(e Effect) {
	switch e := e.(type) {
	case SetTimer:
		n.timer++
		timer, run := n.timer, n.run
		n.s.at(n.started+n.lost+e.At, func() {
			if n.timer == timer && n.run == run && n.up && !n.frozen && !n.asleep {
				n.step(Timer{})
			}
		})
	case SendBeacon:
		n.sendBeacon(e)
	case Dial:
		n.dial(e)
	case CancelDial:
		delete(n.dials, e.ID)
	case Send:
		if o, ok := e.Body.(session.Object); ok && o.K == session.KindPeer {
			n.tell(e.ID, n.s.envs[string(o.Raw)])
			return
		} else if ok && o.K == session.KindHealth {
			return // the shell's
		}
		b, err := session.Encode(e.Body)
		n.s.f.check(err)
		n.transmit(e.ID, b)
	case SendRaw:
		n.transmit(e.ID, e.Raw)
	case Heartbeat:
		n.send(e.ID, func(to *end) {
			to.n.step(HeartbeatIn{ID: to.id, Digest: e.Digest, Degree: e.Degree, Ping: e.Ping, Pong: e.Pong})
		})
	case TellSelf:
		n.tell(e.ID, n.announce())
	case CloseSession:
		n.closeEnd(e.ID, e.Code)
	case Persist:
		n.kept = e
	case CutNode:
		for _, id := range sortedEnds(n.ends) {
			if n.ends[id].peer.n.id == e.Node {
				n.closeEnd(id, e.Code)
			}
		}
	}
}

func sortedEnds(m map[SessionID]*end) []SessionID {
	var ids []SessionID
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// transmit sends a control record.
func (n *simNode) transmit(id SessionID, raw []byte) {
	n.send(id, func(to *end) {
		b, err := session.ParseBody(raw)
		if err != nil {
			to.n.closeEnd(to.id, session.CodeProtocol)
			return
		}
		to.n.step(FrameIn{ID: to.id, Body: b, Raw: raw})
	})
}

func (n *simNode) tell(id SessionID, a BeaconIn) {
	a.Told, a.Interface, a.ReplyTo = true, 0, netip.AddrPort{}
	n.send(id, func(to *end) {
		if a.Node != to.n.id {
			to.n.step(a)
		}
	})
}

// send carries something to the other end of a session, after everything sent before. If nobody is there, the host there says so.
func (n *simNode) send(id SessionID, arrive func(to *end)) {
	e := n.ends[id]
	if e == nil || e.closed {
		return
	}
	to := e.peer
	to.last = max(to.last, n.s.now+n.s.delay())
	n.s.at(to.last, func() {
		switch {
		case n.s.blocked(n, to.n) || !to.n.powered:
		case to.closed || to.n.run != to.run:
			n.s.in(n.s.delay(), func() {
				if !n.s.blocked(to.n, n) {
					e.down(0)
				}
			})
		default:
			to.n.do(func() {
				if !to.closed && to.n.run == to.run {
					arrive(to)
				}
			})
		}
	})
}

// closeEnd closes a session from this end; CLOSE follows what was sent before.
func (n *simNode) closeEnd(id SessionID, code session.Code) {
	n.send(id, func(to *end) { to.down(code) })
	if e := n.ends[id]; e != nil && !e.closed {
		e.down(0)
	}
}

// down ends one end, and its daemon learns it.
func (e *end) down(code session.Code) {
	if e.closed || e.n.run != e.run {
		return
	}
	e.closed = true
	delete(e.n.ends, e.id)
	e.n.later(max(0, e.upAt-e.n.s.now), func() { e.n.step(SessionDown{ID: e.id, Code: code}) })
}

func (n *simNode) interval() time.Duration {
	if n.core == nil {
		return Interval
	}
	return n.core.beacons.Interval()
}

func (n *simNode) announce() BeaconIn {
	n.counter++
	env := wire.MustMarshal([]uint64{uint64(n.i), n.epoch, n.counter})
	a := BeaconIn{
		Node: n.id, Endpoints: []netip.AddrPort{n.at}, ReplyTo: n.udp, Interface: 1, Digest: n.ledger.Current().Digest(),
		Boot: beacon.Boot(n.boot[:8]), Interval: n.interval(), Epoch: n.epoch, Counter: n.counter, Envelope: env,
	}
	n.s.envs[string(env)] = a
	return a
}

func (n *simNode) sendBeacon(e SendBeacon) {
	a := n.announce()
	for _, m := range n.s.nodes {
		if m != n && (!e.To.IsValid() || e.To == m.udp) {
			n.datagram(m, a, e.Flags, e.To.IsValid())
		}
	}
}

// datagram carries a beacon. Probes are answered, and soliciting broadcasts by some of those who hear them.
func (n *simNode) datagram(to *simNode, a BeaconIn, flags beacon.Flags, unicast bool) {
	s := n.s
	if s.blocked(n, to) || s.mute(n, to) || s.rng.Float64() < s.loss {
		return
	}
	s.in(s.delay(), func() {
		to.do(func() {
			answer := flags.Has(beacon.FlagProbe) && unicast ||
				flags.Has(beacon.FlagSolicit) && s.rng.Float64() < min(1, 4/float64(len(s.nodes)))
			if answer {
				to.datagram(n, to.announce(), beacon.FlagReply, true)
			}
			to.step(a)
		})
	})
}

// dial connects, and both ends prove themselves: the dialer is done when it has read M2, the acceptor when it has read M3.
func (n *simNode) dial(d Dial) {
	s := n.s
	n.dials[d.ID] = true
	n.connSeq++
	seq, total := n.connSeq, s.handshake()
	fail := func(after time.Duration, code session.Code) {
		n.later(after, func() {
			if n.dials[d.ID] {
				delete(n.dials, d.ID)
				n.step(DialFailed{ID: d.ID, Code: code})
			}
		})
	}
	s.connect(n, d, total, func(m *simNode) {
		switch {
		case m == nil:
			fail(0, 0)
		case !m.up || m.id != d.Peer:
			fail(total/2, 0)
		case m.frozen:
			fail(5*time.Second, 0)
		default:
			run := m.run
			n.later(total/2, func() { n.finishDial(d, m, run, seq) })
		}
	})
}

// connect finds who is at an address; to a host that does not answer, TCP repeats itself after 1 and 3 s.
func (s *sim) connect(n *simNode, d Dial, total time.Duration, done func(m *simNode)) {
	i := slices.IndexFunc(s.nodes, func(m *simNode) bool { return m.at == d.At })
	if i < 0 {
		s.in(5*time.Second, func() { done(nil) })
		return
	}
	m, answered := s.nodes[i], false
	for _, after := range []time.Duration{0, time.Second, 3 * time.Second} {
		s.in(after+total/2, func() {
			if !answered && !s.blocked(n, m) && !s.blocked(m, n) && m.powered && !m.asleep {
				answered = true
				done(m)
			}
		})
	}
	s.in(5*time.Second, func() {
		if !answered {
			done(nil)
		}
	})
}

func (n *simNode) finishDial(d Dial, m *simNode, run int, seq uint64) {
	s := n.s
	if !n.dials[d.ID] {
		return // given up
	}
	if s.blocked(n, m) || s.blocked(m, n) {
		n.later(5*time.Second, func() {
			if n.dials[d.ID] {
				delete(n.dials, d.ID)
				n.step(DialFailed{ID: d.ID})
			}
		})
		return
	}
	if standing, why := n.ledger.Current().Admit(m.cert, 1, n.clock().Trust); standing == trust.Refused {
		delete(n.dials, d.ID)
		n.step(DialFailed{ID: d.ID, Code: session.Code(why.Code())})
		return
	}
	if m.run != run {
		delete(n.dials, d.ID)
		n.step(DialFailed{ID: d.ID})
		return
	}
	mine := &end{n: n, run: n.run}
	theirs := &end{n: m, run: run, peer: mine}
	mine.peer = theirs
	theirs.last = s.now + s.delay()
	n.open(mine)
	// The loop of the daemon learns of it a little later, and may give the dial up meanwhile without effect.
	boot := m.boot
	loop := s.between(0, time.Millisecond)
	mine.last, mine.upAt = s.now+loop, s.now+loop
	n.later(loop, func() {
		delete(n.dials, d.ID)
		n.step(SessionUp{
			ID: mine.id, Dial: d.ID, Peer: m.id, Role: keys.RoleDialer, Boot: boot, ConnSeq: seq, Remote: m.at, Certificate: m.cert,
			RootVersion: 1,
		})
	})
	s.at(theirs.last, func() {
		if m.run != run || s.blocked(n, m) {
			return
		}
		m.do(func() {
			if m.run != run || theirs.closed {
				return
			}
			m.open(theirs)
			if standing, why := m.ledger.Current().Admit(n.cert, 1, m.clock().Trust); standing == trust.Refused {
				m.closeEnd(theirs.id, session.Code(why.Code()))
				return
			}
			m.step(SessionUp{
				ID: theirs.id, Peer: n.id, Role: keys.RoleAcceptor, Boot: n.boot, ConnSeq: seq, Remote: n.at, Certificate: n.cert, RootVersion: 1,
			})
		})
	})
}

func (n *simNode) open(e *end) {
	n.lastID++
	e.id = n.lastID
	n.ends[e.id] = e
}
