package trust

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

// TestFrameDecodersAreStrict: truncated, longer, of another kind, in another form, or with a value out of range: an error, and nil.
func TestFrameDecodersAreStrict(t *testing.T) {
	w, root, entries, head, vec := samples(t)
	issuer := keyOf("issuer a").Public()
	h := keys.Sum(nil)
	none := func(result any, isNil bool, err error) error {
		if err != nil && !isNil {
			t.Errorf("an error came with %T", result)
		}
		return err
	}
	decoders := map[string]struct {
		body  []byte
		parse func([]byte) error
	}{
		"vec": {vec, func(b []byte) error {
			v, err := ParseVector(b)
			return none(v, v == nil, err)
		}},
		"want": {frameOf(KindWant, wantWire{Kind: KindWant, Issuer: issuer, From: 1, To: 2}).Body, func(b []byte) error {
			v, err := parseWant(b)
			return none(v, v == nil, err)
		}},
		"hash_at": {frameOf(KindHashAt, hashAtWire{Kind: KindHashAt, Issuer: issuer, Seq: 1, Hash: &h}).Body, func(b []byte) error {
			v, err := parseHashAt(b)
			return none(v, v == nil, err)
		}},
		"evidence": {frameOf(KindEvidence, evidenceWire{Kind: KindEvidence, A: entries[0], B: entries[1]}).Body, func(b []byte) error {
			v, err := parseEvidence(b)
			return none(v, v == nil, err)
		}},
		"root": {rawFrame(KindRoot, root).Body, func(b []byte) error {
			v, err := parseRaw(b, KindRoot, MaxRoot)
			return none(v, v == nil, err)
		}},
		"head": {rawFrame(KindHead, head).Body, func(b []byte) error {
			v, err := parseRaw(b, KindHead, MaxHead)
			return none(v, v == nil, err)
		}},
	}
	for name, d := range decoders {
		if err := d.parse(d.body); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		other := bytes.Clone(d.body)
		other[1]++
		longer := append(bytes.Clone(d.body), 0)
		loose := append([]byte{d.body[0], 0x18}, d.body[1:]...) // the kind, not in shortest form
		for what, b := range map[string][]byte{
			"empty": {}, "truncated": d.body[:len(d.body)-1], "longer": longer, "another kind": other, "loose": loose,
			"far too long": make([]byte, MaxFrame+1), "only its kind": {0x81, d.body[1]},
		} {
			if d.parse(b) == nil {
				t.Errorf("%s: %s accepted", name, what)
			}
		}
	}
	for _, name := range []string{"vec", "want"} { // both end in a small number: here not in shortest form
		b := decoders[name].body
		if decoders[name].parse(append(bytes.Clone(b[:len(b)-1]), 0x18, b[len(b)-1])) == nil {
			t.Errorf("%s: a second form accepted", name)
		}
	}
	short := append([]byte{0x84, KindWant, 0x58, 31}, make([]byte, 31)...)
	if decoders["want"].parse(append(short, 1, 2)) == nil {
		t.Error("an issuer of 31 bytes accepted")
	}
	big := make([]byte, MaxHead+1)
	for name, err := range map[string]error{
		"empty object":   decoders["root"].parse(rawFrame(KindRoot, nil).Body),
		"long object":    decoders["head"].parse(rawFrame(KindHead, big).Body),
		"empty evidence": decoders["evidence"].parse(frameOf(KindEvidence, evidenceWire{Kind: KindEvidence, A: entries[0]}).Body),
		"long evidence":  decoders["evidence"].parse(frameOf(KindEvidence, evidenceWire{Kind: KindEvidence, A: make([]byte, MaxEntry+1), B: big}).Body),
		"want from 0":    decoders["want"].parse(frameOf(KindWant, wantWire{Kind: KindWant, To: 2}).Body),
		"want backwards": decoders["want"].parse(frameOf(KindWant, wantWire{Kind: KindWant, From: 3, To: 2}).Body),
		"want far":       decoders["want"].parse(frameOf(KindWant, wantWire{Kind: KindWant, From: 1, To: maxSeq + 1}).Body),
		"hash_at 0":      decoders["hash_at"].parse(frameOf(KindHashAt, hashAtWire{Kind: KindHashAt}).Body),
	} {
		if err == nil {
			t.Errorf("%s accepted", name)
		}
	}
	for name, change := range map[string]func(*Vector){
		"version 0":     func(v *Vector) { v.RootVersion = 0 },
		"group":         func(v *Vector) { v.GroupGen = maxSeq + 1 },
		"seq":           func(v *Vector) { v.Issuers[0].Seq = maxSeq + 1 },
		"head time":     func(v *Vector) { v.Issuers[0].HeadTime = maxTime + 1 },
		"negative time": func(v *Vector) { v.Issuers[0].HeadTime = -1 },
		"forked":        func(v *Vector) { v.Issuers[0].Forked = 2 },
		"order":         func(v *Vector) { v.Issuers[0], v.Issuers[1] = v.Issuers[1], v.Issuers[0] },
		"twice":         func(v *Vector) { v.Issuers[1] = v.Issuers[0] },
		"65 issuers":    func(v *Vector) { v.Issuers = make([]Position, maxIssuers+1) },
	} {
		v := w.start.Vector()
		change(&v)
		if decoders["vec"].parse(v.frame().Body) == nil {
			t.Errorf("vector, %s: accepted", name)
		}
	}
	if _, err := parseBody[vecWire](make([]byte, MaxFrame+1), 0); err == nil || !bytes.Contains([]byte(err.Error()), []byte("at most")) {
		t.Errorf("length is looked at first: %v", err)
	}
}

func TestMemoryKeepsWhatIsToBeStored(t *testing.T) {
	w, honest, thief := forked(t)
	if _, err := NewMemory([]byte{1}, nil); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a broken genesis: %v", err)
	}
	m, err := NewMemory(w.genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range thief.all {
		if _, err := m.ApplyEntry(e, 0); err != nil {
			t.Fatal(err)
		}
	}
	end := honest.all[1]
	if _, err := m.ApplyFrame(rawFrame(KindRoot, w.root(w.start, func(r *Root) { cutoff(r, honest.key.Public(), end.Seq, end.hash) })), 0); err != nil {
		t.Fatal(err)
	}
	before := len(m.History())
	tip := honest.add(honest.enroll("void")) // behind the cutoff: nothing of it counts
	if _, err := m.ApplyEntry(tip, 0); !errors.Is(err, ErrVoid) {
		t.Fatal(err)
	}
	// A vouched entry out of order changes what is known, but is nothing to store or to pass on.
	fresh, err := NewMemory(w.genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.ApplyFrame(m.History()[2], 0); err != nil {
		t.Fatal(err)
	}
	c, err := fresh.ApplyEntry(end, 0)
	if err != nil || c.Kind != 0 || len(fresh.History()) != 1 {
		t.Fatalf("%v, kind %d, %d stored", err, c.Kind, len(fresh.History()))
	}
	if len(m.History()) != before || before != 3 {
		t.Fatalf("%d stored", before)
	}
}
