package core

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/session"
)

// block lets nothing pass between two nodes, either way.
func (s *sim) block(a, b *simNode) {
	s.blocked = func(x, y *simNode) bool { return x == a && y == b || x == b && y == a }
}

// A session that brings nothing is suspect at 10 s: it is pinged and the peer's other addresses are dialled; at 20 s it is closed.
func TestSilentSession(t *testing.T) {
	s := settledMesh(t, 3, 1)
	a, b := s.nodes[0], s.nodes[1]
	other := netip.MustParseAddrPort("10.0.9.9:7477")
	a.core.addAddress(a.peer(b), other, sourceSeed)
	old := s.shared(a, b)[0]
	s.block(a, b)
	since := s.now
	s.runFor(3 * second)
	last := old.lastRecv + a.started
	s.runTo(last + 10*second - 1)
	if d, _ := effects[Dial](a, since); len(d) > 0 || old.suspect {
		t.Fatal("suspect before 10 s")
	}
	s.runTo(last + 10*second)
	dials, at := effects[Dial](a, since)
	if len(dials) == 0 || dials[0].Peer != b.id || dials[0].At != other || at[0] != last+10*second {
		t.Fatalf("dials at 10 s: %+v %v", dials, at)
	}
	beats, when := effects[Heartbeat](a, last+10*second)
	if len(beats) == 0 || beats[0].ID != old.id || beats[0].Ping == 0 || when[0] != last+10*second {
		t.Fatal("no ping at 10 s")
	}
	s.runTo(last + 20*second)
	closed, cat := effects[CloseSession](a, since)
	if len(closed) != 1 || closed[0].ID != old.id || closed[0].Code != session.CodeNormal {
		t.Fatalf("closed %+v", closed)
	}
	wantBetween(t, "closed", cat[0]-last, 20*second, 20*second)
	// The others are left alone, and the pair finds together again when it can.
	if len(s.shared(a, s.nodes[2])) != 1 {
		t.Fatal("a healthy session was closed")
	}
	s.blocked = func(_, _ *simNode) bool { return false }
	s.runFor(65 * second)
	s.wantAllSessions()
}

// If the peer has no other address, the one in use is dialled: the path may have forgotten this connection alone.
func TestSuspectDialsTheOnlyAddress(t *testing.T) {
	s := settledMesh(t, 3, 2)
	a, b := s.nodes[0], s.nodes[1]
	old := s.shared(a, b)[0]
	dead := a.ends[old.id]
	s.onStep = func(*simNode) {}
	// Only this connection is lost, without a word to either end.
	dead.peer.last, dead.last = 1000*hour*second, 1000*hour*second
	since := s.now
	s.runFor(16 * second)
	list := s.shared(a, b)
	if len(list) != 1 || list[0] == old {
		t.Fatalf("%d sessions, the dead one among them: %v", len(list), len(list) == 1)
	}
	a.wantNoPrune(since)
	b.wantNoPrune(since)
}

// A daemon that did not run for 15 s does not take that for others' silence.
func TestOwnSlownessIsNoSilence(t *testing.T) {
	for seed := range uint64(20) {
		s := settledMesh(t, 3, seed)
		a := s.nodes[0]
		since := s.now
		a.freeze()
		s.runFor(s.between(second, 14*second))
		a.thaw()
		s.runFor(60 * second)
		s.wantAllSessions()
		for _, n := range s.nodes {
			n.wantNoPrune(since)
			n.wantNoClose(since)
		}
		if d, _ := effects[Dial](a, since); len(d) > 0 {
			t.Fatal("a peer was dialled")
		}
	}
}

// All sessions silent at once is more likely this host: nobody is closed or pruned at 20 s, the interfaces are looked at, and a
// burst solicits. It is not for ever.
func TestAllSilentIsALocalFault(t *testing.T) {
	s := settledMesh(t, 4, 3)
	a := s.nodes[0]
	s.blocked = func(x, y *simNode) bool { return x == a || y == a }
	since := s.now
	s.runFor(40 * second)
	a.wantNoClose(since)
	a.wantNoPrune(since)
	if polls, _ := effects[PollNetwork](a, since); len(polls) == 0 {
		t.Fatal("the interfaces were not looked at")
	}
	beacons, _ := effects[SendBeacon](a, since)
	solicits := 0
	for _, b := range beacons {
		if b.Flags != 0 && !b.To.IsValid() {
			solicits++
		}
	}
	if solicits != 1 {
		t.Fatalf("%d soliciting beacons", solicits)
	}
	s.runFor(30 * second)
	if len(a.core.live) > 0 {
		t.Fatal("silent sessions are kept for ever")
	}
	s.blocked = func(_, _ *simNode) bool { return false }
	s.runFor(6 * second)
	s.wantAllSessions()
}

// The same where beacons are never heard, and the mesh was made by seeds.
func TestAllSilentWithoutBeacons(t *testing.T) {
	s := newSim(t, newFixture(t, 3), 3)
	s.mute = func(_, _ *simNode) bool { return true }
	for _, n := range s.nodes {
		n.start()
		for _, m := range s.nodes {
			if m != n {
				n.step(AddSeed{Peer: m.id, At: m.at})
			}
		}
	}
	s.runFor(30 * second)
	s.wantAllSessions()
	a := s.nodes[0]
	s.blocked = func(x, y *simNode) bool { return x == a || y == a }
	since := s.now
	s.runFor(40 * second)
	a.wantNoClose(since)
	a.wantNoPrune(since)
}

// A short sleep costs a ping; after one over 20 s the mesh is usable 3 s after waking; a very long one replaces all sessions and
// waits for views again.
func TestWake(t *testing.T) {
	testrun.Scenario(t)
	for _, slept := range []time.Duration{8 * second, 30 * second, 300 * second, 8 * hour * second} {
		for seed := range uint64(3) {
			s := settledMesh(t, 3, seed)
			a := s.nodes[0]
			a.suspend(slept)
			s.runFor(slept)
			since := s.now
			s.runFor(3 * second)
			s.wantAllSessions()
			if polls, _ := effects[PollNetwork](a, since); len(polls) == 0 {
				t.Fatal("the interfaces were not looked at")
			}
			a.wantNoPrune(since)
		}
	}
}

// A wall clock that jumps forward looks like sleep and costs at most a redial; one that jumps back costs nothing.
func TestWallClockJumps(t *testing.T) {
	for _, jump := range []time.Duration{6 * second, 60 * second, 24 * hour * second, -24 * hour * second, -60 * second} {
		s := settledMesh(t, 3, 4)
		a := s.nodes[0]
		since := s.now
		a.wall += jump
		s.runFor(3 * second)
		s.wantAllSessions()
		a.wantNoPrune(since)
		beats, _ := effects[Heartbeat](a, since)
		pinged := false
		for _, b := range beats {
			pinged = pinged || b.Ping != 0
		}
		closed, _ := effects[CloseSession](a, since)
		switch {
		case jump < 0 && (pinged || len(closed) > 0):
			t.Fatal("a clock set back was noticed")
		case jump > wakeJump && jump < wakeRedial && (!pinged || len(closed) > 0):
			t.Fatalf("after %v: pinged %v, closed %d", jump, pinged, len(closed))
		case jump > wakeRedial && len(closed) != 2:
			t.Fatalf("after %v: closed %d", jump, len(closed))
		}
	}
}

// A host whose address changed asks its sessions; those that do not answer are replaced within 5 s.
func TestNetChangeReplacesDeadSessions(t *testing.T) {
	for seed := range uint64(20) {
		s := settledMesh(t, 3, seed)
		a := s.nodes[0]
		for _, id := range sortedEnds(a.ends) {
			a.ends[id].last, a.ends[id].peer.last = 1000*hour*second, 1000*hour*second
		}
		since := s.now
		a.at = netip.MustParseAddrPort("10.0.7.7:7477")
		a.step(NetChange{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}})
		s.runFor(5 * second)
		s.wantAllSessions()
		a.wantNoPrune(since)
	}
}

// A peer that lost power and is back is noticed by its new boot id, not after 20 s.
func TestNewBootIsAsked(t *testing.T) {
	for seed := range uint64(20) {
		s := settledMesh(t, 2, seed)
		a, b := s.nodes[seed%2], s.nodes[1-seed%2]
		b.cutPower()
		s.runFor(2 * second)
		b.powered = true
		b.start()
		s.runFor(3500 * time.Millisecond)
		s.wantAllSessions()
		a.wantNoPrune(0)
	}
}

// Pings are answered, but not faster than anybody honest asks.
func TestPongsAreBounded(t *testing.T) {
	s := settledMesh(t, 2, 1)
	a := s.nodes[0]
	id := a.core.live[0].id
	since := s.now
	for range 1000 {
		a.step(HeartbeatIn{ID: id, Ping: 7})
	}
	pongs := 0
	beats, _ := effects[Heartbeat](a, since)
	for _, b := range beats {
		if b.Pong == 7 {
			pongs++
		}
	}
	if pongs == 0 || pongs > pongBurst {
		t.Fatalf("%d answers", pongs)
	}
}
