package handshake

import (
	"crypto/mlkem"
	"errors"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// The first byte of a rekey message, inside the session's own encryption.
const (
	stepR1 = 0x01
	stepR2 = 0x02
	stepR3 = 0x03
)

// errRekey is every failure of a rekey: the session has to end, and the peer is told nothing.
var errRekey = errors.New("rekey failed")

// RekeyConfig is one session whose keys are replaced. Both static keys are those proved at its handshake.
type RekeyConfig struct {
	Mesh    keys.MeshID
	Static  *Static
	Peer    identity.StaticKey
	Current keys.Session
}

// start begins the Noise handshake of generation g+1.
func (c *RekeyConfig) start(initiator bool) (*noiseState, error) {
	if c.Current.Generation == ^uint64(0) {
		return nil, errors.New("generations are used up")
	}
	return newNoise(noiseConfig{
		shape: &shapeKK, suite: c.Current.Suite, initiator: initiator, static: c.Static, peer: &c.Peer,
		psk0:     c.Current.Exporter.RekeyPSK(c.Current.Hash),
		prologue: keys.RekeyPrologue(c.Mesh, c.Current.Hash, c.Current.Generation+1),
	})
}

// RekeyDialer is the half of the session's dialer, which alone starts a rekey. It is one-shot: any error ends the session.
type RekeyDialer struct {
	// Immutable.
	next uint64
	ek   []byte

	// Owned by the user.
	noise *noiseState
	kem   *mlkem.DecapsulationKey768
}

// NewRekey makes R1, to be sent as a rekey record under the current key.
//
//	-> psk, e, es, ss {ek}
func NewRekey(c RekeyConfig) (d *RekeyDialer, r1 []byte, err error) {
	n, err := c.start(true)
	if err != nil {
		return nil, nil, errors.Join(errRekey, err)
	}
	kem, err := mlkem.GenerateKey768()
	if err != nil {
		return nil, nil, errors.Join(errRekey, err)
	}
	d = &RekeyDialer{next: c.Current.Generation + 1, ek: kem.EncapsulationKey().Bytes(), noise: n, kem: kem}
	r1, err = n.write1(append(make([]byte, 0, SizeR1), stepR1), d.ek)
	if err != nil {
		return nil, nil, errors.Join(errRekey, err)
	}
	return d, r1, nil
}

// ReadR2 reads the answer and returns the next generation's keys, and R3 to be sent as the last record under the current key of
// this direction. The caller receives under the new keys from here on, and sends under them after R3.
//
//	<- ct, e, ee, se, psk {}
func (d *RekeyDialer) ReadR2(r2 []byte) (next keys.Session, r3 []byte, err error) {
	kem := d.kem
	d.kem = nil
	if kem == nil || len(r2) != SizeR2 || r2[0] != stepR2 {
		d.noise.kill(errDone)
		return keys.Session{}, nil, errRekey
	}
	ct, rest := r2[1:1+kemCiphertextSize], r2[1+kemCiphertextSize:]
	shared, err := kem.Decapsulate(ct)
	if err != nil {
		return keys.Session{}, nil, errors.Join(errRekey, err)
	}
	psk2 := keys.KEMPSK(shared, d.ek, ct)
	clear(shared)
	if _, err := d.noise.read2(psk2, nil, rest); err != nil {
		return keys.Session{}, nil, errors.Join(errRekey, err)
	}
	next, err = d.noise.finish(d.next)
	if err != nil {
		return keys.Session{}, nil, errors.Join(errRekey, err)
	}
	return next, []byte{stepR3}, nil
}

// RekeyAcceptor is the half of the session's acceptor, made by reading R1.
type RekeyAcceptor struct {
	// Owned by the user.
	next keys.Session
	done bool
}

// AnswerRekey reads R1 and makes R2, to be sent as the last record under the current key of this direction. The caller sends under
// the new keys after it.
func AnswerRekey(c RekeyConfig, r1 []byte) (a *RekeyAcceptor, r2 []byte, err error) {
	if len(r1) == 0 || r1[0] != stepR1 { // of its size the Noise state is the judge
		return nil, nil, errRekey
	}
	n, err := c.start(false)
	if err != nil {
		return nil, nil, errors.Join(errRekey, err)
	}
	ek, err := n.read1(nil, r1[1:])
	if err != nil {
		return nil, nil, errors.Join(errRekey, err)
	}
	kem, err := mlkem.NewEncapsulationKey768(ek)
	if err != nil {
		return nil, nil, errors.Join(errRekey, err)
	}
	shared, ct := kem.Encapsulate()
	psk2 := keys.KEMPSK(shared, ek, ct)
	clear(shared)
	r2 = append(append(make([]byte, 0, SizeR2), stepR2), ct...)
	if r2, err = n.write2(psk2, r2, nil); err != nil {
		return nil, nil, errors.Join(errRekey, err)
	}
	a = &RekeyAcceptor{}
	if a.next, err = n.finish(c.Current.Generation + 1); err != nil {
		return nil, nil, errors.Join(errRekey, err)
	}
	return a, r2, nil
}

// Next returns the next generation before R3 has come, for the tags of streams the dialer may open under it at once.
func (a *RekeyAcceptor) Next() keys.Session { return a.next }

// ReadR3 reads the end of the rekey, the last record under the current key of the other direction. From here on the caller
// receives under the new keys, too.
func (a *RekeyAcceptor) ReadR3(r3 []byte) (keys.Session, error) {
	if a.done || len(r3) != SizeR3 || r3[0] != stepR3 {
		a.done = true
		return keys.Session{}, errRekey
	}
	a.done = true
	return a.next, nil
}
