package keys

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Hash is a SHA-256 value.
type Hash [32]byte

// Sum hashes the concatenation of its arguments.
func Sum(parts ...[]byte) Hash {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	var out Hash
	h.Sum(out[:0])
	return out
}

// String returns the hash in hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// IsZero reports whether h was never set.
func (h Hash) IsZero() bool { return h == Hash{} }

// MeshID names a mesh: the hash of its genesis root payload.
type MeshID [32]byte

// String returns the mesh id in hexadecimal.
func (m MeshID) String() string { return hex.EncodeToString(m[:]) }

// Short returns the first eight hexadecimal digits, for people.
func (m MeshID) Short() string { return hex.EncodeToString(m[:4]) }

// IsZero reports whether m was never set; the zero id is the domain of genesis roots.
func (m MeshID) IsZero() bool { return m == MeshID{} }

// veil holds a value so that no verb of package fmt shows it, also where fmt cannot call our methods, which is in unexported fields of
// other types. It follows one pointer there, but not two. The function field makes == a compile error.
type veil[T any] struct {
	_ [0]func()
	p **T
}

func hide[T any](v T) veil[T] {
	p := &v
	return veil[T]{p: &p}
}

// get returns the value, or nil if none was hidden.
func (v veil[T]) get() *T {
	if v.p == nil {
		return nil
	}
	return *v.p
}

// secret is 32 bytes that must never be printed, compared in variable time, or be used when unset.
type secret struct {
	v veil[[32]byte]
}

// ErrUnset is returned where a key that was never set would be used.
var ErrUnset = errors.New("key is not set")

func newSecret(b []byte) secret {
	if len(b) != 32 {
		panic("keys: a secret is 32 bytes")
	}
	return secret{hide([32]byte(b))}
}

// IsSet reports whether the key holds a value.
func (s secret) IsSet() bool { return s.v.p != nil }

// Bytes returns a copy of the key, for the primitive that uses it. It panics on an unset key: fail closed.
func (s secret) Bytes() []byte {
	b := s.v.get()
	if b == nil {
		panic("keys: unset key used")
	}
	out := *b
	return out[:]
}

// Equal compares in constant time. Two unset keys are not equal.
func (s secret) Equal(o secret) bool {
	a, b := s.v.get(), o.v.get()
	return a != nil && b != nil && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// Format hides the value from every verb of package fmt.
func (s secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[secret]") }

// String hides the value.
func (s secret) String() string { return "[secret]" }

// MarshalText refuses, so that no encoder writes a secret by accident.
func (s secret) MarshalText() ([]byte, error) { return nil, errors.New("a secret has no text form") }

// MarshalBinary refuses, so that no encoder writes a secret by accident.
func (s secret) MarshalBinary() ([]byte, error) {
	return nil, errors.New("a secret has no binary form")
}

type (
	// PSK is a Noise pre-shared key. Its zero value is unset and is refused by every user of it.
	PSK struct{ secret }
	// TrafficKey keys one direction of one record stream, or one record type, for one generation.
	TrafficKey struct{ secret }
	// Exporter is a session's root of derived keys, for one generation.
	Exporter struct{ secret }
	// BeaconKey seals beacons for one generation of the group secret.
	BeaconKey struct{ secret }
	// InviteSecret proves knowledge of an invite.
	InviteSecret struct{ secret }
)

// Suite is the first byte of a handshake and fixes every primitive of the session that follows.
type Suite uint8

const (
	// SuiteChaCha is 25519 + ML-KEM-768, ChaCha20-Poly1305, BLAKE2s.
	SuiteChaCha Suite = 0x01
	// SuiteAES is 25519 + ML-KEM-768, AES-256-GCM, SHA-256.
	SuiteAES Suite = 0x02
	// SuiteEnroll is SuiteChaCha with an invite's secret instead of the group secret.
	SuiteEnroll Suite = 0x11
)

// String names the suite as the field does.
func (s Suite) String() string {
	switch s {
	case SuiteChaCha:
		return "25519+MLKEM768_ChaChaPoly_BLAKE2s"
	case SuiteAES:
		return "25519+MLKEM768_AESGCM_SHA256"
	case SuiteEnroll:
		return "enroll_25519+MLKEM768_ChaChaPoly_BLAKE2s"
	}
	return "unknown suite"
}

// Session is what a finished handshake or rekey hands to the session: K1 protects dialer → acceptor, K2 the way back. Hash is
// the Noise channel binding. Generation 0 is the handshake.
type Session struct {
	Suite      Suite
	Generation uint64
	K1, K2     TrafficKey
	Exporter   Exporter
	Hash       Hash
}
