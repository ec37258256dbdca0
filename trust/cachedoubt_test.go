package trust

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
)

// TestCacheNotOfDoubtfulStates: what a fork, a branch looked for, or an unknown op left open is computed anew each time; and so is what
// the log does not hold yet.
func TestCacheNotOfDoubtfulStates(t *testing.T) {
	for name, spoil := range map[string]func(w *world, a *writer, s *Store){
		"a forked issuer": func(w *world, a *writer, s *Store) {
			x := a.branch()
			s.apply(w.t, a.add(a.enroll("p")), x.add(x.enroll("q")))
		},
		"a root fork": func(w *world, _ *writer, s *Store) {
			st := s.Current()
			for _, n := range []string{"left", "right"} {
				_, _ = s.ApplyFrame(rawFrame(KindRoot, w.root(st, func(r *Root) { r.Name = n })), epoch0)
			}
			if len(s.Current().RootFork()) != 2 {
				w.t.Fatal("no fork")
			}
		},
		"an op of a later version": func(w *world, a *writer, s *Store) {
			s.apply(w.t, a.add(OpUnknown{Kind: 100, Raw: []byte{0x81, 0x18, 100}}))
		},
		"a branch that is looked for": func(w *world, a *writer, s *Store) {
			x := a.branch()
			s.apply(w.t, a.add(a.enroll("p")))
			e := x.add(x.enroll("q"))
			raw := w.root(s.Current(), func(r *Root) { cutoff(r, a.key.Public(), e.Seq, e.hash) })
			if _, err := s.ApplyFrame(rawFrame(KindRoot, raw), epoch0); err != nil {
				w.t.Fatal(err)
			}
		},
		"an entry in quarantine": func(w *world, a *writer, s *Store) {
			s.rep.testApply = func(*Entry) { panic("a bug") }
			if _, err := s.ApplyEntry(a.add(a.enroll("p")), epoch0); !errors.Is(err, ErrQuarantined) {
				w.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, fsys, s := cacheWorld(t)
			spoil(w, a, s)
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			s.keepState(0)
			if _, err := durable.Open(fsys, cacheName); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("kept: %v", err)
			}
		})
	}
	t.Run("an entry that waits for the disk", func(t *testing.T) {
		_, a, fsys, s := cacheWorld(t)
		s.apply(t, a.add(a.enroll("p")))
		s.keepState(0)
		if _, err := durable.Open(fsys, cacheName); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("kept: %v", err)
		}
	})
	root := func(t *testing.T) (*durable.Mem, *Store) {
		w, _, fsys, s := cacheWorld(t)
		raw := w.root(s.Current(), func(r *Root) { r.Name = "second" })
		if _, err := s.ApplyFrame(rawFrame(KindRoot, raw), epoch0); err != nil {
			t.Fatal(err)
		}
		return fsys, s
	}
	kept := func(t *testing.T, fsys *durable.Mem, s *Store) {
		s.keepState(0)
		if _, err := durable.Open(fsys, cacheName); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("kept: %v", err)
		}
	}
	t.Run("a root that waits for the disk", func(t *testing.T) {
		fsys, s := root(t)
		kept(t, fsys, s)
	})
	t.Run("a root whose write failed", func(t *testing.T) {
		fsys, s := root(t)
		fsys.Fail(durable.Fault{Op: durable.OpSync, Err: errors.New("disk"), Stay: true})
		if s.Flush() == nil || len(s.unsynced) == 0 {
			t.Fatal("the write was to fail, and the log not to be opened again")
		}
		fsys.Heal()
		kept(t, fsys, s)
	})
	t.Run("an own entry whose write failed", func(t *testing.T) {
		w, a, fsys, s := cacheWorld(t)
		fsys.Fail(durable.Fault{Op: durable.OpSync, Err: errors.New("disk")})
		if _, err := s.AppendOwn(a.key, epoch0+9, a.enroll("p")); err == nil {
			t.Fatal("no error")
		}
		fsys.Heal()
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
		s.keepState(0)
		if ok, words := agrees(t, w, fsys); ok && words != "" {
			t.Fatalf("used %v, said %q", ok, words)
		}
	})
}

// TestCacheOfALeftBranch: removals of a branch that was left for the one the invite names count on, as strays; so they do with the cache.
func TestCacheOfALeftBranch(t *testing.T) {
	w := newWorld(t, 1, "a")
	honest := w.writer("a")
	honest.add(honest.enroll("one"))
	thief := honest.branch()
	thief.add(revokeNode("one"))
	honest.add(honest.enroll("two"))
	honest.add(honest.enroll("three"))
	fsys := durable.NewMem()
	pins := []identity.IssuerHead{{Issuer: honest.key.Public(), Seq: 3, Hash: honest.all[2].hash}}
	if err := Create(fsys, w.genesis, pins, nil); err != nil {
		t.Fatal(err)
	}
	s, _ := openCached(t, w, fsys)
	s.apply(t, thief.all...)
	for range 3 {
		for _, e := range slices.Backward(honest.all) {
			_ = Replay(s, rawFrame(KindEntry, e.raw), epoch0)
		}
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	f, _ := s.Current().nodes.get(nodeKey(nodeID("one")))
	if len(f.removals()) != 1 || !f.removals()[0].stray || !lively(s.Current(), "three") {
		t.Fatalf("not on the right branch: %+v", f.removals())
	}
	s.keepState(0)
	x, _ := openCached(t, w, fsys)
	if a, b := deep(x.Current()), deep(s.Current()); !used(x) || a != b {
		t.Fatalf("used %v, cached (-), live (+):\n%s", used(x), differ(a, b))
	}
}

// TestCacheOfAnAcceptedFork: the operator's decision outlives the log frame it was made by.
func TestCacheOfAnAcceptedFork(t *testing.T) {
	w, _, fsys, s := cacheWorld(t)
	st := s.Current()
	left := w.root(st, func(r *Root) { r.Name = "left" })
	right := w.root(st, func(r *Root) { r.Name = "right" })
	for _, raw := range [][]byte{left, right} {
		if _, err := s.ApplyFrame(rawFrame(KindRoot, raw), epoch0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.AcceptRoot(s.Current().RootFork()[0].hash); err != nil {
		t.Fatal(err)
	}
	s.keepState(0)
	if ok, _ := agrees(t, w, fsys); !ok {
		t.Fatal("not used")
	}
	x, _ := openCached(t, w, fsys)
	for _, raw := range [][]byte{left, right} {
		if _, err := x.ApplyFrame(rawFrame(KindRoot, raw), epoch0); err == nil {
			t.Fatal("the fork is open again")
		}
	}
}

// TestCacheWhenItIsWritten: at an orderly end if enough is new, and while it runs if much is.
func TestCacheWhenItIsWritten(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	fsys := durable.NewMem()
	var frames []Frame
	for range cacheEnd - 2 {
		frames = append(frames, rawFrame(KindEntry, a.add(revokeNode("nobody")).raw))
	}
	if err := Create(fsys, w.genesis, nil, frames); err != nil {
		t.Fatal(err)
	}
	s, _ := openCached(t, w, fsys)
	s.Close()
	if s, _ = openCached(t, w, fsys); used(s) {
		t.Fatal("written for less than it is worth")
	}
	s.apply(t, a.add(revokeNode("nobody")))
	s.Close()
	if s, _ = openCached(t, w, fsys); !used(s) {
		t.Fatal("not written at the end")
	}
	if s.Close(); s.cache.frames != cacheEnd {
		t.Fatalf("frames %d", s.cache.frames)
	}
}

// TestCacheOnAFullDisk: what could not be written is not tried over and over, for it may take the place of something that counts.
func TestCacheOnAFullDisk(t *testing.T) {
	w, a, fsys, s := cacheWorld(t)
	fsys.Fail(durable.Fault{Op: durable.OpWrite, Err: syscall.ENOSPC, Stay: true})
	s.keepState(4)
	steps := fsys.Steps()
	s.keepState(4)
	if fsys.Steps() != steps || used(s) {
		t.Fatal("tried again at once")
	}
	if list, err := fsys.ReadDir("."); err != nil || slices.ContainsFunc(list, func(e fs.DirEntry) bool { return strings.Contains(e.Name(), cacheName) }) {
		t.Fatalf("left over: %v, %v", list, err)
	}
	fsys.Heal()
	for range 4 {
		s.apply(t, a.add(revokeNode("one")))
	}
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	s.keepState(4)
	if ok, words := agrees(t, w, fsys); !ok || words != "" {
		t.Fatalf("used %v, said %q", ok, words)
	}
}

// TestBigLogStartsFast is the small brother of `go run ./bench long log-100000`: a start with the cached state verifies no signature, and
// a member takes little memory.
func TestBigLogStartsFast(t *testing.T) {
	const n = 2000
	w, es := bigLog(t, n, 1)
	fsys := durable.NewMem()
	var frames []Frame
	for _, e := range es {
		frames = append(frames, rawFrame(KindEntry, e.raw))
	}
	if err := Create(fsys, w.genesis, nil, frames); err != nil {
		t.Fatal(err)
	}
	es, frames = nil, nil
	timed := func(open func() *Store) (s *Store, took time.Duration, grew uint64) {
		before, began := heap(), time.Now()
		s = open()
		took = time.Since(began)
		return s, took, heap() - before
	}
	slow, without, _ := timed(func() *Store { s, _ := openCached(t, w, fsys); return s })
	slow.keepState(0)
	fast, with, grew := timed(func() *Store { s, _ := openCached(t, w, fsys); return s })
	if !used(fast) || deep(fast.Current()) != deep(slow.Current()) {
		t.Fatal("not the state of the log")
	}
	t.Logf("%d members: start %v, with the cached state %v, %d bytes a member", n, without, with, grew/n)
	for range 5 { // what a machine does beside one of two short runs is not theirs
		if with <= without/3 {
			break
		}
		s, again, _ := timed(func() *Store { s, _ := openCached(t, w, fsys); return s })
		s.Close()
		with = min(with, again)
	}
	if with > without/3 {
		t.Errorf("with the cached state %v, without it %v", with, without)
	}
	if grew/n > 500 {
		t.Errorf("a member takes %d bytes", grew/n)
	}
}
