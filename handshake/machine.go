package handshake

import (
	"crypto/mlkem"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// The machine of a handshake: bytes in, bytes out, no I/O, no clock. Both halves are one-shot: each method is called at most once,
// in order, and after an error none. The Noise state underneath enforces it.

// initiator is the dialer's half.
type initiator struct {
	// Immutable.
	local  Local
	suite  keys.Suite
	verify verifier // but for remote
	invite identity.InviteID

	// Owned by the user.
	noise *noiseState
	kem   *mlkem.DecapsulationKey768
	ek    []byte
}

// initiate makes message 1.
//
//	-> psk, e {0x01 || flags || ek}
func initiate(d *DialConfig, suite keys.Suite, psk0 keys.PSK, invite identity.InviteID) (*initiator, []byte, error) {
	size, err := messageSize(suite)
	if err != nil {
		return nil, nil, fail(ReasonLocal, err)
	}
	n, err := newNoise(noiseConfig{
		shape: &shapeXX, suite: suite, initiator: true, psk0: psk0, static: d.Local.Static,
		prologue: keys.HandshakePrologue(suite, d.Local.Mesh, d.Responder),
	})
	if err != nil {
		return nil, nil, fail(ReasonLocal, err)
	}
	kem, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, nil, fail(ReasonLocal, err)
	}
	responder := d.Responder
	i := &initiator{
		local: d.Local, suite: suite, invite: invite, noise: n, kem: kem, ek: kem.EncapsulationKey().Bytes(),
		verify: verifier{
			mesh: d.Local.Mesh, self: d.Local.Node, dialled: &responder, enroll: suite == keys.SuiteEnroll, policy: d.Verify,
		},
	}
	m1 := append(make([]byte, 0, size), byte(suite))
	if suite == keys.SuiteEnroll {
		m1 = append(m1, invite[:]...)
	}
	if m1, err = n.write1(m1, encodeP1(make([]byte, 0, sizeP1), i.ek)); err != nil {
		return nil, nil, fail(ReasonLocal, err)
	}
	return i, m1, nil
}

// finish reads message 2, verifies the responder and makes message 3. The initiator's own identity leaves the node only if the
// responder is the one that was dialled and is wanted.
//
//	<- e, ee, s, es, psk {P2}
//	-> s, se {P3}
func (i *initiator) finish(m2 []byte, now int64) (*Result, []byte, error) {
	if len(m2) != SizeM2 {
		return nil, nil, fail(ReasonNoise, errSize)
	}
	ct, rest := m2[:kemCiphertextSize], m2[kemCiphertextSize:]
	shared, err := i.kem.Decapsulate(ct) // a forged ct gives another secret, not an error
	if err != nil {
		return nil, nil, fail(ReasonKEM, err)
	}
	psk2 := keys.KEMPSK(shared, i.ek, ct)
	clear(shared)
	i.kem = nil
	p2, err := i.noise.read2(psk2, make([]byte, 0, sizePayload), rest)
	if err != nil {
		return nil, nil, fail(ReasonNoise, err)
	}
	if i.verify.remote, err = i.noise.peerStatic(); err != nil {
		return nil, nil, fail(ReasonNoise, err)
	}
	peer, state, code, err := i.verify.verify(p2, now)
	if err != nil {
		return nil, nil, err
	}
	if code != 0 {
		return nil, nil, &Error{Reason: ReasonRefused, Code: code, Peer: peer}
	}

	p3, err := i.local.payload(make([]byte, 0, sizePayload), now)
	if err != nil {
		return nil, nil, fail(ReasonLocal, err)
	}
	m3, err := i.noise.write3(make([]byte, 0, SizeM3), p3)
	if err != nil {
		return nil, nil, fail(ReasonNoise, err)
	}
	session, err := i.noise.finish(0)
	if err != nil {
		return nil, nil, fail(ReasonNoise, err)
	}
	return &Result{
		Peer: peer, Keys: session, Role: keys.RoleDialer, Static: i.local.Static, State: state,
		Enroll: i.suite == keys.SuiteEnroll, Invite: i.invite,
	}, m3, nil
}

// responder is the acceptor's half, made by opening message 1.
type responder struct {
	// Immutable.
	local  *Local
	suite  keys.Suite
	verify verifier // but for remote
	invite identity.InviteID

	// Owned by the user.
	noise *noiseState
	p1    []byte
}

// openM1 tries one gate on message 1, without its suite byte and invite id. It costs a few hashes and one AEAD: an outsider
// never makes this node do any DH. p1 is appended to scratch.
func openM1(local *Local, suite keys.Suite, psk0 keys.PSK, m1, scratch []byte) (*responder, error) {
	n, err := newNoise(noiseConfig{
		shape: &shapeXX, suite: suite, psk0: psk0, static: local.Static,
		prologue: keys.HandshakePrologue(suite, local.Mesh, local.Node),
	})
	if err != nil {
		return nil, err
	}
	p1, err := n.read1(scratch, m1)
	if err != nil {
		return nil, err
	}
	return &responder{
		local: local, suite: suite, noise: n, p1: p1,
		verify: verifier{
			mesh: local.Mesh, self: local.Node, enroll: suite == keys.SuiteEnroll, joiner: suite == keys.SuiteEnroll,
		},
	}, nil
}

// encapsulationKey is step 6: it checks P1 but for the key's content.
func (r *responder) encapsulationKey() ([]byte, error) {
	ek, err := decodeP1(r.p1)
	if err != nil {
		return nil, fail(ReasonP1, err)
	}
	return ek, nil
}

// answer appends message 2 to out: the ciphertext in clear, bound to everything that follows by psk2.
//
//	<- ct, e, ee, s, es, psk {P2}
func (r *responder) answer(out, ek []byte, now int64) ([]byte, error) {
	kem, err := mlkem.NewEncapsulationKey768(ek)
	if err != nil {
		return nil, fail(ReasonKEM, err)
	}
	shared, ct := kem.Encapsulate()
	psk2 := keys.KEMPSK(shared, ek, ct)
	clear(shared)
	p2, err := r.local.payload(make([]byte, 0, sizePayload), now)
	if err != nil {
		return nil, fail(ReasonLocal, err)
	}
	out, err = r.noise.write2(psk2, append(out, ct...), p2)
	if err != nil {
		return nil, fail(ReasonNoise, err)
	}
	return out, nil
}

// finish reads message 3 and verifies the initiator.
//
//	-> s, se {P3}
func (r *responder) finish(m3 []byte, policy VerifyFunc, now int64) (*Result, error) {
	p3, err := r.noise.read3(make([]byte, 0, sizePayload), m3)
	if err != nil {
		return nil, fail(ReasonNoise, err)
	}
	if r.verify.remote, err = r.noise.peerStatic(); err != nil {
		return nil, fail(ReasonNoise, err)
	}
	r.verify.policy = policy
	peer, state, code, err := r.verify.verify(p3, now)
	if err != nil {
		return nil, err
	}
	if code != 0 && r.verify.enroll { // no session to say it in: a joiner has proved nothing but an invite and a new key
		return nil, &Error{Reason: ReasonRefused, Code: code, Peer: peer}
	}
	session, err := r.noise.finish(0)
	if err != nil {
		return nil, fail(ReasonNoise, err)
	}
	return &Result{
		Peer: peer, Keys: session, Role: keys.RoleAcceptor, Static: r.local.Static, State: state, Refused: code,
		Enroll: r.suite == keys.SuiteEnroll, Invite: r.invite,
	}, nil
}
