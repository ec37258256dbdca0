package trust

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// net is a mesh of in-memory nodes with a hostile network between them: frames are lost, doubled and overtaken.
type net struct {
	t     testing.TB
	rng   *rand.Rand
	mono  time.Duration
	nodes []*peerNode
	queue []flight
	loss  float64
	twice float64
	sent  int
	got   int
}

type flight struct {
	from, to int
	f        Frame
}

type peerNode struct {
	log   *Memory
	hub   *Hub
	links map[int]*Sync
}

func newNet(t testing.TB, seed uint64, w *world, n int) *net {
	x := &net{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
	for range n {
		m, err := NewMemory(w.genesis, nil)
		if err != nil {
			t.Fatal(err)
		}
		x.nodes = append(x.nodes, &peerNode{log: m, hub: NewHub(m), links: map[int]*Sync{}})
	}
	return x
}

func (x *net) connect(a, b int) {
	x.nodes[a].links[b], x.nodes[b].links[a] = x.nodes[a].hub.NewSync(false), x.nodes[b].hub.NewSync(false)
	x.send(a, b, x.nodes[a].links[b].Vec(x.mono))
	x.send(b, a, x.nodes[b].links[a].Vec(x.mono))
}

func (x *net) send(from, to int, fs []Frame) {
	for _, f := range fs {
		x.sent++
		if x.rng.Float64() < x.loss {
			continue
		}
		x.queue = append(x.queue, flight{from, to, f})
		if x.rng.Float64() < x.twice {
			x.queue = append(x.queue, flight{from, to, f})
		}
	}
}

// give applies an entry at a node as if it had been made there, and pushes it.
func (x *net) give(node int, es ...*Entry) {
	x.t.Helper()
	for _, e := range es {
		c, err := x.nodes[node].log.ApplyEntry(e, epoch0)
		if err != nil {
			x.t.Fatal(err)
		}
		x.push(node, -1, []Change{c})
	}
}

func (x *net) giveRoot(node int, raw []byte) {
	x.t.Helper()
	c, err := x.nodes[node].log.ApplyFrame(rawFrame(KindRoot, raw), epoch0)
	if err != nil {
		x.t.Fatal(err)
	}
	x.push(node, -1, []Change{c})
}

func (x *net) push(node, source int, cs []Change) {
	for _, c := range cs {
		for to := range x.nodes {
			if s, ok := x.nodes[node].links[to]; ok && to != source {
				x.send(node, to, s.Push(c))
			}
		}
	}
}

// run delivers frames, in order or not, until nothing is on its way and the time is over.
func (x *net) run(until time.Duration, reorder bool) {
	x.t.Helper()
	for end := x.mono + until; ; {
		for len(x.queue) > 0 {
			i := 0
			if reorder {
				i = x.rng.IntN(min(len(x.queue), 8))
			}
			f := x.queue[i]
			x.queue = append(x.queue[:i], x.queue[i+1:]...)
			s := x.nodes[f.to].links[f.from]
			x.got++
			r, err := s.Receive(f.f, x.mono, epoch0)
			if err != nil {
				x.t.Fatalf("honest frame of kind %d refused: %v", f.f.Kind, err)
			}
			x.push(f.to, f.from, r.Changes)
			x.send(f.to, f.from, r.Send)
		}
		if x.mono >= end {
			return
		}
		x.mono += time.Second
		for i, n := range x.nodes {
			for to := range x.nodes {
				if s, ok := n.links[to]; ok {
					x.send(i, to, s.Tick(x.mono))
				}
			}
		}
	}
}

func (x *net) equal() bool {
	for _, n := range x.nodes[1:] {
		if n.log.Current().Digest() != x.nodes[0].log.Current().Digest() {
			return false
		}
	}
	return true
}

func (x *net) mustEqual() {
	x.t.Helper()
	for i, n := range x.nodes[1:] {
		if a, b := dump(x.nodes[0].log.Current()), dump(n.log.Current()); a != b {
			at := 0
			for at < min(len(a), len(b)) && a[at] == b[at] {
				at++
			}
			x.t.Fatalf("node 0 and node %d differ after %v:\n%.300s\n%.300s\n%+v\n%+v", i+1, x.mono, a[max(0, at-50):], b[max(0, at-50):],
				x.nodes[0].log.Current().Vector(), n.log.Current().Vector())
		}
	}
}

// TestSyncReachesEquality: 2 to 5 nodes on a line, each with a part of the log, loss, doubling and overtaking.
func TestSyncReachesEquality(t *testing.T) {
	t.Parallel()
	for n := 2; n <= 5; n++ {
		for seed := range uint64(testrun.Cases(6, 3)) {
			t.Run(fmt.Sprintf("%d nodes, seed %d", n, seed), func(t *testing.T) {
				w := newWorld(t, 1, "a", "b", "c")
				x := newNet(t, seed, w, n)
				x.loss, x.twice = 0.1*float64(seed%3), 0.2
				a, b, c := w.writer("a"), w.writer("b"), w.writer("c")
				for i := range 90 {
					a.add(a.enroll(fmt.Sprintf("a%d", i)))
				}
				for i := range 5 {
					b.add(b.enroll(fmt.Sprintf("b%d", i)), revokeNode(fmt.Sprintf("a%d", i)))
				}
				x.give(0, a.all...)
				x.give(n-1, b.all...)
				root := w.root(w.start, func(r *Root) { r.Name = "second" })
				x.giveRoot(n/2, root)
				c.rootVersion = 2
				x.give(n/2, c.add(c.enroll("c")))
				for i := range n - 1 {
					x.connect(i, i+1)
				}
				for range 20 {
					if x.run(10*time.Second, seed%2 == 1); x.equal() {
						break
					}
				}
				x.mustEqual()
				wantLive(t, x.nodes[0].log.Current(), "c", true)
				wantLive(t, x.nodes[0].log.Current(), "a0", false)
			})
		}
	}
}

// TestSyncPushReachesAllAtOnce: a new entry crosses a connected mesh without any tick, and only once per link.
func TestSyncPushReachesAllAtOnce(t *testing.T) {
	w := newWorld(t, 1, "a")
	x := newNet(t, 1, w, 5)
	for i := range 5 {
		for j := range i {
			x.connect(j, i)
		}
	}
	x.run(time.Second, false)
	a := w.writer("a")
	x.sent = 0
	x.give(2, a.add(revokeNode("one")))
	for len(x.queue) > 0 {
		x.run(0, false)
	}
	x.mustEqual()
	// 10 links, each crossed at most once in each direction.
	if x.sent > 20 {
		t.Fatalf("%d frames for one entry", x.sent)
	}
}

func TestSyncUrgentFrames(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	m, err := NewMemory(w.genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := NewHub(m).NewSync(false)
	for _, c := range []struct {
		e      *Entry
		urgent bool
	}{{a.add(a.enroll("one")), false}, {a.add(revokeNode("one")), true}, {a.add(OpUngrant{GID: 1}), true}} {
		ch, err := m.ApplyEntry(c.e, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		fs := s.Push(ch)
		if len(fs) != 1 || fs[0].Urgent != c.urgent {
			t.Fatalf("entry %d: %+v", c.e.Seq, fs)
		}
		if len(s.Push(ch)) != 0 {
			t.Fatal("pushed twice")
		}
	}
}

// TestSyncForkBecomesEvidence: two nodes on two branches find the fork by HASH_AT, and all learn of it and take all removals.
func TestSyncForkBecomesEvidence(t *testing.T) {
	t.Parallel()
	for _, reorder := range []bool{false, true} {
		w := newWorld(t, 1, "a")
		honest := w.writer("a")
		for i := range 100 {
			honest.add(honest.enroll(fmt.Sprintf("n%d", i)))
		}
		thief := honest.branch()
		honest.add(honest.enroll("good"))
		thief.add(thief.enroll("evil"))
		for i := range 20 {
			honest.add(honest.enroll(fmt.Sprintf("g%d", i)))
		}
		for i := range 40 {
			thief.add(thief.enroll(fmt.Sprintf("e%d", i)))
		}
		honest.add(revokeNode("n1"))
		thief.add(revokeNode("n2"))
		x := newNet(t, 3, w, 3)
		x.give(0, honest.all...)
		x.give(2, thief.all...)
		x.connect(0, 1)
		x.run(5*time.Second, reorder)
		x.connect(1, 2)
		x.run(90*time.Second, reorder)
		for i, n := range x.nodes {
			s := n.log.Current()
			if _, ok := s.EvidenceOf(honest.key.Public()); !ok {
				t.Fatalf("node %d has no evidence", i)
			}
			for _, r := range []string{"n1", "n2"} {
				if _, ok := s.Revoked(nodeID(r)); !ok {
					t.Fatalf("node %d: %s is not revoked", i, r)
				}
			}
			wantLive(t, s, "n50", true)
		}
		if x.got > 6000 {
			t.Fatalf("%d frames: something is fetched again and again", x.got)
		}
		wantOtherBranch(t, x, 1, 2)
		// Then a root chooses the honest branch, and all of them are equal again.
		end := honest.all[len(honest.all)-1]
		x.giveRoot(1, w.root(w.start, func(r *Root) { cutoff(r, honest.key.Public(), end.Seq, end.hash) }))
		x.run(90*time.Second, reorder)
		x.mustEqual()
		s := x.nodes[2].log.Current()
		wantLive(t, s, "good", true)
		wantLive(t, s, "evil", false)
		wantLive(t, s, "n1", false)
		wantLive(t, s, "n2", true)
	}
}

func TestSyncRootFork(t *testing.T) {
	w := newWorld(t, 1, "a")
	x := newNet(t, 4, w, 3)
	x.giveRoot(0, w.root(w.start, func(r *Root) { r.Name = "left" }))
	x.giveRoot(2, w.root(w.start, func(r *Root) { r.Name = "right" }))
	x.connect(0, 1)
	x.connect(1, 2)
	x.run(60*time.Second, false)
	for i, n := range x.nodes {
		if s := n.log.Current(); s.Root().Version != 1 || len(s.RootFork()) != 2 {
			t.Fatalf("node %d on root %d with %d pending", i, s.Root().Version, len(s.RootFork()))
		}
	}
	x.mustEqual()
}

// TestSyncQuietSendsNothing: a peer of an unknown issuer is listened to and told nothing.
func TestSyncQuietSendsNothing(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	m, err := NewMemory(w.genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.ApplyEntry(a.add(a.enroll("one")), epoch0)
	if err != nil {
		t.Fatal(err)
	}
	s := NewHub(m).NewSync(true)
	frames := append(s.Vec(0), s.Push(c)...)
	frames = append(frames, s.Tick(time.Minute)...)
	frames = append(frames, s.PushRoots(0)...)
	empty := w.start.Vector()
	ask := hashAtWire{Kind: KindHashAt, Issuer: a.key.Public(), Seq: 1}
	want := wantWire{Kind: KindWant, Issuer: a.key.Public(), From: 1, To: 1}
	for _, f := range []Frame{empty.frame(), frameOf(KindHashAt, ask), frameOf(KindWant, want)} {
		r, err := s.Receive(f, time.Minute, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, r.Send...)
	}
	if len(frames) != 0 {
		t.Fatalf("%d frames sent", len(frames))
	}
	// But it takes what it is given.
	r, err := s.Receive(rawFrame(KindEntry, a.add(a.enroll("two")).raw), time.Minute, epoch0)
	if err != nil || len(r.Changes) != 1 {
		t.Fatalf("%v %d", err, len(r.Changes))
	}
	s.SetQuiet(false)
	if len(s.Vec(time.Minute)) != 1 || len(s.PushRoots(0)) != 1 {
		t.Fatal("still quiet")
	}
}

// liar is a Sync under attack.
func liar(t *testing.T, w *world) (*Memory, *Sync) {
	m, err := NewMemory(w.genesis, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m, NewHub(m).NewSync(false)
}

func TestSyncLyingHeads(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	m, s := liar(t, w)
	a, b := w.writer("a"), w.writer("b")
	v := w.start.Vector()
	for i := range v.Issuers {
		v.Issuers[i].Seq, v.Issuers[i].Hash = 1_000_000, keys.Sum([]byte("lie"))
	}
	v.RootVersion, v.RootHash = 99, keys.Sum([]byte("lie"))
	wants := 0
	for i := range 600 {
		mono := time.Duration(i) * time.Second
		r, err := s.Receive(v.frame(), mono, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range append(r.Send, s.Tick(mono)...) {
			if len(f.Body) > MaxFrame {
				t.Fatal("frame too long")
			}
			if f.Kind == KindWant {
				wants++
			}
		}
		if len(s.wants) > maxWants {
			t.Fatalf("%d wants outstanding", len(s.wants))
		}
	}
	if wants > 600*3 {
		t.Fatalf("%d wants in ten minutes", wants)
	}
	if s.Synced() {
		t.Fatal("synced with a liar")
	}
	// An honest peer is asked for the same chains although the liar holds the claim: claims run out.
	honest := s.hub.NewSync(false)
	st := must(t, w.start, a.add(a.enroll("one")), b.add(b.enroll("two")))
	hv := st.Vector()
	r, err := honest.Receive(hv.frame(), 700*time.Second, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, f := range r.Send {
		if f.Kind == KindWant {
			asked++
		}
	}
	if asked != 2 {
		t.Fatalf("the honest peer is asked for %d chains", asked)
	}
	_ = m
}

func TestSyncFlood(t *testing.T) {
	w := newWorld(t, 1, "a")
	_, s := liar(t, w)
	a := w.writer("a")
	var fs []Frame
	for range 700 {
		fs = append(fs, rawFrame(KindEntry, a.add(revokeNode("one")).raw))
	}
	applied := 0
	for i := len(fs) - 1; i >= 0; i-- { // backwards, so that nothing applies and everything costs
		r, err := s.Receive(fs[i], 0, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		applied += len(r.Changes)
		if len(s.wants) > maxWants {
			t.Fatal("wants")
		}
	}
	if s.Dropped() == 0 {
		t.Fatal("nothing dropped")
	}
	// Evidence and roots are under the same limit.
	for range 400 {
		if _, err := s.Receive(rawFrame(KindRoot, w.genesis), 0, epoch0); err != nil {
			t.Fatal(err)
		}
	}
	if s.Dropped() < 400 {
		t.Fatalf("%d dropped", s.Dropped())
	}
}

func TestSyncInvalidClosesThePeer(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	e := a.add(a.enroll("one"))
	bad := append([]byte(nil), e.raw...)
	bad[len(bad)-1] ^= 1
	o := newWorld(t, 1, "b")
	head, err := must(t, w.start, e).NewHead(a.key, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	head[len(head)-1] ^= 1
	for name, f := range map[string]Frame{
		"signature":    rawFrame(KindEntry, bad),
		"garbage":      {Kind: KindEntry, Body: []byte{0x82, 5, 0x41, 0}},
		"empty root":   {Kind: KindRoot, Body: []byte{0x81, 4}},
		"empty pair":   {Kind: KindEvidence, Body: []byte{0x81, 6}},
		"empty head":   {Kind: KindHead, Body: []byte{0x81, 7}},
		"wrong kind":   {Kind: KindRoot, Body: rawFrame(KindEntry, e.raw).Body},
		"no sync kind": {Kind: 1, Body: []byte{0x81, 1}},
		"root":         rawFrame(KindRoot, o.genesis),
		"head":         rawFrame(KindHead, head),
		"evidence":     frameOf(KindEvidence, evidenceWire{Kind: KindEvidence, A: e.raw, B: e.raw}),
		"want":         frameOf(KindWant, wantWire{Kind: KindWant, From: 2, To: 1}),
		"hash_at":      frameOf(KindHashAt, hashAtWire{Kind: KindHashAt}),
		"vec":          frameOf(KindVec, vecWire{Kind: KindVec}),
		"vec unsorted": frameOf(KindVec, vecWire{Kind: KindVec, Version: 1, Issuers: make([]Position, 2)}),
		"vec long":     frameOf(KindVec, vecWire{Kind: KindVec, Version: 1, Issuers: make([]Position, 65)}),
		"too long":     {Kind: KindEntry, Body: make([]byte, MaxFrame+1)},
	} {
		_, s := liar(t, w)
		r, err := s.Receive(f, 0, epoch0)
		if !errors.Is(err, ErrInvalid) || len(r.Send)+len(r.Changes) != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSyncServesWithinLimits: a peer cannot make us read for it without end.
func TestSyncServesWithinLimits(t *testing.T) {
	w := newWorld(t, 1, "a")
	m, s := liar(t, w)
	a := w.writer("a")
	for range wantSpan + 10 {
		if _, err := m.ApplyEntry(a.add(revokeNode("x")), epoch0); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	want := frameOf(KindWant, wantWire{Kind: KindWant, Issuer: a.key.Public(), From: 1, To: maxSeq})
	for range 1000 {
		r, err := s.Receive(want, 0, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Send) > wantSpan {
			t.Fatalf("%d entries for one WANT", len(r.Send))
		}
		total += len(r.Send)
	}
	if total > serveBurst {
		t.Fatalf("%d entries served at once", total)
	}
	answers := 0
	for range 1000 {
		r, err := s.Receive(frameOf(KindHashAt, hashAtWire{Kind: KindHashAt, Issuer: a.key.Public(), Seq: 1}), 0, epoch0)
		if err != nil {
			t.Fatal(err)
		}
		answers += len(r.Send)
	}
	if answers > askBurst {
		t.Fatalf("%d answers", answers)
	}
}

// TestSyncOnePeerIsAskedAtATime: a newcomer with three peers fetches each entry once.
func TestSyncOnePeerIsAskedAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a")
	x := newNet(t, 5, w, 4)
	a := w.writer("a")
	for i := range 200 {
		a.add(a.enroll(fmt.Sprint("n", i)))
	}
	for i := range 3 {
		x.give(i, a.all...)
	}
	for i := range 3 {
		x.connect(i, 3)
	}
	x.sent = 0
	x.run(20*time.Second, false)
	x.mustEqual()
	if x.sent > 300 {
		t.Fatalf("%d frames to fetch 200 entries", x.sent)
	}
}

func TestSyncHeads(t *testing.T) {
	w := newWorld(t, 1, "a")
	x := newNet(t, 6, w, 2)
	a := w.writer("a")
	x.give(0, a.add(a.enroll("one")))
	raw, err := x.nodes[0].log.Current().NewHead(a.key, epoch0-5)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.nodes[0].log.ApplyFrame(rawFrame(KindHead, raw), epoch0); err != nil {
		t.Fatal(err)
	}
	x.connect(0, 1)
	x.run(5*time.Second, false)
	if h, _, ok := x.nodes[1].log.Current().HeadOf(a.key.Public()); !ok || h.Time != epoch0-5 {
		t.Fatal("the head did not arrive")
	}
	if !x.nodes[1].links[0].Synced() {
		t.Fatal("not synced")
	}
}
