package core

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// degrees returns each running node's full sessions.
func (s *sim) degrees() (list []int) {
	for _, n := range s.nodes {
		if n.up {
			list = append(list, int(n.core.degree()))
		}
	}
	return list
}

// reachable counts the running nodes that are connected with the first by full sessions.
func (s *sim) reachable() int {
	var first *simNode
	seen := map[*simNode]bool{}
	for _, n := range s.nodes {
		if n.up && first == nil {
			first = n
		}
	}
	todo := []*simNode{first}
	seen[first] = true
	for len(todo) > 0 {
		n := todo[0]
		todo = todo[1:]
		for _, x := range n.core.live {
			if e := n.ends[x.id]; x.full() && e != nil && !seen[e.peer.n] {
				seen[e.peer.n] = true
				todo = append(todo, e.peer.n)
			}
		}
	}
	return len(seen)
}

func (s *sim) wantOverlay(what string) {
	s.t.Helper()
	for i, d := range s.degrees() {
		if d < degreeMin || d > degreeMax {
			s.t.Fatalf("%s, %v: node %d has %d sessions: %v", what, s.now, i, d, s.degrees())
		}
	}
	if got, want := s.reachable(), len(s.degrees()); got != want {
		s.t.Fatalf("%s, %v: %d of %d nodes are connected", what, s.now, got, want)
	}
}

// A mesh of more than nine nodes is connected within 2 s of a start of everybody at once; within a minute everybody has 6 to 12
// sessions, and after that next to nothing changes.
func TestOverlayForms(t *testing.T) {
	t.Parallel()
	for _, n := range []int{10, 12, 25, 100} {
		s := mesh(t, n, uint64(n))
		s.runFor(2 * second)
		if got := s.reachable(); got != n {
			t.Fatalf("%d of %d nodes are connected after 2 s: %v", got, n, s.degrees())
		}
		s.runFor(58 * second)
		s.wantOverlay("after a minute")
		since := s.now
		s.runFor(60 * second)
		s.wantOverlay("after two minutes")
		closed := 0
		for _, n := range s.nodes {
			n.wantNoPrune(0)
			c, _ := effects[CloseSession](n, since)
			closed += len(c)
		}
		if closed > n/4 {
			t.Fatalf("%d nodes closed %d sessions in a quiet minute", n, closed)
		}
	}
}

// Half of the nodes vanish; the others are connected within 30 s.
func TestOverlayAfterHalfVanished(t *testing.T) {
	t.Parallel()
	s := mesh(t, 60, 3)
	s.runFor(60 * second)
	for _, n := range s.nodes[:30] {
		n.cutPower()
	}
	s.runFor(30 * second)
	if got := s.reachable(); got != 30 {
		t.Fatalf("%d of 30 are connected: %v", got, s.degrees())
	}
	s.runFor(30 * second)
	s.wantOverlay("after half vanished")
}

// A partition of 30 s, and one of ten minutes, heals within 10 s of the link's return, also if nothing was signed meanwhile; what was
// signed on one side is known on the other then.
func TestOverlayHeals(t *testing.T) {
	testrun.Scenario(t)
	for _, cut := range []time.Duration{30 * second, 10 * time.Minute} {
		for _, write := range []bool{false, true} {
			s := mesh(t, 40, 4)
			s.runFor(60 * second)
			s.blocked = func(a, b *simNode) bool { return a.i < 20 != (b.i < 20) }
			s.runFor(cut)
			if write {
				s.nodes[0].publish(s.f.revocation(39))
			}
			s.blocked = func(_, _ *simNode) bool { return false }
			s.runFor(10 * second)
			if write {
				s.nodes[39].cutPower()
				for _, n := range s.nodes[:39] {
					if _, gone := n.core.st.Revoked(s.nodes[39].id); !gone {
						t.Fatalf("after %v: node %d does not know of the revocation", cut, n.i)
					}
				}
				continue
			}
			if got := s.reachable(); got != 40 {
				t.Fatalf("after %v: %d of 40 are connected: %v", cut, got, s.degrees())
			}
		}
	}
}

// A user reaches every node of a large mesh, those without a session too; the session stays while there are streams and for ten
// minutes after, and goes then.
func TestWantInALargeMesh(t *testing.T) {
	t.Parallel()
	s := mesh(t, 20, 5)
	s.runFor(60 * second)
	a := s.nodes[0]
	var b *simNode
	for _, n := range s.nodes[1:] {
		if p := a.peer(n); p.working() == nil {
			b = n
			break
		}
	}
	a.step(Want{Peer: b.id})
	a.step(Using{Peer: b.id, Streams: true})
	b.step(Using{Peer: a.id, Streams: true})
	s.runFor(second)
	if len(s.shared(a, b)) != 1 {
		t.Fatal("no session with the node a user wants")
	}
	x := s.shared(a, b)[0]
	s.runFor(12 * time.Minute)
	if y := s.shared(a, b); len(y) != 1 || y[0] != x {
		t.Fatal("the session of a peer with streams did not stay")
	}
	// Many others make it one session too many; that alone does not end it.
	for _, n := range s.nodes[1:] {
		a.step(Want{Peer: n.id})
	}
	s.runFor(5 * time.Minute)
	if len(s.shared(a, b)) != 1 {
		t.Fatal("the session of a peer with streams was shed")
	}
	a.step(Using{Peer: b.id, Streams: false})
	b.step(Using{Peer: a.id, Streams: false})
	s.runFor(9 * time.Minute)
	if len(s.shared(a, b)) != 1 {
		t.Fatal("the session was shed before it was idle for ten minutes")
	}
	s.runFor(11 * time.Minute)
	if d := a.core.degree(); d > degreeMax {
		t.Fatalf("%d sessions are left", d)
	}
}

// A node that nothing is known of here is found by asking: the answer comes from those who hear it.
func TestFind(t *testing.T) {
	t.Parallel()
	s := newSim(t, newFixture(t, 40), 6)
	// Two links, joined by one seed: beacons do not cross.
	s.mute = func(a, b *simNode) bool { return a.i < 20 != (b.i < 20) }
	for _, n := range s.nodes {
		n.start()
	}
	s.nodes[0].step(AddSeed{Peer: s.nodes[20].id, At: s.nodes[20].at})
	s.runFor(60 * second)
	if got := s.reachable(); got != 40 {
		t.Fatalf("%d of 40 are connected", got)
	}
	a, b := s.nodes[3], s.nodes[33]
	for _, m := range s.nodes[20:] {
		if p := a.core.peers[m.id]; p == nil || len(p.sessions) == 0 {
			b = m
		}
	}
	for _, n := range s.nodes[:20] {
		// Nobody on a's side knows where b is, but for those who have a session with it.
		if p := n.core.peers[b.id]; p != nil && len(p.sessions) == 0 && p.dialing == 0 {
			n.core.forget(p)
		}
	}
	if a.core.peers[b.id] != nil {
		t.Fatal("no node without a session with the asker")
	}
	a.step(Want{Peer: b.id})
	s.runFor(2 * second)
	if len(s.shared(a, b)) != 1 {
		t.Fatal("the node was not found")
	}
	for _, n := range s.nodes {
		if len(n.core.finding) > maxFinding {
			t.Fatal("questions pile up")
		}
	}
}

// What a peer asks is bounded, and so is what is passed on for it.
func TestFindIsBounded(t *testing.T) {
	s := mesh(t, 40, 7)
	s.runFor(30 * second)
	a := s.nodes[0]
	x := a.core.live[0]
	since := s.now
	for range 1000 {
		for _, n := range s.nodes[1:] {
			a.step(FrameIn{ID: x.id, Body: findBody(n, 3), Raw: nil})
		}
	}
	sent, _ := effects[Send](a, since)
	if len(sent) > findBurst*(degreeMax+8) {
		t.Fatalf("%d records sent for one peer's questions", len(sent))
	}
	if len(a.core.finding) > maxFinding {
		t.Fatalf("%d questions under way", len(a.core.finding))
	}
}

// The members of whose whereabouts something is remembered are bounded.
func TestKnownPeersAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, maxKnown+200)
	s := newSim(t, f, 8)
	a := s.nodes[0]
	a.start()
	for _, m := range s.nodes[1:] {
		a.step(BeaconIn{Node: m.id, Endpoints: []netip.AddrPort{m.at}, Epoch: 1, Counter: 1, Envelope: []byte{1}, Told: true})
	}
	if n := len(a.core.order); n > maxKnown {
		t.Fatalf("%d peers are remembered", n)
	}
	if a.core.peers[s.nodes[len(s.nodes)-1].id] == nil {
		t.Fatal("the newest was not remembered")
	}
}

// On a crowded link beacons are rarer: twenty a second in all.
func TestCrowdedLinkSlowsBeacons(t *testing.T) {
	testrun.Scenario(t)
	s := mesh(t, 240, 9)
	s.runFor(40 * second)
	for _, n := range s.nodes {
		if got := n.interval(); got < 11*second || got > 12*second {
			t.Fatalf("interval %v with 239 others", got)
		}
	}
	n := s.nodes[0]
	since := s.now
	s.runFor(60 * second)
	n.wantNoPrune(0)
	if all, _ := effects[SendBeacon](n, since); len(all) > 8 {
		t.Fatalf("%d beacons in a minute", len(all))
	}
}

// A session that was shed is not made again by either end at once.
func TestShedStaysShed(t *testing.T) {
	t.Parallel()
	s := mesh(t, 30, 10)
	s.runFor(60 * second)
	a := s.nodes[0]
	x := a.core.live[0]
	b := a.ends[x.id].peer.n
	a.step(Retire{ID: x.id}) // ends it with the code of shedding
	n := 0
	for range 50 {
		s.runFor(second)
		n += len(s.shared(a, b))
	}
	if n != 0 {
		t.Fatal("the session that was shed was made again")
	}
}

// A node that everybody had reason to dial has its degree again within half a minute.
func TestSurplusIsShedSoon(t *testing.T) {
	t.Parallel()
	s := mesh(t, 60, 12)
	s.runFor(30 * second)
	a := s.nodes[0]
	for _, m := range s.nodes[1:] {
		if p := m.peer(a); p.working() == nil {
			m.core.choose(p)
			m.step(Timer{})
		}
	}
	s.runFor(2 * second)
	if n := len(a.core.live); n < 50 {
		t.Fatalf("%d sessions: nothing is tested", n)
	}
	s.runFor(40 * second)
	if n := len(a.core.live); n > degreeMax {
		t.Fatalf("%d sessions 40 s later", n)
	}
	if got := s.reachable(); got != 60 {
		t.Fatalf("%d of 60 are connected", got)
	}
}

// Another view of the log in a node's beacons makes a few of those who hear it dial, not all.
func TestOtherViewIsAskedByFew(t *testing.T) {
	t.Parallel()
	chosen, runs := 0, 10
	s := mesh(t, 60, 12)
	s.runFor(30 * second)
	for _, x := range s.nodes[:runs] {
		for range 2 {
			b := x.announce()
			b.Digest = beacon.Digest{1, 2, 3}
			for _, m := range s.nodes {
				if p := m.peer(x); m != x && p.working() == nil && p.dialing == 0 && !p.dialT.pending() {
					m.step(b)
					if p.chosen {
						chosen++
					}
				}
			}
		}
	}
	t.Logf("%.1f of 59 dial", float64(chosen)/float64(runs))
	if chosen < runs || chosen > 8*runs {
		t.Fatalf("%d dials of %d hosts that heard it, in %d runs", chosen, 59*runs, runs)
	}
}

// A revocation reaches everybody in a mesh of 120 within half a second.
func TestRevocationFloodsTheOverlay(t *testing.T) {
	t.Parallel()
	s := mesh(t, 120, 11)
	s.runFor(60 * second)
	at := s.now
	s.nodes[0].publish(s.f.write(trust.OpRevokeNode{Node: s.nodes[119].id, Reason: 1}))
	s.runFor(500 * time.Millisecond)
	for _, n := range s.nodes[:119] {
		if _, gone := n.core.st.Revoked(s.nodes[119].id); !gone {
			t.Fatalf("node %d does not know %v later", n.i, s.now-at)
		}
	}
}

func findBody(n *simNode, hops uint64) session.Find {
	return session.Find{K: session.KindFind, Node: n.id, Hops: hops}
}

// A mesh that shrinks to nine members becomes a full one, also between two links that no beacon crosses.
func TestShrunkMeshIsWhole(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		s := newSim(t, newFixture(t, 12), seed)
		s.mute = func(a, b *simNode) bool { return a.i < 6 != (b.i < 6) }
		for _, n := range s.nodes {
			n.start()
		}
		s.nodes[0].step(AddSeed{Peer: s.nodes[6].id, At: s.nodes[6].at})
		s.runFor(60 * second)
		for _, i := range []int{11, 10, 9} {
			s.nodes[0].publish(s.f.revocation(i))
			s.nodes[i].kill()
		}
		s.runFor(30 * second)
		s.wantAllSessions()
	}
}

// An address that is known is dialled at the next look, although no beacon repeats it.
func TestKnownAddressIsDialledInASmallMesh(t *testing.T) {
	for seed := range uint64(8) {
		s := settledMesh(t, 3, seed)
		a, x := s.nodes[0], s.nodes[2]
		s.mute = func(_, _ *simNode) bool { return true }
		a.closeEnd(s.shared(a, x)[0].id, session.CodeDuplicate)
		for range 100 {
			s.runFor(50 * time.Microsecond)
			a.peer(x).dialT.stop() // what the end of the session has planned
			x.peer(a).dialT.stop()
		}
		if len(s.shared(a, x)) > 0 || a.peer(x).dialing+x.peer(a).dialing > 0 {
			continue // it was faster
		}
		s.runFor(6500 * time.Millisecond)
		s.wantAllSessions()
	}
}

// Two members of a small mesh that know no address of each other are brought together by one that knows both; what nobody answers is
// asked less and less often.
func TestMissedRecordIsAskedFor(t *testing.T) {
	s := settledMesh(t, 3, 1)
	a, b, x := s.nodes[0], s.nodes[1], s.nodes[2]
	s.mute = func(n, m *simNode) bool { return n != b && m != b }
	a.closeEnd(s.shared(a, x)[0].id, session.CodeDuplicate)
	a.peer(x).addrs, x.peer(a).addrs = nil, nil
	s.runFor(15 * second)
	s.wantAllSessions()
	x.cutPower()
	since := s.now
	s.runFor(30 * 60 * second)
	sent, _ := effects[Send](a, since)
	asked := 0
	for _, e := range sent {
		if e.Body.Kind() == session.KindFind {
			asked++
		}
	}
	if asked < 5 || asked > 15 {
		t.Fatalf("asked %d times in half an hour where a node is that is off", asked)
	}
}
