package keys

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"filippo.io/edwards25519"
)

// PublicKey is an Ed25519 public key of a root, an issuer or a node. It is a comparable value.
type PublicKey [32]byte

// NodeID is a node's Ed25519 public key: the only identity there is. It is never truncated except for display.
type NodeID [32]byte

// Signature is an Ed25519 signature.
type Signature [64]byte

// ErrWeakKey means the bytes are no key, a key in non-canonical form, or a point of small order.
var ErrWeakKey = errors.New("public key is not a canonical point of large order")

// smallOrderY are the y coordinates, little-endian and canonical, of the eight points of small order: 1, −1, 0 (twice) and those of
// the four points of order 8. A point's encoding is y with the sign of x in the top bit.
var smallOrderY = [5][32]byte{
	{0: 1},
	{
		0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
	},
	{},
	{
		0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
	},
	{
		0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
	},
}

// weak finds the keys CheckPublicKey refuses among the points of the curve, by their bytes alone.
func weak(b [32]byte) bool {
	b[31] &= 0x7f
	for _, y := range smallOrderY {
		if b == y {
			return true
		}
	}
	// y ≥ p = 2^255 − 19 is not canonical.
	if b[31] != 0x7f || b[0] < 0xed {
		return false
	}
	for _, c := range b[1:31] {
		if c != 0xff {
			return false
		}
	}
	return true
}

// CheckPublicKey refuses bytes that are no canonical Ed25519 point, and points of small order, under which one signature
// verifies for many messages. It is called whenever a key is first seen.
func CheckPublicKey(b [32]byte) error {
	p, err := new(edwards25519.Point).SetBytes(b[:])
	if err != nil {
		return ErrWeakKey
	}
	if [32]byte(p.Bytes()) != b {
		return ErrWeakKey
	}
	if new(edwards25519.Point).MultByCofactor(p).Equal(edwards25519.NewIdentityPoint()) == 1 {
		return ErrWeakKey
	}
	return nil
}

// IsZero reports whether p was never set.
func (p PublicKey) IsZero() bool { return p == PublicKey{} }

// String returns the key in hexadecimal.
func (p PublicKey) String() string { return hex.EncodeToString(p[:]) }

// Public returns the id as the key it is.
func (n NodeID) Public() PublicKey { return PublicKey(n) }

// IsZero reports whether n was never set.
func (n NodeID) IsZero() bool { return n == NodeID{} }

// signatureInput is "meshkey/1 " || label || 0x00 || mesh_id || payload.
func signatureInput(l Label, m MeshID, payload []byte) []byte {
	if l.s == "" {
		panic("keys: signature without a label")
	}
	b := make([]byte, 0, len(sigPrefix)+len(l.s)+1+len(m)+len(payload))
	b = append(b, sigPrefix...)
	b = append(b, l.s...)
	b = append(b, 0)
	b = append(b, m[:]...)
	return append(b, payload...)
}

// Verify reports whether sig is p's signature over payload under the label, in the mesh. A key that [CheckPublicKey] refuses
// verifies nothing, also where a caller has not checked it.
func (p PublicKey) Verify(l Label, m MeshID, payload []byte, sig Signature) bool {
	return !weak(p) && ed25519.Verify(p[:], signatureInput(l, m, payload), sig[:])
}

// SigningKey is an Ed25519 private key. It is used by reference and never printed.
type SigningKey struct {
	priv veil[ed25519.PrivateKey]
	pub  PublicKey
}

// NewSigningKey makes a fresh key from the system's randomness.
func NewSigningKey() *SigningKey {
	var seed [32]byte
	rand.Read(seed[:])
	k, err := SigningKeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	clear(seed[:])
	return k
}

// SigningKeyFromSeed restores a key from its 32-byte seed.
func SigningKeyFromSeed(seed []byte) (*SigningKey, error) {
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("signing key seed has %d bytes, want %d", len(seed), ed25519.SeedSize)
	}
	priv := ed25519.NewKeyFromSeed(seed)
	return &SigningKey{priv: hide(priv), pub: PublicKey(priv.Public().(ed25519.PublicKey))}, nil
}

// Seed returns the 32 bytes to be sealed into a key file.
func (k *SigningKey) Seed() []byte { return k.priv.get().Seed() }

// Public returns the public half.
func (k *SigningKey) Public() PublicKey { return k.pub }

// NodeID returns the public half as a node's identity.
func (k *SigningKey) NodeID() NodeID { return NodeID(k.pub) }

// Sign signs payload under the label, in the mesh.
func (k *SigningKey) Sign(l Label, m MeshID, payload []byte) Signature {
	return Signature(ed25519.Sign(*k.priv.get(), signatureInput(l, m, payload)))
}

// CryptoSigner returns the raw key for formats that define their own signature input (signed notes of the audit log).
func (k *SigningKey) CryptoSigner() ed25519.PrivateKey { return *k.priv.get() }

// String hides the value.
func (k *SigningKey) String() string { return "[signing key " + k.pub.String()[:8] + "]" }

// Format hides the value from every verb of package fmt.
func (k *SigningKey) Format(f fmt.State, _ rune) { io.WriteString(f, k.String()) }

// MarshalText refuses, so that no encoder writes a private key by accident.
func (k *SigningKey) MarshalText() ([]byte, error) { return secret{}.MarshalText() }

// MarshalBinary refuses, so that no encoder writes a private key by accident.
func (k *SigningKey) MarshalBinary() ([]byte, error) { return secret{}.MarshalBinary() }
