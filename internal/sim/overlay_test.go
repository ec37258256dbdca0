package sim

import (
	"testing"
	"time"
)

// Two branches of a forked issuer are two digests until a root decides. That is known to everybody and no reason to dial.
func TestForkLeavesTheOverlayAlone(t *testing.T) {
	t.Parallel()
	w := world(t, Config{Seed: 35, Nodes: 40, Issuers: 2})
	w.Start(time.Second)
	w.RunFor(30 * time.Second)
	w.Fork(1, w.nodes[7], w.nodes[19], w.nodes[1], w.nodes[2])
	w.RunFor(60 * time.Second)
	before := w.dialled()
	w.RunFor(2 * time.Minute)
	n := w.dialled() - before
	t.Logf("%d dials in two minutes", n)
	// Healing dials one in eight ticks where nobody was seen for a minute; the two that are revoked dial for ever.
	if n > 40 {
		t.Fatalf("%d dials in two minutes after a fork", n)
	}
	w.want(t)
}

// dialled counts the dials of the mesh's members so far.
func (w *World) dialled() (n uint64) {
	for _, x := range w.nodes {
		if !w.revoked(x.id) {
			n += x.connSeq
		}
	}
	return n
}
