package trust

import (
	"errors"
	"strings"
	"testing"

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
