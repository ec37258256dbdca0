package sim

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Spread is how something got around: when each connected node had applied it, counted from when it was made.
type Spread struct {
	Times   []time.Duration // sorted
	Missing int             // connected nodes that had not yet
}

// At returns the time by which a share of the nodes had applied it; -1: they had not.
func (s Spread) At(share float64) time.Duration {
	if len(s.Times) == 0 {
		return -1
	}
	i := int(share*float64(len(s.Times)+s.Missing)+0.999999) - 1
	if i >= len(s.Times) {
		return -1
	}
	return s.Times[max(i, 0)]
}

// follow watches one change get around.
type follow struct {
	issuer   keys.PublicKey
	seq      uint64
	evidence bool
	began    time.Duration
	got      map[int]time.Duration
}

// Follow watches an entry from now on.
func (w *World) Follow(c trust.Change) *follow {
	f := &follow{issuer: c.Issuer, seq: c.Seq, evidence: c.Kind == trust.KindEvidence, began: w.now, got: map[int]time.Duration{}}
	w.follows = append(w.follows, f)
	return f
}

// applied notes that a node has applied a change. A node that stalls or sleeps is counted from when it runs again.
func (w *World) applied(n *Node, c trust.Change) {
	for _, f := range w.follows {
		if f.issuer == c.Issuer && f.seq == c.Seq && f.evidence == (c.Kind == trust.KindEvidence) && c.Kind != trust.KindHead {
			if _, ok := f.got[n.i]; !ok {
				f.got[n.i] = w.now - max(f.began, n.calm)
			}
		}
	}
}

// Spread returns how a followed change has got around so far. Nodes the mesh has revoked, or that do not run, are not counted.
func (w *World) Spread(f *follow) Spread {
	var s Spread
	for _, n := range w.nodes {
		d, ok := f.got[n.i]
		switch {
		case w.revoked(n.id):
		case ok:
			s.Times = append(s.Times, d)
		case n.awake():
			s.Missing++
		}
	}
	slices.Sort(s.Times)
	return s
}

// RevokeAndWatch revokes a node at another one and follows the entry until every running node has it, or for some time.
func (w *World) RevokeAndWatch(at, gone *Node, within time.Duration) Spread {
	f := w.Follow(trust.Change{Issuer: w.law.issuers[0].Public(), Seq: w.law.next(0)})
	w.Revoke(at, gone)
	w.RunUntil(within, func() bool { return w.Spread(f).Missing == 0 && !w.somebodyStalls() })
	return w.Spread(f)
}

func (w *World) somebodyStalls() bool {
	return slices.ContainsFunc(w.nodes, func(n *Node) bool { return n.up && n.stalled })
}
