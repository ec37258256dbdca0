package trust

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Receipt is a node's signed statement that it has applied an entry, and what that closed there.
type Receipt struct {
	Mesh     keys.MeshID    `cbor:"1,keyasint"`
	Node     keys.NodeID    `cbor:"2,keyasint"`
	Issuer   keys.PublicKey `cbor:"3,keyasint"`
	Seq      uint64         `cbor:"4,keyasint"`
	TimeMS   uint64         `cbor:"5,keyasint"`
	Sessions uint64         `cbor:"6,keyasint"`
	Streams  uint64         `cbor:"7,keyasint"`

	env *identity.Envelope
}

// maxClosed bounds the counts of a receipt: no node has more sessions or streams.
const maxClosed = 1 << 24

// NewReceipt signs a receipt with the node's key.
func NewReceipt(r Receipt, node *keys.SigningKey) ([]byte, error) {
	if node.NodeID() != r.Node {
		return nil, errors.New("receipt: signed by another key than the node it names")
	}
	if err := r.check(r.Mesh); err != nil {
		return nil, err
	}
	return identity.Seal(keys.LabelReceipt, r.Mesh, wire.MustMarshal(r), node).Encode(), nil
}

// ParseReceipt reads a receipt. Its signature is not verified yet: those that pass it on need not.
func ParseReceipt(raw []byte, mesh keys.MeshID) (*Receipt, error) {
	env, err := identity.ParseEnvelope(raw, MaxReceipt)
	if err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	var r Receipt
	if err := wire.Unmarshal(env.Payload, &r); err != nil {
		return nil, fmt.Errorf("receipt: %w", err)
	}
	if err := r.check(mesh); err != nil {
		return nil, err
	}
	r.env = env
	return &r, nil
}

func (r *Receipt) check(mesh keys.MeshID) error {
	switch {
	case r.Mesh != mesh || mesh.IsZero():
		return errors.New("receipt: of another mesh")
	case r.Node.IsZero() || r.Issuer.IsZero():
		return errors.New("receipt: without a node or an issuer")
	case !validNumber(r.Seq) || r.TimeMS > maxTime*1000 || r.Sessions > maxClosed || r.Streams > maxClosed:
		return errors.New("receipt: number out of range")
	}
	return nil
}

// Verify checks the signature: exactly one, by the node the receipt names.
func (r *Receipt) Verify() error {
	if r.env == nil {
		return errors.New("receipt: not parsed")
	}
	return r.env.VerifyOnly(keys.LabelReceipt, r.Mesh, keys.PublicKey(r.Node))
}

// Receipted reports whether an entry is answered with receipts: whoever takes something away, or gives it, wants to know who knows.
func (e *Entry) Receipted() bool {
	for _, o := range e.Ops {
		switch o.(type) {
		case OpGrant:
			return true
		default:
			if removes(o) {
				return true
			}
		}
	}
	return false
}
