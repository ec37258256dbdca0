package identity

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Certificate says that an issuer enrolled a node. Times are unix seconds. Whether it is in force is the trust log's to say.
type Certificate struct {
	Mesh       keys.MeshID    `cbor:"1,keyasint"`
	Node       keys.NodeID    `cbor:"2,keyasint"`
	Serial     uint64         `cbor:"3,keyasint"`
	Issuer     keys.PublicKey `cbor:"4,keyasint"`
	NotBefore  int64          `cbor:"5,keyasint"`
	NotAfter   int64          `cbor:"6,keyasint"`
	Tags       []string       `cbor:"7,keyasint"`
	Name       string         `cbor:"8,keyasint"`
	RenewUntil int64          `cbor:"9,keyasint"`
}

// SignedCertificate is a certificate whose signature, by the issuer it names, was verified.
type SignedCertificate struct {
	Certificate
	ID  keys.Hash // hash of the payload: cert_id
	raw []byte
}

// Raw returns the envelope as transported. The caller does not change it.
func (c *SignedCertificate) Raw() []byte { return c.raw }

// Lean returns a copy without the envelope, for whoever keeps a certificate to judge it again and never passes it on: Raw is nil.
func (c *SignedCertificate) Lean() *SignedCertificate {
	return &SignedCertificate{Certificate: c.Certificate, ID: c.ID}
}

// check holds everything about a certificate that needs no key and no clock.
func (c *Certificate) check() error {
	switch {
	case c.Serial == 0:
		return errors.New("certificate: serial 0")
	case c.Mesh.IsZero():
		return errors.New("certificate: of no mesh")
	case c.NotBefore < 0 || c.NotAfter <= c.NotBefore || c.NotAfter > MaxTime:
		return errors.New("certificate: validity empty or without end")
	case c.RenewUntil < 0 || c.RenewUntil > MaxTime:
		return errors.New("certificate: renew_until is no time")
	}
	if err := keys.CheckPublicKey(c.Node); err != nil {
		return fmt.Errorf("certificate: node: %w", err)
	}
	if err := keys.CheckPublicKey(c.Issuer); err != nil {
		return fmt.Errorf("certificate: issuer: %w", err)
	}
	if err := CheckName(c.Name); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	if err := CheckTags(c.Tags); err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	return nil
}

// IssueCertificate signs c with the issuer's key, which must be the issuer c names.
func IssueCertificate(c Certificate, issuer *keys.SigningKey) (*SignedCertificate, error) {
	if issuer.Public() != c.Issuer {
		return nil, errors.New("certificate: signed by another key than the issuer it names")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	raw := Seal(keys.LabelCert, c.Mesh, wire.MustMarshal(c), issuer).Encode()
	return ParseCertificate(raw, c.Mesh)
}

// ParseCertificate reads and verifies a certificate of the mesh. It does not know whether the issuer is one of the mesh's.
func ParseCertificate(raw []byte, mesh keys.MeshID) (*SignedCertificate, error) {
	e, err := ParseEnvelope(raw, MaxCertificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	var c Certificate
	if err := wire.Unmarshal(e.Payload, &c); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if c.Mesh != mesh {
		return nil, errors.New("certificate: of another mesh")
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := e.VerifyOnly(keys.LabelCert, c.Mesh, c.Issuer); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &SignedCertificate{Certificate: c, ID: e.ID(), raw: append([]byte(nil), raw...)}, nil
}

// HasTag reports whether the certificate carries the tag.
func (c *Certificate) HasTag(tag string) bool {
	return slices.Contains(c.Tags, tag)
}
