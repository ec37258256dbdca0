package identity

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// object is a signed statement under test: made from its Go value without any check, and read.
type object struct {
	seal  func(t testing.TB, v any, signers ...*keys.SigningKey) []byte
	parse func(raw []byte) (any, []byte, error) // value or nil, its Raw
	good  func(t testing.TB) any
	limit int
	key   byte // seed of the key that must sign
	label keys.Label
}

func sealAs(l keys.Label) func(testing.TB, any, ...*keys.SigningKey) []byte {
	return func(_ testing.TB, v any, signers ...*keys.SigningKey) []byte {
		return Seal(l, testMesh, wire.MustMarshal(v), signers...).Encode()
	}
}

var objects = map[string]object{
	"certificate": {
		seal: sealAs(keys.LabelCert), label: keys.LabelCert, key: 2, limit: MaxCertificate, good: func(t testing.TB) any { return smallCert(t) },
		parse: func(raw []byte) (any, []byte, error) {
			c, err := ParseCertificate(raw, testMesh)
			if c == nil {
				return nil, nil, err
			}
			return c.Certificate, c.Raw(), err
		},
	},
	"binding": {
		seal: sealAs(keys.LabelBinding), label: keys.LabelBinding, key: 1, limit: MaxBinding, good: func(t testing.TB) any { return smallBinding(t) },
		parse: func(raw []byte) (any, []byte, error) {
			b, err := ParseBinding(raw, testMesh)
			if b == nil {
				return nil, nil, err
			}
			return b.Binding, b.Raw(), err
		},
	},
	"request": {
		seal: sealAs(keys.LabelCSR), label: keys.LabelCSR, key: 1, limit: MaxCSR, good: func(t testing.TB) any { return smallCSR(t) },
		parse: func(raw []byte) (any, []byte, error) {
			c, err := ParseCSR(raw, testMesh, keys.Hash(seq(0x40)))
			if c == nil {
				return nil, nil, err
			}
			return c.CSR, c.Raw(), err
		},
	},
	"leave": {
		seal: sealAs(keys.LabelLeave), label: keys.LabelLeave, key: 1, limit: MaxLeave, good: func(t testing.TB) any {
			return Leave{Mesh: testMesh, Node: testKey(t, 1).NodeID(), Nonce: keys.Hash(seq(0x40))}
		},
		parse: func(raw []byte) (any, []byte, error) {
			l, err := ParseLeave(raw, testMesh, keys.Hash(seq(0x40)))
			if l == nil {
				return nil, nil, err
			}
			return *l, bytes.Clone(raw), err
		},
	},
}

// Every bit of every object matters.
func TestTamperEveryByte(t *testing.T) {
	for name, o := range objects {
		raw := o.seal(t, o.good(t), testKey(t, o.key))
		if _, kept, err := o.parse(raw); err != nil || !bytes.Equal(kept, raw) {
			t.Fatalf("%s: %v", name, err)
		}
		for i := range raw {
			for bit := range 8 {
				b := bytes.Clone(raw)
				b[i] ^= 1 << bit
				if v, _, err := o.parse(b); err == nil || v != nil {
					t.Fatalf("%s: bit %d of byte %d changed: %v %v", name, bit, i, v, err)
				}
			}
			if v, _, err := o.parse(raw[:i]); err == nil || v != nil {
				t.Fatalf("%s: cut to %d bytes: %v", name, i, err)
			}
		}
		if v, _, err := o.parse(append(bytes.Clone(raw), 0)); err == nil || v != nil {
			t.Errorf("%s: a byte behind it: %v", name, err)
		}
	}
}

// What is parsed does not change with the buffer it was read from.
func TestRawIsACopy(t *testing.T) {
	for name, o := range objects {
		raw := o.seal(t, o.good(t), testKey(t, o.key))
		want := bytes.Clone(raw)
		_, kept, err := o.parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		clear(raw)
		if !bytes.Equal(kept, want) {
			t.Errorf("%s: Raw changed with the input", name)
		}
	}
}

// An object is signed by exactly the key it names, under its own label, in its own mesh.
func TestSignaturesAreBound(t *testing.T) {
	for name, o := range objects {
		right, wrong := testKey(t, o.key), testKey(t, 9)
		payload := wire.MustMarshal(o.good(t))
		for _, l := range keys.Labels() {
			v, _, err := o.parse(Seal(l, testMesh, payload, right).Encode())
			if (l == o.label) != (err == nil) || l != o.label && (v != nil || !errors.Is(err, ErrSignature)) {
				t.Errorf("%s signed as %s: %v", name, l, err)
			}
		}
		for what, raw := range map[string][]byte{
			"another key":  Seal(o.label, testMesh, payload, wrong).Encode(),
			"two keys":     Seal(o.label, testMesh, payload, right, wrong).Encode(),
			"another mesh": Seal(o.label, keys.MeshID(seq(7)), payload, right).Encode(),
			"no mesh":      Seal(o.label, keys.MeshID{}, payload, right).Encode(),
		} {
			// Some objects have no room for a second signature.
			if v, _, err := o.parse(raw); v != nil || !errors.Is(err, ErrSignature) && (what != "two keys" || len(raw) <= o.limit) {
				t.Errorf("%s signed by %s: %v", name, what, err)
			}
		}
	}
}

// Every field check: the object is signed as it must be, and one field is wrong.
func TestFieldChecks(t *testing.T) {
	type change struct {
		name string
		v    any
		says string
	}
	cert := func(f func(*Certificate)) Certificate {
		c := smallCert(t)
		f(&c)
		return c
	}
	bind := func(f func(*Binding)) Binding {
		b := smallBinding(t)
		f(&b)
		return b
	}
	csr := func(f func(*CSR)) CSR {
		c := smallCSR(t)
		f(&c)
		return c
	}
	many := func(n int) (tags []string) {
		for i := range n {
			tags = append(tags, fmt.Sprintf("t%02d", i))
		}
		return tags
	}
	changes := map[string][]change{
		"certificate": {
			{"other mesh", cert(func(c *Certificate) { c.Mesh = keys.MeshID(seq(7)) }), "another mesh"},
			{"serial 0", cert(func(c *Certificate) { c.Serial = 0 }), "serial 0"},
			{"negative start", cert(func(c *Certificate) { c.NotBefore = -1 }), "validity"},
			{"ends as it starts", cert(func(c *Certificate) { c.NotAfter = c.NotBefore }), "validity"},
			{"ends before it starts", cert(func(c *Certificate) { c.NotAfter = c.NotBefore - 1 }), "validity"},
			{"ends after the end of time", cert(func(c *Certificate) { c.NotAfter = MaxTime + 1 }), "validity"},
			{"negative renewal", cert(func(c *Certificate) { c.RenewUntil = -1 }), "renew_until"},
			{"renewal after the end of time", cert(func(c *Certificate) { c.RenewUntil = MaxTime + 1 }), "renew_until"},
			{"no name", cert(func(c *Certificate) { c.Name = "" }), "length 0"},
			{"bad name", cert(func(c *Certificate) { c.Name = "Gpu" }), "name not allowed"},
			{"bad tag", cert(func(c *Certificate) { c.Tags = []string{"GPU"} }), "name not allowed"},
			{"tags not sorted", cert(func(c *Certificate) { c.Tags = []string{"b", "a"} }), "sorted"},
			{"a tag twice", cert(func(c *Certificate) { c.Tags = []string{"a", "a"} }), "unique"},
			{"too many tags", cert(func(c *Certificate) { c.Tags = many(MaxTags + 1) }), "at most 16"},
			{"tags too long", cert(func(c *Certificate) { c.Tags = append(longTags()[:15], "zz") }), "together"},
		},
		"binding": {
			{"other mesh", bind(func(b *Binding) { b.Mesh = keys.MeshID(seq(7)) }), "another mesh"},
			{"negative start", bind(func(b *Binding) { b.NotBefore, b.NotAfter = -1, 10 }), "validity"},
			{"empty", bind(func(b *Binding) { b.NotAfter = b.NotBefore }), "validity"},
			{"longer than a day", bind(func(b *Binding) { b.NotAfter = b.NotBefore + MaxBindingLife + 1 }), "longer than a day"},
			{"after the end of time", bind(func(b *Binding) { b.NotBefore, b.NotAfter = MaxTime, MaxTime+1 }), "validity"},
			{"no key", bind(func(b *Binding) { b.Static = StaticKey{} }), "static key"},
		},
		"request": {
			{"other mesh", csr(func(c *CSR) { c.Mesh = keys.MeshID(seq(7)) }), "another mesh"},
			{"other session", csr(func(c *CSR) { c.Nonce[31] ^= 1 }), "another session"},
			{"bad name", csr(func(c *CSR) { c.Name = "-" }), "name not allowed"},
			{"bad tag", csr(func(c *CSR) { c.Tags = []string{""} }), "name not allowed"},
		},
	}
	for _, k := range weakKeys(t) {
		changes["certificate"] = append(changes["certificate"],
			change{fmt.Sprintf("node %x", k), cert(func(c *Certificate) { c.Node = k }), "node: "},
			change{fmt.Sprintf("issuer %x", k), cert(func(c *Certificate) { c.Issuer = k }), "issuer: "})
		changes["binding"] = append(changes["binding"], change{fmt.Sprintf("node %x", k), bind(func(b *Binding) { b.Node = k }), "node: "})
		changes["request"] = append(changes["request"], change{fmt.Sprintf("node %x", k), csr(func(c *CSR) { c.Node = k }), "node: "})
	}
	for name, list := range changes {
		o := objects[name]
		for _, c := range list {
			v, _, err := o.parse(o.seal(t, c.v, testKey(t, o.key)))
			if err == nil || v != nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: %v, want %q", name, c.name, err, c.says)
			}
		}
	}
}

// Issuing goes through the same checks as parsing, so nothing is signed that nobody accepts.
func TestIssuingChecks(t *testing.T) {
	node, issuer := testKey(t, 1), testKey(t, 2)
	c := smallCert(t)
	if got, err := IssueCertificate(c, node); err == nil || got != nil || !strings.Contains(err.Error(), "another key") {
		t.Error("certificate signed by another key than its issuer")
	}
	c.Serial = 0
	if got, err := IssueCertificate(c, issuer); err == nil || got != nil {
		t.Error("bad certificate issued")
	}
	c = smallCert(t)
	c.Mesh = keys.MeshID{}
	if got, err := IssueCertificate(c, issuer); err == nil || got != nil {
		t.Error("certificate of no mesh issued")
	}
	b := smallBinding(t)
	if got, err := IssueBinding(b, issuer); err == nil || got != nil || !strings.Contains(err.Error(), "another key") {
		t.Error("binding signed by another key than its node")
	}
	b.Mesh = keys.MeshID{}
	if got, err := IssueBinding(b, node); err == nil || got != nil {
		t.Error("binding of no mesh issued")
	}
	r := smallCSR(t)
	if got, err := SignCSR(r, issuer); err == nil || got != nil || !strings.Contains(err.Error(), "another key") {
		t.Error("request signed by another key than its node")
	}
	r.Mesh = keys.MeshID{}
	if got, err := SignCSR(r, node); err == nil || got != nil {
		t.Error("request for no mesh signed")
	}
}

// A reader that asks with the zero mesh id gets nothing, not everything.
func TestNoMeshMatchesNothing(t *testing.T) {
	zero := keys.MeshID{}
	c, b, r := smallCert(t), smallBinding(t), smallCSR(t)
	c.Mesh, b.Mesh, r.Mesh = zero, zero, zero
	if _, err := ParseCertificate(Seal(keys.LabelCert, zero, wire.MustMarshal(c), testKey(t, 2)).Encode(), zero); err == nil {
		t.Error("certificate of no mesh")
	}
	if _, err := ParseBinding(Seal(keys.LabelBinding, zero, wire.MustMarshal(b), testKey(t, 1)).Encode(), zero); err == nil {
		t.Error("binding of no mesh")
	}
	if _, err := ParseCSR(Seal(keys.LabelCSR, zero, wire.MustMarshal(r), testKey(t, 1)).Encode(), zero, r.Nonce); err == nil {
		t.Error("request for no mesh")
	}
}

// TestMaximumSizes builds each object with every field at its widest: it has exactly the size its limit names, and one more byte of
// limit would be one too many.
func TestMaximumSizes(t *testing.T) {
	b, r := smallBinding(t), smallCSR(t)
	b.NotBefore, b.NotAfter = MaxTime-MaxBindingLife, MaxTime
	r.Name, r.Tags = strings.Repeat("n", MaxName), longTags()
	for name, v := range map[string]any{"certificate": largeCert(t), "binding": b, "request": r} {
		o := objects[name]
		raw := o.seal(t, v, testKey(t, o.key))
		if _, _, err := o.parse(raw); err != nil || len(raw) != o.limit {
			t.Errorf("the largest %s has %d bytes, its limit is %d: %v", name, len(raw), o.limit, err)
		}
	}
	if payload := 1 + 4 + MaxCertificate + 3 + MaxBinding + 7*10; payload > 1022 {
		t.Errorf("certificate and binding at their largest need %d bytes of a handshake payload", payload)
	}
	v := largeInvite(t)
	text := v.Encode()
	body, err := decodeInvite(text)
	if err != nil || len(body) != MaxInvite {
		t.Errorf("the largest invite has %d bytes, its limit is %d: %v", len(body), MaxInvite, err)
	}
	if _, err := ParseInvite(text); err != nil {
		t.Error(err)
	}
}

func TestBindingWindow(t *testing.T) {
	b := smallBinding(t)
	for now, want := range map[int64]bool{
		b.NotBefore - ClockSlack - 1: false, b.NotBefore - ClockSlack: true, b.NotBefore: true, b.NotAfter - 1: true, b.NotAfter: false, 0: false, MaxTime: false,
	} {
		if b.InForce(now) != want {
			t.Errorf("at %d: %v", now-b.NotBefore, !want)
		}
	}
}

func TestHasTag(t *testing.T) {
	c := smallCert(t)
	c.Tags = []string{"gpu", "lab"}
	if !c.HasTag("lab") || c.HasTag("la") || c.HasTag("") {
		t.Error("HasTag")
	}
}

// fuzzObject holds the three properties of every decoder: no panic, an error comes without a value, what parses re-encodes identically.
func fuzzObject(f *testing.F, name string, encode func(any) []byte) {
	o := objects[name]
	f.Add(o.seal(f, o.good(f), testKey(f, o.key)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		v, kept, err := o.parse(raw)
		if err != nil {
			if v != nil {
				t.Fatal("a value comes with the error")
			}
			return
		}
		if !bytes.Equal(kept, raw) || len(raw) > o.limit {
			t.Fatal("Raw is not the input, or longer than its limit")
		}
		e, err := ParseEnvelope(raw, o.limit)
		if err != nil || !bytes.Equal(encode(v), e.Payload) || !bytes.Equal(e.Encode(), raw) {
			t.Fatalf("re-encodes as %x, %v", encode(v), err)
		}
	})
}

func FuzzCertificate(f *testing.F) {
	fuzzObject(f, "certificate", func(v any) []byte { return wire.MustMarshal(v.(Certificate)) })
}

func FuzzBinding(f *testing.F) {
	fuzzObject(f, "binding", func(v any) []byte { return wire.MustMarshal(v.(Binding)) })
}

func FuzzCSR(f *testing.F) {
	fuzzObject(f, "request", func(v any) []byte { return wire.MustMarshal(v.(CSR)) })
}

func FuzzLeave(f *testing.F) {
	fuzzObject(f, "leave", func(v any) []byte { return wire.MustMarshal(v.(Leave)) })
}

// FuzzSignedFields lets the fuzzer choose the payload and signs it, so that it gets past the signature: what is accepted keeps every
// rule, and re-encodes identically.
func FuzzSignedFields(f *testing.F) {
	for i, o := range []string{"certificate", "binding", "request", "leave"} {
		f.Add(uint8(i), wire.MustMarshal(objects[o].good(f)))
	}
	f.Fuzz(func(t *testing.T, which uint8, payload []byte) {
		name := []string{"certificate", "binding", "request", "leave"}[which%4]
		o := objects[name]
		v, _, err := o.parse(Seal(o.label, testMesh, payload, testKey(t, o.key)).Encode())
		if err != nil {
			if v != nil {
				t.Fatal("a value comes with the error")
			}
			return
		}
		if again := wire.MustMarshal(v); !bytes.Equal(again, payload) {
			t.Fatalf("%s re-encodes as %x", name, again)
		}
		switch v := v.(type) {
		case Certificate:
			if v.check() != nil || v.Mesh != testMesh {
				t.Fatalf("%+v", v)
			}
		case Binding:
			if v.check() != nil || v.Mesh != testMesh || v.NotAfter-v.NotBefore > MaxBindingLife {
				t.Fatalf("%+v", v)
			}
		case CSR:
			if v.check() != nil || v.Mesh != testMesh {
				t.Fatalf("%+v", v)
			}
		case Leave:
			if keys.CheckPublicKey(v.Node) != nil || v.Mesh != testMesh {
				t.Fatalf("%+v", v)
			}
		}
	})
}
