package core

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// alone is a node that knows one address of a peer where nobody answers: every dial fails at once.
func alone(t *testing.T) (n, m *simNode) {
	s := newSim(t, newFixture(t, 2), 1)
	s.handshake = func() time.Duration { return 2 * time.Millisecond }
	n, m = s.nodes[0], s.nodes[1]
	n.start()
	n.step(AddSeed{Peer: m.id, At: m.at})
	return n, m
}

// gaps are the times between the dials of a node since a time.
func (n *simNode) gaps(since time.Duration) (out []time.Duration) {
	_, at := effects[Dial](n, since)
	for i := 1; i < len(at); i++ {
		out = append(out, at[i]-at[i-1])
	}
	return out
}

// The n-th failure costs U(0.5, 1) · min(cap, 2ⁿ s): up to 60 s in the first hour of absence, 10 min after that, 1 h after a day. It
// never gives up.
func TestBackoffBounds(t *testing.T) {
	t.Parallel()
	n, _ := alone(t)
	s := n.s
	s.runFor(3600 * second)
	for i, g := range n.gaps(0) {
		limit := min(time.Minute, second<<min(i, 12))
		wantBetween(t, fmt.Sprintf("gap %d", i), g, limit/2, limit+20*time.Millisecond)
	}
	since := s.now + 10*time.Minute
	s.runTo(20 * 3600 * second)
	gaps := n.gaps(since)
	if len(gaps) < 100 {
		t.Fatalf("%d dials in 19 hours", len(gaps))
	}
	for _, g := range gaps {
		wantBetween(t, "gap after an hour", g, 5*time.Minute, 10*time.Minute+20*time.Millisecond)
	}
	s.runTo(25 * 3600 * second)
	since = s.now
	s.runTo(6 * 24 * 3600 * second)
	gaps = n.gaps(since)
	if len(gaps) < 100 {
		t.Fatalf("%d dials in five days", len(gaps))
	}
	for _, g := range gaps {
		wantBetween(t, "gap after a day", g, 30*time.Minute, time.Hour+20*time.Millisecond)
	}
}

// Back-off is forgotten at a new boot, when the peer is heard again, at a change of the network, after sleep, and when a person asks.
func TestBackoffReset(t *testing.T) {
	for name, event := range map[string]func(n, m *simNode){
		"user":      func(n, m *simNode) { n.step(Want{Peer: m.id}) },
		"network":   func(n, _ *simNode) { n.step(NetChange{}) },
		"wake":      func(n, _ *simNode) { n.wall += 10 * second; n.step(Timer{}) },
		"new boot":  func(n, m *simNode) { m.boot[0]++; n.step(m.announce()) },
		"told boot": func(n, m *simNode) { m.boot[0]++; a := m.announce(); a.Told = true; n.step(a) },
		"heard":     func(n, m *simNode) { n.step(m.announce()) },
	} {
		t.Run(name, func(t *testing.T) {
			n, m := alone(t)
			m.ledger = n.ledger
			m.core = New(Config{Self: m.id, Ledger: n.ledger})
			first := m.announce()
			n.step(first)
			n.s.runFor(600 * second)
			if f := n.peer(m).addrs[0].failures; f < 8 {
				t.Fatalf("%d failures", f)
			}
			since := n.s.now
			event(n, m)
			n.s.runFor(250 * time.Millisecond)
			if d, _ := effects[Dial](n, since); len(d) == 0 {
				t.Fatal("not dialled at once")
			}
		})
	}
	// One more beacon of a peer that is heard all the time is no news.
	n, m := alone(t)
	m.ledger = n.ledger
	for range 60 {
		n.step(m.announce())
		n.s.runFor(5 * second)
	}
	for i, g := range n.gaps(100 * second) {
		if g < 25*second {
			t.Fatalf("gap %d: %v while beacons are heard", i, g)
		}
	}
}

// A session that lived for less than 10 s leaves the back-off, one that lived longer forgets it, and the peer's going away is no
// failure of the address.
func TestShortSessionsKeepTheBackoff(t *testing.T) {
	for _, c := range []struct {
		lived time.Duration
		code  session.Code
		want  int
	}{{9 * second, 0, 6}, {11 * second, 0, 0}, {second, session.CodeShutdown, 5}, {second, session.CodeDuplicate, 5}} {
		n, m := pairUp(t, 0)
		id := n.meet(m, keys.RoleDialer, 1, 1)
		a := n.core.byID[id].addr
		a.failures = 5
		for n.s.now < 5*second+c.lived {
			n.s.runFor(second / 2)
			n.step(HeartbeatIn{ID: id})
		}
		n.step(SessionDown{ID: id, Code: c.code})
		if a.failures != c.want {
			t.Errorf("lived %v, code %s: %d failures, want %d", c.lived, c.code, a.failures, c.want)
		}
	}
}

// A node that is revoked and does not know leaves its peers alone: their beacons, which it hears, do not bring it back at once, nor does
// somebody at its keyboard more than every few seconds. Without that it is back ten times a second.
func TestRevokedNodeBacksOff(t *testing.T) {
	s := settledMesh(t, 3, 1)
	issuer, victim := s.nodes[0], s.nodes[2]
	issuer.publish(s.f.revocation(2))
	s.runFor(10 * second)
	tries := func(d time.Duration, each func()) (n int) {
		since := s.now
		for s.now < since+d {
			each()
			s.runFor(50 * time.Millisecond)
		}
		dials, _ := effects[Dial](victim, since)
		for _, d := range dials {
			if d.Peer == issuer.id {
				n++
			}
		}
		return n
	}
	if n := tries(60*second, func() { victim.step(Want{Peer: issuer.id}) }); n < 2 || n > 25 {
		t.Fatalf("%d dials in a minute in which somebody wants one all the time", n)
	}
	s.runFor(10 * time.Minute) // it goes up to the most
	if n := tries(20*time.Minute, func() {}); n < 2 || n > 5 {
		t.Fatalf("%d dials in 20 minutes", n)
	}
	// The peer's word is no revocation: as soon as it has a session again all is as before.
	p := victim.peer(issuer)
	if p.revoked || p.shuts == 0 {
		t.Fatalf("%+v", p)
	}
	other := s.nodes[1]
	o := issuer.peer(other)
	o.shuts, o.shutOut = 3, s.now+second
	other.kill()
	s.runFor(2 * second)
	other.start()
	s.runFor(30 * second)
	if o.shuts != 0 || o.shutOut != 0 {
		t.Fatalf("after a full session: %d, %v", o.shuts, o.shutOut)
	}
}

// A peer that says this node is revoked is dialled less, and believed nothing.
func TestRefusedAsRevoked(t *testing.T) {
	n, m := alone(t)
	n.s.runFor(210 * time.Millisecond)
	p := n.peer(m)
	f := p.addrs[0].failures
	n.core.Step(n.clock(), DialFailed{ID: 1 << 40, Code: session.CodeRevoked}) // of no dial
	if p.addrs[0].failures != f {
		t.Fatal("the failure of an unknown dial counted")
	}
	for len(n.core.dials) == 0 {
		n.s.runFor(time.Millisecond)
	}
	id := sortedDials(n.core.dials)[0]
	delete(n.dials, id)
	f = p.addrs[0].failures
	n.step(DialFailed{ID: id, Code: session.CodeRevoked})
	if got := p.addrs[0].failures; got != f+1 || p.revoked || p.shutOut < n.s.now+ShutOutFirst/2 {
		t.Fatalf("%d failures, revoked %v, left alone until %v", got, p.revoked, p.shutOut)
	}
}

// Addresses are dialled in the order of their classes, 50 ms apart on the same subnet, 250 ms otherwise, at most 4 at a time.
func TestAddressOrderAndStagger(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 1)
	n, m := s.nodes[0], s.nodes[1]
	n.start()
	s.runFor(second)
	addr := netip.MustParseAddrPort
	for _, at := range []string{"203.0.113.9:1", "192.168.9.9:1", "10.0.3.3:1", "10.0.3.4:1", "203.0.113.7:1", "10.0.3.5:1"} {
		n.core.addAddress(n.core.peerFor(m.id), addr(at), sourceRecord)
	}
	n.core.reached(n.peer(m), addr("203.0.113.7:1"))
	since := s.now
	n.step(Want{Peer: m.id})
	s.runFor(2 * second)
	d, at := effects[Dial](n, since)
	want := []string{"203.0.113.7:1", "10.0.3.3:1", "10.0.3.4:1", "10.0.3.5:1"}
	when := []time.Duration{0, 250 * time.Millisecond, 300 * time.Millisecond, 350 * time.Millisecond}
	if len(d) != maxDialsPeer {
		t.Fatalf("%d dials", len(d))
	}
	for i := range d {
		if d[i].At != addr(want[i]) || at[i]-since != when[i] {
			t.Errorf("dial %d: %s after %v, want %s after %v", i, d[i].At, at[i]-since, want[i], when[i])
		}
	}
}

// An address that is being dialled, or waits for its turn, is not dialled again.
func TestNoAddressIsDialledTwice(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 1)
	n, m := s.nodes[0], s.nodes[1]
	n.start()
	m.powered = false
	n.core.addAddress(n.core.peerFor(m.id), m.at, sourceRecord)
	n.core.addAddress(n.core.peerFor(m.id), m.udp, sourceRecord)
	for range 10 {
		n.step(Want{Peer: m.id})
		s.runFor(10 * time.Millisecond)
	}
	if d, _ := effects[Dial](n, 0); len(d) != 2 || d[0].At == d[1].At {
		t.Fatalf("dials %+v", d)
	}
}

// When one address answers, the dials of the others are given up.
func TestSiblingsAreCancelled(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 1)
	s.handshake = func() time.Duration { return 400 * time.Millisecond }
	a, b := s.nodes[0], s.nodes[1]
	a.start()
	b.start()
	for i := range 3 {
		a.core.addAddress(a.peer(b), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 8, byte(i)}), 1), sourceRecord)
	}
	a.step(AddSeed{Peer: b.id, At: b.at})
	s.runFor(2 * second)
	s.wantAllSessions()
	if c, _ := effects[CancelDial](a, 0); len(c) == 0 || len(a.core.dials) > 0 || a.peer(b).dialing != 0 {
		t.Fatalf("%d given up, %d under way, %d counted", len(c), len(a.core.dials), a.peer(b).dialing)
	}
	for _, x := range a.peer(b).addrs {
		if x.busy {
			t.Fatal("an address counts as being dialled")
		}
	}
}

// At most 16 dials at once; the others wait, and each gets its turn.
func TestDialsAreBounded(t *testing.T) {
	s := newSim(t, newFixture(t, 60), 1)
	a := s.nodes[0]
	s.onStep = func(n *simNode) {
		if len(n.core.dials) > maxDials {
			t.Fatalf("%d dials at once", len(n.core.dials))
		}
	}
	a.start()
	for _, m := range s.nodes[1:] {
		m.powered = false
		a.step(AddSeed{Peer: m.id, At: m.at})
		a.step(Want{Peer: m.id})
	}
	s.runFor(30 * second)
	dialled := map[keys.NodeID]bool{}
	d, _ := effects[Dial](a, 0)
	for _, x := range d {
		dialled[x.Peer] = true
	}
	if len(dialled) != 59 {
		t.Fatalf("%d of 59 peers were dialled", len(dialled))
	}
}

// The address table of a peer is bounded; what goes is what was confirmed longest ago, never a seed or the last that worked.
func TestAddressTable(t *testing.T) {
	n, m := alone(t)
	p := n.peer(m)
	good := n.core.reached(p, netip.MustParseAddrPort("10.0.4.4:1"))
	for i := range 100 {
		n.s.runFor(second)
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 9, byte(i)}), 7)
		n.step(NetChange{})
		n.core.addAddress(p, at, sourceBeacon)
		if len(p.addrs) > maxAddresses {
			t.Fatalf("%d addresses", len(p.addrs))
		}
		if p.addrs[len(p.addrs)-1].at != at && n.core.addAddress(p, at, sourceBeacon).at != at {
			t.Fatal("a new address was not kept")
		}
	}
	seed := false
	for _, a := range p.addrs {
		seed = seed || a.at == m.at
	}
	if !seed || n.core.addAddress(p, good.at, sourceBeacon) != good {
		t.Fatal("the seed or the last good address is gone")
	}
}

// A host that starts while a dial to it hangs is dialled again at its first beacon.
func TestHangingDialIsGivenUp(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 1)
	n, m := s.nodes[0], s.nodes[1]
	n.start()
	s.blocked = func(x, y *simNode) bool { return x == n && y == m }
	n.step(AddSeed{Peer: m.id, At: m.at})
	s.runFor(4 * second)
	if len(n.core.dials) != 1 {
		t.Fatal("no dial hangs")
	}
	s.blocked = func(_, _ *simNode) bool { return false }
	m.start()
	s.runFor(600 * time.Millisecond)
	if len(s.shared(n, m)) != 1 {
		t.Fatal("no session 0.6 s after the peer's start")
	}
}

// A handshake that succeeded and is refused all the same frees the place of its dial.
func TestRefusedSessionEndsItsDial(t *testing.T) {
	n, m := pairUp(t, 0)
	n.step(Want{Peer: m.id})
	id := sortedDials(n.core.dials)[0]
	n.peer(m).paused = n.s.now + second
	n.step(SessionUp{ID: 9, Dial: id, Peer: m.id, Role: keys.RoleDialer, Certificate: m.cert, RootVersion: 1})
	if len(n.core.live) != 0 || n.core.dials[id] != nil || n.peer(m).dialing != 0 || n.peer(m).addrs[0].busy {
		t.Fatal("the dial is still counted")
	}
}

// The fifth session with one node is refused, and the dial it came from is over all the same.
func TestSessionsPerPeerAreBounded(t *testing.T) {
	n, m := pairUp(t, 0)
	for i := range maxSessionsPeer {
		n.step(SessionUp{ID: SessionID(100 + i), Peer: m.id, ConnSeq: uint64(i), Role: keys.RoleAcceptor, Certificate: m.cert, RootVersion: 1})
	}
	since := n.s.now
	n.step(SessionUp{ID: 200, Peer: m.id, ConnSeq: 9, Role: keys.RoleAcceptor, Certificate: m.cert, RootVersion: 1})
	closed, _ := effects[CloseSession](n, since)
	if len(closed) != 1 || closed[0].ID != 200 || closed[0].Code != session.CodeLimit || len(n.core.live) != maxSessionsPeer {
		t.Fatalf("closed %+v, %d held", closed, len(n.core.live))
	}
}
