package enroll

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

var (
	// ErrNoFile: it is no file of that sort at all.
	ErrNoFile = errors.New("not such a file")
	// ErrFile: the file was changed, damaged, or made for another machine, mesh or request. Nothing of it is believed.
	ErrFile = errors.New("the file does not verify")
)

// The first bytes of the two files, their version included.
const (
	requestMagic  = "mk1q"
	responseMagic = "mk1r"
)

// RequestFile is a newcomer's request that travels as a file, verified: the node signed it, and with it the key its answer is sealed to.
type RequestFile struct {
	CSR *identity.SignedCSR
	Key keys.RequestPublic
}

type requestWire struct {
	CSR []byte                       `cbor:"1,keyasint"`
	Key [keys.RequestPublicSize]byte `cbor:"2,keyasint"`
}

// NewRequest makes the request of a node for a mesh. Name and tags are wishes.
func NewRequest(mesh keys.MeshID, name string, tags []string, node *keys.SigningKey, to keys.RequestPublic) (*RequestFile, error) {
	csr, err := identity.SignCSR(identity.CSR{Mesh: mesh, Node: node.NodeID(), Name: name, Tags: tags, Nonce: to.Commitment()}, node)
	if err != nil {
		return nil, err
	}
	return &RequestFile{CSR: csr, Key: to}, nil
}

// Encode returns the file's content.
func (q *RequestFile) Encode() []byte {
	return append([]byte(requestMagic), wire.MustMarshal(requestWire{CSR: q.CSR.Raw(), Key: q.Key})...)
}

// ParseRequest reads and verifies a request for the mesh.
func ParseRequest(b []byte, mesh keys.MeshID) (*RequestFile, error) {
	body, ok := bytes.CutPrefix(b, []byte(requestMagic))
	if !ok {
		return nil, fmt.Errorf("%w: a request begins with %q", ErrNoFile, requestMagic)
	}
	if len(b) > MaxRequestFile {
		return nil, fmt.Errorf("%w: longer than any request", ErrFile)
	}
	var w requestWire
	if err := wire.Unmarshal(body, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	key := keys.RequestPublic(w.Key)
	csr, err := identity.ParseCSR(w.CSR, mesh, key.Commitment())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	return &RequestFile{CSR: csr, Key: key}, nil
}
