package core

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/session"
)

// probes returns when a node probed another since a time.
func (n *simNode) probes(m *simNode, since time.Duration) (at []time.Duration) {
	all, when := effects[SendBeacon](n, since)
	for i, e := range all {
		if e.To == m.udp && e.Flags.Has(beacon.FlagProbe) {
			at = append(at, when[i])
		}
	}
	return at
}

// lastHeard is when a node had the last sign of life of another, in simulated time.
func (n *simNode) lastHeard(m *simNode) time.Duration {
	return n.peer(m).lastPresence() + n.started + n.lost
}

// A frozen peer gets probes after 15 and 17.5 s of silence and is pruned after 20 s; the others stay.
func TestFrozenPeerIsProbedAndPruned(t *testing.T) {
	for seed := range uint64(10) {
		for _, n := range []int{2, 3} {
			s := settledMesh(t, n, seed)
			a, frozen, since := s.nodes[0], s.nodes[n-1], s.now
			frozen.freeze()
			s.runFor(second)
			last := a.lastHeard(frozen)
			s.runFor(25 * second)
			p := a.probes(frozen, since)
			if len(p) != 2 {
				t.Fatalf("%d probes", len(p))
			}
			wantBetween(t, "first probe", p[0]-last, 15*second, 15100*time.Millisecond)
			wantBetween(t, "second probe", p[1]-last, 17500*time.Millisecond, 17600*time.Millisecond)
			e, at := a.presences(frozen, since)
			if len(e) == 0 || e[len(e)-1].Presence != Pruned || e[len(e)-1].Probes != 2 {
				t.Fatalf("said of the frozen peer: %+v", e)
			}
			wantBetween(t, "pruned", at[len(at)-1]-last, 20*second, 21*second)
			wantBetween(t, "silence told", e[len(e)-1].Silent, 20*second, 21*second)
			if n == 3 {
				if e, _ := a.presences(s.nodes[1], since); len(e) > 0 {
					t.Fatalf("said of the healthy peer: %+v", e)
				}
			}
			// It comes back by itself, and after a minute more the others would have taken it for offline.
			frozen.thaw()
			s.runFor(5 * second)
			s.wantAllSessions()
		}
	}
}

// A peer that is gone is pruned, then offline, then its address hints go; it stays in the table.
func TestGonePeerGoesOffline(t *testing.T) {
	s := settledMesh(t, 2, 3)
	a, b := s.nodes[0], s.nodes[1]
	since := s.now
	if s.shared(a, b)[0].addr == nil {
		t.Fatal("the lower id did not dial")
	}
	b.cutPower()
	a.core.addAddress(a.peer(b), s.nodes[0].at, sourceBeacon) // a hint that never worked
	s.runFor(130 * second)
	var words []Presence
	e, _ := a.presences(b, since)
	for _, x := range e {
		words = append(words, x.Presence)
	}
	if len(words) < 3 || words[len(words)-2] != Pruned || words[len(words)-1] != Offline {
		t.Fatalf("presences %v", words)
	}
	for _, x := range a.peer(b).addrs {
		if x.src == sourceBeacon {
			t.Fatal("the hint of a peer that is silent for two minutes is kept")
		}
	}
	if len(a.peer(b).addrs) == 0 {
		t.Fatal("the address that worked was forgotten")
	}
}

// Beacons are lost, sessions are healthy: nobody is pruned, no session closes. 40 % for an hour.
func TestBeaconLossPrunesNobody(t *testing.T) {
	t.Parallel()
	for _, loss := range []float64{0.05, 0.4, 1} {
		s := settledMesh(t, 3, 4)
		s.loss = loss
		since := s.now
		s.runFor(3600 * second)
		for _, n := range s.nodes {
			n.wantNoPrune(since)
			n.wantNoClose(since)
		}
	}
}

// Without sessions (their port is blocked, say) probes keep peers that lose 5 % of the beacons: 50 hosts, six hours, nobody pruned.
func TestProbesPreventFalsePrunes(t *testing.T) {
	t.Parallel()
	s := newSim(t, newFixture(t, 2), 5)
	s.loss = 0.05
	s.handshake = func() time.Duration { return 1000 * hour * second }
	for _, n := range s.nodes {
		n.start()
	}
	s.runFor(10 * second)
	s.runFor(2 * 24 * hour * second)
	for _, n := range s.nodes {
		n.wantNoPrune(10 * second)
	}
}

// All beacons of an interface fall silent together while the sessions go on: the interface is mute, nobody is pruned, no session
// closes; when beacons come again, the silence counts from then.
func TestMuteInterface(t *testing.T) {
	for seed := range uint64(10) {
		s := settledMesh(t, 4, seed)
		s.mute = func(_, _ *simNode) bool { return true }
		since := s.now
		s.runFor(60 * second)
		for _, n := range s.nodes {
			at := n.wantAlarm("interface.mute", since)
			wantBetween(t, "mute", at-since, 10*second, 20*second)
			n.wantNoPrune(since)
			n.wantNoClose(since)
			if polls, _ := effects[PollNetwork](n, since); len(polls) == 0 {
				t.Fatal("the interfaces were not looked at")
			}
		}
		s.mute = func(_, _ *simNode) bool { return false }
		s.runFor(6 * second)
		for _, n := range s.nodes {
			n.wantAlarm("interface.unmute", since)
		}
	}
}

// The same without sessions: everything falls silent, and nobody is pruned, for it is the interface. When one peer is heard again,
// the other is given its 20 s from then.
func TestMuteInterfaceWithoutSessions(t *testing.T) {
	s := newSim(t, newFixture(t, 3), 6)
	s.handshake = func() time.Duration { return 1000 * hour * second }
	for _, n := range s.nodes {
		n.start()
	}
	s.runFor(30 * second)
	a, b, c := s.nodes[0], s.nodes[1], s.nodes[2]
	since := s.now
	s.mute = func(_, to *simNode) bool { return to == a }
	s.runFor(120 * second)
	a.wantAlarm("interface.mute", since)
	a.wantNoPrune(since)
	s.mute = func(from, to *simNode) bool { return from == c && to == a }
	again := s.now
	s.runFor(40 * second)
	unmute := a.wantAlarm("interface.unmute", again)
	e, at := a.presences(c, again)
	if len(e) != 1 || e[0].Presence != Pruned {
		t.Fatalf("said of the peer that stayed silent: %+v", e)
	}
	wantBetween(t, "pruned after the interface came back", at[0]-unmute, 20*second, 21*second)
	if len(a.probes(c, again)) != 2 {
		t.Fatal("it was not probed before")
	}
	if e, _ := a.presences(b, again); len(e) != 0 {
		t.Fatalf("said of the peer that came back: %+v", e)
	}
}

// One silent peer, or one after the other, is not the interface.
func TestSinglePeersDoNotMuteAnInterface(t *testing.T) {
	s := settledMesh(t, 3, 7)
	a, b, c := s.nodes[0], s.nodes[1], s.nodes[2]
	since := s.now
	b.cutPower()
	s.runFor(25 * second)
	c.cutPower()
	s.runFor(60 * second)
	for _, n := range []*simNode{b, c} {
		if e, _ := a.presences(n, since); len(e) == 0 || e[len(e)-1].Presence < Offline || e[len(e)-1].Presence > Pruned {
			t.Fatalf("said of node %d: %+v", n.i, e)
		}
	}
	if alarms, _ := effects[Alarm](a, since); len(alarms) > 0 {
		t.Fatalf("alarm %+v", alarms[0])
	}
}

// A revoked peer's silence says nothing about the interface.
func TestRevokedPeersDoNotMuteAnInterface(t *testing.T) {
	s := settledMesh(t, 3, 8)
	a, gone, frozen := s.nodes[0], s.nodes[1], s.nodes[2]
	a.publish(s.f.revocation(1))
	s.runFor(100 * time.Millisecond)
	gone.kill()
	frozen.freeze()
	since := s.now
	s.runFor(25 * second)
	if e, _ := a.presences(frozen, since); len(e) == 0 || e[len(e)-1].Presence != Pruned {
		t.Fatalf("said of the frozen peer: %+v", e)
	}
}

// A beacon from a clock that is far off is an address, not presence.
func TestSkewedBeaconIsNoPresence(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 9)
	a, b := s.nodes[0], s.nodes[1]
	a.start()
	b.ledger = a.ledger
	ev := b.announce()
	ev.Skewed = true
	a.step(ev)
	if p := a.peer(b); p.presence != Unseen || len(p.addrs) != 1 {
		t.Fatalf("presence %s, %d addresses", p.presence, len(p.addrs))
	}
	s.runFor(second)
	if d, _ := effects[Dial](a, 0); len(d) == 0 {
		t.Fatal("it was not dialled")
	}
}

// What another peer tells of a node is an address too, and only if it is newer than what is known.
func TestToldRecordsAreHints(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 9)
	a, b := s.nodes[0], s.nodes[1]
	a.start()
	b.ledger = a.ledger
	old, ev := b.announce(), b.announce()
	ev.Told, old.Told = true, true
	a.step(ev)
	old.Endpoints[0] = s.nodes[0].udp
	a.step(old)
	if p := a.peer(b); p.presence != Unseen || len(p.addrs) != 1 || string(p.record) != string(ev.Envelope) {
		t.Fatalf("presence %s, %d addresses", p.presence, len(p.addrs))
	}
}

// Names that the log does not know fill 256 places and no more; members are not among them, and all are forgotten in the end.
func TestCandidateTableIsBounded(t *testing.T) {
	f := newFixture(t, 300)
	f.history = nil // the node knows none of them
	s := newSim(t, f, 10)
	a := s.nodes[0]
	a.start()
	for i, n := range s.nodes[1:] {
		n.ledger = a.ledger
		a.step(n.announce())
		if want := min(i+1, maxCandidates); len(a.core.peers) != want || len(a.core.candidates) != want || len(a.core.order) != want {
			t.Fatalf("after %d names: %d peers, %d candidates, %d in order", i+1, len(a.core.peers), len(a.core.candidates), len(a.core.order))
		}
	}
	// Invented names must not keep members waiting for a place.
	most := 0
	for range 100 {
		s.runFor(50 * time.Millisecond)
		most = max(most, len(a.core.dials))
	}
	if most != maxDialsCandidates {
		t.Fatalf("%d dials to candidates at once, want %d", most, maxDialsCandidates)
	}
	s.runFor(300 * second)
	if len(a.core.peers) != 0 {
		t.Fatalf("%d names are remembered without a sign of life", len(a.core.peers))
	}
}

// A candidate with a session is not pushed out, and without room a handshake is answered with CLOSE{limit}.
func TestNoRoomForACandidate(t *testing.T) {
	f := newFixture(t, 260)
	f.history = nil
	s := newSim(t, f, 11)
	a := s.nodes[0]
	a.start()
	for i, n := range s.nodes[1:] {
		a.step(SessionUp{ID: SessionID(i + 1), Peer: n.id, Certificate: n.cert, RootVersion: 1, Remote: n.at})
	}
	if len(a.core.byID) != maxCandidates {
		t.Fatalf("%d sessions with candidates", len(a.core.byID))
	}
	closed, _ := effects[CloseSession](a, 0)
	if len(closed) != 259-maxCandidates || closed[0].Code != session.CodeLimit {
		t.Fatalf("%d closed", len(closed))
	}
}
