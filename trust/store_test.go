package trust

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

func newStore(t testing.TB, w *world, fsys durable.FS) *Store {
	t.Helper()
	if err := Create(fsys, w.genesis, nil, nil); err != nil {
		t.Fatal(err)
	}
	return openStore(t, w, fsys)
}

func openStore(t testing.TB, w *world, fsys durable.FS) *Store {
	t.Helper()
	s, err := Open(fsys, w.mesh)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *Store) apply(t testing.TB, es ...*Entry) {
	t.Helper()
	for _, e := range es {
		if _, err := s.ApplyEntry(e, epoch0+day); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoreReplays(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a, b := w.writer("a"), w.writer("b")
	s.apply(t, a.add(a.enroll("one")), b.add(b.enroll("two")), a.add(revokeNode("two")))
	if _, err := s.ApplyFrame(rawFrame(KindRoot, w.root(s.Current(), func(r *Root) { r.Name = "second" })), epoch0); err != nil {
		t.Fatal(err)
	}
	x := b.branch()
	s.apply(t, b.add(b.enroll("three")))
	c, err := s.ApplyEntry(x.add(revokeNode("one")), epoch0) // a fork
	if err != nil || c.Kind != KindEvidence {
		t.Fatalf("%v %d", err, c.Kind)
	}
	head, err := s.Current().NewHead(a.key, epoch0+7)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ApplyFrame(rawFrame(KindHead, head), epoch0+7); err != nil {
		t.Fatal(err)
	}
	want, digest := dump(s.Current()), s.Current().Digest()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, w, fsys)
	if got := dump(s.Current()); got != want || s.Current().Digest() != digest {
		t.Fatalf("after a restart:\n%s\nwant\n%s", got, want)
	}
	if h, _, ok := s.Current().HeadOf(a.key.Public()); !ok || h.Time != epoch0+7 {
		t.Fatal("the head is gone")
	}
	for _, e := range a.all {
		if string(s.Entry(e.Issuer, e.Seq)) != string(e.raw) {
			t.Fatalf("entry %d is not served", e.Seq)
		}
	}
	if s.Entry(a.key.Public(), 3) != nil || s.Entry(keys.PublicKey{}, 1) != nil || s.Entry(a.key.Public(), 0) != nil {
		t.Fatal("served what is not there")
	}
}

func TestStoreOpenErrors(t *testing.T) {
	w, o := newWorld(t, 1, "a"), newWorld(t, 1, "b")
	fsys := durable.NewMem()
	if _, err := Open(fsys, w.mesh); !errors.Is(err, ErrEmpty) {
		t.Fatalf("empty: %v", err)
	}
	if err := Create(fsys, w.genesis[1:], nil, nil); err == nil {
		t.Fatal("a broken genesis")
	}
	newStore(t, w, fsys).Close()
	if err := Create(fsys, w.genesis, nil, nil); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("twice: %v", err)
	}
	if _, err := Open(fsys, o.mesh); err == nil || !strings.Contains(err.Error(), "not "+o.mesh.Short()) {
		t.Fatalf("another mesh: %v", err)
	}
}

// TestStoreRefusesForgedLog: a disk writer who fixes the checksums cannot add anything: signatures are verified at every start.
func TestStoreRefusesForgedLog(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	a.key = keyOf("forger")
	d := a.draft(a.enroll("evil"))
	d.Issuer = keyOf("issuer a").Public()
	forged := a.sign(d)
	for name, body := range map[string][]byte{
		"entry":   rawFrame(KindEntry, forged.raw).Body,
		"kind":    {0x81, 0x18, 99},
		"garbage": {0xff},
		"root":    rawFrame(KindRoot, newWorld(t, 1, "x").genesis).Body,
	} {
		fsys := durable.NewMem()
		newStore(t, w, fsys).Close()
		l, _, err := durable.OpenLog(fsys, logName, MaxFrame, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.AppendSync(body); err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(fsys, w.mesh); err == nil || !strings.Contains(err.Error(), "frame 1") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStoreCreateFromMemory is what a newcomer does at the end of its enrolment.
func TestStoreCreateFromMemory(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	a.add(a.enroll("one"))
	pins := []identity.IssuerHead{{Issuer: a.key.Public(), Seq: 1, Hash: a.all[0].hash}}
	m, err := NewMemory(w.genesis, pins)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.ApplyEntry(a.all[0], epoch0); err != nil {
		t.Fatal(err)
	}
	fsys := durable.NewMem()
	if err := Create(fsys, w.genesis, pins, m.History()); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, w, fsys)
	wantLive(t, s.Current(), "one", true)
	// The invite's head still chooses the branch after a restart.
	x := w.writer("a")
	x.add(x.enroll("evil"))
	fs2 := durable.NewMem()
	if err := Create(fs2, w.genesis, pins, nil); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, w, fs2)
	if _, err := s.ApplyEntry(x.all[0], epoch0); !errors.Is(err, ErrBranch) {
		t.Fatalf("the other branch: %v", err)
	}
}

func TestStoreRootForkAndAccept(t *testing.T) {
	w := newWorld(t, 1, "a")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a := w.writer("a")
	s.apply(t, a.add(a.enroll("one")))
	left := w.root(s.Current(), func(r *Root) { cutoff(r, a.key.Public(), 0, keys.ChainStart(w.mesh, a.key.Public())) })
	right := w.root(s.Current(), func(r *Root) { r.Name = "right" })
	for _, raw := range [][]byte{left, right} {
		if _, err := s.ApplyFrame(rawFrame(KindRoot, raw), epoch0); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.Current().RootFork()) != 2 {
		t.Fatal("no fork")
	}
	want := dump(s.Current())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, w, fsys)
	if got := dump(s.Current()); got != want {
		t.Fatalf("after a restart:\n%s\nwant\n%s", got, want)
	}
	r, err := parseRoot(right)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.AcceptRoot(r.hash); err != nil {
		t.Fatal(err)
	}
	wantLive(t, s.Current(), "one", true)
	want = dump(s.Current())
	fsys.Crash()
	s = openStore(t, w, fsys)
	if got := dump(s.Current()); got != want {
		t.Fatalf("after accepting and a crash:\n%s\nwant\n%s", got, want)
	}
}

// TestStoreAppliesBeforeItWrites: what others sent counts and is announced before any write, and survives once flushed.
func TestStoreAppliesBeforeItWrites(t *testing.T) {
	w := newWorld(t, 1, "a")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a := w.writer("a")
	before, ch := fsys.Steps(), s.Changed()
	s.apply(t, a.add(revokeNode("one")))
	if fsys.Steps() != before {
		t.Fatal("written before it counts")
	}
	select {
	case <-ch:
	default:
		t.Fatal("not announced")
	}
	if s.Entry(a.key.Public(), 1) == nil {
		t.Fatal("cannot be passed on before it is written")
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	fsys.Crash()
	if _, ok := openStore(t, w, fsys).Current().Revoked(nodeID("one")); !ok {
		t.Fatal("lost after Flush")
	}
}

// TestStoreOwnEntryIsDurableFirst cuts the power at every step of an own entry: what AppendOwn returned is there after the crash,
// and the next own entry never contradicts one that anybody could have seen.
func TestStoreOwnEntryIsDurableFirst(t *testing.T) {
	w := newWorld(t, 1, "a")
	for _, keep := range []bool{false, true} {
		for cut := 1; ; cut++ {
			fsys := durable.NewMem()
			s := newStore(t, w, fsys)
			a := w.writer("a")
			b := a.enroll("base")
			seen, err := s.AppendOwn(a.key, epoch0, b)
			if err != nil {
				t.Fatal(err)
			}
			fsys.CutPower(cut, keep)
			var sent []Change
			sent = append(sent, seen)
			var failed error
			for i := range 3 {
				c, err := s.AppendOwn(a.key, epoch0, a.enroll(fmt.Sprint("n", i)))
				if err != nil {
					failed = err
					break
				}
				if s.Entry(c.Issuer, c.Seq) == nil {
					t.Fatal("returned and not visible")
				}
				sent = append(sent, c)
			}
			fsys.CrashKeeping(uint64(cut))
			s = openStore(t, w, fsys)
			for _, c := range sent {
				if h, ok := s.Current().HashAt(c.Issuer, c.Seq); !ok || h != c.Entry.hash {
					t.Fatalf("cut %d: entry %d was sent and is lost", cut, c.Seq)
				}
			}
			// A peer that has all that was sent takes the next own entry without finding a contradiction.
			peer := w.start
			for _, c := range sent {
				peer = must(t, peer, c.Entry)
			}
			c, err := s.AppendOwn(a.key, epoch0, revokeNode("base"))
			if err != nil {
				t.Fatalf("cut %d: %v", cut, err)
			}
			seq, _, _ := peer.Position(c.Issuer)
			for i := seq + 1; i <= c.Seq; i++ {
				e, err := ParseEntry(s.Entry(c.Issuer, i), w.mesh)
				if err != nil {
					t.Fatal(err)
				}
				peer = must(t, peer, e)
			}
			if failed == nil {
				break // the cut came after everything
			}
		}
	}
}

// TestStoreCrashAtEveryStep cuts the power while received entries are written: what is left is a prefix, and syncing brings the rest.
func TestStoreCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	var es []*Entry
	for i := range 4 {
		es = append(es, a.add(a.enroll(fmt.Sprint("n", i))), b.add(revokeNode(fmt.Sprint("n", i))))
	}
	for _, keep := range []bool{false, true} {
		done := false
		for cut := 1; !done; cut++ {
			fsys := durable.NewMem()
			s := newStore(t, w, fsys)
			fsys.CutPower(cut, keep)
			flushed := 0
			for i, e := range es {
				s.apply(t, e)
				if i%3 == 2 && s.Flush() == nil {
					flushed = i + 1
				}
			}
			done = s.Close() == nil
			fsys.CrashKeeping(uint64(cut))
			s = openStore(t, w, fsys)
			n := 0
			for _, e := range es {
				if h, ok := s.Current().HashAt(e.Issuer, e.Seq); ok && h == e.hash {
					n++
				} else {
					break
				}
			}
			if n < flushed {
				t.Fatalf("cut %d: %d entries flushed, %d left", cut, flushed, n)
			}
			s.apply(t, es[n:]...)
			if dump(s.Current()) != dump(must(t, w.start, es...)) {
				t.Fatalf("cut %d: not the same state after syncing again", cut)
			}
		}
	}
}

// TestStoreFailedSync: both flavours, "failed" and "failed but persisted". An own entry is then either given up for certain or there.
func TestStoreFailedSync(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	for _, happen := range []bool{false, true} {
		fsys := durable.NewMem()
		s := newStore(t, w, fsys)
		a, b := w.writer("a"), w.writer("b")
		s.apply(t, b.add(revokeNode("two")))
		fsys.Fail(durable.Fault{Op: durable.OpSync, Err: syscall.EIO, Happen: happen})
		if _, err := s.AppendOwn(a.key, epoch0, a.enroll("lost")); err == nil {
			t.Fatal("a failed sync was not noticed")
		}
		if seq, _, _ := s.Current().Position(a.key.Public()); seq != 0 {
			t.Fatal("visible without being durable")
		}
		if s.Err() == nil {
			t.Fatal("Err says nothing")
		}
		c, err := s.AppendOwn(a.key, epoch0, a.enroll("next"))
		if err != nil || c.Seq != 1 {
			t.Fatalf("happen %v: %v, seq %d", happen, err, c.Seq)
		}
		fsys.Crash()
		s = openStore(t, w, fsys)
		if h, _ := s.Current().HashAt(a.key.Public(), 1); h != c.Entry.hash {
			t.Fatal("the entry that was returned is not the one on disk")
		}
		if _, ok := s.Current().Revoked(nodeID("two")); !ok {
			t.Fatal("the received entry did not go to the new segment")
		}
	}
}

// TestStoreUncertainOwnEntry: if not even reopening works, nothing more is signed.
func TestStoreUncertainOwnEntry(t *testing.T) {
	w := newWorld(t, 1, "a")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a := w.writer("a")
	fsys.Fail(durable.Fault{Op: durable.OpSync, Err: syscall.EIO, Stay: true})
	fsys.Fail(durable.Fault{Op: durable.OpCreate, Err: syscall.EIO, Stay: true})
	if _, err := s.AppendOwn(a.key, epoch0, a.enroll("one")); !errors.Is(err, durable.ErrUncertain) {
		t.Fatalf("got %v", err)
	}
	fsys.Heal()
	if _, err := s.AppendOwn(a.key, epoch0, a.enroll("two")); !errors.Is(err, durable.ErrUncertain) {
		t.Fatalf("signed another while the first is uncertain: %v", err)
	}
	s.Flush() // reopens the log; the entry is void for certain now
	if _, err := s.AppendOwn(a.key, epoch0, a.enroll("three")); err != nil {
		t.Fatal(err)
	}
}

func TestStoreFullDisk(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a, b := w.writer("a"), w.writer("b")
	fsys.Limit(fsys.Used())
	for s.Err() == nil {
		if _, err := s.AppendOwn(a.key, epoch0, a.enroll("one")); err != nil {
			break
		}
	}
	if !durable.IsNoSpace(s.Err()) {
		t.Fatalf("got %v", s.Err())
	}
	s.apply(t, b.add(revokeNode("two"))) // a revocation counts without a disk
	if _, ok := s.Current().Revoked(nodeID("two")); !ok {
		t.Fatal("revocation lost")
	}
	fsys.Limit(-1)
	if _, err := s.AppendOwn(a.key, epoch0, a.enroll("three")); err != nil {
		t.Fatal(err)
	}
	fsys.Crash()
	if _, ok := openStore(t, w, fsys).Current().Revoked(nodeID("two")); !ok {
		t.Fatal("revocation not written later")
	}
}

// TestStoreFullDiskAfterAnOwnEntry: what was appended before the disk was full is synced, so the own entry is no riddle.
func TestStoreFullDiskAfterAnOwnEntry(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	a, b := w.writer("a"), w.writer("b")
	s.apply(t, b.add(revokeNode("w")))
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s.apply(t, b.add(revokeNode("x")))
	fsys.Fail(durable.Fault{Op: durable.OpWrite, Nth: 2, Err: syscall.ENOSPC, Stay: true})
	if _, err := s.AppendOwn(a.key, epoch0, revokeNode("y")); !durable.IsNoSpace(err) || errors.Is(err, durable.ErrUncertain) {
		t.Fatalf("got %v", err)
	}
	if len(s.unsynced) != 0 || len(s.queue) != 0 {
		t.Fatalf("%d unsynced, %d waiting", len(s.unsynced), len(s.queue))
	}
	fsys.Crash()
	s = openStore(t, w, fsys)
	if _, ok := s.Current().Revoked(nodeID("x")); !ok {
		t.Fatal("not synced")
	}
	if _, ok := s.Current().Revoked(nodeID("y")); ok {
		t.Fatal("the own entry was given up and is there")
	}
}

func TestStoreUnwrittenIsBounded(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	s := newStore(t, w, durable.NewMem())
	a := w.writer("a")
	s.queue = make([]queued, maxUnwritten)
	if _, err := s.ApplyEntry(a.add(a.enroll("one")), epoch0); !errors.Is(err, ErrFull) {
		t.Fatalf("got %v", err)
	}
	b := w.writer("b")
	s.apply(t, b.add(revokeNode("one")))
}

// TestStoreRun writes in the background, tries again after a failure, and writes the rest at the end.
func TestStoreRun(t *testing.T) {
	w := newWorld(t, 1, "a")
	synctest.Test(t, func(t *testing.T) {
		fsys := durable.NewMem()
		s := newStore(t, w, fsys)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		a := w.writer("a")
		s.apply(t, a.add(a.enroll("one")))
		synctest.Wait()
		if s.log.Durable() != 2 {
			t.Fatalf("%d frames durable", s.log.Durable())
		}
		fsys.Fail(durable.Fault{Op: durable.OpWrite, Err: syscall.EIO})
		s.apply(t, a.add(revokeNode("one")))
		synctest.Wait()
		if s.Err() == nil {
			t.Fatal("the failure is not told")
		}
		time.Sleep(2 * retryPause)
		synctest.Wait()
		if s.Err() != nil || s.log.Durable() != 3 {
			t.Fatalf("not repaired: %v, %d", s.Err(), s.log.Durable())
		}
		s.PeerTime(epoch0+5000, epoch0+5100)
		time.Sleep(2 * floorStep * time.Second)
		synctest.Wait()
		fsys.Crash()
		if o := openStore(t, w, fsys); o.Now(0) != epoch0+5000-clockSlack {
			t.Fatalf("floor %d", o.Now(0))
		}
		cancel()
		<-done
	})
}

// TestStoreTakeRoot: the operator's root is durable when it holds, and a second one beside it is a mistake, not a fork.
func TestStoreTakeRoot(t *testing.T) {
	w := newWorld(t, 1, "a")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	left := w.root(s.Current(), func(r *Root) { r.Name = "left" })
	right := w.root(s.Current(), func(r *Root) { r.Name = "right" })
	c, err := s.TakeRoot(left)
	if err != nil || c.Kind != KindRoot || c.Seq != 2 {
		t.Fatal(c, err)
	}
	if _, err := s.TakeRoot(right); !errors.Is(err, ErrVoid) || len(s.Current().RootFork()) != 0 {
		t.Fatal(err)
	}
	if _, err := s.TakeRoot(left); !errors.Is(err, ErrHave) {
		t.Fatal(err)
	}
	third := w.root(s.Current(), func(r *Root) { r.Name = "third" })
	fsys.Crash()
	s = openStore(t, w, fsys)
	if s.Current().Root().Version != 2 || s.Current().Root().Name != "left" {
		t.Fatal("lost")
	}
	if _, err := newStore(t, w, durable.NewMem()).TakeRoot(third); !errors.Is(err, ErrGap) {
		t.Fatal("a version skipped:", err)
	}
	// A peer brings the other: that is a fork, and nothing more is taken until it has ended.
	if _, err := s.ApplyFrame(rawFrame(KindRoot, right), epoch0); err != nil {
		t.Fatal(err)
	}
	if _, err := s.TakeRoot(third); !errors.Is(err, ErrRootFork) {
		t.Fatal(err)
	}
}

// TestStoreTakeRootOnAFullDisk: the root counts, and who asked is told that it is not on disk.
func TestStoreTakeRootOnAFullDisk(t *testing.T) {
	w := newWorld(t, 1, "a")
	fsys := durable.NewMem()
	s := newStore(t, w, fsys)
	raw := w.root(s.Current(), func(r *Root) { r.Name = "left" })
	a := w.writer("a")
	fsys.Limit(fsys.Used())
	for s.Err() == nil {
		if _, err := s.AppendOwn(a.key, epoch0, a.enroll("one")); err != nil {
			break
		}
	}
	c, err := s.TakeRoot(raw)
	if c.Kind != KindRoot || !durable.IsNoSpace(err) || s.Current().Root().Version != 2 {
		t.Fatal(c, err)
	}
	fsys.Limit(-1)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	fsys.Crash()
	if got := openStore(t, w, fsys).Current().Root().Version; got != 2 {
		t.Fatal(got)
	}
}
