package keys

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha512"
	"encoding/hex"
	"math/big"
	"testing"

	"filippo.io/edwards25519"
)

// torsion returns the eight points of small order, computed: multiples of a point that is L times some point with a torsion part.
func torsion(t *testing.T) []*edwards25519.Point {
	t.Helper()
	// y of a point of order 8, RFC 8032 notation; its decoding is checked by the number of distinct multiples below.
	b, err := hex.DecodeString("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
	if err != nil {
		t.Fatal(err)
	}
	gen, err := new(edwards25519.Point).SetBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	out := []*edwards25519.Point{edwards25519.NewIdentityPoint()}
	for p := new(edwards25519.Point).Set(gen); p.Equal(edwards25519.NewIdentityPoint()) == 0; p = new(edwards25519.Point).Add(p, gen) {
		out = append(out, p)
	}
	if len(out) != 8 {
		t.Fatalf("%d points of small order, want 8", len(out))
	}
	return out
}

func TestSmallOrderKeysRefused(t *testing.T) {
	for i, p := range torsion(t) {
		b := [32]byte(p.Bytes())
		if CheckPublicKey(b) == nil {
			t.Errorf("point %d of small order (%x) accepted", i, b)
		}
		if !weak(b) {
			t.Errorf("point %d of small order (%x) not known by its bytes", i, b)
		}
	}
}

// nonCanonical returns every encoding that decodes to a point and is not that point's encoding: y ≥ p, for the 19 values that fit in
// 255 bits, with both signs, and x = 0 with the sign set.
func nonCanonical(t *testing.T) [][32]byte {
	t.Helper()
	var out [][32]byte
	for c := 0xed; c <= 0xff; c++ {
		for _, top := range []byte{0x7f, 0xff} {
			b := [32]byte(bytes.Repeat([]byte{0xff}, 32))
			b[0], b[31] = byte(c), top
			out = append(out, b)
		}
	}
	one := [32]byte{0: 1, 31: 0x80}
	minusOne := [32]byte(bytes.Repeat([]byte{0xff}, 32))
	minusOne[0] = 0xec
	return append(out, one, minusOne)
}

func TestNonCanonicalKeysRefused(t *testing.T) {
	decoded := 0
	for _, b := range nonCanonical(t) {
		if _, err := new(edwards25519.Point).SetBytes(b[:]); err == nil {
			decoded++
		}
		if CheckPublicKey(b) == nil {
			t.Errorf("%x accepted", b)
		}
		if !weak(b) {
			t.Errorf("%x not known by its bytes", b)
		}
	}
	if decoded < 10 {
		t.Errorf("only %d of the encodings decode: the test tests nothing", decoded)
	}
}

func TestKeysOffTheCurveRefused(t *testing.T) {
	off := 0
	for c := range 32 {
		b := [32]byte{0: byte(c) + 2}
		if _, err := new(edwards25519.Point).SetBytes(b[:]); err != nil {
			off++
			if CheckPublicKey(b) == nil {
				t.Errorf("%x is on no curve and accepted", b)
			}
		}
	}
	if off == 0 {
		t.Error("no value off the curve tried")
	}
}

func TestHonestKeysAccepted(t *testing.T) {
	for range 100 {
		k := NewSigningKey()
		if err := CheckPublicKey(k.Public()); err != nil {
			t.Fatal(err)
		}
		if weak(k.Public()) {
			t.Fatalf("%x is weak", k.Public())
		}
	}
	// Near the refused ones, and fine.
	for _, b := range [][32]byte{{0: 3}, {0: 4}, {0: 0xeb, 31: 0x7f}} {
		if weak(b) {
			t.Errorf("%x is weak", b)
		}
	}
}

// forge makes a signature that verifies under every key of small order, for about one message in eight: S = 0 and R a point of small
// order. It is why such keys are refused.
func forge(t *testing.T, pub [32]byte, input func(int) []byte) (msg []byte, sig Signature) {
	t.Helper()
	for i := range 1000 {
		for _, r := range torsion(t) {
			sig = Signature{}
			copy(sig[:32], r.Bytes())
			if ed25519.Verify(pub[:], input(i), sig[:]) {
				return input(i), sig
			}
		}
	}
	t.Fatal("no forgery found")
	return nil, sig
}

func TestVerifyRefusesWeakKeys(t *testing.T) {
	order8 := torsion(t)[1]
	pub := PublicKey(order8.Bytes())
	payload := func(i int) []byte { return []byte{byte(i), byte(i >> 8)} }
	_, sig := forge(t, pub, func(i int) []byte { return signatureInput(LabelCert, MeshID{1}, payload(i)) })
	forged := 0
	for i := range 1000 {
		if ed25519.Verify(pub[:], signatureInput(LabelCert, MeshID{1}, payload(i)), sig[:]) {
			forged++
			if pub.Verify(LabelCert, MeshID{1}, payload(i), sig) {
				t.Fatalf("a forgery of payload %d verifies", i)
			}
		}
	}
	if forged == 0 {
		t.Error("no forgery tried")
	}
}

func TestVerify(t *testing.T) {
	k, m, payload := testKey(t, 1), MeshID{1}, []byte("payload")
	sig := k.Sign(LabelCert, m, payload)
	if !k.Public().Verify(LabelCert, m, payload, sig) {
		t.Fatal("own signature does not verify")
	}
	for _, l := range Labels() {
		if l != LabelCert && k.Public().Verify(l, m, payload, sig) {
			t.Errorf("verifies as %s", l)
		}
	}
	if k.Public().Verify(LabelCert, MeshID{2}, payload, sig) {
		t.Error("verifies in another mesh")
	}
	if testKey(t, 2).Public().Verify(LabelCert, m, payload, sig) {
		t.Error("verifies under another key")
	}
	for i := range payload {
		p := bytes.Clone(payload)
		p[i] ^= 1
		if k.Public().Verify(LabelCert, m, p, sig) {
			t.Errorf("verifies with byte %d changed", i)
		}
	}
	for i := range sig {
		for bit := range 8 {
			s := sig
			s[i] ^= 1 << bit
			if k.Public().Verify(LabelCert, m, payload, s) {
				t.Errorf("verifies with bit %d of byte %d of the signature changed", bit, i)
			}
		}
	}
}

// A signature has one form only: S + L verifies in implementations that do not reduce.
func TestSignatureIsNotMalleable(t *testing.T) {
	k, m := testKey(t, 1), MeshID{1}
	sig := k.Sign(LabelCert, m, []byte("x"))
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	le := make([]byte, 32)
	for i := range le {
		le[i] = sig[63-i]
	}
	sum := new(big.Int).Add(new(big.Int).SetBytes(le), order)
	be := sum.FillBytes(make([]byte, 32))
	for i := range be {
		sig[32+i] = be[31-i]
	}
	if k.Public().Verify(LabelCert, m, []byte("x"), sig) {
		t.Error("S + L verifies")
	}
}

func TestSigningKeyRoundTrip(t *testing.T) {
	k := NewSigningKey()
	again, err := SigningKeyFromSeed(k.Seed())
	if err != nil || again.Public() != k.Public() || again.NodeID() != k.NodeID() || again.NodeID().Public() != k.Public() {
		t.Errorf("%v %v", again, err)
	}
	clear(k.Seed())
	if again.Sign(LabelCert, MeshID{}, nil) != k.Sign(LabelCert, MeshID{}, nil) {
		t.Error("the seed returned is the key itself")
	}
	h := sha512.Sum512(k.Seed())
	if bytes.Contains([]byte(k.String()), h[:4]) {
		t.Error("printed")
	}
	if !ed25519.PublicKey(k.CryptoSigner().Public().(ed25519.PublicKey)).Equal(ed25519.PublicKey(seq32(k.Public()))) {
		t.Error("raw signer has another key")
	}
}
