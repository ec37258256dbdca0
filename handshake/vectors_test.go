package handshake

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"
	"testing/cryptotest"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// hexBytes is written as hexadecimal.
type hexBytes []byte

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

// vectorEnd is the private side of one node.
type vectorEnd struct {
	Seed           hexBytes `json:"node_seed"`
	Static         hexBytes `json:"static"`
	Ephemeral      hexBytes `json:"ephemeral"`
	RekeyEphemeral hexBytes `json:"rekey_ephemeral,omitempty"` // the dialer's; a reader of R2 needs no more
	Payload        hexBytes `json:"payload"`                   // P2 or P3
}

// vectorKeys is what a handshake or a rekey comes to.
type vectorKeys struct {
	K1       hexBytes `json:"k1"`
	K2       hexBytes `json:"k2"`
	Hash     hexBytes `json:"hash"`
	Exporter hexBytes `json:"exporter"`
}

// vector is one handshake and one rekey after it, with everything a second implementation needs to make the same bytes. ct is the
// beginning of M2 and of R2 behind its first byte: encapsulation is checked by decapsulating.
type vector struct {
	Suite        uint8      `json:"suite"`
	Mesh         hexBytes   `json:"mesh_id"`
	Secret       hexBytes   `json:"group_or_invite_secret"`
	Invite       hexBytes   `json:"invite_id,omitempty"`
	Dialer       vectorEnd  `json:"dialer"`
	Acceptor     vectorEnd  `json:"acceptor"`
	KEMSeed      hexBytes   `json:"kem_seed"` // d || z of FIPS 203
	RekeyKEMSeed hexBytes   `json:"rekey_kem_seed"`
	M1           hexBytes   `json:"m1"`
	M2           hexBytes   `json:"m2"`
	M3           hexBytes   `json:"m3"`
	Keys         vectorKeys `json:"keys"`
	R1           hexBytes   `json:"r1"`
	R2           hexBytes   `json:"r2"`
	R3           hexBytes   `json:"r3"`
	RekeyKeys    vectorKeys `json:"rekey_keys"`
}

func keysOf(s keys.Session) vectorKeys {
	return vectorKeys{K1: s.K1.Bytes(), K2: s.K2.Bytes(), Hash: s.Hash[:], Exporter: s.Exporter.Bytes()}
}

// makeVector plays one handshake and one rekey with deterministic randomness and writes down everything.
func makeVector(t *testing.T, suite keys.Suite) vector {
	t.Helper()
	cryptotest.SetGlobalRandom(t, uint64(suite))
	w := newWorld("vectors")
	d, a := w.member("dialer"), w.member("acceptor")
	psk0, secret, invite := w.gate(), w.group.Bytes(), identity.InviteID{}
	if suite == keys.SuiteEnroll {
		s := keys.NewInviteSecret()
		psk0, secret, invite = s.PSK(w.mesh), s.Bytes(), identity.NewInviteID()
		d.local.Certificate = nil
	}
	v := vector{Suite: uint8(suite), Mesh: w.mesh[:], Secret: secret}

	cfg := w.dialConfig(d, a, suite)
	i, m1, err := initiate(&cfg, suite, psk0, invite)
	if err != nil {
		t.Fatal(err)
	}
	v.M1, v.KEMSeed = m1, i.kem.Bytes()
	v.Dialer = vectorEnd{Seed: d.key.Seed(), Static: d.local.Static.priv.Bytes(), Ephemeral: i.noise.dh.ephemeral.Bytes()}
	v.Dialer.Payload = plain(d.local)
	noiseM1 := m1[1:]
	if suite == keys.SuiteEnroll {
		v.Invite, noiseM1 = invite[:], noiseM1[inviteIDSize:]
	}
	r := must(openM1(&a.local, suite, psk0, noiseM1, nil))
	v.M2 = must(r.answer(nil, must(r.encapsulationKey()), testNow))
	v.Acceptor = vectorEnd{Seed: a.key.Seed(), Static: a.local.Static.priv.Bytes(), Ephemeral: r.noise.dh.ephemeral.Bytes()}
	v.Acceptor.Payload = plain(a.local)
	dr, m3, err := i.finish(v.M2, testNow)
	if err != nil {
		t.Fatal(err)
	}
	v.M3 = m3
	ar := must(r.finish(m3, full, testNow))
	checkAgreement(t, dr, ar)
	v.Keys = keysOf(ar.Keys)

	rd, r1, err := NewRekey(RekeyConfig{Mesh: w.mesh, Static: dr.Static, Peer: dr.Peer.Static, Current: dr.Keys})
	if err != nil {
		t.Fatal(err)
	}
	v.R1, v.RekeyKEMSeed, v.Dialer.RekeyEphemeral = r1, rd.kem.Bytes(), rd.noise.dh.ephemeral.Bytes()
	ra, r2, err := AnswerRekey(RekeyConfig{Mesh: w.mesh, Static: ar.Static, Peer: ar.Peer.Static, Current: ar.Keys}, r1)
	if err != nil {
		t.Fatal(err)
	}
	v.R2 = r2
	next, r3, err := rd.ReadR2(r2)
	if err != nil {
		t.Fatal(err)
	}
	v.R3, v.RekeyKeys = r3, keysOf(next)
	if got := keysOf(must(ra.ReadR3(r3))); !bytes.Equal(got.Exporter, v.RekeyKeys.Exporter) {
		t.Fatal("ends of the rekey disagree")
	}
	return v
}

// TestVectors holds the bytes of version 1. A newer Go may draw its randomness in another order; then, and only if
// TestVectorsSecondImplementation passes on the old file, write it anew with -update.
func TestVectors(t *testing.T) {
	var vs []vector
	for _, s := range []keys.Suite{keys.SuiteChaCha, keys.SuiteAES, keys.SuiteEnroll} {
		vs = append(vs, makeVector(t, s))
	}
	got := append(must(json.MarshalIndent(vs, "", " ")), '\n')
	if *update {
		if err := os.WriteFile("testdata/vectors.json", got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, must(os.ReadFile("testdata/vectors.json"))) {
		t.Fatal("the bytes on the wire are not those of testdata/vectors.json")
	}
}

func specKDF(ikm, salt []byte, info string) []byte {
	return must(hkdf.Key(sha256.New, ikm, salt, info, 32))
}

func specHash(parts ...[]byte) []byte {
	h := sha256.Sum256(bytes.Join(parts, nil))
	return h[:]
}

// TestVectorsSecondImplementation makes every byte of the vectors from the private keys in them with code that shares nothing with
// the package: the Noise of spec_test.go and the derivations as the protocol writes them.
func TestVectorsSecondImplementation(t *testing.T) {
	var vs []vector
	if err := json.Unmarshal(must(os.ReadFile("testdata/vectors.json")), &vs); err != nil {
		t.Fatal(err)
	}
	if len(vs) != 3 {
		t.Fatalf("%d vectors", len(vs))
	}
	private := func(b []byte) *ecdh.PrivateKey { return must(ecdh.X25519().NewPrivateKey(b)) }
	for _, v := range vs {
		suite := keys.Suite(v.Suite)
		info := "meshkey/1 gate"
		if suite == keys.SuiteEnroll {
			info = "meshkey/1 invite"
		}
		psk0 := specKDF(v.Secret, v.Mesh, info)
		acceptorID := must(keys.SigningKeyFromSeed(v.Acceptor.Seed)).NodeID()
		prologue := bytes.Join([][]byte{[]byte("meshkey/1\x00"), {v.Suite}, v.Mesh, acceptorID[:]}, nil)
		kem := must(mlkem.NewDecapsulationKey768(v.KEMSeed))
		ek := kem.EncapsulationKey().Bytes()
		ct := v.M2[:1088]
		psk2 := specKDF(must(kem.Decapsulate(ct)), specHash([]byte("meshkey/1 kem"), ek, ct), "meshkey/1 psk2")

		end := func(initiator bool, e vectorEnd) *spec {
			s := newSpec(t, specName("XXpsk0+psk2", suite), initiator, prologue)
			s.s, s.e, s.psks = private(e.Static), private(e.Ephemeral), [][]byte{psk0, psk2}
			return s
		}
		d, a := end(true, v.Dialer), end(false, v.Acceptor)
		m1 := d.write(specM1, append([]byte{1, 0}, ek...))
		if want := bytes.Join([][]byte{{v.Suite}, v.Invite, m1}, nil); !bytes.Equal(v.M1, want) {
			t.Fatalf("suite %#02x: M1 differs", v.Suite)
		}
		must(a.read(specM1, m1))
		m2 := a.write(specM2, v.Acceptor.Payload)
		if !bytes.Equal(v.M2, append(bytes.Clone(ct), m2...)) {
			t.Fatalf("suite %#02x: M2 differs", v.Suite)
		}
		must(d.read(specM2, m2))
		if m3 := d.write(specM3, v.Dialer.Payload); !bytes.Equal(v.M3, m3) {
			t.Fatalf("suite %#02x: M3 differs", v.Suite)
		}
		checkSpecKeys(t, v.Suite, d, v.Keys)
		checkSpecRekey(t, v, private)
	}
}

func checkSpecKeys(t *testing.T, suite uint8, s *spec, want vectorKeys) {
	t.Helper()
	k1, k2 := s.split()
	x := specKDF(append(bytes.Clone(k1), k2...), s.h, "meshkey/1 exporter")
	if !bytes.Equal(k1, want.K1) || !bytes.Equal(k2, want.K2) || !bytes.Equal(s.h, want.Hash) || !bytes.Equal(x, want.Exporter) {
		t.Fatalf("suite %#02x: keys differ", suite)
	}
}

// checkSpecRekey plays the dialer of the rekey: it makes R1 and reads R2.
func checkSpecRekey(t *testing.T, v vector, private func([]byte) *ecdh.PrivateKey) {
	t.Helper()
	prologue := bytes.Join([][]byte{[]byte("meshkey/1 rekey\x00"), v.Mesh, v.Keys.Hash, binary.BigEndian.AppendUint64(nil, 1)}, nil)
	kem := must(mlkem.NewDecapsulationKey768(v.RekeyKEMSeed))
	ek, ct := kem.EncapsulationKey().Bytes(), v.R2[1:1089]
	s := newSpec(t, specName("KKpsk0+psk2", keys.Suite(v.Suite)), true, prologue)
	s.s, s.e = private(v.Dialer.Static), private(v.Dialer.RekeyEphemeral)
	s.rs = private(v.Acceptor.Static).PublicKey().Bytes()
	s.psks = [][]byte{
		specKDF(v.Keys.Exporter, v.Keys.Hash, "meshkey/1 rk-psk"),
		specKDF(must(kem.Decapsulate(ct)), specHash([]byte("meshkey/1 kem"), ek, ct), "meshkey/1 psk2"),
	}
	s.mixHash(s.s.PublicKey().Bytes())
	s.mixHash(s.rs)
	if r1 := s.write(specR1, ek); !bytes.Equal(v.R1, append([]byte{1}, r1...)) {
		t.Fatalf("suite %#02x: R1 differs", v.Suite)
	}
	if p, err := s.read(specR2, v.R2[1089:]); err != nil || len(p) != 0 || v.R2[0] != 2 || !bytes.Equal(v.R3, []byte{3}) {
		t.Fatalf("suite %#02x: R2 or R3 differs: %v", v.Suite, err)
	}
	checkSpecKeys(t, v.Suite, s, v.RekeyKeys)
}
