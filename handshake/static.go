package handshake

import (
	"crypto/ecdh"
	"crypto/rand"

	"github.com/sovereignmesh/meshkey/identity"
)

// Static is a Noise static key pair. It lives in memory only: there is no way to read the private half, so it is never on a disk
// and ends with the process. A node makes a new one with every binding; an old one serves only rekeys of running sessions.
type Static struct {
	priv *ecdh.PrivateKey
}

// NewStatic makes a fresh key.
func NewStatic() *Static {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		panic(err) // the system's randomness never fails
	}
	return &Static{priv: k}
}

// Public returns the half a binding names.
func (s *Static) Public() identity.StaticKey {
	return identity.StaticKey(s.priv.PublicKey().Bytes())
}

// String hides the value.
func (s *Static) String() string { return "[noise static key]" }

// GoString hides the value from %#v.
func (s *Static) GoString() string { return s.String() }
