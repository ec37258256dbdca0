package sim

import (
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// In a mesh in which a node has sessions with some, it is told how the others are as well: of nearly everybody, and seldom older than a
// quarter of an hour.
func TestHealthSpreads(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	w := world(t, Config{Seed: 31, Nodes: 60, Segment: 20})
	w.Start(time.Second)
	w.RunFor(20 * time.Minute)
	var ages []time.Duration
	missing := 0
	for _, n := range w.nodes {
		for _, m := range w.nodes {
			if n == m || n.fullWith(m) != nil {
				continue
			}
			if at, ok := n.told[m.i]; ok {
				ages = append(ages, w.now-at)
			} else {
				missing++
			}
		}
	}
	slices.Sort(ages)
	t.Logf("%d summaries, %d missing, median %v, nine in ten %v", len(ages), missing, ages[len(ages)/2].Round(time.Second), ages[len(ages)*9/10].Round(time.Second))
	if missing*50 > len(ages) || ages[len(ages)*9/10] > 15*time.Minute {
		t.Fatal("too few, or too old")
	}
	w.want(t)
}
