package identity

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// StaticKey is the public half of a Noise static X25519 key.
type StaticKey [32]byte

// smallOrderU are the canonical u coordinates of the points of small order on Curve25519 and its twist (RFC 7748 §6.1), with which
// every Diffie-Hellman result is zero: 0, 1, two of order 8, and p − 1.
var smallOrderU = [5]StaticKey{
	{},
	{0: 1},
	{
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
	{
		0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
	},
}

// weak reports a key no honest node has: of small order, or not in canonical form, so that two bindings of one key differ.
func (k StaticKey) weak() bool {
	if slices.Contains(smallOrderU[:], k) {
		return true
	}
	// The top bit is never set in canonical form, and u must be below p = 2^255 − 19.
	if k[31] != 0x7f {
		return k[31] > 0x7f
	}
	for _, c := range k[1:31] {
		if c != 0xff {
			return false
		}
	}
	return k[0] >= 0xed
}

// BootID is fresh at each start of a daemon.
type BootID [16]byte

// Binding ties a Noise static key to a node for at most a day. The node key signs it.
type Binding struct {
	Mesh      keys.MeshID `cbor:"1,keyasint"`
	Node      keys.NodeID `cbor:"2,keyasint"`
	Static    StaticKey   `cbor:"3,keyasint"`
	NotBefore int64       `cbor:"4,keyasint"`
	NotAfter  int64       `cbor:"5,keyasint"`
	Boot      BootID      `cbor:"6,keyasint"`
}

// SignedBinding is a binding whose signature, by the node it names, was verified.
type SignedBinding struct {
	Binding
	raw []byte
}

// Raw returns the envelope as transported. The caller does not change it.
func (b *SignedBinding) Raw() []byte { return b.raw }

func (b *Binding) check() error {
	switch {
	case b.Mesh.IsZero():
		return errors.New("binding: of no mesh")
	case b.NotBefore < 0 || b.NotAfter <= b.NotBefore || b.NotAfter > MaxTime || b.NotAfter-b.NotBefore > MaxBindingLife:
		return errors.New("binding: validity empty or longer than a day")
	case b.Static.weak():
		return errors.New("binding: static key is no canonical point of large order")
	}
	if err := keys.CheckPublicKey(b.Node); err != nil {
		return fmt.Errorf("binding: node: %w", err)
	}
	return nil
}

// IssueBinding signs b with the node's own key.
func IssueBinding(b Binding, node *keys.SigningKey) (*SignedBinding, error) {
	if node.NodeID() != b.Node {
		return nil, errors.New("binding: signed by another key than the node it names")
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	return ParseBinding(Seal(keys.LabelBinding, b.Mesh, wire.MustMarshal(b), node).Encode(), b.Mesh)
}

// ParseBinding reads and verifies a binding of the mesh.
func ParseBinding(raw []byte, mesh keys.MeshID) (*SignedBinding, error) {
	e, err := ParseEnvelope(raw, MaxBinding)
	if err != nil {
		return nil, fmt.Errorf("binding: %w", err)
	}
	var b Binding
	if err := wire.Unmarshal(e.Payload, &b); err != nil {
		return nil, fmt.Errorf("binding: %w", err)
	}
	if b.Mesh != mesh {
		return nil, errors.New("binding: of another mesh")
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	if err := e.VerifyOnly(keys.LabelBinding, b.Mesh, b.Node.Public()); err != nil {
		return nil, fmt.Errorf("binding: %w", err)
	}
	return &SignedBinding{Binding: b, raw: append([]byte(nil), raw...)}, nil
}

// InForce reports whether now lies in the binding's window, with slack for clocks at its beginning.
func (b *Binding) InForce(now int64) bool {
	return b.NotBefore-ClockSlack <= now && now < b.NotAfter
}
