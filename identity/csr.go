package identity

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// CSR asks an issuer for a certificate. Name and tags are wishes: they are shown to a person who approves, and used by
// nothing else. Nonce is the channel binding of the handshake it is sent in, so a request is good for one session only.
type CSR struct {
	Mesh  keys.MeshID `cbor:"1,keyasint"`
	Node  keys.NodeID `cbor:"2,keyasint"`
	Name  string      `cbor:"3,keyasint"`
	Tags  []string    `cbor:"4,keyasint"`
	Nonce keys.Hash   `cbor:"5,keyasint"`
}

// SignedCSR is a request whose signature, by the node it names, was verified.
type SignedCSR struct {
	CSR
	ID  keys.Hash
	raw []byte
}

// Raw returns the envelope as transported. The caller does not change it.
func (c *SignedCSR) Raw() []byte { return c.raw }

func (c *CSR) check() error {
	if c.Mesh.IsZero() {
		return errors.New("request: for no mesh")
	}
	if err := keys.CheckPublicKey(c.Node); err != nil {
		return fmt.Errorf("request: node: %w", err)
	}
	if err := CheckName(c.Name); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	if err := CheckTags(c.Tags); err != nil {
		return fmt.Errorf("request: %w", err)
	}
	return nil
}

// SignCSR signs c with the node's own key, which proves possession of it.
func SignCSR(c CSR, node *keys.SigningKey) (*SignedCSR, error) {
	if node.NodeID() != c.Node {
		return nil, errors.New("request: signed by another key than the node it names")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return ParseCSR(Seal(keys.LabelCSR, c.Mesh, wire.MustMarshal(c), node).Encode(), c.Mesh, c.Nonce)
}

// ParseCSR reads and verifies a request for the mesh made in the session with the given channel binding.
func ParseCSR(raw []byte, mesh keys.MeshID, nonce keys.Hash) (*SignedCSR, error) {
	e, err := ParseEnvelope(raw, MaxCSR)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	var c CSR
	if err := wire.Unmarshal(e.Payload, &c); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if c.Mesh != mesh {
		return nil, errors.New("request: for another mesh")
	}
	if c.Nonce != nonce {
		return nil, errors.New("request: made for another session")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := e.VerifyOnly(keys.LabelCSR, c.Mesh, c.Node.Public()); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	return &SignedCSR{CSR: c, ID: e.ID(), raw: append([]byte(nil), raw...)}, nil
}
