package trust

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// TestQuarantineWhileTheLogIsReplayed: a program that fails on an entry of its own log starts, without it, and says so each time; it is no
// crash loop, and another version reads it again.
func TestQuarantineWhileTheLogIsReplayed(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a, b := w.writer("a"), w.writer("b")
	bad := a.add(a.enroll("two"))
	s.apply(t, bad, a.add(a.enroll("behind")), b.add(b.enroll("three")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s, err := open(fsys, w.mesh, nil, nil, func(e *Entry) {
			if e.hash == bad.hash {
				panic("a bug of this version")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		q := s.Quarantined()
		if len(q) != 1 || q[0].Hash != bad.hash || q[0].Why != "a bug of this version" || !strings.Contains(q[0].String(), "entry 1 of") {
			t.Fatalf("%+v", q)
		}
		if !lively(s.Current(), "three") || lively(s.Current(), "two") {
			t.Fatal("not the state without it")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	s = openStore(t, w, fsys)
	if len(s.Quarantined()) > 0 || !lively(s.Current(), "two") || !lively(s.Current(), "behind") {
		t.Fatal("a version without the bug does not have it all")
	}
}

// TestQuarantineOfEvidence: evidence, too, holds entries.
func TestQuarantineOfEvidence(t *testing.T) {
	w := newWorld(t, 1, "a")
	m, s := liar(t, w)
	a := w.writer("a")
	x := a.branch()
	e := Evidence{A: a.add(a.enroll("p")).raw, B: x.add(x.enroll("q")).raw}
	m.again = func() {}
	before := m.state
	m.testFrame = func(Frame) { panic("boom") }
	for i := range 3 {
		r, err := s.Receive(e.frame(), 0, epoch0)
		if want := map[int]int{0: 1}[i]; err != nil || len(r.Quarantined) != want {
			t.Fatalf("%v, %+v", err, r.Quarantined)
		}
	}
	if m.state != before {
		t.Fatal("half applied")
	}
}

// TestQuarantineOfAnOwnEntry: what this program could not apply it does not sign, and the store goes on.
func TestQuarantineOfAnOwnEntry(t *testing.T) {
	w := newWorld(t, 1, "a")
	s := newStore(t, w, durable.NewMem())
	defer s.Close()
	a := w.writer("a")
	if _, err := s.AppendOwn(a.key, epoch0, badOp{}); !errors.Is(err, ErrQuarantined) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.AppendOwn(a.key, epoch0, a.enroll("one")); err != nil || !lively(s.Current(), "one") {
		t.Fatalf("after it: %v", err)
	}
}

// badOp is an op with a bug.
type badOp struct{ OpUngrant }

func (badOp) check() error { panic("a bug of this version") }

// TestSyncQuarantine: an entry that makes apply fail is put aside; the node and all other issuers go on.
func TestSyncQuarantine(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	m, s := liar(t, w)
	a, b := w.writer("a"), w.writer("b")
	bad := a.add(a.enroll("one"))
	calls := 0
	m.testApply = func(e *Entry) {
		if e.hash == bad.hash {
			calls++
			panic("boom")
		}
	}
	for range 3 {
		r, err := s.Receive(rawFrame(KindEntry, bad.raw), 0, epoch0)
		if err != nil || len(r.Changes) != 0 {
			t.Fatalf("%v", err)
		}
	}
	if calls != 1 {
		t.Fatalf("tried %d times", calls)
	}
	if len(m.quarantine.list) != 1 || m.quarantine.list[0].Why != "boom" || m.quarantine.list[0].Seq != 1 {
		t.Fatalf("%+v", m.quarantine.list)
	}
	// A peer whose view has it is asked for it at most once: not over and over, as fast as it answers.
	v := w.start.Vector()
	for i := range v.Issuers {
		if v.Issuers[i].Issuer == a.key.Public() {
			v.Issuers[i].Seq, v.Issuers[i].Hash = 1, bad.hash
		}
	}
	late := NewHub(m).NewSync(false)
	asked := 0
	queue := []Frame{v.frame()}
	for i := 0; len(queue) > 0 && i < 100; i++ {
		r, err := late.Receive(queue[0], time.Duration(i)*time.Second, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		queue = queue[1:]
		for _, f := range append(r.Send, late.Tick(time.Duration(i)*time.Second)...) {
			if f.Kind == KindWant {
				asked++
				queue = append(queue, rawFrame(KindEntry, bad.raw))
			}
		}
	}
	if asked > 2 || !late.Synced() {
		t.Fatalf("asked for it %d times, synced %v", asked, late.Synced())
	}
	if _, err := m.ApplyEntry(bad, epoch0); !errors.Is(err, ErrQuarantined) {
		t.Fatal(err)
	}
	if r, err := s.Receive(rawFrame(KindEntry, b.add(b.enroll("two")).raw), 0, epoch0); err != nil || len(r.Changes) != 1 {
		t.Fatalf("%v", err)
	}
}
