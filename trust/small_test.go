package trust

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// TestStoreSmallFiles: floor and heads that cannot be read or written are told, a damaged file of heads costs only freshness.
func TestStoreSmallFiles(t *testing.T) {
	w := newWorld(t, 1, "a")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a := w.writer("a")
	head := func(at int64) {
		raw, err := s.Current().NewHead(a.key, at)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.ApplyFrame(rawFrame(KindHead, raw), at); err != nil {
			t.Fatal(err)
		}
	}
	head(epoch0 + 1000)
	for i, name := range []string{floorName, headsName} {
		fsys.Fail(durable.Fault{Op: durable.OpRename, Name: name, Err: syscall.EIO})
		if err := s.saveSmall(); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: %v", name, err)
		}
		head(epoch0 + 2000 + int64(i))
	}
	if err := s.saveSmall(); err != nil {
		t.Fatal(err)
	}
	if err := s.ResetFloor(-1); err == nil {
		t.Fatal("a clock before 1970")
	}
	fsys.Fail(durable.Fault{Op: durable.OpRename, Name: floorName, Err: syscall.EIO})
	if err := s.ResetFloor(epoch0); !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{floorName, headsName} {
		fsys.Fail(durable.Fault{Op: durable.OpRead, Name: name, Err: syscall.EIO})
		if _, err := Open(fsys, w.mesh); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if err := durable.WriteFile(fsys, headsName, []byte{0xff}); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, w, fsys)
	if _, _, ok := s.Current().HeadOf(a.key.Public()); ok {
		t.Fatal("a head out of a damaged file")
	}
}

func TestTimeFloor(t *testing.T) {
	w := newWorld(t, 1, "a")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a := w.writer("a")
	local := int64(epoch0 + 10*day)
	if s.Now(local) != local || s.ClockBehind(local) {
		t.Fatal("a new store has no floor")
	}
	a.time = epoch0 + 5*day - 1
	if _, err := s.ApplyEntry(a.add(a.enroll("one")), local); err != nil {
		t.Fatal(err)
	}
	if got := s.Now(epoch0); got != epoch0+5*day-clockSlack || !s.ClockBehind(epoch0) {
		t.Fatalf("a clock set back revives: now %d", got)
	}
	// A time ahead of the local clock moves nothing.
	a.time = local + clockSlack
	if _, err := s.ApplyEntry(a.add(a.enroll("two")), local); err != nil {
		t.Fatal(err)
	}
	if s.Now(0) != epoch0+5*day-clockSlack {
		t.Fatal("the floor followed a time from the future")
	}
	// The local clock counts only with a peer that agrees.
	far := int64(epoch0 + 1000*day)
	s.PeerTime(far, local)
	if s.Now(0) != epoch0+5*day-clockSlack {
		t.Fatal("one clock in the future moved the floor")
	}
	s.PeerTime(local, local+clockSlack)
	if s.Now(0) != local-clockSlack {
		t.Fatal("two agreeing clocks did not")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, w, fsys)
	if s.Now(0) != local-clockSlack {
		t.Fatal("the floor was not kept")
	}
	if err := s.ResetFloor(epoch0); err != nil {
		t.Fatal(err)
	}
	fsys.Crash()
	if s = openStore(t, w, fsys); s.Now(epoch0) != epoch0 {
		t.Fatal("the reset was not kept")
	}
	if err := durable.WriteFile(fsys, floorName, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(fsys, w.mesh); err == nil || !strings.Contains(err.Error(), "floor is damaged") {
		t.Fatalf("damaged floor: %v", err)
	}
}
