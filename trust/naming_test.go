package trust

import (
	"slices"
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

// What a name has meant stays, whatever was revoked, rotated or cut off since.
func TestNamesOfThePast(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	rot := OpRevokeNode{Node: nodeID("one"), Reason: RevokeRotated, Successor: &Successor{
		Node: nodeID("two"), Sig: RotateSignature(w.mesh, keyOf("node %s", "one"), nodeID("two")),
	}}
	s := must(t, w.start, a.add(EnrollOp(a.cert("one", "gpu1"))), a.add(rot, EnrollOp(a.cert("two", "gpu1"))), a.add(revokeNode("two")),
		b.add(EnrollOp(b.cert("three", "gpu1"))), b.add(EnrollOp(b.cert("four", "laptop"))))
	sorted := func(names ...string) (ids []keys.NodeID) {
		for _, n := range names {
			ids = append(ids, nodeID(n))
		}
		return sortIDs(ids)
	}
	if got := sortIDs(s.EverNamed("gpu1")); !slices.Equal(got, sorted("one", "two", "three")) {
		t.Error(got)
	}
	if got := s.EverNamed("laptop"); !slices.Equal(got, sorted("four")) {
		t.Error(got)
	}
	if got := s.EverNamed("nobody"); got != nil {
		t.Error(got)
	}
	for node, want := range map[string]string{"one": "gpu1", "two": "gpu1", "three": "gpu1", "four": "laptop"} {
		if name, ok := s.NameOf(nodeID(node)); !ok || name != want {
			t.Error(node, name, ok)
		}
	}
	if name, ok := s.NameOf(nodeID("nobody")); ok {
		t.Error(name)
	}
	for _, n := range []string{"one", "two"} {
		if got := sortIDs(s.Lineage(nodeID(n))); !slices.Equal(got, sorted("one", "two")) {
			t.Error(n, got)
		}
	}
	if got := s.Lineage(nodeID("three")); !slices.Equal(got, sorted("three")) {
		t.Error(got)
	}
	p, err := keys.ParseNodePrefix(nodeID("two").Compact()[:11])
	if err != nil {
		t.Fatal(err)
	}
	if got := s.ByPrefix(p); !slices.Equal(got, sorted("two")) {
		t.Error(got)
	}
}

func sortIDs(ids []keys.NodeID) []keys.NodeID {
	slices.SortFunc(ids, func(x, y keys.NodeID) int { return slices.Compare(x[:], y[:]) })
	return ids
}
