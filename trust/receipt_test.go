package trust

import (
	"bytes"
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

func receiptFor(t testing.TB) (raw []byte, mesh keys.MeshID, k *keys.SigningKey) {
	t.Helper()
	k, mesh = keyOf("receipt"), keys.MeshID{7}
	raw, err := NewReceipt(Receipt{Mesh: mesh, Node: k.NodeID(), Issuer: keyOf("i").Public(), Seq: maxSeq, TimeMS: 1 << 41, Sessions: maxClosed, Streams: maxClosed}, k)
	if err != nil {
		t.Fatal(err)
	}
	return raw, mesh, k
}

// The longest receipt fits, parses and verifies; every flipped bit makes it invalid; another mesh or key is refused.
func TestReceipt(t *testing.T) {
	raw, mesh, k := receiptFor(t)
	r, err := ParseReceipt(raw, mesh)
	if err != nil || r.Verify() != nil || len(raw) > MaxReceipt {
		t.Fatal(err, len(raw))
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x10
		if r, err := ParseReceipt(bad, mesh); err == nil && r.Verify() == nil {
			t.Fatalf("byte %d may be changed", i)
		}
	}
	if _, err := ParseReceipt(raw, keys.MeshID{8}); err == nil {
		t.Fatal("of another mesh")
	}
	if _, err := NewReceipt(Receipt{Mesh: mesh, Node: keyOf("x").NodeID(), Issuer: k.Public(), Seq: 1}, k); err == nil {
		t.Fatal("for another node")
	}
	for what, bad := range map[string]Receipt{
		"no issuer": {Mesh: mesh, Node: k.NodeID(), Seq: 1}, "no number": {Mesh: mesh, Node: k.NodeID(), Issuer: k.Public()},
		"too many": {Mesh: mesh, Node: k.NodeID(), Issuer: k.Public(), Seq: 1, Streams: maxClosed + 1}, "no mesh": {Node: k.NodeID(), Issuer: k.Public(), Seq: 1},
	} {
		if _, err := NewReceipt(bad, k); err == nil {
			t.Fatal(what)
		}
	}
	if (&Receipt{}).Verify() == nil {
		t.Fatal("what was not parsed verifies")
	}
}

// What parses is the one encoding of it.
func FuzzReceipt(f *testing.F) {
	raw, mesh, _ := receiptFor(f)
	f.Add(raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReceipt(b, mesh)
		if err != nil {
			if r != nil {
				t.Fatal("a receipt beside an error")
			}
			return
		}
		if !bytes.Equal(r.env.Encode(), b) {
			t.Fatal("a second form")
		}
	})
}
