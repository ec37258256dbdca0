package handshake

import (
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/flynn/noise"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// This file is the only importer of the Noise library and exists to take away every way of using it wrongly:
//
//   - a responder of the library whose PSK was never set accepts an attacker's empty one, and an empty PSK at placement 0 means
//     no PSK at all: here a PSK is an argument of the calls that mix it, of a type that knows whether it is set;
//   - the library does not check sizes: here each message and payload has exactly one length, checked before it sees a byte;
//   - a failed read rolls back only in part: here the first error is final;
//   - private keys are raw bytes to it, whose public half it computes again in each DH: here it gets handles.

// shape is one handshake pattern with the exact payload and message sizes of this protocol.
type shape struct {
	pattern  noise.HandshakePattern
	payloads []int
	messages []int
}

// The library appends the psk token of placement 2, and "psk2" to the name; psk0 and its half of the name are written here.
// Every inner slice has exactly its length as capacity, as composite literals do, so that the library's append copies and two
// handshakes never share memory. None of this is ever written to.
var (
	// XXpsk0+psk2:  -> psk, e   <- e, ee, s, es, psk   -> s, se
	shapeXX = shape{
		pattern: noise.HandshakePattern{
			Name: "XXpsk0+",
			Messages: [][]noise.MessagePattern{
				{noise.MessagePatternPSK, noise.MessagePatternE},
				{noise.MessagePatternE, noise.MessagePatternDHEE, noise.MessagePatternS, noise.MessagePatternDHES},
				{noise.MessagePatternS, noise.MessagePatternDHSE},
			},
		},
		payloads: []int{sizeP1, sizePayload, sizePayload},
		messages: []int{dhSize + sizeP1 + tagSize, SizeM2 - kemCiphertextSize, SizeM3},
	}
	// KKpsk0+psk2:  -> s   <- s   ...   -> psk, e, es, ss   <- e, ee, se, psk
	shapeKK = shape{
		pattern: noise.HandshakePattern{
			Name:                 "KKpsk0+",
			InitiatorPreMessages: []noise.MessagePattern{noise.MessagePatternS},
			ResponderPreMessages: []noise.MessagePattern{noise.MessagePatternS},
			Messages: [][]noise.MessagePattern{
				{noise.MessagePatternPSK, noise.MessagePatternE, noise.MessagePatternDHES, noise.MessagePatternDHSS},
				{noise.MessagePatternE, noise.MessagePatternDHEE, noise.MessagePatternDHSE},
			},
		},
		payloads: []int{kemKeySize, 0},
		messages: []int{dhSize + kemKeySize + tagSize, dhSize + tagSize},
	}
)

var (
	errUnset   = fmt.Errorf("pre-shared key: %w", keys.ErrUnset)
	errSize    = errors.New("message or payload does not have its one size")
	errOrder   = errors.New("handshake message out of order")
	errDone    = errors.New("handshake already failed or was used up")
	errPattern = errors.New("handshake is not complete")
)

// noiseState is one Noise handshake. It is one-shot: the first error, and the end, are final. One goroutine uses it.
type noiseState struct {
	// Immutable.
	shape     *shape
	suite     keys.Suite
	initiator bool
	dh        *dhKeys

	// Owned by the user.
	hs     *noise.HandshakeState
	next   int  // index of the next message
	dead   bool // failed, or its keys were taken
	k1, k2 *noise.CipherState
}

// noiseConfig names what a handshake is made of; all fields but peer are required.
type noiseConfig struct {
	shape     *shape
	suite     keys.Suite
	initiator bool
	prologue  []byte
	psk0      keys.PSK
	static    *Static
	peer      *identity.StaticKey // KK only: known beforehand
}

func newNoise(c noiseConfig) (*noiseState, error) {
	if !c.psk0.IsSet() {
		return nil, errUnset
	}
	if c.static == nil {
		return nil, errors.New("no static key")
	}
	aead, hash, ok := primitives(c.suite)
	if !ok {
		return nil, fmt.Errorf("suite %#02x is unknown", uint8(c.suite))
	}
	dh := &dhKeys{static: c.static.priv}
	cfg := noise.Config{
		CipherSuite:           noise.NewCipherSuite(dh, aead, hash),
		Pattern:               c.shape.pattern,
		Initiator:             c.initiator,
		Prologue:              c.prologue,
		PresharedKey:          c.psk0.Bytes(),
		PresharedKeyPlacement: 2,
		StaticKeypair:         noise.DHKey{Private: []byte{handleStatic}, Public: c.static.priv.PublicKey().Bytes()},
	}
	if c.peer != nil {
		cfg.PeerStatic = append([]byte(nil), c.peer[:]...)
	}
	hs, err := noise.NewHandshakeState(cfg)
	if err != nil {
		return nil, err
	}
	return &noiseState{shape: c.shape, suite: c.suite, initiator: c.initiator, dh: dh, hs: hs}, nil
}

// primitives maps a suite to what it is made of. No suite lacks ML-KEM, so there is no classical downgrade.
func primitives(s keys.Suite) (noise.CipherFunc, noise.HashFunc, bool) {
	switch s {
	case keys.SuiteChaCha, keys.SuiteEnroll:
		return noise.CipherChaChaPoly, noise.HashBLAKE2s, true
	case keys.SuiteAES:
		return noise.CipherAESGCM, noise.HashSHA256, true
	}
	return nil, nil, false
}

// write1 appends message 1 to out.
func (n *noiseState) write1(out, payload []byte) ([]byte, error) { return n.write(0, out, payload) }

// read1 opens message 1 and appends its payload to out.
func (n *noiseState) read1(out, message []byte) ([]byte, error) { return n.read(0, out, message) }

// write2 appends message 2 to out; psk2 is mixed into it.
func (n *noiseState) write2(psk2 keys.PSK, out, payload []byte) ([]byte, error) {
	if err := n.setPSK(psk2); err != nil {
		return nil, err
	}
	return n.write(1, out, payload)
}

// read2 opens message 2, into which psk2 must have been mixed, and appends its payload to out.
func (n *noiseState) read2(psk2 keys.PSK, out, message []byte) ([]byte, error) {
	if err := n.setPSK(psk2); err != nil {
		return nil, err
	}
	return n.read(1, out, message)
}

// write3 appends message 3 to out.
func (n *noiseState) write3(out, payload []byte) ([]byte, error) { return n.write(2, out, payload) }

// read3 opens message 3 and appends its payload to out.
func (n *noiseState) read3(out, message []byte) ([]byte, error) { return n.read(2, out, message) }

// setPSK replaces psk0, which message 1 has consumed, by psk2.
func (n *noiseState) setPSK(psk2 keys.PSK) error {
	switch {
	case n.dead:
		return errDone
	case !psk2.IsSet():
		return n.kill(errUnset)
	case n.next != 1:
		return n.kill(errOrder)
	}
	if err := n.hs.SetPresharedKey(psk2.Bytes()); err != nil {
		return n.kill(err)
	}
	return nil
}

func (n *noiseState) write(index int, out, payload []byte) ([]byte, error) {
	if err := n.enter(index, len(payload), n.shape.payloads); err != nil {
		return nil, err
	}
	start := len(out)
	out, k1, k2, err := n.hs.WriteMessage(out, payload)
	if err != nil {
		return nil, n.kill(err)
	}
	if len(out)-start != n.shape.messages[index] {
		return nil, n.kill(errSize)
	}
	n.k1, n.k2 = k1, k2
	n.next++
	return out, nil
}

func (n *noiseState) read(index int, out, message []byte) ([]byte, error) {
	if err := n.enter(index, len(message), n.shape.messages); err != nil {
		return nil, err
	}
	start := len(out)
	out, k1, k2, err := n.hs.ReadMessage(out, message)
	if err != nil {
		return nil, n.kill(err)
	}
	if len(out)-start != n.shape.payloads[index] {
		return nil, n.kill(errSize)
	}
	n.k1, n.k2 = k1, k2
	n.next++
	return out, nil
}

// enter checks order and size before the library sees anything. The library itself refuses a read where a write is due.
func (n *noiseState) enter(index, size int, sizes []int) error {
	switch {
	case n.dead:
		return errDone
	case index != n.next || index >= len(sizes):
		return n.kill(errOrder)
	case size != sizes[index]:
		return n.kill(errSize)
	}
	return nil
}

// kill makes an error final and lets go of the state.
func (n *noiseState) kill(err error) error {
	n.dead = true
	n.hs, n.dh, n.k1, n.k2 = nil, nil, nil, nil
	return err
}

// peerStatic returns the static key the peer has proved. It is only to be called once the message with the DH of it was read.
func (n *noiseState) peerStatic() (identity.StaticKey, error) {
	if n.dead {
		return identity.StaticKey{}, errDone
	}
	b := n.hs.PeerStatic()
	if len(b) != dhSize {
		return identity.StaticKey{}, n.kill(errPattern)
	}
	return identity.StaticKey(b), nil
}

// finish splits off the session's keys, once.
func (n *noiseState) finish(generation uint64) (keys.Session, error) {
	switch {
	case n.dead:
		return keys.Session{}, errDone
	case n.next != len(n.shape.messages) || n.k1 == nil || n.k2 == nil:
		return keys.Session{}, n.kill(errPattern)
	}
	binding := n.hs.ChannelBinding() // the library's own memory: copied by the conversion
	if len(binding) != len(keys.Hash{}) {
		return keys.Session{}, n.kill(errPattern)
	}
	h := keys.Hash(binding)
	b1, b2 := n.k1.UnsafeKey(), n.k2.UnsafeKey()
	k1, k2 := keys.TrafficKeyFromBytes(b1[:]), keys.TrafficKeyFromBytes(b2[:])
	clear(b1[:])
	clear(b2[:])
	n.kill(nil)
	return keys.NewSession(n.suite, generation, k1, k2, h), nil
}

// Handles stand for the private keys inside the library, which only passes them back to dhKeys.DH.
const (
	handleStatic    = 1
	handleEphemeral = 2
)

// dhKeys is the X25519 of one handshake. It keeps the parsed private keys: the library's own function would parse them, and
// compute their public halves, again for each of the three or four DH.
type dhKeys struct {
	static    *ecdh.PrivateKey
	ephemeral *ecdh.PrivateKey
	// generate makes the ephemeral key; nil is a fresh random one. Tests with published vectors set it.
	generate func() (*ecdh.PrivateKey, error)
}

// GenerateKeypair makes the one ephemeral key of this handshake.
func (d *dhKeys) GenerateKeypair(io.Reader) (noise.DHKey, error) {
	if d.ephemeral != nil {
		return noise.DHKey{}, errors.New("second ephemeral key in one handshake")
	}
	generate := d.generate
	if generate == nil {
		generate = func() (*ecdh.PrivateKey, error) { return ecdh.X25519().GenerateKey(rand.Reader) }
	}
	k, err := generate()
	if err != nil {
		return noise.DHKey{}, err
	}
	d.ephemeral = k
	return noise.DHKey{Private: []byte{handleEphemeral}, Public: k.PublicKey().Bytes()}, nil
}

// DH multiplies the key behind a handle with a peer's public key. Points of small order give an error.
func (d *dhKeys) DH(handle, public []byte) ([]byte, error) {
	var k *ecdh.PrivateKey
	if len(handle) == 1 {
		switch handle[0] {
		case handleStatic:
			k = d.static
		case handleEphemeral:
			k = d.ephemeral
		}
	}
	if k == nil {
		return nil, errors.New("no such private key")
	}
	p, err := ecdh.X25519().NewPublicKey(public)
	if err != nil {
		return nil, err
	}
	return k.ECDH(p)
}

// DHLen is the size of a key and of a result.
func (*dhKeys) DHLen() int { return dhSize }

// DHName is the name in the Noise protocol's name.
func (*dhKeys) DHName() string { return "25519" }
