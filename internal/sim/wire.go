package sim

import (
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

const (
	// lateBy is how late a lost record is, and everything behind it on its connection.
	lateBy = 200 * time.Millisecond
	// userTimeout is when data that nobody acknowledges ends a connection, as TCP_USER_TIMEOUT does.
	userTimeout = 15 * time.Second
	// firstRepeat is TCP's first timeout; it doubles, up to lastRepeat.
	firstRepeat = 200 * time.Millisecond
	lastRepeat  = 4 * time.Second
	// queueLimit is how many records may wait for a peer that takes none: package mesh cuts off the link that would take more.
	queueLimit = 512
)

// end is one end of a session's connection, and the way from it to the other end.
type end struct {
	n      *Node
	run    int
	id     core.SessionID // 0 until the daemon has it
	peer   *end
	closed bool
	upAt   time.Duration // when the daemon's loop learns of it
	state  session.State
	double time.Duration // since when its peer has had another usable session too; 0: it has not
	gone   bool          // an address it was made between is gone, and nobody says so

	last    time.Duration // arrival of the last record on its way
	unacked []func(to *end)
	stuck   bool          // records are repeated until they are through
	waited  time.Duration // for acknowledgements
}

// send carries something to the other end of a session, after everything sent before.
func (n *Node) send(id core.SessionID, arrive func(to *end)) {
	if e := n.ends[id]; e != nil && !e.closed {
		e.put(arrive)
	}
}

func (e *end) put(arrive func(to *end)) {
	w := e.n.w
	d := w.latency(e.n, e.peer.n)
	if w.chance(w.cfg.Late) {
		d += lateBy
	}
	e.last = max(e.last, w.now+d)
	w.queue.push(e.last, func() { e.land(arrive) })
}

// passes reports whether records get through now, and acks whether their acknowledgements do.
func (e *end) passes() bool { return !e.gone && !e.n.w.blocked(e.n, e.peer.n) }
func (e *end) acks() bool   { return !e.gone && !e.n.w.blocked(e.peer.n, e.n) }

// land is a record's arrival where the path ends: at the peer, or in nothing.
func (e *end) land(arrive func(to *end)) {
	switch {
	case e.stuck && len(e.unacked) >= queueLimit:
		e.n.w.note(e.n, "cuts off %d, which takes no records", e.peer.n.i)
		e.down(0)
	case e.stuck:
		e.unacked = append(e.unacked, arrive)
	case !e.passes():
		if !e.closed && e.n.run == e.run { // else nobody is left to repeat it
			e.unacked = append(e.unacked, arrive)
			e.block()
		}
	default:
		e.deliver(arrive)
		if !e.acks() {
			e.block()
		}
	}
}

func (e *end) deliver(arrive func(to *end)) {
	to, w := e.peer, e.n.w
	if to.closed || to.n.run != to.run {
		// The host answers that there is no such connection.
		w.in(w.latency(to.n, e.n), func() {
			if e.acks() {
				e.down(0)
			}
		})
		return
	}
	to.n.do(func() {
		if !to.closed && to.n.run == to.run {
			arrive(to)
		}
	})
}

func (e *end) block() {
	if e.stuck || e.closed || e.n.run != e.run {
		return
	}
	e.stuck, e.waited = true, 0
	e.repeatAfter(firstRepeat)
}

// repeatAfter is TCP: everything that was not acknowledged is sent again until it is, or the connection is given up. A host that sleeps
// repeats nothing, and its timers stand still.
func (e *end) repeatAfter(d time.Duration) {
	e.n.w.in(d, func() {
		switch {
		case e.closed || e.n.run != e.run || !e.stuck:
			return
		case e.n.asleep:
			e.repeatAfter(time.Second)
			return
		}
		if e.passes() {
			all := e.unacked
			e.unacked = nil
			e.stuck = !e.acks()
			for _, arrive := range all {
				e.deliver(arrive)
			}
			if !e.stuck {
				return
			}
		}
		if e.waited += d; e.waited >= userTimeout {
			e.n.w.note(e.n, "gives up a connection with %d: nothing was acknowledged for %v", e.peer.n.i, userTimeout)
			e.reset()
			e.down(0)
			return
		}
		e.repeatAfter(min(2*d, lastRepeat, userTimeout-e.waited))
	})
}

// reset tells the other end, if that gets through, that this one is no more.
func (e *end) reset() {
	e.put(func(to *end) { to.down(0) })
}

// closeEnd closes a session from this end; CLOSE follows what was sent before.
func (n *Node) closeEnd(id core.SessionID, code session.Code) {
	e := n.ends[id]
	if e == nil || e.closed {
		return
	}
	e.put(func(to *end) { to.down(code) })
	e.down(0)
}

// down ends one end, and its daemon learns it.
func (e *end) down(code session.Code) {
	if e.closed || e.n.run != e.run {
		return
	}
	e.closed, e.stuck, e.unacked = true, false, nil
	if e.id == 0 {
		return
	}
	delete(e.n.ends, e.id)
	e.n.sessionLost(e)
	e.n.later(max(0, e.upAt-e.n.w.now), func() { e.n.step(core.SessionDown{ID: e.id, Code: code}) })
}

// open gives the daemon an end.
func (n *Node) open(e *end) {
	n.lastID++
	e.id = n.lastID
	n.ends[e.id] = e
	if len(n.ends) > maxEnds {
		n.w.fail("I5: node %d has %d connections", n.i, len(n.ends))
	}
}
