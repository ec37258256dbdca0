package handshake

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sovereignmesh/meshkey/keys"
)

// spec is a second implementation of Noise, written from the Noise specification (revision 34) alone: no library, no checks, any
// pattern. It is what the real one is compared with, and what attackers in these tests are made of: it writes whatever payload it
// is told, under whatever keys.
type spec struct {
	hash      func() hash.Hash
	aead      func(key []byte) cipher.AEAD
	bigEndian bool

	initiator bool
	psk       bool // the pattern has a psk token, so e is mixed into the key as well
	psks      [][]byte
	s, e      *ecdh.PrivateKey
	rs, re    []byte

	ck, h, k []byte
	n        uint64
}

func newSpec(t testing.TB, name string, initiator bool, prologue []byte) *spec {
	t.Helper()
	s := &spec{initiator: initiator, psk: strings.Contains(name, "psk")}
	parts := strings.Split(name, "_") // Noise_pattern_25519_cipher_hash
	switch parts[3] {
	case "AESGCM":
		s.bigEndian = true
		s.aead = func(k []byte) cipher.AEAD { return must(cipher.NewGCM(must(aes.NewCipher(k)))) }
	case "ChaChaPoly":
		s.aead = func(k []byte) cipher.AEAD { return must(chacha20poly1305.New(k)) }
	}
	switch parts[4] {
	case "SHA256":
		s.hash = sha256.New
	case "BLAKE2s":
		s.hash = func() hash.Hash { return must(blake2s.New256(nil)) }
	}
	if s.aead == nil || s.hash == nil {
		t.Fatalf("unknown primitives in %q", name)
	}
	s.h = make([]byte, 32)
	if len(name) <= 32 {
		copy(s.h, name)
	} else {
		h := s.hash()
		h.Write([]byte(name))
		s.h = h.Sum(nil)
	}
	s.ck = append([]byte(nil), s.h...)
	s.mixHash(prologue)
	return s
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (s *spec) mixHash(data []byte) {
	h := s.hash()
	h.Write(s.h)
	h.Write(data)
	s.h = h.Sum(nil)
}

// hkdf is HKDF of section 4.3 with n outputs.
func (s *spec) hkdf(ck, ikm []byte, n int) [][]byte {
	mac := func(key []byte, parts ...[]byte) []byte {
		m := hmac.New(s.hash, key)
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	temp := mac(ck, ikm)
	var out [][]byte
	var last []byte
	for i := range n {
		last = mac(temp, last, []byte{byte(i + 1)})
		out = append(out, last)
	}
	return out
}

func (s *spec) mixKey(ikm []byte) {
	o := s.hkdf(s.ck, ikm, 2)
	s.ck, s.k, s.n = o[0], o[1], 0
}

func (s *spec) mixKeyAndHash(ikm []byte) {
	o := s.hkdf(s.ck, ikm, 3)
	s.ck = o[0]
	s.mixHash(o[1])
	s.k, s.n = o[2], 0
}

func (s *spec) nonce() []byte {
	b := make([]byte, 12)
	if s.bigEndian {
		binary.BigEndian.PutUint64(b[4:], s.n)
	} else {
		binary.LittleEndian.PutUint64(b[4:], s.n)
	}
	s.n++
	return b
}

func (s *spec) encryptAndHash(plain []byte) []byte {
	out := plain
	if s.k != nil {
		out = s.aead(s.k).Seal(nil, s.nonce(), plain, s.h)
	}
	s.mixHash(out)
	return out
}

func (s *spec) decryptAndHash(data []byte) ([]byte, error) {
	out := data
	if s.k != nil {
		var err error
		if out, err = s.aead(s.k).Open(nil, s.nonce(), data, s.h); err != nil {
			return nil, err
		}
	}
	s.mixHash(data)
	return out, nil
}

func specDH(priv *ecdh.PrivateKey, pub []byte) []byte {
	return must(priv.ECDH(must(ecdh.X25519().NewPublicKey(pub))))
}

// token mixes a token other than e and s.
func (s *spec) token(t string) {
	switch {
	case t == "psk":
		s.mixKeyAndHash(s.psks[0])
		s.psks = s.psks[1:]
	case t == "ee":
		s.mixKey(specDH(s.e, s.re))
	case t == "es" && s.initiator, t == "se" && !s.initiator:
		s.mixKey(specDH(s.e, s.rs))
	case t == "se", t == "es":
		s.mixKey(specDH(s.s, s.re))
	case t == "ss":
		s.mixKey(specDH(s.s, s.rs))
	default:
		panic("unknown token " + t)
	}
}

// write makes a message from tokens such as "psk, e".
func (s *spec) write(tokens string, payload []byte) []byte {
	var out []byte
	for _, t := range strings.Split(tokens, ", ") {
		switch t {
		case "e":
			out = append(out, s.e.PublicKey().Bytes()...)
			s.mixHash(s.e.PublicKey().Bytes())
			if s.psk {
				s.mixKey(s.e.PublicKey().Bytes())
			}
		case "s":
			out = append(out, s.encryptAndHash(s.s.PublicKey().Bytes())...)
		default:
			s.token(t)
		}
	}
	return append(out, s.encryptAndHash(payload)...)
}

// read opens a message.
func (s *spec) read(tokens string, msg []byte) ([]byte, error) {
	for _, t := range strings.Split(tokens, ", ") {
		switch t {
		case "e":
			s.re, msg = msg[:32], msg[32:]
			s.mixHash(s.re)
			if s.psk {
				s.mixKey(s.re)
			}
		case "s":
			n := 32
			if s.k != nil {
				n += 16
			}
			rs, err := s.decryptAndHash(msg[:n])
			if err != nil {
				return nil, fmt.Errorf("s: %w", err)
			}
			s.rs, msg = rs, msg[n:]
		default:
			s.token(t)
		}
	}
	out, err := s.decryptAndHash(msg)
	if err != nil {
		return nil, errors.New("payload does not open")
	}
	return out, nil
}

// split returns k1 and k2.
func (s *spec) split() (k1, k2 []byte) {
	o := s.hkdf(s.ck, nil, 2)
	return o[0], o[1]
}

// The messages of the two patterns, in the protocol's own notation.
const (
	specM1 = "psk, e"
	specM2 = "e, ee, s, es, psk"
	specM3 = "s, se"
	specR1 = "psk, e, es, ss"
	specR2 = "e, ee, se, psk"
)

// specName is the Noise name of a suite's handshake.
func specName(pattern string, s keys.Suite) string {
	if s == keys.SuiteAES {
		return "Noise_" + pattern + "_25519_AESGCM_SHA256"
	}
	return "Noise_" + pattern + "_25519_ChaChaPoly_BLAKE2s"
}
