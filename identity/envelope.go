package identity

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Sig is one signature of an envelope; the kid is the whole public key.
type Sig struct {
	_   struct{} `cbor:",toarray"`
	Kid keys.PublicKey
	Sig keys.Signature
}

// Envelope is [payload: bstr, sigs: [[kid: bstr32, sig: bstr64], ...]]: the transported payload bytes are what is verified
// and hashed, never a re-encoding of them.
type Envelope struct {
	_       struct{} `cbor:",toarray"`
	Payload []byte
	Sigs    []Sig
}

// ErrSignature means an envelope is not signed as it must be.
var ErrSignature = errors.New("signature does not verify")

// Seal signs payload with every key and returns the envelope with its signatures in the one valid order.
func Seal(l keys.Label, m keys.MeshID, payload []byte, signers ...*keys.SigningKey) *Envelope {
	e := &Envelope{Payload: payload}
	for _, k := range signers {
		e.Sigs = append(e.Sigs, Sig{Kid: k.Public(), Sig: k.Sign(l, m, payload)})
	}
	slices.SortFunc(e.Sigs, func(a, b Sig) int { return bytes.Compare(a.Kid[:], b.Kid[:]) })
	return e
}

// Encode returns the envelope's one encoding.
func (e *Envelope) Encode() []byte { return wire.MustMarshal(e) }

// ID is the hash of the payload, the name of what was signed.
func (e *Envelope) ID() keys.Hash { return keys.Sum(e.Payload) }

// ParseEnvelope reads an envelope of at most limit bytes, with 1 to maxSigs signatures sorted by unique kid. It verifies
// nothing yet.
func ParseEnvelope(b []byte, limit int) (*Envelope, error) {
	if len(b) > limit {
		return nil, fmt.Errorf("envelope has %d bytes, at most %d are allowed", len(b), limit)
	}
	var e Envelope
	if err := wire.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("envelope: %w", err)
	}
	if len(e.Sigs) == 0 || len(e.Sigs) > maxSigs {
		return nil, fmt.Errorf("envelope: %d signatures, want 1 to %d", len(e.Sigs), maxSigs)
	}
	for i := 1; i < len(e.Sigs); i++ {
		if bytes.Compare(e.Sigs[i-1].Kid[:], e.Sigs[i].Kid[:]) >= 0 {
			return nil, errors.New("envelope: signers not sorted and unique")
		}
	}
	return &e, nil
}

// VerifyAll verifies every signature; one that fails makes the whole envelope invalid, and so does having none. Whose signatures
// they have to be is the caller's question.
func (e *Envelope) VerifyAll(l keys.Label, m keys.MeshID) error {
	if len(e.Sigs) == 0 {
		return fmt.Errorf("%w: %s is not signed", ErrSignature, l)
	}
	for _, s := range e.Sigs {
		if !s.Kid.Verify(l, m, e.Payload, s.Sig) {
			return fmt.Errorf("%w: %s by %s", ErrSignature, l, s.Kid.String()[:16])
		}
	}
	return nil
}

// VerifyOnly verifies that the envelope carries exactly one signature, by the given key.
func (e *Envelope) VerifyOnly(l keys.Label, m keys.MeshID, by keys.PublicKey) error {
	if len(e.Sigs) != 1 || e.Sigs[0].Kid != by {
		return fmt.Errorf("%w: %s is not signed by exactly the expected key", ErrSignature, l)
	}
	return e.VerifyAll(l, m)
}
