package sim

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
)

// A node restarts alone on its link: its seeds are gone, its neighbours are off, its own address is another one, so that nobody can find
// it. By what it kept it is back in the mesh within 10 s, in a large mesh and in a small one. Without that it would stay alone.
func TestRestartAloneOnItsLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		nodes, segment int
		kept           bool
	}{{24, 8, true}, {8, 4, true}, {24, 8, false}, {8, 4, false}} {
		w := world(t, Config{Seed: 11, Nodes: c.nodes, Segment: c.segment})
		w.Start(time.Second)
		w.RunFor(2 * time.Minute)
		w.NoSeeds()
		last := w.segments[len(w.segments)-1]
		for _, n := range last {
			n.CutPower()
		}
		w.RunFor(2 * time.Minute)
		n := last[0]
		n.moves++
		n.place()
		if !c.kept {
			n.known = core.Persist{}
		}
		n.Power()
		took := w.RunUntil(time.Minute, func() bool { return n.Degree() > 0 })
		switch {
		case !c.kept && took >= 0:
			t.Fatalf("%d nodes: found without an address after %v: the test shows nothing", c.nodes, took)
		case !c.kept:
			continue
		case took < 0 || took > 10*time.Second:
			t.Fatalf("%d nodes: back after %v", c.nodes, took)
		}
		t.Logf("%d nodes: back after %v", c.nodes, took)
		w.RunFor(time.Minute)
		if got, want := n.Degree(), min(c.nodes-c.segment, 6); got < want {
			t.Fatalf("%d nodes: %d sessions a minute later, want %d", c.nodes, got, want)
		}
		w.want(t)
	}
}
