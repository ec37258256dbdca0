package core

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// What no honest node sends ends the session with code 8, is told, and the peer has 60 s of rest, from both sides.
func TestInvalidFrame(t *testing.T) {
	s := settledMesh(t, 3, 1)
	a, b := s.nodes[0], s.nodes[1]
	x := s.held(a, b)[0]
	since := s.now
	bad := s.f.revocation(2)
	raw := slices.Clone(bad.Body)
	raw[len(raw)-1] ^= 1 // the signature
	a.step(FrameIn{ID: x.id, Body: parsed(t, raw), Raw: raw})
	closed, _ := effects[CloseSession](a, since)
	if len(closed) != 1 || closed[0].Code != session.CodeProtocol || closed[0].ID != x.id {
		t.Fatalf("closed %+v", closed)
	}
	if r, _ := effects[TrustRejected](a, since); len(r) != 1 || r[0].From != b.id {
		t.Fatalf("rejected %+v", r)
	}
	if a.ledger.Current().Digest() != s.nodes[2].ledger.Current().Digest() {
		t.Fatal("it was applied")
	}
	s.runTo(since + invalidPause - 10*time.Millisecond)
	if d, _ := effects[Dial](a, since); slices.ContainsFunc(d, func(d Dial) bool { return d.Peer == b.id }) {
		t.Fatal("dialled during the pause")
	}
	if len(a.peer(b).sessions) > 0 {
		t.Fatal("a session during the pause")
	}
	s.runFor(30 * second)
	if a.core.stopping || len(s.shared(a, b)) != 1 {
		t.Fatal("no session after the pause")
	}
}

// Dials that were planned before the pause are not made in it.
func TestPauseHoldsPlannedDials(t *testing.T) {
	n, m := pairUp(t, 0)
	for i := range 3 {
		n.core.addAddress(n.core.peerFor(m.id), netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 1), sourceRecord)
	}
	n.step(Want{Peer: m.id})
	id := n.meet(m, keys.RoleAcceptor, 1, 1)
	raw := slices.Clone(n.s.f.revocation(1).Body)
	raw[len(raw)-1] ^= 1
	n.step(FrameIn{ID: id, Body: parsed(t, raw), Raw: raw})
	since := n.s.now + 1
	n.s.runFor(5 * second)
	if d, _ := effects[Dial](n, since); len(d) > 0 {
		t.Fatalf("%d dials in the pause", len(d))
	}
}

// A flood of entries nobody asked for ends the session; so does one of vectors. What an honest peer can pile up does not.
func TestFlood(t *testing.T) {
	s := settledMesh(t, 3, 1)
	a, b := s.nodes[0], s.nodes[1]
	entry := s.f.history[0].Body
	vec := s.held(b, a)[0].sync.Vec(0)[0].Body
	for name, raw := range map[string][]byte{"entries": entry, "vectors": vec} {
		x := s.held(a, b)[0]
		b, since := parsed(t, raw), s.now
		for range 700 { // an honest queue and what the socket holds
			a.step(FrameIn{ID: x.id, Body: b, Raw: raw})
		}
		if a.core.byID[x.id] == nil {
			t.Fatalf("%s: closed after 700", name)
		}
		n := 700
		for ; a.core.byID[x.id] != nil && n < 100_000; n++ {
			a.step(FrameIn{ID: x.id, Body: b, Raw: raw})
		}
		closed, _ := effects[CloseSession](a, since)
		if len(closed) != 1 || closed[0].Code != session.CodeProtocol || n > 3000 {
			t.Fatalf("%s: after %d frames closed %+v", name, n, closed)
		}
		s.runFor(95 * second)
		s.wantAllSessions()
	}
}

// An honest relay of a long catch-up does not trip its neighbours: 300 entries reach everybody, and nobody is closed.
func TestLongCatchUpIsNoFlood(t *testing.T) {
	t.Parallel()
	s := settledMesh(t, 4, 1)
	since := s.now
	var changes []trust.Change
	for i := range 600 {
		changes = append(changes, s.f.write(trust.OpGrant{
			GID: uint64(i + 1), Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: "web"},
		}))
	}
	s.nodes[0].publish(changes...)
	s.runFor(10 * second)
	if !s.synced() {
		t.Fatal("views differ")
	}
	for _, n := range s.nodes {
		n.wantNoClose(since)
		for _, x := range n.core.live {
			if x.sync.Dropped() > 0 {
				t.Fatalf("%d frames were dropped", x.sync.Dropped())
			}
		}
	}
}

// Control kinds of a later version are no reason to part.
func TestUnknownKindsStay(t *testing.T) {
	s := settledMesh(t, 2, 1)
	a := s.nodes[0]
	x := a.core.live[0]
	for k := session.Kind(128); k < 255; k++ {
		a.step(FrameIn{ID: x.id, Body: session.Unknown{K: k}, Raw: []byte{0x81, 0x18, byte(k)}})
	}
	s.runFor(30 * second)
	if a.core.byID[x.id] != x {
		t.Fatal("a session with unknown kinds was closed")
	}
}

// Anything but READY first breaks the protocol; READY that does not come, or a state without streams, has its time.
func TestReadyOrderAndLimits(t *testing.T) {
	up := func() (*simNode, SessionID) {
		n, m := pairUp(t, 0)
		n.lastID++
		n.step(SessionUp{ID: n.lastID, Peer: m.id, Role: keys.RoleAcceptor, ConnSeq: 1, Boot: [16]byte{1}, Certificate: m.cert, RootVersion: 1})
		return n, n.lastID
	}
	wantClosed := func(n *simNode, code session.Code, at time.Duration) {
		t.Helper()
		closed, when := effects[CloseSession](n, 5*second)
		if len(closed) != 1 || closed[0].Code != code || when[0] != at {
			t.Fatalf("closed %+v at %v, want code %s at %v", closed, when, code, at)
		}
	}
	n, id := up()
	if sent, _ := effects[Send](n, 5*second); len(sent) != 1 || sent[0].Body.Kind() != session.KindReady {
		t.Fatalf("first records: %+v", sent)
	}
	n.step(FrameIn{ID: id, Body: session.Number{K: session.KindAck, N: 1}, Raw: []byte{1}})
	wantClosed(n, session.CodeProtocol, 5*second)

	n, _ = up()
	n.s.runFor(10 * second)
	wantClosed(n, session.CodeProtocol, 10*second)

	n, id = up()
	n.s.runFor(second)
	n.step(FrameIn{ID: id, Body: session.Ready{State: session.Restricted}, Raw: []byte{1}})
	for range 40 {
		n.s.runFor(second)
		n.step(HeartbeatIn{ID: id})
	}
	wantClosed(n, session.CodeLimit, 35*second)

	n, id = up()
	n.step(FrameIn{ID: id, Body: session.Ready{State: session.Full}, Raw: []byte{1}})
	n.step(FrameIn{ID: id, Body: session.Ready{State: session.Restricted}, Raw: []byte{1}})
	wantClosed(n, session.CodeProtocol, 5*second)

	// Bytes are limited below full.
	n, id = up()
	n.step(FrameIn{ID: id, Body: session.Ready{State: session.Restricted}, Raw: []byte{1}})
	raw := make([]byte, 60_000)
	for range 80 {
		n.step(FrameIn{ID: id, Body: session.Number{K: session.KindAck, N: 1}, Raw: raw})
	}
	wantClosed(n, session.CodeLimit, 5*second)
}

// A session that its peer drains is still judged: expiry and revocation end it.
func TestDrainingSessionIsJudged(t *testing.T) {
	s := newSim(t, newFixtureUntil(t, 2, 40), 1)
	for _, n := range s.nodes {
		n.start()
	}
	s.runFor(30 * second)
	a := s.nodes[0]
	x := a.core.live[0]
	a.step(FrameIn{ID: x.id, Body: session.Number{K: session.KindGoAway, N: 2}, Raw: []byte{1}})
	if x.published.State != session.Draining {
		t.Fatal("GOAWAY does not drain")
	}
	s.runTo(45 * second)
	if cuts, _ := effects[CutNode](a, 0); len(cuts) == 0 || a.core.byID[x.id] != nil {
		t.Fatal("a draining session outlived its certificate")
	}
}

// A peer that is not admitted and says that it goes does not become usable by that.
func TestGoAwayBelowFullOpensNothing(t *testing.T) {
	f := newFixture(t, 3)
	s := newSim(t, f, 1)
	f.history = nil
	a, m := s.nodes[0], s.nodes[1]
	a.startWith(f.ledger()) // knows nobody, so the other is restricted
	s.runFor(4 * second)
	a.meet(m, keys.RoleAcceptor, 1, 1)
	x := a.core.live[0]
	a.step(FrameIn{ID: x.id, Body: session.Ready{State: session.Full}, Raw: []byte{1}})
	a.step(FrameIn{ID: x.id, Body: session.Number{K: session.KindGoAway, N: 2}, Raw: []byte{1}})
	states, _ := effects[SessionState](a, 0)
	for _, st := range states {
		if st.State != session.Restricted {
			t.Fatalf("published %s", st.State)
		}
	}
	if len(states) == 0 || x.states.Local() != session.Restricted {
		t.Fatal("not restricted")
	}
}

// A peer that was never full cannot make a session drain, which in the shell takes what a full one does: neither by GOAWAY nor by READY.
func TestOnlyAFullSessionDrains(t *testing.T) {
	for name, say := range map[string]session.Body{
		"GOAWAY": session.Number{K: session.KindGoAway, N: 2}, "READY": session.Ready{State: session.Draining},
	} {
		for _, before := range []session.State{session.Restricted, session.Full} {
			n, m := pairUp(t, 0)
			n.lastID++
			id := n.lastID
			n.step(SessionUp{ID: id, Peer: m.id, Role: keys.RoleAcceptor, ConnSeq: 1, Boot: [16]byte{1}, Remote: m.at, Certificate: m.cert, RootVersion: 1})
			n.step(FrameIn{ID: id, Body: session.Ready{State: before}, Raw: []byte{1}})
			n.s.runFor(2500 * time.Millisecond) // longer than a node that was alone waits for the first view
			n.core.waited = true                // this node has seen enough to call the peer full
			n.core.reviewAll()
			x := n.core.byID[id]
			if x == nil || x.states.Local() != session.Full {
				t.Fatalf("%s: not full from this side", name)
			}
			if is := x.published.State; (is == session.Full) != (before == session.Full) {
				t.Fatalf("%s: a peer that said %s makes it %s", name, before, is)
			}
			since := n.s.now
			n.step(FrameIn{ID: id, Body: say, Raw: []byte{1}})
			told, _ := effects[SessionState](n, since)
			drains := slices.ContainsFunc(told, func(s SessionState) bool { return s.ID == id && s.State == session.Draining })
			if drains != (before == session.Full) {
				t.Fatalf("%s of a peer that said %s: drains %v", name, before, drains)
			}
		}
	}
}

// At a stop every peer is told, and nothing happens any more.
func TestStop(t *testing.T) {
	s := settledMesh(t, 3, 1)
	a := s.nodes[0]
	since := s.now
	a.step(Stop{})
	closed, _ := effects[CloseSession](a, since)
	if len(closed) != 2 || closed[0].Code != session.CodeShutdown || closed[1].Code != session.CodeShutdown {
		t.Fatalf("closed %+v", closed)
	}
	mark := len(a.log)
	a.step(NetChange{})
	a.step(a.peerBeacon(s.nodes[1]))
	s.runFor(60 * second)
	if later := a.sinceLog(mark); len(later) > 0 {
		for _, e := range later {
			if c, ok := e.(CloseSession); !ok || c.Code != session.CodeShutdown {
				t.Fatalf("after the stop: %+v", e)
			}
		}
	}
}

func (n *simNode) peerBeacon(m *simNode) BeaconIn { return m.announce() }
