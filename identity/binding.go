package identity

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// StaticKey is the public half of a Noise static X25519 key.
type StaticKey [32]byte

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

// Raw returns the envelope as transported.
func (b *SignedBinding) Raw() []byte { return b.raw }

func (b *Binding) check() error {
	if b.NotBefore < 0 || b.NotAfter <= b.NotBefore || b.NotAfter-b.NotBefore > MaxBindingLife {
		return errors.New("binding: validity empty or longer than a day")
	}
	if b.Static == (StaticKey{}) {
		return errors.New("binding: no key")
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
