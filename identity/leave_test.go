package identity

import (
	"bytes"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// A wish to leave is good for its node, its mesh and its session alone, and has one form.
func TestLeave(t *testing.T) {
	key, other := keys.NewSigningKey(), keys.NewSigningKey()
	mesh, nonce := keys.MeshID{1}, keys.Hash{2}
	raw, err := SignLeave(Leave{Mesh: mesh, Node: key.NodeID(), Nonce: nonce}, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw) != MaxLeave {
		t.Fatalf("%d bytes, the limit says %d", len(raw), MaxLeave)
	}
	l, err := ParseLeave(raw, mesh, nonce)
	if err != nil || l.Node != key.NodeID() {
		t.Fatal(l, err)
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if _, err := ParseLeave(bad, mesh, nonce); err == nil {
			t.Fatalf("taken with byte %d changed", i)
		}
	}
	if _, err := ParseLeave(raw, keys.MeshID{9}, nonce); err == nil {
		t.Fatal("taken in another mesh")
	}
	if _, err := ParseLeave(raw, mesh, keys.Hash{9}); err == nil {
		t.Fatal("taken in another session")
	}
	if _, err := SignLeave(Leave{Mesh: mesh, Node: key.NodeID(), Nonce: nonce}, other); err == nil {
		t.Fatal("signed for another node")
	}
	p := wire.MustMarshal(Leave{Mesh: mesh, Node: key.NodeID(), Nonce: nonce})
	for what, e := range map[string]*Envelope{
		"another's signature": Seal(keys.LabelLeave, mesh, p, other), "another label": Seal(keys.LabelCSR, mesh, p, key),
		"no mesh": Seal(keys.LabelLeave, keys.MeshID{}, wire.MustMarshal(Leave{Node: key.NodeID(), Nonce: nonce}), key),
	} {
		m := mesh
		if what == "no mesh" {
			m = keys.MeshID{}
		}
		if _, err := ParseLeave(e.Encode(), m, nonce); err == nil {
			t.Fatalf("taken with %s", what)
		}
	}
}
