package sim

import (
	"slices"
	"time"
)

// Spread is how an entry got around: when each connected node had applied it, counted from when it was made.
type Spread struct {
	Times   []time.Duration // sorted
	Missing int             // connected nodes that had not when the run ended
}

// At returns the time by which a share of the nodes had applied the entry.
func (s Spread) At(share float64) time.Duration {
	if len(s.Times) == 0 {
		return 0
	}
	i := int(share*float64(len(s.Times)+s.Missing)+0.999999) - 1
	if i >= len(s.Times) {
		return -1
	}
	return s.Times[max(i, 0)]
}

// RevokeAndWatch revokes a node at another one and follows the entry for some time. Nodes that stall are counted from the end of their
// stall; the revoked node is not counted.
func (w *World) RevokeAndWatch(at, gone *Node, within time.Duration) Spread {
	began := w.now
	var s Spread
	seen := make([]bool, len(w.nodes))
	awake := make([]time.Duration, len(w.nodes)) // when a node last began to run again
	w.Revoke(at, gone)
	for w.now < began+within {
		w.RunFor(time.Millisecond)
		left := 0
		for _, n := range w.nodes {
			if n == gone || !n.up || seen[n.i] {
				continue
			}
			if n.stalled {
				awake[n.i] = w.now
			}
			if n.removed[gone.id] {
				seen[n.i] = true
				s.Times = append(s.Times, w.now-max(began, awake[n.i]))
				continue
			}
			left++
		}
		if s.Missing = left; left == 0 {
			break
		}
	}
	slices.Sort(s.Times)
	return s
}
