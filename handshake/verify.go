package handshake

import (
	"crypto/subtle"
	"errors"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// verifier is "verify peer" of one handshake.
type verifier struct {
	mesh   keys.MeshID
	self   keys.NodeID
	remote identity.StaticKey // proved by the handshake
	// dialled is the id a dialer wants; nil on the acceptor's side.
	dialled *keys.NodeID
	// enroll: suite 0x11, where no policy is asked: the issuer's transaction, or the joiner once it has the roots, decides.
	enroll bool
	// joiner: the peer is the one that enrols and has no certificate yet.
	joiner bool
	// old: the peer came through an old gate.
	old    bool
	policy VerifyFunc
}

// verify decides about the peer that sent the plaintext P2 or P3. A code means that the peer is who it says and is refused; an
// error, always an *Error, that it is not even that.
func (v *verifier) verify(plaintext []byte, now int64) (*Peer, session.State, session.Code, error) {
	p, err := decodePayload(plaintext)
	if err != nil {
		return nil, 0, 0, fail(ReasonPayload, err)
	}
	peer, err := v.identify(p)
	if err != nil {
		return nil, 0, 0, err
	}
	state, code := v.admit(peer, now)
	return peer, state, code, nil
}

// identify checks everything that needs no clock and no trust state: who the peer is.
func (v *verifier) identify(p *payload) (*Peer, error) {
	// The binding: signed by the node it names, in this mesh, for the key that was proved.
	binding, err := identity.ParseBinding(p.Binding, v.mesh)
	if err != nil {
		return nil, fail(ReasonBinding, err)
	}
	if subtle.ConstantTimeCompare(binding.Static[:], v.remote[:]) != 1 {
		return nil, fail(ReasonStatic, errors.New("binding is for another static key"))
	}

	// The certificate: of this mesh, signed by the issuer it names, for the same node. A joiner must not have one.
	cert, err := v.certificate(p.Certificate)
	if err != nil {
		return nil, fail(ReasonCertificate, err)
	}
	if cert != nil && cert.Node != binding.Node {
		return nil, fail(ReasonOtherNode, errors.New("certificate and binding name different nodes"))
	}

	if binding.Node == v.self {
		return nil, fail(ReasonSelf, errors.New("peer is this node itself"))
	}
	if v.dialled != nil && binding.Node != *v.dialled {
		return nil, fail(ReasonNotDialled, errors.New("peer is another node than the one dialled"))
	}
	return &Peer{
		Node: binding.Node, Static: v.remote, Certificate: cert, Binding: binding, RootVersion: p.RootVersion, Digest: p.Digest,
		GroupGen: p.GroupGen, Flags: p.Flags, Time: p.Time, ConnSeq: p.ConnSeq, Features: p.Features, OldGeneration: v.old,
	}, nil
}

func (v *verifier) certificate(raw []byte) (*identity.SignedCertificate, error) {
	if v.joiner {
		if len(raw) != 0 {
			return nil, errors.New("certificate in an enrolment")
		}
		return nil, nil
	}
	return identity.ParseCertificate(raw, v.mesh)
}

// admit checks the windows, then asks the policy, and never gives more than the windows allow.
func (v *verifier) admit(p *Peer, now int64) (session.State, session.Code) {
	if !p.Binding.InForce(now) {
		return 0, session.CodeExpired
	}
	expired := false
	if p.Certificate != nil {
		if now < p.Certificate.NotBefore-identity.ClockSlack {
			return 0, session.CodeExpired
		}
		expired = now >= p.Certificate.NotAfter
	}
	switch {
	case v.enroll && expired:
		return 0, session.CodeExpired
	case v.enroll:
		return session.Restricted, 0
	case v.policy == nil:
		return 0, session.CodeNotAdmitted
	}
	state, code := v.policy(p, now)
	switch {
	case code != 0:
		return 0, code
	case expired && state != session.RenewOnly:
		return 0, session.CodeExpired
	}
	switch state {
	case session.SyncOnly, session.Restricted, session.RenewOnly, session.Full:
		return state, 0
	}
	return 0, session.CodeNotAdmitted // no state a session can begin in: fail closed
}
