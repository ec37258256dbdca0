package trust

import (
	"bytes"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/testrun"
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
		for k, same := range set.all() {
			p(" %v", k)
			for k := range same.all() {
				p("  %v", k)
			}
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
	t.Parallel()
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
	// Under the race detector the cases are too few to say so.
	if !testrun.Race && (kept == 0 || whole == 0) {
		t.Errorf("the cache was never used: %d in the middle, %d at the end", kept, whole)
	}
}

// TestCacheCrashAtEveryStep: the power goes at each step of writing it; what is found then is the old one, the new one, or none.
func TestCacheCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		for seed := range uint64(testrun.Cases(4, 4)) {
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
				ok, words := agrees(t, w, fsys)
				list, err := fsys.ReadDir(".")
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range list {
					if strings.Contains(e.Name(), "~") {
						t.Fatalf("step %d: %s is left", n, e.Name())
					}
				}
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
