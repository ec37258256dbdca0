package trust

import (
	"errors"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
)

// TestHistory carries a log, a fork in it included, to a memory, and from there to a new store.
func TestHistory(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	fsys := durable.NewMem()
	pinned := w.writer("b")
	pinned.add(pinned.enroll("of-b"))
	if err := Create(fsys, w.genesis, []identity.IssuerHead{{Issuer: pinned.key.Public(), Seq: 1, Hash: pinned.all[0].hash}}, nil); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, w, fsys)
	a, x := w.writer("a"), w.writer("a")
	for _, e := range []*Entry{pinned.all[0], a.add(a.enroll("one")), a.add(a.enroll("two"))} {
		s.apply(t, e)
	}
	evil := x.add(x.enroll("evil"))
	if _, err := s.ApplyFrame(Evidence{A: a.all[0].raw, B: evil.raw}.frame(), epoch0); err != nil {
		t.Fatal(err)
	}
	genesis, frames, err := s.History(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMemory(genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if f.Kind == framePin {
			t.Error("this host's pins are given away")
		}
		if err := Replay(m, f, epoch0); err != nil {
			t.Fatal(err)
		}
	}
	for name, live := range map[string]bool{"of-b": true, "one": true, "two": true, "evil": false} {
		wantLive(t, m.Current(), name, live)
	}
	if _, ok := m.Current().EvidenceOf(a.key.Public()); !ok {
		t.Error("the evidence is lost")
	}
	// A second time changes nothing and is no error; what does not verify is one.
	for _, f := range frames {
		if err := Replay(m, f, epoch0); err != nil {
			t.Fatal(err)
		}
	}
	bad := append([]byte(nil), frames[0].Body...)
	bad[len(bad)-1] ^= 1
	for _, f := range []Frame{{Kind: frames[0].Kind, Body: bad}, {Kind: KindVec}, {Kind: KindEntry, Body: []byte{1}}, {Kind: KindEntry, Body: rawFrame(KindEntry, newWorld(t, 2, "z").writer("z").all0(t)).Body}} {
		fresh, err := NewMemory(genesis, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := Replay(fresh, f, epoch0); !errors.Is(err, ErrInvalid) {
			t.Errorf("kind %d: %v", f.Kind, err)
		}
	}
	if _, _, err := s.History(100); !errors.Is(err, ErrTooLong) {
		t.Error(err)
	}
}

// all0 is the raw first entry of a writer.
func (w *writer) all0(t *testing.T) []byte {
	t.Helper()
	return w.add(w.enroll("foreign")).raw
}
