package keys

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

func TestRequestKeySealsAndOpens(t *testing.T) {
	k, m, id := NewRequestKey(), MeshID{1}, Hash{2}
	pub, err := k.Public()
	if err != nil {
		t.Fatal(err)
	}
	enc, s, err := pub.NewSealer(m, id)
	if err != nil || len(enc) != requestEncapsulation {
		t.Fatal(len(enc), err)
	}
	one, err := s.Seal([]byte{1}, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.Seal([]byte{2}, []byte("two"))
	if err != nil {
		t.Fatal(err)
	}
	open := func(k RequestKey, m MeshID, id Hash, enc []byte, ad byte, first []byte) error {
		o, n, err := k.NewOpener(m, id, enc)
		if err != nil {
			return err
		}
		if n != requestEncapsulation {
			t.Fatal(n)
		}
		b, err := o.Open([]byte{ad}, first)
		if err == nil && string(b) != "one" {
			t.Fatalf("%q", b)
		}
		return err
	}
	if err := open(k, m, id, enc, 1, one); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(enc)
	changed[1100] ^= 1
	for name, err := range map[string]error{
		"another key":     open(NewRequestKey(), m, id, enc, 1, one),
		"another mesh":    open(k, MeshID{9}, id, enc, 1, one),
		"another request": open(k, m, Hash{9}, enc, 1, one),
		"another part":    open(k, m, id, enc, 2, one),
		"second first":    open(k, m, id, enc, 2, two),
		"changed key":     open(k, m, id, changed, 1, one),
		"cut":             open(k, m, id, enc[:100], 1, one),
	} {
		if !errors.Is(err, ErrSealed) {
			t.Error(name, err)
		}
	}
	var zero RequestPublic
	for i := range zero {
		zero[i] = 0xff
	}
	if _, _, err := zero.NewSealer(m, id); err == nil {
		t.Error("a key out of range")
	}
}

func TestRequestKeyFile(t *testing.T) {
	fsys, m := durable.NewMem(), MeshID{1}
	id := newIdentity(t, fsys, "id.txt")
	k := NewRequestKey()
	if err := WriteKeyFile(fsys, "request.age", id.Recipient(), RequestMaterial(m, k)); err != nil {
		t.Fatal(err)
	}
	read, err := ReadKeyFile(fsys, "request.age", KindRequest, m, Unlock{Identity: id})
	if err != nil {
		t.Fatal(err)
	}
	got, err := read.RequestKey()
	if err != nil || !got.Equal(k.secret) {
		t.Fatal(err)
	}
	if _, err := read.SigningKey(); !errors.Is(err, ErrOtherKey) {
		t.Error("it signs:", err)
	}
	if _, err := SigningMaterial(KindNode, m, testKey(t, 1)).RequestKey(); !errors.Is(err, ErrOtherKey) {
		t.Error("a node key opens answers:", err)
	}
	if s := fmt.Sprintf("%v %+v %x", k, k, k); strings.Contains(s, fmt.Sprintf("%x", k.Bytes())) {
		t.Error("printed")
	}
}

func TestParseMeshID(t *testing.T) {
	m := MeshID{1, 2}
	if got, err := ParseMeshID(m.String()); err != nil || got != m {
		t.Fatal(got, err)
	}
	for _, s := range []string{"", "00", m.String() + "00", MeshID{}.String(), strings.Repeat("x", 64)} {
		if _, err := ParseMeshID(s); err == nil {
			t.Errorf("%q", s)
		}
	}
}
