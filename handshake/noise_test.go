package handshake

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/flynn/noise"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// noiseVector is one published test vector.
type noiseVector struct {
	name       string
	pattern    string // XX or KK
	psk        string // "", psk0 or psk2
	prologue   []byte
	key        []byte
	is, rs     *ecdh.PrivateKey
	ie, re     *ecdh.PrivateKey
	payloads   [][]byte
	messages   [][]byte
	handshakes int // how many of the messages belong to the handshake
}

func loadNoiseVectors(t *testing.T) []noiseVector {
	t.Helper()
	raw, err := os.ReadFile("testdata/noise-vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	private := func(s string) *ecdh.PrivateKey { return must(ecdh.X25519().NewPrivateKey(must(hex.DecodeString(s)))) }
	var out []noiseVector
	for block := range strings.SplitSeq(string(raw), "\n\n") {
		if strings.HasPrefix(block, "#") {
			continue
		}
		var v noiseVector
		for line := range strings.SplitSeq(strings.TrimSpace(block), "\n") {
			key, value, _ := strings.Cut(line, "=")
			switch {
			case key == "handshake":
				v.name = value
				v.pattern = strings.Split(value, "_")[1][:2]
				v.psk = strings.Split(value, "_")[1][2:]
				v.handshakes = map[string]int{"XX": 3, "KK": 2}[v.pattern]
			case key == "prologue":
				v.prologue = must(hex.DecodeString(value))
			case key == "preshared_key":
				v.key = must(hex.DecodeString(value))
			case key == "init_static":
				v.is = private(value)
			case key == "resp_static":
				v.rs = private(value)
			case key == "gen_init_ephemeral":
				v.ie = private(value)
			case key == "gen_resp_ephemeral":
				v.re = private(value)
			case strings.HasSuffix(key, "_payload"):
				v.payloads = append(v.payloads, must(hex.DecodeString(value)))
			case strings.HasSuffix(key, "_ciphertext"):
				v.messages = append(v.messages, must(hex.DecodeString(value)))
			}
		}
		out = append(out, v)
	}
	if len(out) != 48 {
		t.Fatalf("%d vectors, want 48", len(out))
	}
	return out
}

// TestNoiseVectors runs the published vectors through the library with this package's X25519.
func TestNoiseVectors(t *testing.T) {
	for i, v := range loadNoiseVectors(t) {
		t.Run(fmt.Sprintf("%s-%d", v.name, i), func(t *testing.T) {
			hs := func(initiator bool) *noise.HandshakeState { return libraryState(t, v, initiator) }
			ends := [2]*noise.HandshakeState{hs(true), hs(false)}
			var w, r [2]*noise.CipherState
			for m, want := range v.messages {
				if m >= v.handshakes {
					c := (m - v.handshakes) % 2
					got, err := w[c].Encrypt(nil, nil, v.payloads[m])
					if err != nil || !bytes.Equal(got, want) {
						t.Fatalf("transport message %d differs", m)
					}
					if got, err = r[c].Decrypt(nil, nil, want); err != nil || !bytes.Equal(got, v.payloads[m]) {
						t.Fatalf("transport message %d does not open", m)
					}
					continue
				}
				var got []byte
				var err error
				got, w[0], w[1], err = ends[m%2].WriteMessage(nil, v.payloads[m])
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("message %d differs: %v", m, err)
				}
				got, r[0], r[1], err = ends[1-m%2].ReadMessage(nil, want)
				if err != nil || !bytes.Equal(got, v.payloads[m]) {
					t.Fatalf("message %d does not open: %v", m, err)
				}
			}
		})
	}
}

func libraryState(t *testing.T, v noiseVector, initiator bool) *noise.HandshakeState {
	t.Helper()
	static, ephemeral, peer := v.rs, v.re, v.is
	if initiator {
		static, ephemeral, peer = v.is, v.ie, v.rs
	}
	dh := &dhKeys{static: static, generate: func() (*ecdh.PrivateKey, error) { return ephemeral, nil }}
	suite := keys.SuiteChaCha
	if strings.Contains(v.name, "AESGCM") {
		suite = keys.SuiteAES
	}
	aead, hash, _ := primitives(suite)
	c := noise.Config{
		CipherSuite: noise.NewCipherSuite(dh, aead, hash), Initiator: initiator, Prologue: v.prologue, PresharedKey: v.key,
		Pattern: map[string]noise.HandshakePattern{"XX": noise.HandshakeXX, "KK": noise.HandshakeKK}[v.pattern],
	}
	if v.psk == "psk2" {
		c.PresharedKeyPlacement = 2
	}
	if static != nil {
		c.StaticKeypair = noise.DHKey{Private: []byte{handleStatic}, Public: static.PublicKey().Bytes()}
	}
	if v.pattern == "KK" {
		c.PeerStatic = peer.PublicKey().Bytes()
	}
	return must(noise.NewHandshakeState(c))
}

// TestNoiseVectorsWrapper runs those with psk2 through the wrapper itself, the handshake's keys included.
func TestNoiseVectorsWrapper(t *testing.T) {
	ran := 0
	for _, v := range loadNoiseVectors(t) {
		if v.psk != "psk2" {
			continue
		}
		ran++
		s := shape{pattern: map[string]noise.HandshakePattern{"XX": noise.HandshakeXX, "KK": noise.HandshakeKK}[v.pattern]}
		for m := range v.handshakes {
			s.payloads = append(s.payloads, len(v.payloads[m]))
			s.messages = append(s.messages, len(v.messages[m]))
		}
		psk := keys.PSK(keys.TrafficKeyFromBytes(v.key))
		end := func(initiator bool) *noiseState {
			c := noiseConfig{shape: &s, suite: keys.SuiteChaCha, initiator: initiator, prologue: v.prologue, psk0: psk}
			if strings.Contains(v.name, "AESGCM") {
				c.suite = keys.SuiteAES
			}
			static, ephemeral, peer := v.rs, v.re, v.is
			if initiator {
				static, ephemeral, peer = v.is, v.ie, v.rs
			}
			c.static = &Static{priv: static}
			if v.pattern == "KK" {
				p := identity.StaticKey(peer.PublicKey().Bytes())
				c.peer = &p
			}
			n := must(newNoise(c))
			n.dh.generate = func() (*ecdh.PrivateKey, error) { return ephemeral, nil }
			return n
		}
		i, r := end(true), end(false)
		step := func(m int, w, rd func(out, in []byte) ([]byte, error)) {
			got, err := w([]byte("x"), v.payloads[m])
			if err != nil || !bytes.Equal(got[1:], v.messages[m]) {
				t.Fatalf("%s: message %d differs: %v", v.name, m, err)
			}
			got, err = rd(nil, v.messages[m])
			if err != nil || !bytes.Equal(got, v.payloads[m]) {
				t.Fatalf("%s: message %d does not open: %v", v.name, m, err)
			}
		}
		with := func(f func(keys.PSK, []byte, []byte) ([]byte, error)) func(out, in []byte) ([]byte, error) {
			return func(out, in []byte) ([]byte, error) { return f(psk, out, in) }
		}
		step(0, i.write1, r.read1)
		step(1, with(r.write2), with(i.read2))
		if v.pattern == "XX" {
			step(2, i.write3, r.read3)
		}
		is, rs := must(i.finish(0)), must(r.finish(0))
		if !same(is.K1, rs.K1) || !same(is.K2, rs.K2) || is.Hash != rs.Hash {
			t.Errorf("%s: ends disagree", v.name)
		}
	}
	if ran != 16 {
		t.Errorf("%d vectors ran, want 16", ran)
	}
}

// TestSpecVectors runs the published vectors through the second implementation, so that what it is compared with is right.
func TestSpecVectors(t *testing.T) {
	tokens := map[string][]string{
		"XX": {"e", "e, ee, s, es", "s, se"}, "XXpsk0": {"psk, e", "e, ee, s, es", "s, se"},
		"XXpsk2": {"e", "e, ee, s, es, psk", "s, se"},
		"KK":     {"e, es, ss", "e, ee, se"}, "KKpsk0": {"psk, e, es, ss", "e, ee, se"}, "KKpsk2": {"e, es, ss", "e, ee, se, psk"},
	}
	for _, v := range loadNoiseVectors(t) {
		i, r := newSpec(t, v.name, true, v.prologue), newSpec(t, v.name, false, v.prologue)
		i.s, i.e, r.s, r.e = v.is, v.ie, v.rs, v.re
		i.psks, r.psks = [][]byte{v.key}, [][]byte{v.key}
		if v.pattern == "KK" {
			i.rs, r.rs = v.rs.PublicKey().Bytes(), v.is.PublicKey().Bytes()
			for _, e := range []*spec{i, r} {
				e.mixHash(v.is.PublicKey().Bytes())
				e.mixHash(v.rs.PublicKey().Bytes())
			}
		}
		for m := range v.handshakes {
			w, rd := i, r
			if m%2 == 1 {
				w, rd = r, i
			}
			toks := tokens[v.pattern+v.psk][m]
			if got := w.write(toks, v.payloads[m]); !bytes.Equal(got, v.messages[m]) {
				t.Fatalf("%s: message %d differs", v.name, m)
			}
			if got, err := rd.read(toks, v.messages[m]); err != nil || !bytes.Equal(got, v.payloads[m]) {
				t.Fatalf("%s: message %d does not open: %v", v.name, m, err)
			}
		}
		k1, k2 := i.split()
		for m := v.handshakes; m < len(v.messages); m++ {
			k := [][]byte{k1, k2}[(m-v.handshakes)%2]
			i.n = uint64(m-v.handshakes) / 2
			if got := i.aead(k).Seal(nil, i.nonce(), v.payloads[m], nil); !bytes.Equal(got, v.messages[m]) {
				t.Fatalf("%s: transport message %d differs", v.name, m)
			}
		}
	}
}

// TestPatternsHaveNoSpareCapacity: the library appends to a pattern's slices; with spare capacity two handshakes would write
// the same memory.
func TestPatternsHaveNoSpareCapacity(t *testing.T) {
	for _, s := range []*shape{&shapeXX, &shapeKK} {
		if len(s.payloads) != len(s.messages) || len(s.messages) != len(s.pattern.Messages) {
			t.Errorf("%s: sizes and messages do not match", s.pattern.Name)
		}
		for _, m := range s.pattern.Messages {
			if cap(m) != len(m) {
				t.Errorf("%s: capacity %d, length %d", s.pattern.Name, cap(m), len(m))
			}
		}
	}
}

// wrapperPair is a fresh XX handshake on both sides.
func wrapperPair(t testing.TB, psk0 keys.PSK) (i, r *noiseState) {
	t.Helper()
	c := noiseConfig{shape: &shapeXX, suite: keys.SuiteAES, initiator: true, psk0: psk0, static: NewStatic(), prologue: []byte("p")}
	i, err := newNoise(c)
	if err != nil {
		t.Fatal(err)
	}
	c.initiator, c.static = false, NewStatic()
	r, err = newNoise(c)
	if err != nil {
		t.Fatal(err)
	}
	return i, r
}

func testPSK(name string) keys.PSK { return keys.KEMPSK([]byte(name), nil, nil) }

// TestWrapperRefusesUnsetPSK: neither psk0 nor psk2 can be left out, on either side.
func TestWrapperRefusesUnsetPSK(t *testing.T) {
	for _, initiator := range []bool{true, false} {
		_, err := newNoise(noiseConfig{shape: &shapeXX, suite: keys.SuiteAES, initiator: initiator, static: NewStatic()})
		if !errors.Is(err, keys.ErrUnset) {
			t.Errorf("psk0 unset: %v", err)
		}
	}
	i, r := wrapperPair(t, testPSK("gate"))
	m1 := must(i.write1(nil, make([]byte, sizeP1)))
	must(r.read1(nil, m1))
	if out, err := r.write2(keys.PSK{}, nil, make([]byte, sizePayload)); !errors.Is(err, keys.ErrUnset) || out != nil {
		t.Errorf("psk2 unset at the writer: %v", err)
	}
	if out, err := i.read2(keys.PSK{}, nil, make([]byte, SizeM2-kemCiphertextSize)); !errors.Is(err, keys.ErrUnset) || out != nil {
		t.Errorf("psk2 unset at the reader: %v", err)
	}
	for name, n := range map[string]*noiseState{"writer": r, "reader": i} {
		if !n.dead {
			t.Errorf("%s lives on", name)
		}
	}
}

// TestWrapperIsOneShot: after any error nothing works any more, and nothing works twice or out of order.
func TestWrapperIsOneShot(t *testing.T) {
	psk, p1, p := testPSK("gate"), make([]byte, sizeP1), make([]byte, sizePayload)
	m2 := make([]byte, SizeM2-kemCiphertextSize)
	bad := map[string]struct {
		f    func(i, r *noiseState) error
		want error // nil: the library's
	}{
		"short payload":      {func(i, _ *noiseState) error { return second(i.write1(nil, p1[1:])) }, errSize},
		"long payload":       {func(i, _ *noiseState) error { return second(i.write1(nil, append(p1, 0))) }, errSize},
		"short message":      {func(_, r *noiseState) error { return second(r.read1(nil, make([]byte, 1233))) }, errSize},
		"long message":       {func(_, r *noiseState) error { return second(r.read1(nil, make([]byte, 1235))) }, errSize},
		"garbage":            {func(_, r *noiseState) error { return second(r.read1(nil, make([]byte, 1234))) }, nil},
		"read at the writer": {func(i, _ *noiseState) error { return second(i.read1(nil, make([]byte, 1234))) }, nil},
		"write at reader":    {func(_, r *noiseState) error { return second(r.write1(nil, p1)) }, nil},
		"message 2 first":    {func(i, _ *noiseState) error { return second(i.read2(psk, nil, m2)) }, errOrder},
		"message 3 first":    {func(i, _ *noiseState) error { return second(i.write3(nil, p)) }, errOrder},
		"keys first":         {func(i, _ *noiseState) error { return second(i.finish(0)) }, errPattern},
		"static key first":   {func(i, _ *noiseState) error { return second(i.peerStatic()) }, errPattern},
	}
	for name, c := range bad {
		i, r := wrapperPair(t, psk)
		if err := c.f(i, r); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		n := i
		if !i.dead {
			n = r
		}
		if !n.dead {
			t.Errorf("%s: both ends live on", name)
			continue
		}
		for what, err := range map[string]error{
			"write1": second(n.write1(nil, p1)), "read1": second(n.read1(nil, make([]byte, 1234))),
			"write2": second(n.write2(psk, nil, p)), "read2": second(n.read2(psk, nil, m2)),
			"write3": second(n.write3(nil, p)), "read3": second(n.read3(nil, make([]byte, SizeM3))),
			"finish": second(n.finish(0)), "static": second(n.peerStatic()),
		} {
			if !errors.Is(err, errDone) {
				t.Errorf("%s: %s afterwards: %v", name, what, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestWrapperKeysOnce: the keys leave once.
func TestWrapperKeysOnce(t *testing.T) {
	i, r := wrapperPair(t, testPSK("gate"))
	p := make([]byte, sizePayload)
	must(r.read1(nil, must(i.write1(nil, make([]byte, sizeP1)))))
	must(i.read2(testPSK("kem"), nil, must(r.write2(testPSK("kem"), nil, p))))
	must(r.read3(nil, must(i.write3(nil, p))))
	must(i.finish(0))
	if _, err := i.finish(0); !errors.Is(err, errDone) {
		t.Errorf("second finish: %v", err)
	}
}

// TestWrapperUnknownSuite: no suite, no handshake.
func TestWrapperUnknownSuite(t *testing.T) {
	for s := range 256 {
		_, err := newNoise(noiseConfig{shape: &shapeXX, suite: keys.Suite(s), psk0: testPSK("gate"), static: NewStatic()})
		known := s == 0x01 || s == 0x02 || s == 0x11
		if (err == nil) != known {
			t.Errorf("suite %#02x: %v", s, err)
		}
	}
}

// TestDHOneEphemeral: a state that is asked for a second ephemeral key is broken.
func TestDHOneEphemeral(t *testing.T) {
	d := &dhKeys{static: NewStatic().priv}
	if _, err := d.GenerateKeypair(nil); err != nil {
		t.Fatal(err)
	}
	if _, err := d.GenerateKeypair(nil); err == nil {
		t.Error("second ephemeral key made")
	}
}

// TestDHRefusesLowOrder: a peer's key of small order, which would make the secret public, ends the handshake.
func TestDHRefusesLowOrder(t *testing.T) {
	d := &dhKeys{static: NewStatic().priv}
	for _, p := range [][]byte{make([]byte, 32), append([]byte{1}, make([]byte, 31)...)} {
		if out, err := d.DH([]byte{handleStatic}, p); err == nil || out != nil {
			t.Errorf("key %x accepted", p)
		}
	}
	for _, h := range [][]byte{nil, {}, {0}, {handleEphemeral}, {1, 1}} {
		if _, err := d.DH(h, NewStatic().priv.PublicKey().Bytes()); err == nil {
			t.Errorf("handle %v accepted", h)
		}
	}
}
