package beacon

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sovereignmesh/meshkey/keys"
)

func TestSealAndOpenWithAnyGeneration(t *testing.T) {
	ks := generationKeys(testMesh, 1, 5, 3, 9)
	if ks.Newest() != 9 {
		t.Errorf("newest is %d", ks.Newest())
	}
	for _, g := range []uint64{1, 3, 5, 9} {
		for _, n := range []int{1, 253, 254, 255, 510, MaxEnvelope} {
			envelope := bytes.Repeat([]byte{0xa5}, n)
			d, err := generationKeys(testMesh, g).Seal(Nonce{1}, envelope, 1)
			if err != nil {
				t.Fatal(err)
			}
			if want := Overhead + (n+2+255)/256*256; len(d) != want {
				t.Errorf("an envelope of %d bytes makes a datagram of %d, want %d", n, len(d), want)
			}
			got, generation, err := ks.Open(nil, d)
			if err != nil || generation != g || !bytes.Equal(got, envelope) {
				t.Errorf("generation %d, %d bytes: %d %v", g, n, generation, err)
			}
		}
	}
}

// The layout, with nothing of this package but the constants: nonce, then the AEAD over len, envelope and zeros.
func TestDatagramLayout(t *testing.T) {
	secret, err := keys.GroupSecretFromBytes(1, bytes.Repeat([]byte{3}, 32))
	if err != nil {
		t.Fatal(err)
	}
	key := secret.BeaconKey(testMesh)
	ks, err := NewKeys(GenerationKey{1, key})
	if err != nil {
		t.Fatal(err)
	}
	d, err := ks.Seal(Nonce{1, 2, 3}, []byte("envelope"), 2)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := chacha20poly1305.NewX(key.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	plain, err := aead.Open(nil, d[:24], d[24:], []byte("meshkey/1 beacon"))
	want := append([]byte{0, 8}, "envelope"...)
	want = append(want, make([]byte, 512-len(want))...)
	if err != nil || !bytes.Equal(plain, want) || [3]byte(d[:3]) != [3]byte{1, 2, 3} {
		t.Errorf("plaintext %x, %v", plain, err)
	}
}

// What a member could seal that is not in the one valid form.
func TestPaddingIsStrict(t *testing.T) {
	ks := generationKeys(testMesh, 1)
	for name, plain := range map[string][]byte{
		"no envelope":          make([]byte, 256),
		"longer than the rest": append([]byte{0, 255}, make([]byte, 254)...),
		"a byte behind":        append([]byte{0, 1, 9, 1}, make([]byte, 252)...),
		"the last byte":        append(append([]byte{0, 1, 9}, make([]byte, 252)...), 1),
	} {
		d := ks.newestFirst[0].aead.Seal(make([]byte, nonceSize), make([]byte, nonceSize), plain, []byte(keys.BeaconAD))
		if e, g, err := ks.Open(nil, d); e != nil || g != 0 || !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %x %d %v", name, e, g, err)
		}
	}
}

func TestSealRefusesWhatDoesNotFit(t *testing.T) {
	ks := generationKeys(testMesh, 1)
	for name, f := range map[string]func() ([]byte, error){
		"empty":    func() ([]byte, error) { return ks.Seal(Nonce{}, nil, 1) },
		"too long": func() ([]byte, error) { return ks.Seal(Nonce{}, make([]byte, MaxEnvelope+1), 1) },
		"blocks":   func() ([]byte, error) { return ks.Seal(Nonce{}, []byte{1}, MaxBlocks+1) },
	} {
		if d, err := f(); d != nil || err == nil {
			t.Errorf("%s: sealed", name)
		}
	}
}

func TestNewKeysRefuses(t *testing.T) {
	secret := keys.NewGroupSecret(1)
	good := GenerationKey{1, secret.BeaconKey(testMesh)}
	for name, in := range map[string][]GenerationKey{
		"none": nil, "unset": {{Generation: 1}}, "twice": {good, good},
	} {
		if ks, err := NewKeys(in...); ks != nil || err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	var many []GenerationKey
	for g := range uint64(MaxKeys + 10) {
		many = append(many, GenerationKey{g, good.Key})
	}
	ks, err := NewKeys(many...)
	if err != nil || len(ks.newestFirst) != MaxKeys || ks.Newest() != MaxKeys+9 {
		t.Errorf("%d keys, %v", len(ks.newestFirst), err)
	}
}

// Without a key, all datagrams of one length are random: no byte is the same in all of them.
func TestOutsidersSeeNoise(t *testing.T) {
	an, err := NewAnnouncer(AnnouncerConfig{Mesh: testMesh, Node: signer(1), Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	ks := generationKeys(testMesh, 1)
	var or, and []byte
	for range 64 {
		d, _, err := an.Announce(Facts{UnicastPort: 1}, 0, ks, testTime)
		if err != nil {
			t.Fatal(err)
		}
		if or == nil {
			or, and = make([]byte, len(d)), bytes.Repeat([]byte{255}, len(d))
		}
		for i, b := range d {
			or[i] |= b
			and[i] &= b
		}
	}
	for i := range or {
		if or[i] != 255 || and[i] != 0 {
			t.Fatalf("byte %d has constant bits: %08b", i, ^or[i]|and[i])
		}
	}
}
