package identity

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

func TestEnvelopeRoundTrip(t *testing.T) {
	a, b := testKey(t, 1), testKey(t, 2)
	for _, signers := range [][]*keys.SigningKey{{a}, {a, b}, {b, a}} {
		e := Seal(keys.LabelRoot, testMesh, []byte("payload"), signers...)
		p, err := ParseEnvelope(e.Encode(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(p.Payload, []byte("payload")) || p.ID() != keys.Sum([]byte("payload")) || len(p.Sigs) != len(signers) {
			t.Errorf("%+v", p)
		}
		if err := p.VerifyAll(keys.LabelRoot, testMesh); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(p.Encode(), e.Encode()) {
			t.Error("re-encoded differently")
		}
	}
}

func TestEnvelopeStructure(t *testing.T) {
	a, b := testKey(t, 1), testKey(t, 2)
	good := Seal(keys.LabelRoot, testMesh, []byte("payload"), a, b)
	kid := func(i int) []byte { return bytes.Clone(good.Sigs[i].Kid[:]) }
	sig := func(i int) []byte { return bytes.Clone(good.Sigs[i].Sig[:]) }
	one := []any{kid(0), sig(0)}
	two := []any{kid(1), sig(1)}
	ok := wire.MustMarshal([]any{[]byte("payload"), []any{one, two}})
	if _, err := ParseEnvelope(ok, len(ok)); err != nil {
		t.Fatal(err)
	}
	sorted := func(n int) []any {
		e := &Envelope{Payload: []byte("payload")}
		for i := range n {
			e.Sigs = append(e.Sigs, Sig{Kid: keys.PublicKey{byte(i + 1)}})
		}
		var out []any
		for _, s := range e.Sigs {
			out = append(out, []any{s.Kid[:], s.Sig[:]})
		}
		return out
	}
	if b := wire.MustMarshal([]any{[]byte("payload"), sorted(maxSigs)}); true {
		if _, err := ParseEnvelope(b, len(b)); err != nil {
			t.Errorf("%d signatures: %v", maxSigs, err)
		}
	}
	for name, v := range map[string]any{
		"no signature":      []any{[]byte("payload"), []any{}},
		"too many":          []any{[]byte("payload"), sorted(maxSigs + 1)},
		"not sorted":        []any{[]byte("payload"), []any{two, one}},
		"one signer twice":  []any{[]byte("payload"), []any{one, one}},
		"short kid":         []any{[]byte("payload"), []any{[]any{kid(0)[:31], sig(0)}}},
		"long kid":          []any{[]byte("payload"), []any{[]any{append(kid(0), 0), sig(0)}}},
		"short signature":   []any{[]byte("payload"), []any{[]any{kid(0), sig(0)[:63]}}},
		"text payload":      []any{"payload", []any{one}},
		"null payload":      []any{nil, []any{one}},
		"third element":     []any{[]byte("payload"), []any{one}, 0},
		"signature of 3":    []any{[]byte("payload"), []any{[]any{kid(0), sig(0), 0}}},
		"map":               map[uint64]any{1: []byte("payload"), 2: []any{one}},
		"signatures absent": []any{[]byte("payload")},
		"signatures null":   []any{[]byte("payload"), nil},
	} {
		b := wire.MustMarshal(v)
		if e, err := ParseEnvelope(b, 10000); err == nil || e != nil {
			t.Errorf("%s: %+v %v", name, e, err)
		}
	}
	if e, err := ParseEnvelope(ok, len(ok)-1); err == nil || e != nil {
		t.Error("longer than allowed, and accepted")
	}
	if e, err := ParseEnvelope(append(bytes.Clone(ok), 0), 10000); err == nil || e != nil {
		t.Error("a byte behind it, and accepted")
	}
}

func TestEnvelopeVerify(t *testing.T) {
	a, b, c := testKey(t, 1), testKey(t, 2), testKey(t, 3)
	e := Seal(keys.LabelRoot, testMesh, []byte("payload"), a, b)
	if err := e.VerifyAll(keys.LabelEntry, testMesh); !errors.Is(err, ErrSignature) {
		t.Errorf("other label: %v", err)
	}
	if err := e.VerifyAll(keys.LabelRoot, keys.MeshID{}); !errors.Is(err, ErrSignature) {
		t.Errorf("other mesh: %v", err)
	}
	if err := e.VerifyOnly(keys.LabelRoot, testMesh, a.Public()); !errors.Is(err, ErrSignature) {
		t.Errorf("one more signer than expected: %v", err)
	}
	for i := range e.Sigs {
		bad := &Envelope{Payload: e.Payload, Sigs: append([]Sig(nil), e.Sigs...)}
		bad.Sigs[i].Sig[0] ^= 1
		if err := bad.VerifyAll(keys.LabelRoot, testMesh); !errors.Is(err, ErrSignature) {
			t.Errorf("signature %d wrong: %v", i, err)
		}
	}
	one := Seal(keys.LabelRoot, testMesh, []byte("payload"), a)
	if err := one.VerifyOnly(keys.LabelRoot, testMesh, a.Public()); err != nil {
		t.Error(err)
	}
	if err := one.VerifyOnly(keys.LabelRoot, testMesh, c.Public()); !errors.Is(err, ErrSignature) {
		t.Errorf("another signer: %v", err)
	}
	forged := &Envelope{Payload: one.Payload, Sigs: []Sig{{Kid: a.Public()}}}
	if err := forged.VerifyOnly(keys.LabelRoot, testMesh, a.Public()); !errors.Is(err, ErrSignature) {
		t.Errorf("no real signature: %v", err)
	}
	none := &Envelope{Payload: one.Payload}
	if none.VerifyAll(keys.LabelRoot, testMesh) == nil || none.VerifyOnly(keys.LabelRoot, testMesh, a.Public()) == nil {
		t.Error("an envelope without signatures verifies")
	}
}

// FuzzEnvelope: what parses re-encodes to the same bytes, and an error comes without a value.
func FuzzEnvelope(f *testing.F) {
	a, b := testKey(f, 1), testKey(f, 2)
	f.Add(Seal(keys.LabelRoot, testMesh, []byte("payload"), a).Encode())
	f.Add(Seal(keys.LabelRoot, testMesh, nil, a, b).Encode())
	f.Add([]byte{0x82, 0x40, 0x80})
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := ParseEnvelope(raw, 4096)
		if err != nil {
			if e != nil {
				t.Fatal("a value comes with the error")
			}
			return
		}
		if !bytes.Equal(e.Encode(), raw) {
			t.Fatalf("re-encodes as %x", e.Encode())
		}
		if len(e.Sigs) == 0 || len(e.Sigs) > maxSigs {
			t.Fatalf("%d signatures", len(e.Sigs))
		}
		for i := 1; i < len(e.Sigs); i++ {
			if bytes.Compare(e.Sigs[i-1].Kid[:], e.Sigs[i].Kid[:]) >= 0 {
				t.Fatal("signers not sorted and unique")
			}
		}
	})
}
