package keys

import (
	"crypto/hpke"
	"encoding/hex"
	"errors"
	"fmt"
)

// KindRequest is the key that opens the answer to a request in a file; it is removed when the answer has been taken.
const KindRequest KeyKind = "request"

// RequestPublicSize is the length of a RequestPublic: an ML-KEM-768 encapsulation key and an X25519 key.
const RequestPublicSize = 1216

// requestEncapsulation is the length of what opens a sealed answer: an ML-KEM-768 ciphertext and an X25519 key.
const requestEncapsulation = 1120

// ErrSealed means that sealed bytes do not open: another key, another request, or changed on the way.
var ErrSealed = errors.New("does not open with this machine's request key")

// RequestKey is an HPKE private key (RFC 9180, KEM MLKEM768-X25519): what is sealed to its public half can be carried by anybody.
type RequestKey struct{ secret }

// RequestPublic is the public half of a RequestKey.
type RequestPublic [RequestPublicSize]byte

// NewRequestKey makes a fresh key.
func NewRequestKey() RequestKey {
	k, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		panic(err) // only without randomness, which crypto/rand does not survive either
	}
	b, err := k.Bytes()
	if err != nil {
		panic(err)
	}
	return RequestKey{newSecret(b)}
}

func (k RequestKey) private() (hpke.PrivateKey, error) {
	return hpke.MLKEM768X25519().NewPrivateKey(k.Bytes())
}

// Public returns the public half.
func (k RequestKey) Public() (RequestPublic, error) {
	p, err := k.private()
	if err != nil {
		return RequestPublic{}, err
	}
	return RequestPublic(p.PublicKey().Bytes()), nil
}

// Commitment is the nonce of the request that asks for an answer to this key: H("meshkey/1 csr-key" || key). The request's signature
// and words cover it, so nobody on the way can put a key of their own in its place.
func (p RequestPublic) Commitment() Hash { return Sum([]byte(infoCSRKey), p[:]) }

// responseInfo binds a sealed answer to one request of one mesh.
func responseInfo(m MeshID, request Hash) []byte {
	b := append([]byte(infoResponse), 0)
	b = append(b, m[:]...)
	return append(b, request[:]...)
}

// Sealer seals the parts of one answer, in order.
type Sealer struct{ s *hpke.Sender }

// NewSealer begins an answer to the request with this id; encapsulation goes in front of it.
func (p RequestPublic) NewSealer(m MeshID, request Hash) (encapsulation []byte, s *Sealer, err error) {
	pub, err := hpke.MLKEM768X25519().NewPublicKey(p[:])
	if err != nil {
		return nil, nil, fmt.Errorf("the request's key: %w", err)
	}
	enc, sender, err := hpke.NewSender(pub, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), responseInfo(m, request))
	if err != nil {
		return nil, nil, fmt.Errorf("the request's key: %w", err)
	}
	return enc, &Sealer{sender}, nil
}

// Seal seals the next part. ad is authenticated with it.
func (s *Sealer) Seal(ad, plain []byte) ([]byte, error) { return s.s.Seal(ad, plain) }

// Opener opens the parts of one answer, in the order they were sealed in.
type Opener struct{ r *hpke.Recipient }

// NewOpener begins to open the answer to the request with this id. It returns the length of the encapsulation it took.
func (k RequestKey) NewOpener(m MeshID, request Hash, sealed []byte) (*Opener, int, error) {
	priv, err := k.private()
	if err != nil {
		return nil, 0, err
	}
	if len(sealed) < requestEncapsulation {
		return nil, 0, ErrSealed
	}
	r, err := hpke.NewRecipient(sealed[:requestEncapsulation], priv, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), responseInfo(m, request))
	if err != nil {
		return nil, 0, ErrSealed
	}
	return &Opener{r}, requestEncapsulation, nil
}

// Open opens the next part. Any error is final.
func (o *Opener) Open(ad, sealed []byte) ([]byte, error) {
	b, err := o.r.Open(ad, sealed)
	if err != nil {
		return nil, ErrSealed
	}
	return b, nil
}

// RequestMaterial is what is sealed for a request key.
func RequestMaterial(m MeshID, k RequestKey) KeyMaterial {
	return KeyMaterial{Kind: KindRequest, Mesh: m, secret: newSecret(k.Bytes())}
}

// RequestKey returns the key of a request file.
func (k KeyMaterial) RequestKey() (RequestKey, error) {
	if k.Kind != KindRequest {
		return RequestKey{}, fmt.Errorf("%w: a %s key opens no answer", ErrOtherKey, k.Kind)
	}
	return RequestKey{newSecret(k.secret.Bytes())}, nil
}

// ParseMeshID reads a mesh id: 64 hexadecimal digits.
func ParseMeshID(s string) (MeshID, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(MeshID{}) || MeshID(b).IsZero() {
		return MeshID{}, errors.New("a mesh id is 64 hexadecimal digits; meshkey status --json shows it")
	}
	return MeshID(b), nil
}
