package sim

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/session"
)

// The root restricts views older than 15 minutes, and the one machine that signs heads is cut off for half an hour. All others are
// restricted when their newest head is that old: no session is full, no stream opens, running ones end. They keep their connections, so
// that the mesh is whole a minute after the signer is back. The signer itself is never stale, and where the root only warns nothing
// happens at all.
func TestStaleViewRestricts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		nodes    int
		restrict bool
	}{{6, true}, {20, true}, {6, false}} {
		w := world(t, Config{Seed: 21, Nodes: c.nodes})
		w.Start(time.Second)
		w.RunFor(10 * time.Second)
		signer, one, two := w.nodes[0], w.nodes[c.nodes-2], w.nodes[c.nodes-1]
		w.KeepHeads(signer, 0)
		w.Limit(signer, 15*time.Minute, c.restrict)
		w.RunFor(20 * time.Minute) // four heads later nobody is stale
		low := min(c.nodes-1, 6)
		wantDegrees(t, w, low)
		one.Open(two)
		w.RunFor(10 * time.Second)
		if len(two.streams) != 1 {
			t.Fatalf("%d nodes: no stream before", c.nodes)
		}
		heal := w.Cut("the signer is alone", func(from, to *Node) bool { return (from == signer) != (to == signer) })
		w.RunFor(9 * time.Minute)
		if one.Degree() < low-1 || len(two.streams) != 1 {
			t.Fatalf("%d nodes: stale before the time", c.nodes)
		}
		w.RunFor(7 * time.Minute)
		one.Open(two)
		ended := w.closes[session.CodeLimit]
		w.RunFor(14 * time.Minute)
		if c.restrict && w.closes[session.CodeLimit] != ended {
			t.Fatalf("%d nodes: %d connections that a newer view may come by were given up", c.nodes, w.closes[session.CodeLimit]-ended)
		}
		for _, n := range w.nodes[1:] {
			if c.restrict && (n.Degree() != 0 || len(n.streams) != 0) {
				t.Fatalf("%d nodes: node %d has %d full sessions and %d streams in a stale view", c.nodes, n.i, n.Degree(), len(n.streams))
			}
			if !c.restrict && n.Degree() < low-1 {
				t.Fatalf("%d nodes: node %d has %d sessions, though the root only warns", c.nodes, n.i, n.Degree())
			}
			if v := n.State().View(n.clock().Trust); !v.Stale || v.Restrict != c.restrict || !v.Known || v.Age < 15*60 {
				t.Fatalf("%d nodes: node %d says %+v", c.nodes, n.i, v)
			}
			restricted := 0
			for _, e := range n.ends {
				if e.state == session.Restricted {
					restricted++
				}
			}
			if c.restrict && restricted < min(low-1, 3) {
				t.Fatalf("%d nodes: node %d keeps %d connections to hear by", c.nodes, n.i, restricted)
			}
		}
		if v := signer.State().View(signer.clock().Trust); v.Stale {
			t.Fatalf("the signer says %+v", v)
		}
		heal()
		took := w.RunUntil(2*time.Minute, func() bool {
			for _, n := range w.nodes {
				if n.Degree() < low {
					return false
				}
			}
			return true
		})
		if took < 0 || took > 90*time.Second {
			t.Fatalf("%d nodes: whole again after %v", c.nodes, took)
		}
		t.Logf("%d nodes, restrict %v: whole again after %v", c.nodes, c.restrict, took)
		one.Open(two)
		w.RunFor(10 * time.Second)
		if len(two.streams) == 0 {
			t.Fatalf("%d nodes: no stream after the signer is back", c.nodes)
		}
		w.Settled()
		w.want(t)
	}
}

// Where nobody signs heads a limit in the root makes everybody stale, once the root itself is that old.
func TestStaleWithoutASigner(t *testing.T) {
	w := world(t, Config{Seed: 22, Nodes: 4})
	w.Start(time.Second)
	w.RunFor(10 * time.Second)
	w.Limit(w.nodes[0], 15*time.Minute, true)
	w.RunFor(14 * time.Minute)
	wantDegrees(t, w, 3)
	w.RunFor(2 * time.Minute)
	for _, n := range w.nodes {
		if v := n.State().View(n.clock().Trust); n.Degree() != 0 || v.Known || !v.Stale {
			t.Fatalf("node %d: %d sessions, %+v", n.i, n.Degree(), v)
		}
	}
	w.KeepHeads(w.nodes[2], 0)
	w.RunFor(time.Minute)
	wantDegrees(t, w, 3)
	w.want(t)
}
