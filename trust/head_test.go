package trust

import (
	"errors"
	"slices"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// An issuer signs a head when its newest is old enough, over what it has on disk; the head is kept over a restart and lifts no floor.
func TestStoreSignHead(t *testing.T) {
	w := worldWith(t, 1, issuerOf("a", allCaps), issuerOf("b", allCaps&^CapHead))
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a, b := w.writer("a"), w.writer("b")
	s.apply(t, a.add(a.enroll("one")))
	floor := s.Now(0)
	c, err := s.SignHead(a.key, epoch0+1000, 300)
	if err != nil || c.Kind != KindHead || c.Seq != 1 {
		t.Fatalf("%v %+v", err, c)
	}
	if h, _, _ := s.Current().HeadOf(a.key.Public()); h.Time != epoch0+1000 || h.Hash != a.prev {
		t.Fatalf("signed %+v", h)
	}
	if _, err := newStore(t, w, durable.NewMem()).ApplyFrame(c.Frame, epoch0+1000); err != nil {
		t.Fatalf("others say: %v", err)
	}
	if s.Now(0) != floor {
		t.Fatal("a head of this host's own clock lifted the floor")
	}
	if c, err := s.SignHead(a.key, epoch0+1299, 300); err != nil || c.Kind != 0 {
		t.Fatalf("before the time: %v %+v", err, c)
	}
	if c, err := s.SignHead(a.key, epoch0+1300, 300); err != nil || c.Kind != KindHead {
		t.Fatalf("when the time has come: %v", err)
	}
	if _, err := s.SignHead(b.key, epoch0+1300, 300); !errors.Is(err, ErrNoRight) {
		t.Fatalf("without the right: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, w, fsys)
	if c, err := s.SignHead(a.key, epoch0+1301, 300); err != nil || c.Kind != 0 {
		t.Fatalf("after a restart one more than is due: %v", err)
	}
}

// A host whose log is an old copy signs no head once it has heard one of its own longer chain.
func TestSignHeadOnAnOldCopy(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	s := newStore(t, w, durable.NewMem())
	s.apply(t, a.add(a.enroll("one")))
	longer := signHead(&Head{Mesh: w.mesh, Issuer: a.key.Public(), Seq: 5, Hash: a.prev, RootVersion: 1, Time: epoch0}, a.key)
	if _, err := s.ApplyFrame(rawFrame(KindHead, longer), epoch0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignHead(a.key, epoch0+1000, 300); !errors.Is(err, ErrHave) {
		t.Fatalf("signed over a shorter chain: %v", err)
	}
}

// A head that was signed while a clock was in the future is in nobody's way once the clock is right: the next one takes its place, and
// until then it hides no freeze.
func TestHeadFromTheFuture(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	s := newStore(t, w, durable.NewMem())
	s.apply(t, a.add(a.enroll("one")))
	wild := int64(epoch0 + 200*day)
	if _, err := s.SignHead(a.key, wild, 300); err != nil {
		t.Fatal(err)
	}
	now := int64(epoch0 + 1000)
	if got := s.Current().Staleness(now); got != 1000 {
		t.Fatalf("the future says that the view is %d s old; the root is 1000", got)
	}
	if v := s.Current().View(now); v.Known {
		t.Fatalf("age known from the future: %+v", v)
	}
	c, err := s.SignHead(a.key, now, 300)
	if err != nil || c.Kind != KindHead {
		t.Fatalf("the next head: %v", err)
	}
	if v := s.Current().View(now + 10); !v.Known || v.Age != 10 {
		t.Fatalf("%+v", v)
	}
	if _, err := s.Current().ApplyHead(c.Body, now); err == nil {
		t.Fatal("the frame is no head")
	}
}

// A head of a chain that is longer than the one held makes no view fresh: whoever passes heads on and keeps the entries back, those that
// revoke it, hides nothing by that.
func TestHeadOfALongerChainIsNotFresh(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	s := must(t, w.start, a.add(a.enroll("one")))
	head := func(s *State, at int64) *State {
		t.Helper()
		raw := signHead(&Head{Mesh: w.mesh, Issuer: a.key.Public(), Seq: a.seq, Hash: a.prev, RootVersion: 1, Time: at}, a.key)
		n, err := s.ApplyHead(raw, epoch0+10000)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	now := int64(epoch0 + 2000)
	s = head(s, epoch0+1000)
	hidden := a.add(revokeNode("one"))
	s = head(head(s, epoch0+1300), epoch0+1600)
	if v := s.View(now); !v.Known || v.Age != 1000 || s.Staleness(now) != 1000 {
		t.Fatalf("with a hidden entry the view is %d s old: %+v", s.Staleness(now), v)
	}
	s = must(t, s, hidden)
	if v := s.View(now); v.Age != 400 || s.Staleness(now) != 400 {
		t.Fatalf("with the entry: %+v", v)
	}
	first := newWorld(t, 1, "a")
	raw := signHead(&Head{Mesh: first.mesh, Issuer: a.key.Public(), Seq: 1, Hash: a.prev, RootVersion: 1, Time: now}, a.key)
	n, err := first.start.ApplyHead(raw, now)
	if err != nil {
		t.Fatal(err)
	}
	if v := n.View(now); v.Known {
		t.Fatalf("the first head is of a chain that is not held: %+v", v)
	}
}

// A root from the future is no head either.
func TestStalenessOfARootFromTheFuture(t *testing.T) {
	w := newWorld(t, 1, "a")
	if got := w.start.Staleness(epoch0 - clockSlack - 1); got < 1000*day {
		t.Fatalf("%d", got)
	}
	if got := w.start.Staleness(epoch0 - clockSlack); got != 0 {
		t.Fatalf("%d", got)
	}
}

// View says what is known of a view's age, and no more.
func TestView(t *testing.T) {
	w := worldWith(t, 1, issuerOf("a", allCaps), issuerOf("b", allCaps&^CapHead))
	a, b := w.writer("a"), w.writer("b")
	s := must(t, w.start, b.add(b.enroll("one")))
	now := int64(epoch0 + 5000)
	if v := s.View(now); v.Known || v.Stale || v.MaxStale != 0 || !slices.Equal(v.Signers, []string{"a"}) || v.LastEntry != b.time {
		t.Fatalf("without a head: %+v", v)
	}
	raw, err := s.NewHead(a.key, now-40)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = s.ApplyHead(raw, now); err != nil {
		t.Fatal(err)
	}
	if v := s.View(now); !v.Known || v.Age != 40 {
		t.Fatalf("with one: %+v", v)
	}
	if v := s.View(now - 60); v.Age != 0 {
		t.Fatalf("a little ahead: %+v", v)
	}
	for action, restrict := range []bool{false, true} {
		r := mustRoot(t, s, w.root(s, func(r *Root) { r.Params.MaxStale, r.Params.StaleAction = 600, uint64(action) }))
		if v := r.View(now + 560); v.Stale || v.Restrict != restrict || v.MaxStale != 600 {
			t.Fatalf("at the limit: %+v", v)
		}
		if v := r.View(now + 561); !v.Stale || v.Restrict != restrict {
			t.Fatalf("beyond it: %+v", v)
		}
	}
	if v := s.View(epoch0 + 366*day); len(v.Signers) != 0 {
		t.Fatalf("a key that has ended signs no heads: %+v", v)
	}
}
