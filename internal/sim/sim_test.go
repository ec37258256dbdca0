package sim

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// hours reports whether the fault table is run at its full size, which takes an hour.
func hours() bool { return os.Getenv("MESHKEY_LONG") != "" }

func world(t testing.TB, cfg Config) *World {
	t.Helper()
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *World) want(t testing.TB) {
	t.Helper()
	for _, b := range w.broken {
		t.Error(b)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// seedRange is which seeds to run: 20 in the plain run, 200 in the long one, and MESHKEY_SIM_SEEDS=from:to to look further or again.
func seedRange(t *testing.T) (from, to uint64) {
	t.Helper()
	if v := os.Getenv("MESHKEY_SIM_SEEDS"); v != "" {
		if _, err := fmt.Sscanf(v, "%d:%d", &from, &to); err != nil {
			t.Fatalf("MESHKEY_SIM_SEEDS=%q, want from:to", v)
		}
		return from, to
	}
	if testrun.Whole() {
		return 0, 200
	}
	return 0, 20
}

// Random faults on meshes of 2 to 50 nodes break no invariant. A run that does prints its seed and the shortest list of faults.
func TestSeeds(t *testing.T) {
	t.Parallel()
	from, to := seedRange(t)
	began, steps := time.Now(), uint64(0)
	for seed := from; seed < to; seed++ {
		s := Random(seed)
		w, err := s.Run()
		if err != nil {
			t.Fatal(err)
		}
		steps += w.Steps()
		if len(w.Broken()) > 0 {
			s = s.Shrink()
			if w, err = s.Run(); err != nil {
				t.Fatal(err)
			}
			t.Error(s.Report(w))
		}
	}
	t.Logf("%d seeds, %d steps, %v", to-from, steps, time.Since(began))
}

// T-02: the same seed twice is the same trace, to the byte; another seed is another one.
func TestT02Determinism(t *testing.T) {
	t.Parallel()
	run := func(seed uint64, wall time.Duration) [32]byte {
		s := Random(seed)
		s.Wall, s.Life, s.Since = wall, 3*year, 3*year
		w, err := s.Run()
		if err != nil {
			t.Fatal(err)
		}
		return w.Trace()
	}
	for seed := range uint64(testrun.Cases(3, 1)) {
		a := run(seed, 0)
		if a != run(seed, 0) {
			t.Fatal("the same seed gave two traces")
		}
		if a == run(seed+100, 0) {
			t.Fatal("two seeds gave one trace")
		}
		// I7: what the wall clocks say changes nothing.
		if a != run(seed, year) {
			t.Fatal("another year is another trace")
		}
	}
}

// T-01: everybody who wants a session has one 2 s after a start of everybody at once: with all in a small mesh, else with those a node
// has picked itself and some that have picked it; the rest comes with the first looks at the overlay.
func TestT01Formation(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 5, 9, 50, 200} {
		for seed := range uint64(max(1, 20/n)) {
			w := world(t, Config{Seed: seed, Nodes: n})
			w.Start(0)
			w.RunFor(2 * time.Second)
			low := 5
			if n <= core.FullMesh {
				low = n - 1
			}
			wantDegrees(t, w, low)
			w.RunFor(10 * time.Second)
			wantDegrees(t, w, min(n-1, 6))
			if bad := w.closes[session.CodeNormal] + w.closes[session.CodeProtocol]; bad > 0 || w.falsePrunes > 0 {
				t.Fatalf("%d nodes: %d sessions ended, %d prunes, although nothing happened", n, bad, w.falsePrunes)
			}
			w.want(t)
		}
	}
}

// wantDegrees wants everybody connected, and nobody with less sessions than that.
func wantDegrees(t *testing.T, w *World, low int) {
	t.Helper()
	if got := w.Connected(); got != len(w.alive()) {
		t.Fatalf("%v: %d of %d nodes are connected", w.Now(), got, len(w.alive()))
	}
	for _, x := range w.alive() {
		if x.Degree() < low {
			t.Fatalf("%v: node %d of %d has %d sessions", w.Now(), x.i, len(w.nodes), x.Degree())
		}
	}
}

// size is the mesh of T-50: 1,000 nodes in four sites, in the plain run 200.
func size() (nodes, segment int) {
	if testrun.Whole() {
		return 1000, 250
	}
	return 200, 50
}

// T-50: with lost records and stalling nodes a revocation reaches 99 % of 1,000 connected nodes in four sites within half a second, and
// all of them within one.
func TestT50RevocationAt1000(t *testing.T) {
	t.Parallel()
	nodes, segment := size()
	w := world(t, Config{Seed: 1, Nodes: nodes, Segment: segment, Late: 0.001, Quiet: true})
	began := time.Now()
	w.Start(time.Second)
	w.RunFor(60 * time.Second)
	for i := range 10 {
		w.nodes[nodes/10*i+7].Stall(w.between(200*time.Millisecond, time.Second))
	}
	s := w.RevokeAndWatch(w.nodes[0], w.nodes[nodes-1], 3*time.Second)
	t.Logf("50 %% %v, 99 %% %v, 100 %% %v, missing %d; %d steps in %v", s.At(0.5), s.At(0.99), s.At(1), s.Missing, w.Steps(), time.Since(began))
	if s.Missing > 0 || s.At(0.99) > 500*time.Millisecond || s.At(1) > time.Second {
		t.Fatal("too slow")
	}
	w.want(t)
}

// With flooding broken, digests and vectors alone bring it to everybody within 20 s.
func TestT50DigestOnly(t *testing.T) {
	testrun.Scenario(t)
	nodes, segment := size()
	w := world(t, Config{Seed: 2, Nodes: nodes, Segment: segment, NoFlood: true, Quiet: true})
	w.Start(time.Second)
	w.RunFor(60 * time.Second)
	s := w.RevokeAndWatch(w.nodes[0], w.nodes[nodes-1], 40*time.Second)
	t.Logf("50 %% %v, 99 %% %v, 100 %% %v, missing %d", s.At(0.5), s.At(0.99), s.At(1), s.Missing)
	if s.Missing > 0 || s.At(1) > 20*time.Second {
		t.Fatal("too slow")
	}
}
