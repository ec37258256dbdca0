package identity

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"filippo.io/edwards25519"

	"github.com/sovereignmesh/meshkey/keys"
)

// seq is the pattern of the vectors: 32 bytes counting up.
func seq(first byte) [32]byte {
	var b [32]byte
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func testKey(t testing.TB, first byte) *keys.SigningKey {
	t.Helper()
	seed := seq(first)
	k, err := keys.SigningKeyFromSeed(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var testMesh = keys.MeshID(seq(0))

// weakKeys are the eight points of small order and some encodings that are not canonical.
func weakKeys(t testing.TB) [][32]byte {
	t.Helper()
	var out [][32]byte
	b, err := hex.DecodeString("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
	if err != nil {
		t.Fatal(err)
	}
	gen, err := new(edwards25519.Point).SetBytes(b)
	if err != nil {
		t.Fatal(err)
	}
	p := edwards25519.NewIdentityPoint()
	for range 8 {
		out = append(out, [32]byte(p.Bytes()))
		p = new(edwards25519.Point).Add(p, gen)
	}
	for c := 0xed; c <= 0xff; c++ {
		b := [32]byte(bytes.Repeat([]byte{0xff}, 32))
		b[0], b[31] = byte(c), 0x7f
		out = append(out, b)
	}
	return append(out, [32]byte{0: 1, 31: 0x80})
}

func vectors(t testing.TB) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]string
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// longTags are tags at every bound at once: 16 of them, 256 bytes together, with as many two-byte length headers as can be.
func longTags() []string {
	var tags []string
	for i := range 15 {
		n := 23
		if i >= 10 {
			n = 2
		}
		tags = append(tags, string(rune('a'+i))+strings.Repeat("x", n))
	}
	return append(tags, "z")
}

func smallCert(t testing.TB) Certificate {
	return Certificate{
		Mesh: testMesh, Node: testKey(t, 1).NodeID(), Serial: 1, Issuer: testKey(t, 2).Public(), NotBefore: 1700000000, NotAfter: 1707776000,
		Tags: []string{}, Name: "gpu1",
	}
}

func largeCert(t testing.TB) Certificate {
	return Certificate{
		Mesh: testMesh, Node: testKey(t, 1).NodeID(), Serial: 1<<64 - 1, Issuer: testKey(t, 2).Public(), NotBefore: MaxTime - 1, NotAfter: MaxTime,
		Tags: longTags(), Name: strings.Repeat("n", MaxName), RenewUntil: MaxTime,
	}
}

func smallBinding(t testing.TB) Binding {
	boot := seq(0x77)
	return Binding{
		Mesh: testMesh, Node: testKey(t, 1).NodeID(), Static: StaticKey(seq(9)), NotBefore: 1700000000, NotAfter: 1700086400, Boot: BootID(boot[:16]),
	}
}

func smallCSR(t testing.TB) CSR {
	return CSR{Mesh: testMesh, Node: testKey(t, 1).NodeID(), Name: "gpu1", Tags: []string{"gpu", "lab"}, Nonce: keys.Hash(seq(0x40))}
}

func smallInvite(t testing.TB) *Invite {
	secret := seq(0x20)
	s, err := keys.InviteSecretFromBytes(secret[:])
	if err != nil {
		t.Fatal(err)
	}
	id := seq(0xe0)
	return &Invite{
		Mesh: testMesh, ID: InviteID(id[:8]), Secret: s, RootVersion: 3, RootHash: keys.Hash(seq(0x40)),
		Heads: []IssuerHead{
			{Issuer: testKey(t, 1).Public(), Seq: 12, Hash: keys.Hash(seq(0x40))}, {Issuer: testKey(t, 2).Public(), Seq: 12, Hash: keys.Hash(seq(0x40))},
		},
		Endpoints: []Endpoint{
			{IP: []byte{192, 168, 1, 5}, Port: 7477}, {IP: append([]byte{0xfd, 15: 5}[:16:16], nil...), Port: 7477},
		},
		IssuerNode: testKey(t, 1).NodeID(), Expiry: 1700003600, Name: "gpu1",
	}
}
