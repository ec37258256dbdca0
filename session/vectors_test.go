package session

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sovereignmesh/meshkey/keys"
)

var update = flag.Bool("update", false, "write testdata/vectors.json again")

// vectors are what another implementation needs to check itself. All values are hexadecimal.
type vectors struct {
	Note     string
	Exporter string
	Streams  []streamVector
	Controls []controlVector
	Bodies   map[string]string
}

type streamVector struct {
	Suite, Role, Counter   int
	Tag, KeyForth, KeyBack string
	S1                     string // OPEN of service "echo"
	Accept                 string
	Data                   string // "hello", after OPEN
	EOF                    string
	Rekey                  string // REKEY{1} after EOF's place, under the old key
	KeyForth1              string // the forward key of generation 1
	Data1                  string // "hello" under it
}

type controlVector struct {
	Suite           int
	Key             string
	Records         []string // control [2], heartbeat {}, close [1]
	RecordAtCounter string   // heartbeat padding of 3 zeros with counter vectorCounter
}

// vectorCounter shows the byte order of the nonce.
const vectorCounter = 0x0105060708

func makeVectors(t *testing.T) vectors {
	hx := func(b []byte) string { return hex.EncodeToString(b) }
	x := testSession(keys.SuiteAES).Exporter
	v := vectors{
		Note: "k1 = 32 × 01, k2 = 32 × 02, h = 32 × 03. X_1 is made of 32 × 01, 32 × 65 and h = 32 × 05. See doc.go.", Exporter: hx(x.Bytes()),
		Bodies: map[string]string{},
	}
	for _, suite := range suites {
		for _, role := range []keys.Role{keys.RoleDialer, keys.RoleAcceptor} {
			counter := uint64(role) * 0x0102030405060708
			tag := x.StreamTag(role, counter)
			forth, back := x.StreamKey(role, counter, keys.DirForward), x.StreamKey(role, counter, keys.DirBack)
			l := &liar{ticket: ticket{tag: tag}, out: newHalf(suite, forth), in: newHalf(suite, back)}
			sv := streamVector{
				Suite: int(suite), Role: int(role), Counter: int(counter), Tag: hx(tag[:]), KeyForth: hx(forth.Bytes()), KeyBack: hx(back.Bytes()),
				S1:     hx(l.s1(t, typeOpen, openBody(t, "echo"))),
				Data:   hx(rawRecord(t, &l.out, typeData, []byte("hello"))),
				EOF:    hx(rawRecord(t, &l.out, typeEOF, []byte(emptyBody))),
				Rekey:  hx(rawRecord(t, &l.out, typeRekey, encodeRekey(1))),
				Accept: hx(rawRecord(t, &l.in, typeAccept, []byte(emptyBody))),
			}
			next := nextExporter(suite, 1).NextStreamKey(forth)
			l.out.rekey(next)
			sv.KeyForth1, sv.Data1 = hx(next.Bytes()), hx(rawRecord(t, &l.out, typeData, []byte("hello")))
			v.Streams = append(v.Streams, sv)
		}
		h := newHalf(suite, testSession(suite).K1)
		cv := controlVector{Suite: int(suite), Key: hx(testSession(suite).K1.Bytes())}
		for _, r := range []struct {
			kind byte
			body []byte
		}{{byte(RecordControl), []byte{0x81, 20}}, {byte(RecordHeartbeat), []byte{0xa0}}, {byte(RecordClose), []byte{0x81, 1}}} {
			cv.Records = append(cv.Records, hx(rawRecord(t, &h, r.kind, r.body)))
		}
		h.counter = vectorCounter
		cv.RecordAtCounter = hx(rawRecord(t, &h, byte(RecordHeartbeat), make([]byte, 3)))
		v.Controls = append(v.Controls, cv)
	}
	for _, b := range bodies() {
		if _, isSync := b.(Sync); isSync {
			continue
		}
		data, err := Encode(b)
		if err != nil {
			t.Fatal(err)
		}
		v.Bodies[b.Kind().String()] = hx(data)
	}
	return v
}

// The bytes of this version are committed; whatever changes them shows here.
func TestVectors(t *testing.T) {
	got, err := json.MarshalIndent(makeVectors(t), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	if *update {
		if err := os.WriteFile("testdata/vectors.json", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("the bytes of the protocol have changed")
	}
}

// A second implementation, from the primitives and the text of doc.go alone, makes the same bytes.
func TestVectorsFromFirstPrinciples(t *testing.T) {
	kdf := func(ikm, salt []byte, info string) []byte {
		out, err := hkdf.Key(sha256.New, ikm, salt, info, 32)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	u64 := func(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }
	seal := func(suite int, key []byte, counter uint64, plain string) []byte {
		nonce := make([]byte, 12)
		var aead cipher.AEAD
		if keys.Suite(suite) == keys.SuiteAES {
			block, _ := aes.NewCipher(key)
			aead, _ = cipher.NewGCM(block)
			binary.BigEndian.PutUint64(nonce[4:], counter)
		} else {
			aead, _ = chacha20poly1305.New(key)
			binary.LittleEndian.PutUint64(nonce[4:], counter)
		}
		header := []byte{byte((len(plain) + 16) >> 8), byte(len(plain) + 16)}
		return aead.Seal(header, nonce, []byte(plain), header)
	}
	un := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	file, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(file, &v); err != nil {
		t.Fatal(err)
	}
	rep := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	x := kdf(append(rep(1), rep(2)...), rep(3), "meshkey/1 exporter")
	if !bytes.Equal(x, un(v.Exporter)) {
		t.Fatal("exporter")
	}
	x1 := kdf(append(rep(1), rep(101)...), rep(5), "meshkey/1 exporter")
	check := func(name, want string, got []byte) {
		t.Helper()
		if !bytes.Equal(got, un(want)) {
			t.Errorf("%s: %x, want %s", name, got, want)
		}
	}
	for _, s := range v.Streams {
		id := "\x00" + string(byte(s.Role)) + u64(uint64(s.Counter))
		tag := kdf(x, nil, "meshkey/1 stream tag"+id)[:16]
		forth := kdf(x, nil, "meshkey/1 stream key"+id+"\x00")
		back := kdf(x, nil, "meshkey/1 stream key"+id+"\x01")
		check("tag", s.Tag, tag)
		check("key forth", s.KeyForth, forth)
		check("key back", s.KeyBack, back)
		check("S1", s.S1, append(append([]byte{0x20}, tag...), seal(s.Suite, forth, 0, "\x01\x82\x64echo\x00")...))
		check("accept", s.Accept, seal(s.Suite, back, 0, "\x02\x80"))
		check("data", s.Data, seal(s.Suite, forth, 1, "\x00hello"))
		check("EOF", s.EOF, seal(s.Suite, forth, 2, "\x04\x80"))
		check("rekey", s.Rekey, seal(s.Suite, forth, 3, "\x06\x81\x01"))
		next := kdf(x1, forth, "meshkey/1 stream rekey")
		check("next key", s.KeyForth1, next)
		check("data under it", s.Data1, seal(s.Suite, next, 0, "\x00hello"))
	}
	for _, c := range v.Controls {
		for i, plain := range []string{"\x01\x81\x14", "\x03\xa0", "\x04\x81\x01"} {
			check("control", c.Records[i], seal(c.Suite, rep(1), uint64(i), plain))
		}
		check("counter", c.RecordAtCounter, seal(c.Suite, rep(1), vectorCounter, "\x03\x00\x00\x00"))
	}
}
