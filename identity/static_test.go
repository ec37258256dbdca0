package identity

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"testing"
)

// TestWeakStaticKeysRefused takes every u coordinate of 256 bits that X25519 maps to a point of small order, which it shows by the result
// being zero, and those that are not canonical.
func TestWeakStaticKeysRefused(t *testing.T) {
	priv, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var list []StaticKey
	for _, k := range smallOrderU {
		high := k
		high[31] |= 0x80
		list = append(list, k, high)
	}
	for _, c := range []byte{0xed, 0xee} { // p and p + 1: 0 and 1 again
		for _, top := range []byte{0x7f, 0xff} {
			k := StaticKey(bytes.Repeat([]byte{0xff}, 32))
			k[0], k[31] = c, top
			list = append(list, k)
		}
	}
	for _, k := range list {
		pub, err := ecdh.X25519().NewPublicKey(k[:])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := priv.ECDH(pub); err == nil {
			t.Errorf("%x is not of small order: the test tests nothing", k)
		}
		if !k.weak() {
			t.Errorf("%x is not weak", k)
		}
	}
	for c := 0xef; c <= 0xff; c++ {
		k := StaticKey(bytes.Repeat([]byte{0xff}, 32))
		k[0], k[31] = byte(c), 0x7f
		if !k.weak() {
			t.Errorf("%x is canonical", k)
		}
	}
	b := smallBinding(t)
	for _, k := range list {
		b.Static = k
		if got, err := IssueBinding(b, testKey(t, 1)); err == nil || got != nil {
			t.Errorf("binding of %x", k)
		}
	}
	if !(StaticKey{0: 9, 31: 0x80}).weak() {
		t.Error("the top bit is set")
	}
}

func TestHonestStaticKeysAccepted(t *testing.T) {
	for range 100 {
		priv, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if k := StaticKey(priv.PublicKey().Bytes()); k.weak() {
			t.Errorf("%x is weak", k)
		}
	}
	for _, k := range []StaticKey{{0: 9}, {0: 0xeb, 1: 0xff, 31: 0x7f}, {0: 0xff, 31: 0x7f}} {
		if k.weak() {
			t.Errorf("%x is weak", k)
		}
	}
}
