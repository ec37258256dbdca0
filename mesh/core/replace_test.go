package core

import (
	"net/netip"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// Half of the nodes vanish, which nobody is told. Before their sessions end the others have enough with each other.
func TestReplacedBeforeItBreaks(t *testing.T) {
	t.Parallel()
	for seed := range uint64(testrun.Cases(10, 2)) {
		s := mesh(t, 60, seed)
		s.runFor(60 * second)
		for _, n := range s.nodes[:30] {
			n.cutPower()
		}
		s.runFor(14 * second)
		for _, n := range s.nodes[30:] {
			here := 0
			for _, x := range n.core.live {
				if e := n.ends[x.id]; x.full() && e != nil && e.peer.n.up {
					here++
				}
			}
			if here < degreeMin {
				t.Fatalf("seed %d: 14 s later node %d has %d sessions with nodes that are there, and %d in all", seed, n.i, here, len(n.core.live))
			}
		}
		s.runFor(16 * second)
		s.wantOverlay("when the dead sessions have ended")
	}
}

// Others are dialled in the place of suspect sessions at once, also where no beacon and no look at the overlay is a reason.
func TestSuspectIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	for seed := range uint64(testrun.Cases(5, 1)) {
		s := mesh(t, 30, seed)
		s.runFor(60 * second)
		s.mute = func(_, _ *simNode) bool { return true }
		a := s.nodes[0]
		mine := map[keys.NodeID]bool{}
		for _, x := range a.core.live {
			mine[x.peer.id] = true
			a.ends[x.id].peer.n.cutPower()
		}
		a.core.tickT.stop()
		since := s.now
		s.runFor(11 * second)
		for id := range mine {
			if a.core.peers[id].working() == nil {
				t.Fatalf("seed %d: a session has ended, and another in its place shows nothing", seed)
			}
		}
		others := 0
		dials, _ := effects[Dial](a, since)
		for _, d := range dials {
			if !mine[d.Peer] {
				others++
			}
		}
		if others == 0 {
			t.Fatalf("seed %d: nobody else is dialled in %d dials", seed, len(dials))
		}
	}
}

// crowdOf is a running node that is told of 39 others of a mesh, which are switched off.
func crowdOf(t *testing.T, seed uint64) *simNode {
	s := newSim(t, newFixture(t, 40), seed)
	for _, n := range s.nodes[1:] {
		n.powered = false
	}
	s.nodes[0].start()
	return s.nodes[0]
}

// A dial that should have brought a session by now counts as none, so others are dialled beside it, but no more at once than a node keeps
// sessions.
func TestHangingDialIsNoLink(t *testing.T) {
	t.Parallel()
	a := crowdOf(t, 1)
	s := a.s
	for _, m := range s.nodes[1:] {
		a.step(BeaconIn{Node: m.id, Endpoints: []netip.AddrPort{m.at}, Epoch: 1, Counter: 1, Envelope: []byte{byte(m.i)}, Told: true})
	}
	s.runFor(second)
	if d, _ := effects[Dial](a, 0); len(d) < 3 || len(d) > firstPicks {
		t.Fatalf("%d dials at first", len(d))
	}
	most := 0
	s.onStep = func(n *simNode) { most = max(most, n.core.tried()) }
	s.runFor(3 * second)
	if d, _ := effects[Dial](a, 0); len(d) < 2*firstPicks {
		t.Fatalf("%d dials in 4 s: it waits for those that hang", len(d))
	}
	s.runFor(60 * second)
	if most < degreeMin || most > degreeMax {
		t.Fatalf("%d were dialled at once", most)
	}
}

// Who was heard within its interval is dialled before those whose beacon was due and did not come.
func TestFreshIsPickedFirst(t *testing.T) {
	t.Parallel()
	for seed := range uint64(testrun.Cases(5, 2)) {
		a := crowdOf(t, seed)
		s := a.s
		hear := func(from, to int, counter uint64) {
			for _, m := range s.nodes[from:to] {
				a.step(BeaconIn{
					Node: m.id, Endpoints: []netip.AddrPort{m.at}, Interface: 1, Interval: Interval, Epoch: 1, Counter: counter, Envelope: []byte{byte(m.i)},
				})
			}
		}
		hear(1, 40, 1)
		s.runFor(Interval + second)
		hear(30, 40, 2)
		since := s.now + dialLowJitter // who was chosen before is dialled until then
		s.runFor(4 * second)
		dials, _ := effects[Dial](a, since)
		if len(dials) < firstPicks {
			t.Fatalf("%d dials", len(dials))
		}
		for _, d := range dials[:firstPicks] {
			if p := a.core.peers[d.Peer]; p.counter != 2 {
				t.Fatal("one that has fallen silent was dialled, and others were heard a moment ago")
			}
		}
	}
}

// A session that is suspect is none of those a node says it has.
func TestSuspectIsNotToldAsThere(t *testing.T) {
	s := settledMesh(t, 5, 2)
	a, b := s.nodes[0], s.nodes[1]
	s.block(a, b)
	since := s.now
	s.runFor(14 * second)
	if !a.peer(b).suspect() {
		t.Fatal("the session is not suspect")
	}
	told, at := effects[Heartbeat](a, since)
	if first := told[0].Degree; first != 4 {
		t.Fatalf("%d sessions at first", first)
	}
	if last := told[len(told)-1]; last.Degree != 3 {
		t.Fatalf("%d sessions told at %v", last.Degree, at[len(at)-1]-since)
	}
}
