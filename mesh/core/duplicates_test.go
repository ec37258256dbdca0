package core

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// duel is two nodes that dial each other with random delays. It watches that, once there is a session, there always is one.
type duel struct {
	*sim
	a, b  *simNode
	seed  uint64
	first time.Duration // since when there has been a session; never: no session yet
}

func newDuel(t *testing.T, f *fixture, seed uint64) *duel {
	d := &duel{sim: newSim(t, f, seed), seed: seed, first: never}
	d.a, d.b = d.nodes[0], d.nodes[1]
	slow := d.between(time.Millisecond, 150*time.Millisecond)
	d.delay = func() time.Duration { return d.between(0, slow) }
	d.handshake = func() time.Duration { return d.between(time.Millisecond, 3*slow) }
	d.onStep = func(*simNode) { d.watch() }
	return d
}

func (d *duel) watch() {
	switch {
	case d.first == never && len(d.shared(d.a, d.b)) > 0:
		d.first = d.now
	case d.first != never && len(d.held(d.a, d.b)) == 0:
		d.t.Fatalf("seed %d, %v: no session, though there was one since %v", d.seed, d.now, d.first)
	}
}

// disturbed forgets that there was a session: something took it away.
func (d *duel) disturbed() { d.first = never }

func (d *duel) wantOne() {
	d.t.Helper()
	list := d.shared(d.a, d.b)
	if len(list) != 1 || !list[0].full() || len(d.a.core.live) != 1 || len(d.b.core.live) != 1 || len(d.a.ends) != 1 || len(d.b.ends) != 1 {
		d.t.Fatalf("seed %d, %v: %d sessions; %d and %d held, %d and %d connections", d.seed, d.now, len(list), len(d.a.core.live),
			len(d.b.core.live), len(d.a.ends), len(d.b.ends))
	}
}

// know makes both know each other's address, and dial when somebody asks.
func (d *duel) know() {
	d.a.step(AddSeed{Peer: d.b.id, At: d.b.at})
	d.b.step(AddSeed{Peer: d.a.id, At: d.a.at})
}

// dialAnyway dials although there may be a session: a dial that was on its way when the other's came in.
func (n *simNode) dialAnyway(m *simNode) {
	p := n.peer(m)
	for _, a := range p.addrs {
		if a.at == m.at && !a.busy && len(n.core.dials) < maxDials {
			p.dialing++
			a.busy = true
			n.core.out = nil
			n.core.now = n.clock()
			n.core.begin(&dialJob{peer: p, addr: a})
			for _, e := range n.core.out {
				n.effect(e)
			}
			return
		}
	}
}

// Simultaneous dials, from both sides and from one, with random delays: there is never none after the first, and exactly one 3 s
// after the last dial. 10,000 cases.
func TestSimultaneousDials(t *testing.T) {
	t.Parallel()
	cases := uint64(testrun.Cases(10_000, 1_000))
	f := newFixture(t, 2)
	ledger := f.ledger() // nothing changes it
	for seed := range cases {
		d := newDuel(t, f, seed)
		d.in(d.between(0, 300*time.Millisecond), func() { d.a.startWith(ledger) })
		d.in(d.between(0, 300*time.Millisecond), func() { d.b.startWith(ledger) })
		d.runTo(300 * time.Millisecond)
		d.know()
		last := time.Duration(0)
		for range d.rng.IntN(5) {
			x, y := d.a, d.b
			if d.rng.IntN(2) == 0 {
				x, y = y, x
			}
			at := d.now + d.between(0, 1500*time.Millisecond)
			last = max(last, at)
			d.at(at, func() { x.dialAnyway(y) })
		}
		d.runTo(max(last, d.now) + 3*second)
		d.wantOne()
	}
}

// The same with restarts, lost connections and lost power in between: exactly one session 3 s after the last of them. 10,000 cases.
func TestDialsAndRestarts(t *testing.T) {
	t.Parallel()
	cases := uint64(testrun.Cases(10_000, 1_000))
	f := newFixture(t, 2)
	ledger := f.ledger()
	for seed := range cases {
		d := newDuel(t, f, seed)
		d.delay = func() time.Duration { return d.between(0, 40*time.Millisecond) }
		d.handshake = func() time.Duration { return d.between(time.Millisecond, 120*time.Millisecond) }
		d.a.startWith(ledger)
		d.b.startWith(ledger)
		d.know()
		for range 1 + d.rng.IntN(4) {
			d.runFor(d.between(0, 2*second))
			x, y := d.a, d.b
			if d.rng.IntN(2) == 0 {
				x, y = y, x
			}
			switch d.rng.IntN(4) {
			case 0:
				x.dialAnyway(y)
			case 1: // every connection is reset
				d.disturbed()
				for _, id := range sortedEnds(x.ends) {
					e := x.ends[id]
					e.peer.down(0)
					e.down(0)
				}
			case 2:
				d.disturbed()
				x.kill()
				d.runFor(d.between(0, 500*time.Millisecond))
				x.startWith(ledger)
				d.disturbed()
			case 3:
				d.disturbed()
				x.cutPower()
				d.runFor(d.between(0, 500*time.Millisecond))
				x.powered = true
				x.startWith(ledger)
				d.disturbed()
			}
		}
		d.runFor(3 * second)
		d.disturbed()
		if len(d.a.core.live) != 1 || len(d.b.core.live) != 1 {
		}
		d.wantOne()
	}
}

// pairUp is a core with one peer, whose sessions are made by hand.
func pairUp(t *testing.T, self int) (n, m *simNode) {
	s := newSim(t, newFixture(t, 2), 1)
	n, m = s.nodes[self], s.nodes[1-self]
	n.start()
	n.step(AddSeed{Peer: m.id, At: m.at})
	s.runTo(5 * second)
	return n, m
}

// meet makes a session and lets the peer say READY on it.
func (n *simNode) meet(m *simNode, role keys.Role, seq uint64, boot byte) SessionID {
	n.lastID++
	id := n.lastID
	n.step(SessionUp{ID: id, Peer: m.id, Role: role, ConnSeq: seq, Boot: [16]byte{boot}, Remote: m.at, Certificate: m.cert, RootVersion: 1})
	n.step(FrameIn{ID: id, Body: session.Ready{State: session.Full}})
	return id
}

func (n *simNode) wantHeld(ids ...SessionID) {
	n.s.t.Helper()
	if len(n.core.live) != len(ids) {
		n.s.t.Fatalf("%d sessions are held, want %v", len(n.core.live), ids)
	}
	for _, id := range ids {
		if n.core.byID[id] == nil {
			n.s.t.Fatalf("session %d is not held", id)
		}
	}
}

// Each row of the rule, from both ends.
func TestDuplicateRule(t *testing.T) {
	const low, high = 0, 1
	for _, c := range []struct {
		name       string
		self       int
		first, two keys.Role
		seq        uint64 // of the second; the first has 5
		boot       byte   // of the second; the first has 1
		kept       int    // 1, 2, or 0: both, for the peer decides
	}{
		{"restart, from the lower", low, keys.RoleDialer, keys.RoleAcceptor, 1, 2, 2},
		{"restart, from the higher", high, keys.RoleAcceptor, keys.RoleAcceptor, 1, 2, 2},
		{"same dialer, newer, at the dialer", low, keys.RoleDialer, keys.RoleDialer, 6, 1, 2},
		{"same dialer, newer, at the acceptor", high, keys.RoleAcceptor, keys.RoleAcceptor, 6, 1, 2},
		{"same dialer, older", low, keys.RoleAcceptor, keys.RoleAcceptor, 4, 1, 1},
		{"lower keeps its own, older", low, keys.RoleDialer, keys.RoleAcceptor, 9, 1, 1},
		{"lower keeps its own, newer", low, keys.RoleAcceptor, keys.RoleDialer, 1, 1, 2},
		{"higher leaves it to the lower", high, keys.RoleDialer, keys.RoleAcceptor, 9, 1, 0},
		{"higher leaves it to the lower too", high, keys.RoleAcceptor, keys.RoleDialer, 9, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, m := pairUp(t, c.self)
			one := n.meet(m, c.first, 5, 1)
			since := n.s.now
			two := n.meet(m, c.two, c.seq, c.boot)
			switch c.kept {
			case 0:
				n.wantHeld(one, two)
				return
			case 1:
				n.wantHeld(one)
			case 2:
				n.wantHeld(two)
			}
			closed, _ := effects[CloseSession](n, since)
			if len(closed) != 1 || closed[0].Code != session.CodeDuplicate {
				t.Fatalf("closed %+v", closed)
			}
			// New streams leave the loser before it is closed.
			states, _ := effects[SessionState](n, since)
			drained := false
			for _, st := range states {
				drained = drained || st.ID == closed[0].ID && st.State == session.Draining
			}
			if !drained {
				t.Fatal("the loser was not drained")
			}
		})
	}
}

// Before the peer's READY a new session replaces nothing: it may never come to anything.
func TestUnreadySessionReplacesNothing(t *testing.T) {
	n, m := pairUp(t, 0)
	one := n.meet(m, keys.RoleAcceptor, 5, 1)
	n.step(SessionUp{ID: 99, Peer: m.id, Role: keys.RoleDialer, ConnSeq: 6, Boot: [16]byte{1}, Remote: m.at, Certificate: m.cert, RootVersion: 1})
	n.wantHeld(one, 99)
	n.step(SessionDown{ID: 99})
	n.wantHeld(one)
}

// A session silent for 3 s is asked before it wins: with an answer the rule holds, without one within 2 s the new one wins.
func TestSilentDuplicateIsAsked(t *testing.T) {
	for _, alive := range []bool{true, false} {
		n, m := pairUp(t, 0)
		old := n.meet(m, keys.RoleDialer, 5, 1)
		n.s.runFor(4 * second)
		since := n.s.now
		young := n.meet(m, keys.RoleAcceptor, 5, 1)
		n.wantHeld(old, young)
		beats, _ := effects[Heartbeat](n, since)
		if len(beats) == 0 || beats[0].ID != old || beats[0].Ping == 0 {
			t.Fatal("the silent session was not asked")
		}
		n.s.runFor(1900 * time.Millisecond)
		n.wantHeld(old, young)
		if alive {
			n.step(HeartbeatIn{ID: old, Pong: beats[0].Ping})
			n.wantHeld(old)
			continue
		}
		n.s.runFor(100 * time.Millisecond)
		n.wantHeld(young)
	}
}

// A session whose peer restarted before it said READY is over as soon as the new one is ready.
func TestUnreadySessionOfAnOldBoot(t *testing.T) {
	n, m := pairUp(t, 0)
	n.step(SessionUp{ID: 98, Peer: m.id, Role: keys.RoleDialer, ConnSeq: 6, Boot: [16]byte{1}, Remote: m.at, Certificate: m.cert, RootVersion: 1})
	n.s.runFor(second)
	n.wantHeld(n.meet(m, keys.RoleAcceptor, 1, 2))
}

// Five refused duplicates within 60 s: the sixth wins, for the peer knows better.
func TestFiveRejectedDuplicates(t *testing.T) {
	n, m := pairUp(t, 0)
	old := n.meet(m, keys.RoleDialer, 5, 1)
	for range dupLimit {
		n.s.runFor(2 * second)
		n.step(HeartbeatIn{ID: old})
		n.meet(m, keys.RoleAcceptor, 7, 1)
		n.wantHeld(old)
	}
	n.step(HeartbeatIn{ID: old})
	n.wantHeld(n.meet(m, keys.RoleAcceptor, 8, 1))

	// Spread over more than a minute they are no sign of anything.
	n, m = pairUp(t, 0)
	old = n.meet(m, keys.RoleDialer, 5, 1)
	for range 4 * dupLimit {
		n.s.runFor(13 * second)
		n.step(HeartbeatIn{ID: old})
		n.meet(m, keys.RoleAcceptor, 7, 1)
		n.wantHeld(old)
	}
}

// Two hosts with one key alternate: an alarm. Restarts, even many, are none.
func TestCloneAlarm(t *testing.T) {
	clone := func(boots ...byte) bool {
		n, m := pairUp(t, 0)
		for i, b := range boots {
			n.meet(m, keys.RoleAcceptor, uint64(i), b)
			n.s.runFor(2 * second)
		}
		alarms, _ := effects[Alarm](n, 0)
		return len(alarms) > 0 && alarms[0].Code == "clone.suspect" && alarms[0].Peer == m.id
	}
	if !clone(1, 2, 1, 2, 1) {
		t.Error("four alternations raise no alarm")
	}
	if clone(1, 2, 1) || clone(1, 2, 3, 4, 5, 6, 7, 8) {
		t.Error("restarts raise an alarm")
	}
}

// A replacement of due keys is made before the old session breaks; the newer one wins at both ends, and there is always one.
func TestReplaceMakesBeforeItBreaks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		s := settledMesh(t, 2, seed)
		old := s.shared(s.nodes[0], s.nodes[1])[0]
		n := s.nodes[0]
		if old.role == keys.RoleAcceptor {
			n = s.nodes[1]
			old = s.shared(n, s.nodes[0])[0]
		}
		s.onStep = func(*simNode) {
			if len(s.held(s.nodes[0], s.nodes[1])) == 0 {
				t.Fatal("no session")
			}
		}
		since := s.now
		n.step(Replace{ID: old.id})
		n.step(Replace{ID: old.id}) // asked again while the dial is under way
		s.runFor(second)
		s.wantAllSessions()
		if d, _ := effects[Dial](n, since); len(d) != 1 {
			t.Fatalf("%d dials", len(d))
		}
		if s.shared(s.nodes[0], s.nodes[1])[0] == old || n.core.byID[old.id] != nil {
			t.Fatal("the old session stayed")
		}
	}
}

// Keys that are due do not wait for others' dials: every place is taken, the replacement is dialled all the same.
func TestReplaceNeedsNoFreePlace(t *testing.T) {
	s := settledMesh(t, 2, 1)
	n := s.nodes[0]
	old := s.shared(n, s.nodes[1])[0]
	if old.role == keys.RoleAcceptor {
		n = s.nodes[1]
		old = s.shared(n, s.nodes[0])[0]
	}
	for i := range maxDials {
		n.core.dials[DialID(1<<32+i)] = &dial{dialJob: dialJob{peer: &peer{}, addr: &address{}}}
	}
	since := s.now
	n.step(Replace{ID: old.id})
	if d, _ := effects[Dial](n, since); len(d) != 1 {
		t.Fatalf("%d dials", len(d))
	}
}

// A session at its limits ends, and another one is made.
func TestRetire(t *testing.T) {
	s := settledMesh(t, 2, 1)
	a := s.nodes[0]
	since := s.now
	a.step(Retire{ID: a.core.live[0].id})
	closed, _ := effects[CloseSession](a, since)
	if len(closed) != 1 || closed[0].Code != session.CodeLimit {
		t.Fatalf("closed %+v", closed)
	}
	s.runFor(2 * second)
	s.wantAllSessions()
}
