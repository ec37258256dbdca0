package trust

import (
	"bytes"
	"errors"
	"testing"
)

// sharing returns two logs that share.
func sharing(t *testing.T, w *world) (*Shared, *Memory, *Memory) {
	t.Helper()
	m, err := NewMemory(w.genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := NewShared()
	m.Share(s)
	return s, m, m.Clone()
}

// The same entry on the same state is the same state, in every log that shares, and each log has the entry itself.
func TestSharedStates(t *testing.T) {
	w := newWorld(t, 1, "a")
	x := w.writer("a")
	s, one, two := sharing(t, w)
	for i, e := range []*Entry{x.add(x.enroll("n1")), x.add(x.enroll("n2")), x.add(revokeNode("n1"))} {
		again, err := ParseEntry(bytes.Clone(e.raw), w.mesh) // as it arrives at another node
		if err != nil {
			t.Fatal(err)
		}
		a, err := one.ApplyEntry(e, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		b, err := two.ApplyEntry(again, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		if one.Current() != two.Current() || s.Hits() != uint64(i+1) {
			t.Fatal("the second log made a state of its own")
		}
		if a.Kind != b.Kind || !bytes.Equal(a.Body, b.Body) || a.Urgent != b.Urgent || !bytes.Equal(two.Entry(e.Issuer, e.Seq), e.raw) {
			t.Fatal("the second log does not hold the entry")
		}
	}
	if len(two.History()) != 3 {
		t.Fatalf("a history of %d", len(two.History()))
	}
	// A log that joins later is filled like any other.
	three, err := NewMemory(w.genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range two.History() {
		if err := Replay(three, f, epoch0); err != nil {
			t.Fatal(err)
		}
	}
	if dump(three.Current()) != dump(two.Current()) {
		t.Fatal("what was shared is not what was signed")
	}
}

// The right payload under a wrong signature is invalid, whoever has verified it before.
func TestSharedVerifiesEveryEnvelope(t *testing.T) {
	w := newWorld(t, 1, "a")
	x := w.writer("a")
	_, one, two := sharing(t, w)
	e := x.add(x.enroll("n1"))
	if _, err := one.ApplyEntry(e, epoch0); err != nil {
		t.Fatal(err)
	}
	forged := bytes.Clone(e.raw)
	forged[len(forged)-1] ^= 1
	f, err := ParseEntry(forged, w.mesh)
	if err != nil {
		t.Fatal(err)
	}
	if f.hash != e.hash {
		t.Fatal("another payload: nothing is tested")
	}
	if _, err := two.ApplyEntry(f, epoch0); !errors.Is(err, ErrInvalid) {
		t.Fatalf("a forged signature: %v", err)
	}
}

// Contradictions and heads are shared too; a head from the future of a clock is refused there.
func TestSharedEvidenceAndHeads(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	honest := w.writer("a")
	honest.add(honest.enroll("n1"))
	thief := honest.branch()
	e, f := honest.add(honest.enroll("good")), thief.add(revokeNode("n1"))
	s, one, two := sharing(t, w)
	for _, m := range []*Memory{one, two} {
		for _, x := range []*Entry{honest.all[0], e, f} {
			if _, err := m.ApplyEntry(x, epoch0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if one.Current() != two.Current() || s.Hits() != 3 {
		t.Fatal("evidence was not shared")
	}
	if _, ok := two.Current().EvidenceOf(honest.key.Public()); !ok {
		t.Fatal("no evidence")
	}
	head, err := one.Current().NewHead(keyOf("issuer b"), epoch0+2*clockSlack)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.ApplyFrame(rawFrame(KindHead, head), epoch0+2*clockSlack); err != nil {
		t.Fatal(err)
	}
	if _, err := two.ApplyFrame(rawFrame(KindHead, head), epoch0); !errors.Is(err, ErrFuture) {
		t.Fatalf("a head from the future: %v", err)
	}
	if _, err := two.ApplyFrame(rawFrame(KindHead, head), epoch0+2*clockSlack); err != nil || one.Current() != two.Current() {
		t.Fatal("a head was not shared")
	}
}

// What is remembered is bounded.
func TestSharedIsBounded(t *testing.T) {
	s := NewShared()
	for i := range 3 * maxShared {
		s.keep(sharedKey{kind: uint8(i), bytes: [32]byte{byte(i), byte(i >> 8)}}, sharedResult{})
		if len(s.done) > maxShared {
			t.Fatalf("%d results", len(s.done))
		}
	}
}
