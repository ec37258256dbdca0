package sim

import (
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	// connectTimeout bounds a connect, handshakeTimeout what comes after it.
	connectTimeout   = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	// handshakeWork is what the cryptography of one message takes.
	handshakeWork = 500 * time.Microsecond
)

// attempt is one connection attempt under way: connect, then three messages, each of which only the daemon it is for can answer.
type attempt struct {
	d     core.Dial
	n, m  *Node
	run   int // of n's daemon
	mrun  int // of m's
	seq   uint64
	until time.Duration
}

// dial connects to whoever is at the address, and both ends prove themselves: the dialer is done when it has read the second message,
// the acceptor with the third.
func (n *Node) dial(d core.Dial) {
	w := n.w
	n.dials[d.ID] = true
	if len(n.dials) > maxDialsAtOnce {
		w.fail("I5: node %d has %d dials under way", n.i, len(n.dials))
	}
	n.connSeq++
	a := &attempt{d: d, n: n, m: w.at[d.At], run: n.run, seq: n.connSeq, until: w.now + connectTimeout}
	w.in(connectTimeout+handshakeTimeout, func() { a.fail(0) }) // whatever becomes of the other end
	if a.m == nil {
		w.in(connectTimeout, func() { a.fail(0) })
		return
	}
	a.hop(n, a.m, func() {
		if !a.m.up {
			a.hop(a.m, n, func() { a.fail(0) }) // the host refuses
			return
		}
		a.mrun = a.m.run
		a.hop(a.m, n, func() {
			a.until = w.now + handshakeTimeout
			a.hop(n, a.m, a.first)
		})
	})
}

// hop carries a packet, repeated until it is through or the time is over.
func (a *attempt) hop(from, to *Node, then func()) {
	w := a.n.w
	wait := firstRepeat
	var try func()
	try = func() {
		switch {
		case !w.blocked(from, to):
			then()
		case w.now+wait >= a.until:
			w.in(max(0, a.until-w.now), func() { a.fail(0) })
		default:
			w.in(wait, try)
			wait *= 2
		}
	}
	w.in(w.latency(from, to)+handshakeWork, try)
}

// fail ends the attempt without a session.
func (a *attempt) fail(code session.Code) {
	if a.n.run != a.run {
		return
	}
	a.n.later(0, func() {
		if a.n.dials[a.d.ID] {
			delete(a.n.dials, a.d.ID)
			a.n.step(core.DialFailed{ID: a.d.ID, Code: code})
		}
	})
}

// first is the first message at the acceptor: under a key that is not its own nothing opens. A daemon that does not run now reads it
// when it does.
func (a *attempt) first() {
	a.m.do(func() {
		if a.m.run == a.mrun && a.m.id == a.d.Peer && a.n.w.now <= a.until {
			a.hop(a.m, a.n, func() { a.n.do(a.second) })
		} else {
			a.hop(a.m, a.n, func() { a.fail(0) })
		}
	})
}

// second is the second message at the dialer: it knows now who is there, and is done.
func (a *attempt) second() {
	n, m, w := a.n, a.m, a.n.w
	if n.run != a.run || !n.dials[a.d.ID] || w.now > a.until {
		a.fail(0)
		return
	}
	if standing, why := n.ledger.Current().Admit(m.cert, m.rootVersion(), n.clock().Trust); standing == trust.Refused {
		n.w.note(n, "will not talk to %d: %s", m.i, why)
		a.fail(0)
		return
	}
	mine, theirs := &end{n: n, run: n.run}, &end{n: m, run: a.mrun}
	mine.peer, theirs.peer = theirs, mine
	n.open(mine)
	up := core.SessionUp{
		Dial: a.d.ID, Peer: m.id, Role: keys.RoleDialer, Boot: m.boot, ConnSeq: a.seq, Remote: a.d.At, Certificate: m.cert,
		RootVersion: m.rootVersion(), ID: mine.id,
	}
	remote := n.tcp()
	mine.put(func(to *end) { to.n.accept(to, remote, a.seq) })
	// The daemon's loop learns of it a little later, and may give the dial up meanwhile without effect.
	loop := w.between(0, time.Millisecond)
	mine.upAt, theirs.last = w.now+loop, w.now+loop
	n.later(loop, func() {
		delete(n.dials, a.d.ID)
		n.peerTime(m)
		n.step(up)
	})
}

// accept is the third message at the acceptor. Whom the log refuses is told why, under encryption, and never becomes a session.
func (n *Node) accept(e *end, remote netip.AddrPort, seq uint64) {
	from := e.peer.n
	n.open(e)
	if standing, why := n.ledger.Current().Admit(from.cert, from.rootVersion(), n.clock().Trust); standing == trust.Refused {
		n.w.note(n, "refuses %d: %s", from.i, why)
		code := session.Code(why.Code())
		if code == 0 {
			code = session.CodeNotAdmitted
		}
		e.put(func(to *end) { to.down(code) })
		e.closed = true
		delete(n.ends, e.id)
		return
	}
	n.peerTime(from)
	n.step(core.SessionUp{
		ID: e.id, Peer: from.id, Role: keys.RoleAcceptor, Boot: from.boot, ConnSeq: seq, Remote: remote, Certificate: from.cert,
		RootVersion: from.rootVersion(),
	})
}
