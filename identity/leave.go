package identity

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Leave is a member's wish that its own key be revoked. Nonce is the channel binding of the session it is sent in, so a wish is good for
// one session only.
type Leave struct {
	Mesh  keys.MeshID `cbor:"1,keyasint"`
	Node  keys.NodeID `cbor:"2,keyasint"`
	Nonce keys.Hash   `cbor:"3,keyasint"`
}

// SignLeave signs l with the node's own key.
func SignLeave(l Leave, node *keys.SigningKey) ([]byte, error) {
	if node.NodeID() != l.Node {
		return nil, errors.New("leave: signed by another key than the node it names")
	}
	return Seal(keys.LabelLeave, l.Mesh, wire.MustMarshal(l), node).Encode(), nil
}

// ParseLeave reads and verifies a wish for the mesh made in the session with the given channel binding.
func ParseLeave(raw []byte, mesh keys.MeshID, nonce keys.Hash) (*Leave, error) {
	e, err := ParseEnvelope(raw, MaxLeave)
	if err != nil {
		return nil, fmt.Errorf("leave: %w", err)
	}
	var l Leave
	if err := wire.Unmarshal(e.Payload, &l); err != nil {
		return nil, fmt.Errorf("leave: %w", err)
	}
	switch {
	case l.Mesh.IsZero() || l.Mesh != mesh:
		return nil, errors.New("leave: for another mesh")
	case l.Nonce != nonce:
		return nil, errors.New("leave: made for another session")
	}
	if err := keys.CheckPublicKey(l.Node); err != nil {
		return nil, fmt.Errorf("leave: node: %w", err)
	}
	if err := e.VerifyOnly(keys.LabelLeave, l.Mesh, l.Node.Public()); err != nil {
		return nil, fmt.Errorf("leave: %w", err)
	}
	return &l, nil
}
