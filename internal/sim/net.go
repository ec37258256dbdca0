package sim

import (
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	// lateBy is how late a lost record is.
	lateBy = 200 * time.Millisecond
	// userTimeout is when data that nobody acknowledges ends a connection.
	userTimeout = 15 * time.Second
	// dialTimeout bounds a connect, and a handshake.
	dialTimeout = 5 * time.Second
)

// end is one end of a session's connection.
type end struct {
	n       *Node
	run     int
	id      core.SessionID
	peer    *end
	closed  bool
	upAt    time.Duration // when the daemon's loop learns of it
	last    time.Duration // arrival of the last thing on its way to this end
	waiting bool          // data is under way into a path that is gone
	lost    bool          // the address it began at is gone, and nobody says so
	state   session.State
}

// sendBody sends a control body. Of a PEER record the simulation hands over what it says, instead of parsing an envelope.
func (n *Node) sendBody(e core.Send) {
	if o, ok := e.Body.(session.Object); ok && o.K == session.KindPeer {
		if a, ok := n.w.record(o.Raw); ok {
			n.tell(e.ID, a)
		}
		return
	}
	b, err := session.Encode(e.Body)
	if err != nil {
		n.w.fail("node %d sends what cannot be encoded: %v", n.i, err)
		return
	}
	n.transmit(e.ID, b)
}

// record rebuilds what an envelope said. Envelopes are {node, epoch, counter}; the address is where the node was then, or is now.
func (w *World) record(env []byte) (core.BeaconIn, bool) {
	var v []uint64
	if wire.Unmarshal(env, &v) != nil || len(v) != 3 {
		return core.BeaconIn{}, false
	}
	n := w.nodes[v[0]]
	return core.BeaconIn{
		Node: n.id, Endpoints: []netip.AddrPort{n.tcp()}, Boot: beacon.Boot(n.boot[:8]), Interval: n.every, Epoch: v[1], Counter: v[2],
		Envelope: env,
	}, true
}

// transmit sends a control record.
func (n *Node) transmit(id core.SessionID, raw []byte) {
	n.send(id, func(to *end) {
		b, err := session.ParseBody(raw)
		if err != nil {
			to.n.w.fail("node %d got what it cannot read: %v", to.n.i, err)
			return
		}
		to.n.step(core.FrameIn{ID: to.id, Body: b, Raw: raw})
	})
}

func (n *Node) tell(id core.SessionID, a core.BeaconIn) {
	a.Told, a.Interface, a.ReplyTo = true, 0, netip.AddrPort{}
	n.send(id, func(to *end) {
		if a.Node != to.n.id {
			to.n.step(a)
		}
	})
}

// send carries something to the other end of a session, after everything sent before.
func (n *Node) send(id core.SessionID, arrive func(to *end)) {
	e := n.ends[id]
	if e == nil || e.closed {
		return
	}
	w, to := n.w, e.peer
	d := w.latency(n, to.n)
	if w.chance(w.cfg.Late) {
		d += lateBy
	}
	to.last = max(to.last, w.now+d)
	w.queue.push(to.last, func() { w.arrive(e, to, arrive) })
}

func (w *World) arrive(e, to *end, arrive func(to *end)) {
	switch {
	case w.blocked(e.n, to.n) || e.lost:
		// Nobody acknowledges it. TCP repeats it until it is through, or gives up; the simulation loses the connection in any case,
		// unless the path is back within the time.
		if !e.waiting && !e.closed {
			e.waiting = true
			w.in(userTimeout, func() {
				if e.waiting {
					e.down(0)
				}
			})
		}
		w.in(time.Second, func() {
			if !e.closed && e.n.run == e.run {
				w.arrive(e, to, arrive)
			}
		})
	case to.closed || to.n.run != to.run:
		w.in(w.latency(to.n, e.n), func() {
			if !w.blocked(to.n, e.n) {
				e.down(0)
			}
		})
	default:
		e.waiting = false
		to.n.do(func() {
			if !to.closed && to.n.run == to.run {
				arrive(to)
			}
		})
	}
}

// closeEnd closes a session from this end; CLOSE follows what was sent before.
func (n *Node) closeEnd(id core.SessionID, code session.Code) {
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
	e.n.later(max(0, e.upAt-e.n.w.now), func() { e.n.step(core.SessionDown{ID: e.id, Code: code}) })
}

func (n *Node) sendBeacon(e core.SendBeacon) {
	n.every = max(e.Interval, core.Interval)
	a := n.announce()
	if e.To.IsValid() {
		if m := n.w.at[netip.AddrPortFrom(e.To.Addr(), 7477)]; m != nil {
			n.datagram([]*Node{m}, a, e.Flags, true)
		}
		return
	}
	n.crowd = e.Crowd
	n.datagram(n.w.segments[n.segment], a, e.Flags, false)
}

// datagram carries a beacon. Probes are answered, and soliciting broadcasts by some of those who hear them.
func (n *Node) datagram(to []*Node, a core.BeaconIn, flags beacon.Flags, unicast bool) {
	w, sent := n.w, n.run
	w.in(w.between(200*time.Microsecond, time.Millisecond), func() {
		for _, m := range to {
			if m == n || !m.up || m.segment != n.segment || w.blocked(n, m) || sent != n.run || w.chance(w.cfg.Loss) {
				continue
			}
			m.do(func() {
				answer := flags.Has(beacon.FlagProbe) && unicast ||
					flags.Has(beacon.FlagSolicit) && w.rng.IntN(max(m.crowd, 1)) < 4
				if answer {
					m.datagram([]*Node{n}, m.announce(), beacon.FlagReply, true)
				}
				m.step(a)
			})
		}
	})
}

// dial connects, and both ends prove themselves: the dialer is done when it has read the second message, the acceptor with the third.
func (n *Node) dial(d core.Dial) {
	w := n.w
	n.dials[d.ID] = true
	n.connSeq++
	seq := n.connSeq
	fail := func(after time.Duration, code session.Code) {
		n.later(after, func() {
			if n.dials[d.ID] {
				delete(n.dials, d.ID)
				n.step(core.DialFailed{ID: d.ID, Code: code})
			}
		})
	}
	m := w.at[d.At]
	if m == nil {
		fail(dialTimeout, 0)
		return
	}
	// Connect and handshake: two round trips, and some work.
	one := w.latency(n, m)
	total := 4*one + 2*time.Millisecond
	w.in(one, func() {
		switch {
		case w.blocked(n, m) || w.blocked(m, n) || m.asleep:
			fail(dialTimeout-one, 0)
		case !m.up || m.id != d.Peer:
			fail(one, 0)
		case m.stalled:
			fail(dialTimeout, 0)
		default:
			run := m.run
			n.later(total-one, func() { n.finishDial(d, m, run, seq, fail) })
		}
	})
}

func (n *Node) finishDial(d core.Dial, m *Node, run int, seq uint64, fail func(time.Duration, session.Code)) {
	w := n.w
	switch {
	case !n.dials[d.ID]:
		return // given up
	case w.blocked(n, m) || w.blocked(m, n):
		fail(dialTimeout, 0)
		return
	case m.run != run:
		fail(0, 0)
		return
	}
	if standing, why := n.ledger.Current().Admit(m.cert, 1, n.clock().Trust); standing == trust.Refused {
		fail(0, session.Code(why.Code()))
		return
	}
	mine := &end{n: n, run: n.run}
	theirs := &end{n: m, run: run, peer: mine}
	mine.peer = theirs
	theirs.last = w.now + w.latency(n, m)
	n.open(mine)
	// The daemon's loop learns of it a little later, and may give the dial up meanwhile without effect.
	boot, loop := m.boot, w.between(0, time.Millisecond)
	mine.last, mine.upAt = w.now+loop, w.now+loop
	n.later(loop, func() {
		delete(n.dials, d.ID)
		n.step(core.SessionUp{
			ID: mine.id, Dial: d.ID, Peer: m.id, Role: keys.RoleDialer, Boot: boot, ConnSeq: seq, Remote: m.tcp(), Certificate: m.cert,
			RootVersion: 1,
		})
	})
	remote := n.tcp()
	w.queue.push(theirs.last, func() {
		if m.run != run || w.blocked(n, m) {
			return
		}
		m.do(func() { m.accept(theirs, remote, seq) })
	})
}

func (n *Node) accept(e *end, remote netip.AddrPort, seq uint64) {
	if n.run != e.run || e.closed {
		return
	}
	n.open(e)
	from := e.peer.n
	if standing, why := n.ledger.Current().Admit(from.cert, 1, n.clock().Trust); standing == trust.Refused {
		n.closeEnd(e.id, session.Code(why.Code()))
		return
	}
	n.step(core.SessionUp{
		ID: e.id, Peer: from.id, Role: keys.RoleAcceptor, Boot: from.boot, ConnSeq: seq, Remote: remote, Certificate: from.cert, RootVersion: 1,
	})
}

func (n *Node) open(e *end) {
	n.lastID++
	e.id = n.lastID
	n.ends[e.id] = e
}
