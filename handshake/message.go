package handshake

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
)

// versionP1 opens the payload of message 1.
const versionP1 = 0x01

// criticalFlags are the bits of message 1's flags that a responder must know to go on; the others may be ignored. Version 1
// knows none and sends 0.
const criticalFlags = 0x0f

// encodeP1 appends 0x01 || flags || ek.
func encodeP1(out, ek []byte) []byte {
	out = append(out, versionP1, 0)
	return append(out, ek...)
}

// decodeP1 returns the encapsulation key, whose content the KEM itself checks.
func decodeP1(p []byte) (ek []byte, err error) {
	switch {
	case len(p) != sizeP1:
		return nil, fmt.Errorf("payload 1 has %d bytes, want %d", len(p), sizeP1)
	case p[0] != versionP1:
		return nil, fmt.Errorf("payload 1 has version %d, want %d", p[0], versionP1)
	case p[1]&criticalFlags != 0:
		return nil, fmt.Errorf("payload 1 needs unknown flags %#02x", p[1])
	}
	return p[2:], nil
}

// payload is the content of P2 and P3. In an enrolment P3 has an empty certificate.
type payload struct {
	Certificate []byte  `cbor:"1,keyasint"`
	Binding     []byte  `cbor:"2,keyasint"`
	RootVersion uint64  `cbor:"3,keyasint"`
	Digest      [8]byte `cbor:"4,keyasint"`
	GroupGen    uint64  `cbor:"5,keyasint"`
	Flags       uint64  `cbor:"6,keyasint"`
	Time        int64   `cbor:"7,keyasint"`
	ConnSeq     uint64  `cbor:"8,keyasint"`
	Features    uint64  `cbor:"9,keyasint"`
}

// encode appends len u16 || CBOR || zeros, always sizePayload bytes.
func (p *payload) encode(out []byte) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	b, err := wire.Marshal(p)
	if err != nil {
		return nil, err
	}
	if len(b) > maxPayloadCBOR { // cannot happen within the bounds of check
		return nil, fmt.Errorf("payload has %d bytes, at most %d fit", len(b), maxPayloadCBOR)
	}
	out = binary.BigEndian.AppendUint16(out, uint16(len(b)))
	out = append(out, b...)
	return append(out, make([]byte, maxPayloadCBOR-len(b))...), nil
}

// check holds the bounds that encoder and decoder share.
func (p *payload) check() error {
	switch {
	case len(p.Certificate) > identity.MaxCertificate:
		return fmt.Errorf("payload: certificate of %d bytes, at most %d", len(p.Certificate), identity.MaxCertificate)
	case len(p.Binding) == 0 || len(p.Binding) > identity.MaxBinding:
		return fmt.Errorf("payload: binding of %d bytes, want 1 to %d", len(p.Binding), identity.MaxBinding)
	case p.Time < 0 || p.Time > identity.MaxTime:
		return errors.New("payload: time out of range")
	}
	return nil
}

// decodePayload reads P2 or P3. Exactly one byte string stands for each value: strict CBOR, and padding that is all zeros.
func decodePayload(b []byte) (*payload, error) {
	if len(b) != sizePayload {
		return nil, fmt.Errorf("payload has %d bytes, want %d", len(b), sizePayload)
	}
	n := int(binary.BigEndian.Uint16(b))
	if n > maxPayloadCBOR {
		return nil, fmt.Errorf("payload says %d bytes, at most %d fit", n, maxPayloadCBOR)
	}
	body, padding := b[2:2+n], b[2+n:]
	for _, c := range padding {
		if c != 0 {
			return nil, errors.New("payload: padding is not zero")
		}
	}
	var p payload
	if err := wire.Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	return &p, nil
}
