package trust

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// forked makes an honest and a stolen branch that part after entry 1.
func forked(t *testing.T) (w *world, honest, thief *writer) {
	w = newWorld(t, 1, "a", "b")
	honest = w.writer("a")
	honest.add(honest.enroll("base"))
	thief = honest.branch()
	honest.add(honest.enroll("good"))
	thief.add(thief.enroll("evil"))
	return w, honest, thief
}

func evidence(t testing.TB, s *State, a, b *Entry) *State {
	t.Helper()
	n, err := s.AddEvidence(a.raw, b.raw)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestForkIsFoundAndProved(t *testing.T) {
	w, honest, thief := forked(t)
	s := must(t, w.start, honest.all...)
	n, _, err := s.ApplyEntry(thief.all[1].raw)
	fork, ok := errors.AsType[*ForkError](err)
	if n != nil || !ok || !errors.Is(err, ErrFork) || fork.Seq != 2 || fork.Issuer != honest.key.Public() {
		t.Fatalf("got %v", err)
	}
	// Unsigned, it is only a bad entry.
	bad := append([]byte(nil), thief.all[1].raw...)
	bad[len(bad)-1] ^= 1
	if _, _, err := s.ApplyEntry(bad); !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v", err)
	}
	refuse(t, s, thief.branch().add(thief.enroll("next")), ErrBranch)
}

func TestEvidenceRules(t *testing.T) {
	w, honest, thief := forked(t)
	h, x := honest.all[1], thief.all[1]
	s := must(t, w.start, honest.all...)
	bad := append([]byte(nil), x.raw...)
	bad[len(bad)-1] ^= 1
	other := w.writer("b")
	foreign := other.add(other.enroll("x"))
	for name, pair := range map[string][2][]byte{
		"same entry":      {h.raw, h.raw},
		"other seq":       {h.raw, honest.all[0].raw},
		"other issuer":    {honest.all[0].raw, foreign.raw},
		"bad signature":   {h.raw, bad},
		"garbage":         {h.raw, []byte{1}},
		"garbage first":   {[]byte{1}, h.raw},
		"unknown issuers": {w.writer("x").add(other.enroll("y")).raw, w.writer("x").add(other.enroll("z")).raw},
	} {
		if n, err := s.AddEvidence(pair[0], pair[1]); !errors.Is(err, ErrInvalid) || n != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := evidence(t, s, h, x)
	if _, err := n.AddEvidence(x.raw, h.raw); !errors.Is(err, ErrHave) {
		t.Fatalf("again, the other way round: %v", err)
	}
	ev, ok := n.EvidenceOf(honest.key.Public())
	if !ok || ev.Seq != 2 || string(ev.frame().Body) != string(mustEvidence(t, s, x, h).frame().Body) {
		t.Fatal("evidence depends on the order of the pair")
	}
	if v, _ := vecOf(n).of(honest.key.Public()); v.Forked != 1 {
		t.Fatal("the vector does not say it")
	}
	third := w.writer("a")
	third.add(honest.all[0].Ops...)
	third.seq, third.prev = 1, honest.all[0].hash
	if _, err := n.AddEvidence(h.raw, third.add(third.enroll("third")).raw); !errors.Is(err, ErrHave) {
		t.Fatalf("a third entry without removals tells nothing new: %v", err)
	}
	late := honest.branch()
	late.rootVersion = 2
	y := late.branch()
	if _, err := n.AddEvidence(late.add(late.enroll("x")).raw, y.add(y.enroll("z")).raw); !errors.Is(err, ErrGap) {
		t.Fatalf("of a root not held: %v", err)
	}
}

func mustEvidence(t testing.TB, s *State, a, b *Entry) Evidence {
	ev, _ := evidence(t, s, a, b).EvidenceOf(a.Issuer)
	return ev
}

func vecOf(s *State) *Vector {
	v := s.Vector()
	return &v
}

// TestForkedIssuerOnlyRemoves: what was held counts on, what comes later only removes.
func TestForkedIssuerOnlyRemoves(t *testing.T) {
	w, honest, thief := forked(t)
	s := must(t, w.start, honest.all...)
	s = evidence(t, s, honest.all[1], thief.all[1])
	wantLive(t, s, "base", true)
	wantLive(t, s, "good", true)
	wantLive(t, s, "evil", false)
	g := honest.grant(AnyNode(), AnyNode(), "x")
	s = must(t, s, honest.add(honest.enroll("later"), g, OpGroup{Generation: 1}, revokeNode("base")))
	wantLive(t, s, "later", false)
	wantLive(t, s, "base", false)
	if _, ok := s.Grant(GrantRef{honest.key.Public(), g.GID}); ok {
		t.Fatal("a later grant counts")
	}
	if gen, _ := s.GroupCommit(); gen != 0 {
		t.Fatal("a later group secret counts")
	}
}

// TestForkEitherOrder: evidence before or after the entries, whichever branch came first: removals are the same everywhere.
func TestForkEitherOrder(t *testing.T) {
	w, honest, thief := forked(t)
	hr := honest.add(revokeNode("evil"))
	tr := thief.add(revokeNode("good"))
	for name, branch := range map[string][2]*writer{"honest": {honest, thief}, "thief": {thief, honest}} {
		held, other := branch[0], branch[1]
		after := evidence(t, must(t, w.start, held.all...), honest.all[1], thief.all[1])
		before := must(t, evidence(t, w.start, thief.all[1], honest.all[1]), held.all...)
		// The other branch's removals arrive as strays.
		for i, s := range []*State{after, before} {
			n, done, err := s.ApplyEntry(other.all[2].raw)
			if err != nil || !done.Stray {
				t.Fatalf("%s %d: stray: %v", name, i, err)
			}
			for _, node := range []string{"good", "evil"} {
				if _, ok := n.Revoked(nodeID(node)); !ok {
					t.Fatalf("%s %d: %s is not revoked", name, i, node)
				}
			}
			if _, _, err := n.ApplyEntry(other.all[2].raw); !errors.Is(err, ErrHave) {
				t.Fatalf("again: %v", err)
			}
			if seq, _, _ := n.Position(held.key.Public()); seq != 3 {
				t.Fatalf("chain at %d", seq)
			}
		}
		wantLive(t, before, "base", false) // a newcomer takes only removals
		wantLive(t, after, "base", true)
	}
	_, _ = hr, tr
}

// TestStolenKeyCannotVoidTheMesh: a fork at the very first entry takes nothing away.
func TestStolenKeyCannotVoidTheMesh(t *testing.T) {
	w := newWorld(t, 1, "a")
	honest, thief := w.writer("a"), w.writer("a")
	for _, n := range []string{"one", "two", "three"} {
		honest.add(honest.enroll(n))
	}
	s := must(t, w.start, honest.all...)
	s = evidence(t, s, honest.all[0], thief.add(thief.enroll("evil")))
	for _, n := range []string{"one", "two", "three"} {
		wantLive(t, s, n, true)
	}
	wantLive(t, must(t, s, honest.add(revokeNode("two"))), "two", false)
}

// TestInviteHeadChoosesTheBranch: a newcomer counts what the head of its invite covers, and only on that branch.
func TestInviteHeadChoosesTheBranch(t *testing.T) {
	w, honest, thief := forked(t)
	pin := []identity.IssuerHead{{Issuer: honest.key.Public(), Seq: 2, Hash: honest.all[1].hash}}
	s := evidence(t, w.start.WithPins(pin), honest.all[1], thief.all[1])
	later := honest.add(honest.enroll("later"))
	held := must(t, s, honest.all...)
	wantLive(t, held, "good", true)
	_ = later
	wantLive(t, held, "later", false)

	wrong := must(t, s, thief.all[0])
	wantLive(t, wrong, "base", false) // not yet at the invite's head
	if _, _, err := w.start.WithPins(pin).applyEntry2(t, thief.all...); !errors.Is(err, ErrBranch) {
		t.Fatalf("the other branch: %v", err)
	}
}

// applyEntry2 applies entries in order and returns what the last one did.
func (s *State) applyEntry2(t *testing.T, es ...*Entry) (n *State, a Applied, err error) {
	for i, e := range es {
		n, a, err = s.ApplyEntry(e.raw)
		if err != nil && i < len(es)-1 {
			t.Fatal(err)
		}
		s = n
	}
	return n, a, err
}

func TestCutoffVoidsWhatFollows(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	e1 := a.add(a.enroll("one"), a.grant(AnyNode(), AnyNode(), "x"))
	a.add(a.enroll("two"), revokeNode("one"), OpUngrant{Issuer: a.key.Public(), GID: 1}, OpGroup{Generation: 1})
	root := w.root(w.start, func(r *Root) { cutoff(r, a.key.Public(), 1, e1.hash) })
	late := mustRoot(t, must(t, w.start, a.all...), root)
	early := must(t, mustRoot(t, w.start, root), e1)
	for _, s := range []*State{late, early} {
		wantLive(t, s, "one", true) // a rogue revocation is voided
		wantLive(t, s, "two", false)
		if g, ok := s.Grant(GrantRef{a.key.Public(), 1}); !ok || g.Removed != nil {
			t.Fatal("the ungrant is not voided")
		}
		if gen, _ := s.GroupCommit(); gen != 0 {
			t.Fatal("the group secret is not voided")
		}
		refuse(t, s, a.all[1], ErrVoid)
	}
	if dump(late) != dump(early) || late.Digest() != early.Digest() {
		t.Fatalf("order matters:\n%s\n%s", dump(late), dump(early))
	}
}

// TestCutoffLeavesOtherRemovals: what other issuers removed, and the issuer itself before the cutoff, stays removed.
func TestCutoffLeavesOtherRemovals(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	e1 := a.add(revokeNode("one"), OpRevokeCert{Issuer: b.key.Public(), Serial: 9})
	e2 := a.add(revokeNode("two"), revokeNode("three"))
	other := b.add(revokeNode("two"), OpUngrant{Issuer: a.key.Public(), GID: 4})
	s := must(t, w.start, e1, other, e2)
	s = mustRoot(t, s, w.root(s, func(r *Root) { cutoff(r, a.key.Public(), 1, e1.hash) }))
	for node, want := range map[string]bool{"one": true, "two": true, "three": false} {
		if r, ok := s.Revoked(nodeID(node)); ok != want || node == "two" && r.Issuer != b.key.Public() {
			t.Errorf("%s revoked: %v by %s", node, ok, r.Issuer)
		}
	}
	if _, ok := s.CertRevoked(b.key.Public(), 9); !ok {
		t.Error("a revocation before the cutoff is gone")
	}
	if f, ok := s.grants.get(factKey{a.key.Public(), 4}); !ok || len(f.removals) != 1 || f.removals[0].stray {
		t.Error("another issuer's ungrant is gone")
	}
	// A second cutoff, of the other issuer, does the same.
	s = mustRoot(t, s, w.root(s, func(r *Root) { cutoff(r, b.key.Public(), 0, keys.ChainStart(w.mesh, b.key.Public())) }))
	if _, ok := s.Revoked(nodeID("one")); !ok {
		t.Error("lost with the second cutoff")
	}
	if _, ok := s.Revoked(nodeID("two")); ok {
		t.Error("a revocation after the cutoff stays")
	}
}

// TestWrongBranchKeepsForeignRemovalsAsTheyAre: leaving a wrong branch makes strays of its own removals only.
func TestWrongBranchKeepsForeignRemovalsAsTheyAre(t *testing.T) {
	w, honest, thief := forked(t)
	b := w.writer("b")
	thief.add(revokeNode("base"))
	end := honest.add(honest.enroll("end"))
	s := must(t, w.start, thief.all...)
	s = must(t, s, b.add(revokeNode("x")))
	s = mustRoot(t, s, w.root(s, func(r *Root) { cutoff(r, honest.key.Public(), end.Seq, end.hash) }))
	for node, stray := range map[string]bool{"base": true, "x": false} {
		f, ok := s.nodes.get(nodeKey(nodeID(node)))
		if !ok || len(f.removals()) != 1 || f.removals()[0].stray != stray {
			t.Errorf("%s: %+v", node, f)
		}
	}
}

func TestCutoffHashMustMatch(t *testing.T) {
	w, honest, thief := forked(t)
	root := w.root(w.start, func(r *Root) { cutoff(r, honest.key.Public(), 2, honest.all[1].hash) })
	s := must(t, mustRoot(t, w.start, root), honest.all[0])
	refuse(t, s, thief.all[1], ErrBranch)
	s = must(t, s, honest.all[1])
	refuse(t, s, thief.all[1], ErrVoid)
	if _, err := s.AddEvidence(honest.all[1].raw, thief.all[1].raw); !errors.Is(err, ErrVoid) {
		t.Fatalf("evidence after the decision: %v", err)
	}
}

// TestCutoffLowered: a second root cuts further back.
func TestCutoffLowered(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	e := []*Entry{a.add(a.enroll("one")), a.add(a.enroll("two"))}
	s := must(t, w.start, e...)
	s = mustRoot(t, s, w.root(s, func(r *Root) { cutoff(r, a.key.Public(), 2, e[1].hash) }))
	wantLive(t, s, "two", true)
	s = mustRoot(t, s, w.root(s, func(r *Root) { cutoff(r, a.key.Public(), 1, e[0].hash) }))
	wantLive(t, s, "two", false)
	wantLive(t, s, "one", true)
}

// TestCutoffMovesToTheRightBranch: a node on the thief's branch finds the fork point by the hashes a root vouches for, keeps the
// removals it had until then, and ends in the same state as a node that was right all along.
func TestCutoffMovesToTheRightBranch(t *testing.T) {
	w, honest, thief := forked(t)
	for _, n := range []string{"c", "d", "e"} {
		honest.add(honest.enroll(n))
		thief.add(thief.enroll(n + "-evil"))
	}
	thief.add(revokeNode("base"))
	end := honest.all[len(honest.all)-1]
	root := w.root(w.start, func(r *Root) { cutoff(r, honest.key.Public(), end.Seq, end.hash) })
	right := mustRoot(t, must(t, w.start, honest.all...), root)

	for name, s := range map[string]*State{
		"longer": must(t, w.start, thief.all...),
		"short":  must(t, w.start, thief.all[:3]...),
		"known":  evidence(t, must(t, w.start, thief.all...), honest.all[1], thief.all[1]),
	} {
		t.Run(name, func(t *testing.T) {
			s := mustRoot(t, s, root)
			for _, n := range []string{"d-evil", "e-evil"} {
				wantLive(t, s, n, false)
			}
			if name != "short" {
				wantLive(t, s, "base", false) // the removal counts on until the right branch is whole
			}
			for i := len(honest.all) - 1; i >= 0; i-- {
				n, done, err := s.ApplyEntry(honest.all[i].raw)
				if err != nil {
					break // the fork point is passed
				}
				if s = n; !done.Vouched {
					break // contiguous again: the fork point is found
				}
			}
			seq, _, _ := s.Position(honest.key.Public())
			if seq < 1 || seq > 2 {
				t.Fatalf("the branches part behind 1, found %d", seq)
			}
			s = must(t, s, honest.all[seq:]...)
			if dump(s) != dump(right) || s.Digest() != right.Digest() {
				t.Fatalf("not the state of the right branch:\n%s\n%s", dump(s), dump(right))
			}
		})
	}
}

func TestVouchedOnlyByHash(t *testing.T) {
	w, honest, thief := forked(t)
	end := honest.add(honest.enroll("end"))
	thief.add(thief.enroll("other-end"))
	root := w.root(w.start, func(r *Root) { cutoff(r, honest.key.Public(), end.Seq, end.hash) })
	s := mustRoot(t, must(t, w.start, honest.all[0]), root)
	refuse(t, s, thief.all[2], ErrGap) // at the right place, of the wrong branch: proves nothing
}

func TestStraysAreBounded(t *testing.T) {
	t.Parallel()
	w, honest, thief := forked(t)
	s := evidence(t, must(t, w.start, honest.all...), honest.all[1], thief.all[1])
	full := false
	for i := range maxStrays + 1 {
		thief.seq, thief.prev = uint64(i+10), keys.Hash{1}
		n, _, err := s.ApplyEntry(thief.add(revokeNode(string(rune('a'+i%26)) + "x")).raw)
		if errors.Is(err, ErrFull) {
			full = true
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	if !full {
		t.Fatal("no bound")
	}
	// The branch held still removes.
	wantLive(t, must(t, s, honest.add(revokeNode("good"))), "good", false)
}

func TestStrayNeedsTheRight(t *testing.T) {
	w := worldWith(t, 1, issuerOf("a", CapEnroll))
	honest := w.writer("a")
	thief := honest.branch()
	s := evidence(t, must(t, w.start, honest.add(honest.enroll("one"))), honest.all[0], thief.add(thief.enroll("evil")))
	refuse(t, s, thief.add(revokeNode("one")), ErrHave)
	x := w.writer("a")
	x.seq, x.rootVersion = 7, 2
	refuse(t, s, x.add(revokeNode("one")), ErrGap)
	x.rootVersion = 1
	bad := *x.add(revokeNode("one"))
	bad.raw = append([]byte(nil), bad.raw...)
	bad.raw[len(bad.raw)-1] ^= 1
	refuse(t, s, &bad, ErrInvalid)
}

func TestStrayOfARootThatDoesNotListItsIssuer(t *testing.T) {
	w := newWorld(t, 1, "a")
	s := mustRoot(t, w.start, w.root(w.start, func(r *Root) { r.Issuers = append(r.Issuers, issuerOf("b", allCaps)) }))
	b := w.writer("b")
	b.rootVersion = 2
	thief := b.branch()
	s = must(t, s, b.add(b.enroll("one")))
	s = evidence(t, s, b.all[0], thief.add(thief.enroll("evil")))
	thief.rootVersion = 1
	refuse(t, s, thief.add(revokeNode("one")), ErrInvalid)
	// A contradiction under a root not held waits, forked already or not.
	x := w.writer("b")
	x.rootVersion = 3
	refuse(t, s, x.add(revokeNode("one")), ErrGap)
	refuse(t, must(t, s, b.add(revokeNode("x"))), x.all[0], ErrGap)
}

// TestRemovalsKeepOnePlacePerIssuer: the list does not depend on the order, and stays short whatever a thief signs.
func TestRemovalsKeepOnePlacePerIssuer(t *testing.T) {
	all := []removal{
		{issuer: 0, seq: 5},
		{issuer: 0, seq: 2, time: 9},
		{issuer: 0, seq: 2, time: 3, stray: true},
		{issuer: 0, seq: 2, time: 2, reason: 7, stray: true},
		{issuer: 0, seq: 2, time: 2, reason: 4, stray: true},
		{issuer: 1, seq: 9},
		{issuer: 1, seq: 9, reason: 1},
		{issuer: 0, seq: 3, stray: true},
		{issuer: 1, seq: 8, stray: true, time: 99},
	}
	want := []removal{{issuer: 0, seq: 2, time: 9}, {issuer: 0, seq: 2, time: 2, reason: 4, stray: true}, {issuer: 1, seq: 9}, {issuer: 1, seq: 8, stray: true, time: 99}}
	for range 50 {
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		var list []removal
		for _, r := range append(all, all...) {
			list = addRemoval(list, r)
		}
		if !slices.Equal(list, want) {
			t.Fatalf("%+v", list)
		}
	}
}

// A view differs by forks alone only if nothing else differs and both sides know the fork: else there is something to fetch.
func TestDiffersByForks(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	honest, other := w.writer("a"), w.writer("b")
	honest.add(honest.enroll("n1"))
	thief := honest.branch()
	e, f := honest.add(honest.enroll("good")), thief.add(thief.enroll("evil"))
	here := evidence(t, must(t, w.start, honest.all...), e, f)
	there := evidence(t, must(t, w.start, thief.all...), e, f)
	if !here.differsByForks(vecOf(there)) || !there.differsByForks(vecOf(here)) {
		t.Fatal("two branches of a known fork")
	}
	if must(t, w.start, thief.all...).differsByForks(vecOf(here)) {
		t.Fatal("a fork that is not known here")
	}
	root := w.root(there, func(r *Root) { r.Name = "other" })
	for what, s := range map[string]*State{
		"the same view":            here,
		"evidence not known there": must(t, w.start, thief.all...),
		"another issuer is ahead":  must(t, there, other.add(revokeNode("n1"))),
		"another root":             mustRoot(t, there, root),
	} {
		if here.differsByForks(vecOf(s)) {
			t.Fatalf("%s differs by forks alone", what)
		}
	}
}

// wantOtherBranch wants both ends of a session to know the other's view for another branch, and no more.
func wantOtherBranch(t *testing.T, x *net, a, b int) {
	t.Helper()
	for _, p := range [][2]int{{a, b}, {b, a}} {
		if d, ok := x.nodes[p[0]].links[p[1]].OtherBranch(); !ok || d != x.nodes[p[1]].log.Current().Digest() {
			t.Fatalf("node %d does not know node %d's branch for one", p[0], p[1])
		}
	}
	if _, ok := x.nodes[0].links[1].OtherBranch(); ok {
		t.Fatal("an equal view counts as another branch")
	}
}
