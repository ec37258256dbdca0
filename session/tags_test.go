package session

import (
	"errors"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// table is a window driven without connections.
type table struct {
	t    *testing.T
	tags *Tags
	ring *Keyring
	x    keys.Exporter
	now  time.Time
}

func newTable(t *testing.T) *table {
	k := testSession(keys.SuiteAES)
	tb := &table{t: t, tags: NewTags(), ring: NewKeyring(k, keys.RoleAcceptor, nil), x: k.Exporter, now: time.Unix(1e9, 0)}
	tb.tags.Register(tb.ring, nil, tb.now)
	return tb
}

// valid reports whether the peer's counter would be taken.
func (tb *table) valid(counter uint64) bool {
	_, ok := tb.tags.lookup(tb.x.StreamTag(keys.RoleDialer, counter), tb.now)
	return ok
}

// take accepts the peer's counter.
func (tb *table) take(counter uint64) {
	tb.t.Helper()
	tag := tb.x.StreamTag(keys.RoleDialer, counter)
	f, ok := tb.tags.lookup(tag, tb.now)
	if !ok || !tb.tags.claim(tag, f, tb.now) {
		tb.t.Fatalf("counter %d refused", counter)
	}
}

func TestWindowIdle(t *testing.T) {
	tb := newTable(t)
	if tb.tags.Size() != windowIdle || !tb.valid(0) || !tb.valid(windowIdle-1) || tb.valid(windowIdle) {
		t.Fatalf("%d tags", tb.tags.Size())
	}
}

// Use makes the window grow, idleness makes it shrink again.
func TestWindowGrowsAndShrinks(t *testing.T) {
	tb := newTable(t)
	for c := range uint64(100) {
		tb.take(c)
	}
	if got, want := tb.tags.Size(), 100*windowGrowth; got != want {
		t.Fatalf("%d tags after 100 opens, want %d", got, want)
	}
	for c := range uint64(2000) {
		tb.take(100 + c)
	}
	if got := tb.tags.Size(); got != windowMax {
		t.Fatalf("%d tags after 2,100 opens, want %d", got, windowMax)
	}
	if !tb.valid(2100+windowMax-1) || tb.valid(2100+windowMax) {
		t.Fatal("the window's end is not where it should be")
	}
	tb.now = tb.now.Add(2 * windowEpoch)
	tb.tags.Sweep(tb.now)
	if got := tb.tags.Size(); got != windowIdle {
		t.Fatalf("%d tags when idle again, want %d", got, windowIdle)
	}
	if got := cap(tb.ring.window.slots); got > 4*windowIdle {
		t.Fatalf("%d slots are still held", got)
	}
	tb.take(2100 + windowIdle - 1) // and it goes on
}

// An overtaken counter is valid for 10 s, sweep or not.
func TestHoles(t *testing.T) {
	tb := newTable(t)
	tb.take(5)
	for c := range uint64(5) {
		if !tb.valid(c) {
			t.Fatalf("counter %d was overtaken and is refused", c)
		}
	}
	if tb.valid(5) {
		t.Fatal("a used counter is valid")
	}
	tb.now = tb.now.Add(holeLife - time.Nanosecond)
	tb.take(3)
	tb.now = tb.now.Add(time.Nanosecond)
	if tb.valid(2) {
		t.Fatal("a hole is valid after 10 s")
	}
	tb.tags.Sweep(tb.now)
	if got := tb.tags.Size(); got != windowIdle {
		t.Fatalf("%d tags", got)
	}
	if tb.ring.window.holes != 0 {
		t.Fatalf("%d holes counted", tb.ring.window.holes)
	}
}

// Holes are bounded in number: the oldest go.
func TestHolesAreBounded(t *testing.T) {
	tb := newTable(t)
	next := uint64(0)
	for tb.ring.window.high < 3*windowMax {
		next = tb.ring.window.high + windowIdle - 1
		tb.take(next)
	}
	if h := tb.ring.window.holes; h > windowMax {
		t.Fatalf("%d holes", h)
	}
	if tb.valid(0) || !tb.valid(next-1) {
		t.Fatal("not the oldest holes went")
	}
}

// One old hole does not keep the state of everything after it.
func TestWindowSpanIsBounded(t *testing.T) {
	tb := newTable(t)
	for c := uint64(1); c < windowSpan+100; c++ {
		tb.take(c)
	}
	if w := tb.ring.window; w.high-w.base > windowSpan || tb.valid(0) {
		t.Fatalf("the window spans %d", w.high-w.base)
	}
}

func TestSkip(t *testing.T) {
	tb := newTable(t)
	skip := func(c uint64) {
		t.Helper()
		if err := tb.tags.Skip(tb.ring, c, tb.now); err != nil {
			t.Fatal(err)
		}
	}
	skip(10)
	if tb.valid(10) || !tb.valid(9) || !tb.valid(11) || !tb.valid(10+windowIdle) || tb.valid(11+windowIdle) {
		t.Fatal("SKIP did not move the window to behind its counter")
	}
	skip(9) // a hole
	skip(9) // again
	skip(10)
	if tb.valid(9) || !tb.valid(8) {
		t.Fatal("SKIP of a hole")
	}
	// Far beyond: 32 each way, nothing between.
	skip(2000)
	if tb.valid(8) || tb.valid(2000-windowIdle-1) || !tb.valid(2000-windowIdle) || tb.valid(2000) || !tb.valid(2001) ||
		tb.valid(2001+windowIdle) {
		t.Fatal("SKIP far ahead")
	}
	if got := tb.tags.Size(); got != 2*windowIdle {
		t.Fatalf("%d tags", got)
	}
	if err := tb.tags.Skip(tb.ring, 2001+windowMax, tb.now); !errors.Is(err, ErrProtocol) {
		t.Fatalf("SKIP beyond any honest counter: %v", err)
	}
	if err := tb.tags.Skip(tb.ring, 1<<63, tb.now); !errors.Is(err, ErrProtocol) {
		t.Fatal(err)
	}
	skip(3) // long gone
}

func TestUnregister(t *testing.T) {
	tb := newTable(t)
	tb.tags.Unregister(tb.ring, 0, tb.now)
	if tb.tags.Size() != 0 || tb.valid(0) {
		t.Fatal("tags of an ended session are valid")
	}
	if _, err := tb.ring.take(); !errors.Is(err, ErrEnded) {
		t.Fatal("a stream began with an ended session")
	}
	tb.tags.Unregister(tb.ring, 0, tb.now)
	tb.tags.Sweep(tb.now)
	if err := tb.tags.Skip(tb.ring, 5, tb.now); err != nil {
		t.Fatal(err)
	}
}

// The tags of a session that lost to a duplicate stay valid 5 s, exactly.
func TestUnregisterWithGrace(t *testing.T) {
	tb := newTable(t)
	tb.tags.Unregister(tb.ring, DuplicateGrace, tb.now)
	tb.now = tb.now.Add(DuplicateGrace - time.Nanosecond)
	tb.tags.Sweep(tb.now)
	tb.take(0)
	tb.now = tb.now.Add(time.Nanosecond)
	if tb.valid(1) {
		t.Fatal("valid after the grace")
	}
	tb.tags.Sweep(tb.now)
	if tb.tags.Size() != 0 || len(tb.tags.rings) != 0 {
		t.Fatal("not forgotten")
	}
	for _, g := range tb.ring.generations {
		if g.x.IsSet() {
			t.Fatal("the exporter of an ended session is still in memory")
		}
	}
}

// After a rekey tags of both generations are valid, for one use together, and those of the old one 10 s.
func TestWindowAcrossRekey(t *testing.T) {
	tb := newTable(t)
	old := tb.x
	next := nextExporter(keys.SuiteAES, 1)
	if err := tb.tags.Install(tb.ring, 1, next); err != nil {
		t.Fatal(err)
	}
	if got := tb.tags.Size(); got != 2*windowIdle {
		t.Fatalf("%d tags", got)
	}
	tb.take(0)
	tb.x = next
	if tb.valid(0) {
		t.Fatal("a counter was taken in one generation and is valid in the other")
	}
	tb.take(1)
	tb.x = old
	if tb.valid(1) {
		t.Fatal("a counter was taken in one generation and is valid in the other")
	}
	tb.tags.Switch(tb.ring, tb.now)
	tb.now = tb.now.Add(RetireGrace - time.Nanosecond)
	tb.take(2)
	tb.now = tb.now.Add(time.Nanosecond)
	if tb.valid(3) {
		t.Fatal("the old generation is valid after its grace")
	}
	tb.x = next
	tb.take(3)
	tb.tags.Sweep(tb.now)
	if len(tb.ring.generations) != 1 || tb.ring.generations[0].number != 1 {
		t.Fatal("the old exporter was not erased")
	}
	if got := tb.tags.Size(); got != windowIdle {
		t.Fatalf("%d tags", got)
	}
	if err := tb.tags.Install(tb.ring, 1, next); err == nil {
		t.Fatal("a generation was installed twice")
	}
	if err := tb.tags.Install(tb.ring, 3, next); err == nil {
		t.Fatal("a generation was passed over")
	}
	// Two rekeys within the grace: the oldest makes room.
	for g := uint64(2); g < 5; g++ {
		if err := tb.tags.Install(tb.ring, g, nextExporter(keys.SuiteAES, g)); err != nil {
			t.Fatal(err)
		}
		tb.tags.Switch(tb.ring, tb.now)
	}
	if got := tb.tags.Size(); got != 2*windowIdle {
		t.Fatalf("%d tags", got)
	}
	tb.x = nextExporter(keys.SuiteAES, 4)
	tb.take(4)
}

// Counters are never given out twice, by any number of openers, nor started again by a rekey.
func TestCountersAreUsedOnce(t *testing.T) {
	r := NewKeyring(testSession(keys.SuiteAES), keys.RoleDialer, nil)
	tags := NewTags()
	seen := map[uint64]bool{}
	for g := range uint64(3) {
		for range 10 {
			tk, err := r.take()
			if err != nil || seen[tk.counter] || tk.generation != g {
				t.Fatalf("%+v %v", tk, err)
			}
			seen[tk.counter] = true
		}
		if err := tags.Install(r, g+1, nextExporter(keys.SuiteAES, g+1)); err != nil {
			t.Fatal(err)
		}
		tags.Switch(r, time.Now())
	}
}
