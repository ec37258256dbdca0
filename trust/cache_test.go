package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// deep is everything a State consists of, also what nobody can ask for.
func deep(s *State) string {
	var out []byte
	p := func(format string, args ...any) { out = fmt.Appendf(out, format+"\n", args...) }
	out = append(out, dump(s)...)
	for _, r := range s.roots {
		p("root %s", r.hash)
	}
	for _, v := range slices.Sorted(maps.Keys(s.chosen)) {
		p("chosen %d %s", v, s.chosen[v])
	}
	p("pins %v adds %v", s.pins, s.adds)
	for _, c := range s.issuers {
		p("chain %s %d %d %+v upgrade %d cutoff %v pin %v vouch %v", c.id, c.index, c.seq, c.link, c.upgrade, c.cutoff, c.pin, c.vouch)
		if c.evidence != nil || c.vouch != nil { // elsewhere they mean nothing
			p(" frozen %d trusted %d", c.frozen, c.trusted)
		}
		for i := range c.links.len() {
			l, _ := c.links.at(i)
			p(" link %+v", l)
		}
		for k, x := range c.serials.all() {
			p(" serial %d %s", k, show(x))
		}
		for g := c.group; g != nil; g = g.next {
			p(" group %+v %d %d", g.op, g.seq, g.rootVersion)
		}
	}
	for id, f := range s.nodes.all() {
		p("node %x", id)
		for x := f.enrolments; x != nil; x = x.next {
			p(" %s", show(x))
		}
		p(" %+v %+v %+v", f.removals(), f.after(), f.before())
	}
	for k, l := range s.certs.all() {
		p("cert %v %+v", k, l)
	}
	for k, f := range s.grants.all() {
		p("grant %v %+v", k, *f)
	}
	for name, f := range s.names.all() {
		p("name %s", name)
		ids := map[nodeKey]bool{nodeKey(f.first.node): true}
		if f.all != nil {
			for id := range f.all.all() {
				ids[id] = true
			}
		}
		for _, id := range slices.SortedFunc(maps.Keys(ids), func(a, b nodeKey) int { return bytes.Compare(a[:], b[:]) }) {
			p(" %x", id)
		}
	}
	for t, set := range s.who.all() {
		p("who %v", t)
		for k := range set.all() {
			p(" %v", k)
		}
	}
	return string(out)
}

// differ shows the lines in which two dumps are not equal.
func differ(a, b string) (out string) {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(x), len(y)) {
		var l, r string
		if i < len(x) {
			l = x[i]
		}
		if i < len(y) {
			r = y[i]
		}
		if l != r {
			out += "-" + l + "\n+" + r + "\n"
		}
	}
	return out
}

func show(x *enrolment) string {
	y := *x
	y.next, y.tags = nil, nil
	return fmt.Sprintf("%+v %q", y, x.tagList())
}

// said is a logger and what it was told.
func said() (*slog.Logger, *strings.Builder) {
	var b strings.Builder
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

var cacheKey = keyOf("node self")

func openCached(t testing.TB, w *world, fsys durable.FS) (*Store, string) {
	t.Helper()
	log, words := said()
	s, err := OpenCached(fsys, w.mesh, Cache{Key: cacheKey, Program: "test", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return s, words.String()
}

// used reports whether the store began with a cached state.
func used(s *Store) bool { return s.cache.frames > 0 }

// cacheWorld is a mesh with something of everything in its log, and the store of a node that keeps its state. Nothing is cached yet.
func cacheWorld(t testing.TB) (w *world, a *writer, fsys *durable.Mem, s *Store) {
	w = newWorld(t, 1, "a", "b")
	fsys = durable.NewMem()
	if err := Create(fsys, w.genesis, nil, nil); err != nil {
		t.Fatal(err)
	}
	s, _ = openCached(t, w, fsys)
	a = w.writer("a")
	b := w.writer("b")
	old, next := keyOf("node old"), nodeID("next")
	s.apply(t,
		a.add(a.enroll("one", "x", "y"), a.enrollAs("two", "one", "x", "y"), a.enroll("old"), OpGroup{Generation: 1, Commit: keys.Sum([]byte("g"))}),
		b.add(b.enroll("three"), b.grant(AnyNode(), TagTarget("x"), "web"), b.grant(NodeTarget(nodeID("one")), AnyNode(), "ssh")),
		a.add(a.enrollAs("next", "old"), OpRevokeNode{Node: old.NodeID(), Successor: &Successor{Node: next, Sig: RotateSignature(w.mesh, old, next)}}),
		a.add(a.enroll("one", "x"), a.enroll("gone"), OpGroup{Generation: 2, Commit: keys.Sum([]byte("h"))}),
		b.add(revokeNode("gone"), OpRevokeCert{Issuer: a.key.Public(), Serial: 1, Reason: 3}, OpUngrant{Issuer: b.key.Public(), GID: 2}),
	)
	raw := w.root(s.Current(), func(r *Root) { cutoff(r, b.key.Public(), b.seq, b.prev) })
	if _, err := s.ApplyFrame(rawFrame(KindRoot, raw), epoch0); err != nil {
		t.Fatal(err)
	}
	s.apply(t, a.add(a.enroll("late", "z")))
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	return w, a, fsys, s
}

func cacheBytes(t testing.TB, fsys durable.FS) []byte {
	t.Helper()
	b, err := durable.ReadFile(fsys, cacheName, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// agrees opens a store with the cache and one without, compares everything, and says whether the cache was used.
func agrees(t testing.TB, w *world, fsys durable.FS) (bool, string) {
	t.Helper()
	plain := openStore(t, w, fsys)
	fast, words := openCached(t, w, fsys)
	if a, b := deep(fast.Current()), deep(plain.Current()); a != b {
		t.Fatalf("with the cache (-) and without (+):\n%s", differ(a, b))
	}
	for _, c := range plain.Current().issuers {
		for seq := uint64(0); seq <= c.seq+1; seq++ {
			if !bytes.Equal(plain.Entry(c.id, seq), fast.Entry(c.id, seq)) {
				t.Fatalf("entry %d of %s is not served alike", seq, c.id)
			}
		}
	}
	return used(fast), words
}

func TestCacheIsUsed(t *testing.T) {
	w, a, fsys, s := cacheWorld(t)
	s.keepState(0)
	want := deep(s.Current())
	ok, words := agrees(t, w, fsys)
	if !ok || words != "" {
		t.Fatalf("used %v, said %q", ok, words)
	}
	s, _ = openCached(t, w, fsys)
	if got := deep(s.Current()); got != want {
		t.Fatalf("got (-), want (+):\n%s", differ(got, want))
	}
	// What is behind it is applied as ever, and can be cached in its turn.
	s.apply(t, a.add(revokeNode("one")), a.add(a.enroll("new")))
	wantLive(t, s.Current(), "one", false)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	if ok, _ := agrees(t, w, fsys); !ok {
		t.Fatal("an older cache is not used")
	}
	s.keepState(0)
	if ok, _ := agrees(t, w, fsys); !ok || s.cache.frames != s.log.Len() {
		t.Fatal("not written again")
	}
}

// TestCachePropertyEqualState: whatever was signed, in whatever order it came, and wherever the cache was written: the same State, and the
// same after all the rest has come.
func TestCachePropertyEqualState(t *testing.T) {
	w := newWorld(t, 1, "a", "b", "c")
	kept, whole := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		roots, entries := history(rt, w)
		var frames []Frame
		for _, r := range roots {
			frames = append(frames, rawFrame(KindRoot, r))
		}
		for _, e := range entries {
			frames = append(frames, rawFrame(KindEntry, e.raw))
		}
		fsys := durable.NewMem()
		var pins []identity.IssuerHead
		if len(entries) > 0 && rapid.Bool().Draw(rt, "pin") {
			e := rapid.SampledFrom(entries).Draw(rt, "pinned")
			pins = append(pins, identity.IssuerHead{Issuer: e.Issuer, Seq: e.Seq, Hash: e.hash})
		}
		if err := Create(fsys, w.genesis, pins, nil); err != nil {
			rt.Fatal(err)
		}
		s, _ := openCached(t, w, fsys)
		indices := make([]int, len(frames))
		for i := range indices {
			indices[i] = i
		}
		at := rapid.IntRange(0, 3*len(frames)).Draw(rt, "cache at")
		n := 0
		for range 3 {
			for _, i := range rapid.Permutation(indices).Draw(rt, "order") {
				if n++; n == at {
					if err := s.Flush(); err != nil {
						rt.Fatal(err)
					}
					s.keepState(0)
				}
				_ = Replay(s, frames[i], epoch0)
			}
		}
		if err := s.Flush(); err != nil {
			rt.Fatal(err)
		}
		ok, words := agrees(t, w, fsys)
		if words != "" {
			rt.Fatal(words)
		}
		if ok {
			kept++
		}
		s.keepState(0)
		if ok, _ := agrees(t, w, fsys); ok {
			whole++
		}
	})
	if kept == 0 || whole == 0 {
		t.Errorf("the cache was never used: %d in the middle, %d at the end", kept, whole)
	}
}

// TestCacheTampered: whatever is done to the file, the log alone decides, and somebody is told.
func TestCacheTampered(t *testing.T) {
	w, _, fsys, s := cacheWorld(t)
	s.keepState(0)
	good := cacheBytes(t, fsys)
	tried := func(name string, b []byte) {
		t.Helper()
		if err := durable.WriteFile(fsys, cacheName, b); err != nil {
			t.Fatal(err)
		}
		ok, words := agrees(t, w, fsys)
		if ok {
			t.Errorf("%s: the cache was used", name)
		}
		if !strings.Contains(words, "level=WARN") || !strings.Contains(words, "verified from its beginning") {
			t.Errorf("%s: said %q", name, words)
		}
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	for i := 0; i < len(good); i += step {
		b := slices.Clone(good)
		b[i] ^= 1 << (i % 8)
		tried(fmt.Sprintf("byte %d", i), b)
	}
	for n := 0; n < len(good); n += 3 * step {
		tried(fmt.Sprintf("cut to %d", n), good[:n])
	}
	tried("longer", append(slices.Clone(good), 0))
	tried("in front", append([]byte{0}, good...))
}

// forgedState is what a thief would like: the state of a log in which he is a member.
func forgedState(t testing.TB, w *world, a *writer, s *Store) (*State, map[keys.PublicKey][]place) {
	evil := a.branch()
	st := must(t, s.Current(), evil.add(evil.enroll("evil")))
	entries := maps.Clone(s.rep.entries)
	id := a.key.Public()
	entries[id] = append(slices.Clone(entries[id]), place{frame: 1})
	return st, entries
}

// TestCacheForged: each of these files is well formed, and each is refused by one check alone.
func TestCacheForged(t *testing.T) {
	w, a, fsys, s := cacheWorld(t)
	s.keepState(0)
	honest := cacheHead{Version: cacheVersion, Program: "test", Frames: s.cache.frames, Log: s.cache.hash()}
	st, entries := forgedState(t, w, a, s)
	write := func(mesh keys.MeshID, key *keys.SigningKey, h cacheHead, st *State) {
		t.Helper()
		if err := writeCache(fsys, mesh, key, h, func(c *cacheWriter) { writeState(c, st, entries) }); err != nil {
			t.Fatal(err)
		}
	}
	// The control: with the right key and the right hash it is believed. So the tests below fail where one check is missing.
	write(w.mesh, cacheKey, honest, st)
	if x, _ := openCached(t, w, fsys); !used(x) || !lively(x.Current(), "evil") {
		t.Fatal("the forgery is not good enough to test anything")
	}
	otherLog, shorter, longer, version, program := honest, honest, honest, honest, honest
	otherLog.Log[0] ^= 1
	shorter.Frames--
	longer.Frames++
	version.Version++
	program.Program = "test 2"
	other := newWorld(t, 1, "a", "b", "z")
	for _, c := range []struct {
		name string
		mesh keys.MeshID
		key  *keys.SigningKey
		head cacheHead
		st   *State
	}{
		{"signed by another node", w.mesh, keyOf("node thief"), honest, st},
		{"signed for another mesh", other.mesh, cacheKey, honest, st},
		{"the state of another mesh", w.mesh, cacheKey, honest, other.start},
		{"of another log", w.mesh, cacheKey, otherLog, st},
		{"of fewer frames", w.mesh, cacheKey, shorter, st},
		{"of more frames", w.mesh, cacheKey, longer, st},
		{"of another version", w.mesh, cacheKey, version, st},
		{"of another program", w.mesh, cacheKey, program, st},
	} {
		write(c.mesh, c.key, c.head, c.st)
		x, words := openCached(t, w, fsys)
		if used(x) || lively(x.Current(), "evil") || x.Current().Mesh() != w.mesh {
			t.Errorf("%s: believed", c.name)
		}
		if !strings.Contains(words, "not used") {
			t.Errorf("%s: nobody was told: %q", c.name, words)
		}
		if a, b := deep(x.Current()), deep(s.Current()); a != b {
			t.Errorf("%s: another state", c.name)
		}
	}
	// A piece of one file in another of the same size: the signature is right, the piece is not.
	write(w.mesh, cacheKey, honest, s.Current())
	b := cacheBytes(t, fsys)
	at := bytes.Index(b, []byte("late"))
	copy(b[at:], "evil")
	if err := durable.WriteFile(fsys, cacheName, b); err != nil {
		t.Fatal(err)
	}
	if x, words := openCached(t, w, fsys); used(x) || !strings.Contains(words, "not what was written") {
		t.Errorf("a changed piece: used %v, said %q", used(x), words)
	}
}

// TestCacheOfARolledBackLog: a log that lost its end is not the one the cache came from, and the state is that of the log.
func TestCacheOfARolledBackLog(t *testing.T) {
	w, a, fsys, s := cacheWorld(t)
	s.apply(t, a.add(a.enroll("last")))
	s.Close()
	s.keepStateAfterClose(t, w, fsys)
	short := durable.NewMem()
	l, _, err := durable.OpenLog(short, logName, MaxFrame, nil)
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	if _, err := durable.ReadLog(fsys, logName, MaxFrame, func(_ uint64, b []byte) error {
		bodies = append(bodies, slices.Clone(b))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies[:len(bodies)-1] {
		if _, err := l.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(short, cacheName, cacheBytes(t, fsys)); err != nil {
		t.Fatal(err)
	}
	if ok, words := agrees(t, w, short); ok || !strings.Contains(words, "another log") {
		t.Fatalf("used %v, said %q", ok, words)
	}
}

// keepStateAfterClose writes the cache of a closed store.
func (s *Store) keepStateAfterClose(t testing.TB, w *world, fsys durable.FS) {
	t.Helper()
	x, _ := openCached(t, w, fsys)
	x.keepState(0)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCacheCrashAtEveryStep: the power goes at each step of writing it; what is found then is the old one, the new one, or none.
func TestCacheCrashAtEveryStep(t *testing.T) {
	for _, keep := range []bool{false, true} {
		for seed := range uint64(4) {
			for n := 1; ; n++ {
				w, a, fsys, s := cacheWorld(t)
				s.keepState(0)
				s.apply(t, a.add(a.enroll("more")), a.add(revokeNode("one")))
				if err := s.Flush(); err != nil {
					t.Fatal(err)
				}
				fsys.CutPower(n, keep)
				s.keepState(0)
				done := s.cache.frames == s.log.Len()
				if seed == 0 {
					fsys.Crash()
				} else {
					fsys.CrashKeeping(seed)
				}
				if err := durable.Sweep(fsys, "."); err != nil {
					t.Fatal(err)
				}
				ok, words := agrees(t, w, fsys)
				if !ok || words != "" {
					t.Fatalf("step %d: used %v, said %q", n, ok, words)
				}
				if done {
					break
				}
			}
		}
	}
}

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
			if _, err := fsys.OpenFile(cacheName, os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("kept: %v", err)
			}
		})
	}
	t.Run("an entry that waits for the disk", func(t *testing.T) {
		_, a, fsys, s := cacheWorld(t)
		s.apply(t, a.add(a.enroll("p")))
		s.keepState(0)
		if _, err := fsys.OpenFile(cacheName, os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("kept: %v", err)
		}
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
	if with > without/3 {
		t.Errorf("with the cached state %v, without it %v", with, without)
	}
	if grew/n > 600 {
		t.Errorf("a member takes %d bytes", grew/n)
	}
}
