package handshake

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
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

// Local is what this node brings to a handshake. It is a value: a new binding is a new Local.
type Local struct {
	Mesh   keys.MeshID
	Node   keys.NodeID
	Static *Static
	// Certificate and Binding are envelopes as transported. A joiner has no certificate.
	Certificate []byte
	Binding     []byte

	// Hints for the peer, authenticated as this node's words: the trust state it holds.
	RootVersion uint64
	Digest      [8]byte
	GroupGen    uint64
	// Flags are reserved: 0 today, ignored by the receiver.
	Flags uint64
	// Features are the optional parts of the protocol this node speaks; a session uses the intersection.
	Features uint64
	// ConnSeq counts the connections this node dialled since its boot; it decides between duplicate sessions.
	ConnSeq uint64
}

// check refuses a Local that no handshake can be made of. Only a joiner has no certificate.
func (l *Local) check(joiner bool) error {
	switch {
	case joiner && len(l.Certificate) != 0:
		return errors.New("a joiner has no certificate")
	case !joiner && len(l.Certificate) == 0:
		return errors.New("no certificate")
	case len(l.Binding) == 0:
		return errors.New("no binding")
	case l.Mesh.IsZero():
		return errors.New("no mesh id")
	case l.Node.IsZero():
		return errors.New("no node id")
	case l.Static == nil:
		return errors.New("no static key")
	}
	return nil
}

// payload builds P2 or P3.
func (l *Local) payload(out []byte, now int64) ([]byte, error) {
	p := payload{
		Certificate: l.Certificate, Binding: l.Binding, RootVersion: l.RootVersion, Digest: l.Digest, GroupGen: l.GroupGen,
		Flags: l.Flags, Time: now, ConnSeq: l.ConnSeq, Features: l.Features,
	}
	return p.encode(out)
}

// Peer is the other side. Node is proved by the signature on the binding of the static key that the handshake proved;
// everything else is the peer's own word, as good as the peer.
type Peer struct {
	Node   keys.NodeID
	Static identity.StaticKey
	// Certificate is nil for a joiner. Its signature is the named issuer's; whether that is an issuer is trust's to say.
	Certificate *identity.SignedCertificate
	Binding     *identity.SignedBinding
	RootVersion uint64
	Digest      [8]byte
	GroupGen    uint64
	Flags       uint64
	Time        int64
	ConnSeq     uint64
	Features    uint64
	// OldGeneration says that the dialer knew only a gate before the previous one.
	OldGeneration bool
}

// VerifyFunc is the half of "verify peer" that needs the trust state: issuer, revocation, standing, sessions per node. It is
// called with a peer whose signatures, windows, mesh and identity this package has checked, but for a certificate that has
// ended: such a peer may be given RenewOnly and nothing else, which is enforced here. A code other than 0 refuses the peer.
type VerifyFunc func(p *Peer, now int64) (session.State, session.Code)

// Result is a finished handshake. The connection stands behind its last byte; no deadline is set on it.
type Result struct {
	Peer *Peer
	Keys keys.Session
	Role keys.Role
	// Static is the key this side proved, for the rekeys of this session.
	Static *Static
	// State is what Verify gave the peer; it means nothing in an enrolment.
	State session.State
	// Refused is set on the acceptor's side only: the peer is proved and unwanted. The caller sends CLOSE with this code as the
	// first record and closes; it must not use the session for anything else. Never set in an enrolment, which ends with an Error.
	Refused session.Code
	// Enroll marks a handshake of suite 0x11 and Invite names the invite whose secret the joiner knew.
	Enroll bool
	Invite identity.InviteID
}

// Gate is a generation of the group secret's handshake key. Old marks those before the previous generation, which are tried
// only within a budget.
type Gate struct {
	Generation uint64
	PSK        keys.PSK
	Old        bool
}

// messageSize returns the exact size of message 1 in a suite.
func messageSize(s keys.Suite) (int, error) {
	switch s {
	case keys.SuiteChaCha, keys.SuiteAES:
		return SizeM1, nil
	case keys.SuiteEnroll:
		return SizeEnrollM1, nil
	}
	return 0, fmt.Errorf("suite %#02x is unknown", uint8(s))
}
