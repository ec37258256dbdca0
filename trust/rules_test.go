package trust

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/sovereignmesh/meshkey/keys"
)

// signed is something a node can be sent.
type signed struct {
	root  []byte
	entry *Entry
}

func signedOf(roots [][]byte, entries []*Entry) (out []signed) {
	for _, r := range roots {
		out = append(out, signed{root: r})
	}
	for _, e := range entries {
		out = append(out, signed{entry: e})
	}
	return out
}

// absorb applies an object as a node does: a contradiction becomes evidence. It reports whether anything changed.
func absorb(t *rapid.T, s *State, x signed, raws map[keys.Hash][]byte) (*State, bool) {
	var n *State
	var err error
	if x.root != nil {
		n, err = s.ApplyRoot(x.root)
	} else {
		n, _, err = s.ApplyEntry(x.entry.raw)
	}
	if fork, ok := errors.AsType[*ForkError](err); ok {
		mine, _ := s.HashAt(fork.Issuer, fork.Seq)
		n, err = s.AddEvidence(raws[mine], x.entry.raw)
	}
	switch {
	case err == nil:
		return n, true
	case errors.Is(err, ErrInvalid), errors.Is(err, ErrFull):
		t.Fatalf("refused: %v", err)
	}
	return s, false
}

// deliver lets a node have objects in random orders, each of them again and again, until they change nothing any more.
func deliver(t *rapid.T, s *State, objects []signed) *State {
	raws := map[keys.Hash][]byte{}
	indices := make([]int, len(objects))
	for i, x := range objects {
		indices[i] = i
		if x.entry != nil {
			raws[x.entry.hash] = x.entry.raw
		}
	}
	for round := 0; ; round++ {
		if round > 3*len(objects)+4 {
			t.Fatal("never settles")
		}
		changed := false
		for _, i := range rapid.Permutation(indices).Draw(t, "order") {
			var c bool
			if s, c = absorb(t, s, objects[i], raws); c {
				changed = true
			}
		}
		if !changed {
			return s
		}
	}
}

func sameState(t *rapid.T, what string, a, b *State) {
	t.Helper()
	if x, y := dump(a), dump(b); x != y {
		t.Fatalf("%s: two states:\n%s", what, differ(x, y))
	}
	if a.Digest() != b.Digest() {
		t.Fatalf("%s: two digests", what)
	}
}

// TestPropertyLossAndPartition: nodes that were each sent some of what was signed, in any order and more than once; then, parted in two
// groups, each group what any of it has; then all of it all. In a group, and in the end in the mesh, they hold the same: what one node
// holds that was sent everything.
func TestPropertyLossAndPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a", "b", "c")
	rapid.Check(t, func(rt *rapid.T) {
		all := signedOf(history(rt, w))
		type node struct {
			s    *State
			sent map[int]bool
		}
		nodes := make([]node, rapid.IntRange(2, 4).Draw(rt, "nodes"))
		for i := range nodes {
			nodes[i].sent = map[int]bool{}
			var part []signed
			for k, x := range all {
				if rapid.Bool().Draw(rt, "arrives") {
					nodes[i].sent[k] = true
					part = append(part, x)
				}
			}
			nodes[i].s = deliver(rt, w.start, part)
		}
		cut := rapid.IntRange(1, len(nodes)-1).Draw(rt, "parted at")
		for _, group := range [][]node{nodes[:cut], nodes[cut:]} {
			union := map[int]bool{}
			for _, n := range group {
				maps.Copy(union, n.sent)
			}
			var part []signed
			for _, k := range slices.Sorted(maps.Keys(union)) {
				part = append(part, all[k])
			}
			for i := range group {
				group[i].s = deliver(rt, group[i].s, part)
				// What a cutoff leaves while its chain is not whole is each node's own.
				if group[0].s.settled() && group[i].s.settled() {
					sameState(rt, "in a group", group[0].s, group[i].s)
				}
			}
		}
		want := deliver(rt, w.start, all)
		for _, n := range nodes {
			sameState(rt, "healed", deliver(rt, n.s, all), want)
		}
	})
}

// TestPropertyCutoff: whenever the root with a cutoff comes, before, between or after the entries, in the end nothing behind the cutoff
// was ever said, and everything up to it was.
func TestPropertyCutoff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a", "b", "c")
	rapid.Check(t, func(rt *rapid.T) {
		_, entries := history(rt, w)
		entries = filterRoot1(entries)
		if len(entries) == 0 {
			rt.Skip("nothing was signed")
		}
		last := rapid.SampledFrom(entries).Draw(rt, "last one that counts")
		to := Cutoff{Seq: last.Seq, Hash: last.hash}
		if rapid.IntRange(0, 5).Draw(rt, "nothing counts?") == 0 {
			to = Cutoff{Hash: keys.ChainStart(w.mesh, last.Issuer)}
		}
		root := w.root(w.start, func(r *Root) { cutoff(r, last.Issuer, to.Seq, to.Hash) })
		var kept []*Entry
		for _, e := range entries {
			if e.Issuer != last.Issuer || e.Seq <= to.Seq {
				kept = append(kept, e)
			}
		}
		want := mustRoot(w.t, deliver(rt, w.start, signedOf(nil, kept)), root)
		late := mustRoot(w.t, deliver(rt, w.start, signedOf(nil, entries)), root)
		sameState(rt, "after the entries", deliver(rt, late, signedOf(nil, entries)), want)
		sameState(rt, "between them", deliver(rt, w.start, signedOf([][]byte{root}, entries)), want)
	})
}

// TestPropertyTwoRoots: two valid successors of one root, in either order and among entries: neither holds, what either takes away is not
// added, and the states are one; so they are after the operators have chosen the same root, whichever came first.
func TestPropertyTwoRoots(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a", "b", "c")
	rapid.Check(t, func(rt *rapid.T) {
		_, entries := history(rt, w)
		entries = filterRoot1(entries)
		roots := make([][]byte, 2)
		for i := range roots {
			cut := rapid.Bool().Draw(rt, "cuts") && len(entries) > 0
			var at *Entry
			if cut {
				at = rapid.SampledFrom(entries).Draw(rt, "at")
			}
			roots[i] = w.root(w.start, func(r *Root) {
				r.Name = []string{"left", "right"}[i]
				if cut {
					cutoff(r, at.Issuer, at.Seq, at.hash)
				}
			})
		}
		all := signedOf(roots, entries)
		one, two := deliver(rt, w.start, all), deliver(rt, w.start, all)
		for _, s := range []*State{one, two} {
			if s.Root().Version != 1 || len(s.RootFork()) != 2 {
				rt.Fatalf("root %d, %d contradict", s.Root().Version, len(s.RootFork()))
			}
			for i, r := range s.RootFork() {
				if r.hash != one.RootFork()[i].hash {
					rt.Fatal("listed in the order of arrival")
				}
				for m := range s.Members() {
					x, _ := s.enrolmentOf(m.Issuer, m.Serial)
					if is, _ := r.Issuer(m.Issuer); is.Cutoff != nil && x.seq > is.Cutoff.Seq {
						rt.Fatalf("entry %d adds, although a root would cut its issuer off at %d", x.seq, is.Cutoff.Seq)
					}
				}
			}
		}
		sameState(rt, "forked", one, two)
		choice := rapid.IntRange(0, 1).Draw(rt, "choice")
		chosen := one.RootFork()[choice]
		states := []*State{one, two}
		for i, s := range states {
			n, err := s.AcceptRoot(chosen.hash)
			if err != nil {
				rt.Fatal(err)
			}
			states[i] = deliver(rt, n, all)
			if states[i].Root().hash != chosen.hash {
				rt.Fatal("not the root that was chosen")
			}
		}
		sameState(rt, "chosen", states[0], states[1])
		// Who never saw the other root has the same.
		only := deliver(rt, w.start, signedOf([][]byte{chosen.raw}, entries))
		if a, b := dump(states[0]), dump(only); a != b {
			rt.Fatalf("the root that was not chosen left something:\n%s", differ(a, b))
		}
	})
}

// TestPropertyEquivocation: an issuer that signed two branches, seen in either order and mixed with the rest. Wherever a node stands: what
// either branch removed is removed, nothing the issuer adds behind the evidence counts, and once a root has chosen, all are in the
// state of who saw the chosen branch alone.
func TestPropertyEquivocation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a", "b", "c")
	rapid.Check(t, func(rt *rapid.T) {
		_, honest := history(rt, w)
		honest = slices.DeleteFunc(filterRoot1(honest), func(e *Entry) bool { return e.Issuer == keyOf("issuer a").Public() })
		a := w.writer("a")
		node := rapid.SampledFrom([]string{"n0", "n1", "n2", "n3", "n4"})
		grow := func(x *writer, branch string, least int) {
			for range rapid.IntRange(least, 4).Draw(rt, branch) {
				if rapid.Bool().Draw(rt, "removes") {
					x.add(revokeNode(node.Draw(rt, "node")), x.enroll(branch))
				} else {
					x.add(x.enroll(node.Draw(rt, "node")), x.enroll(branch))
				}
			}
		}
		grow(a, "common", 0)
		b := a.branch()
		common := len(a.all)
		grow(a, "left", 1)
		grow(b, "right", 1)
		both := append(slices.Clone(honest), a.all...)
		both = append(both, b.all[common:]...)
		removed := map[keys.NodeID]bool{}
		for _, e := range both {
			for _, o := range e.Ops {
				if o, ok := o.(OpRevokeNode); ok {
					removed[o.Node] = true
				}
			}
		}
		all := signedOf(nil, both)
		states := []*State{deliver(rt, w.start, all), deliver(rt, w.start, all)}
		id := a.key.Public()
		for _, s := range states {
			ev, ok := s.EvidenceOf(id)
			if !ok || ev.Seq <= uint64(common) {
				rt.Fatalf("no evidence, or of the common part: %+v", ev)
			}
			got := map[keys.NodeID]bool{}
			for id := range s.RevokedNodes() {
				got[id] = true
			}
			if !maps.Equal(got, removed) {
				rt.Fatalf("revoked %v, want %v", got, removed)
			}
			// Whichever branch it holds: what is signed on it now adds nothing, and still removes.
			for _, x := range []*writer{a.branch(), b.branch()} {
				e := x.add(x.enroll("afterwards"), revokeNode("taken back"))
				if seq, hash, _ := s.Position(id); seq != e.Seq-1 || hash != e.Prev {
					continue
				}
				n, _, err := s.ApplyEntry(e.raw)
				if err != nil {
					rt.Fatal(err)
				}
				if _, revoked := n.Revoked(nodeID("taken back")); lively(n, "afterwards") || !revoked {
					rt.Fatalf("behind the evidence: adds %v, removes %v", lively(n, "afterwards"), revoked)
				}
			}
		}
		end := rapid.SampledFrom([]*writer{a, b}).Draw(rt, "chosen")
		last := end.all[len(end.all)-1]
		root := w.root(w.start, func(r *Root) { cutoff(r, id, last.Seq, last.hash) })
		want := deliver(rt, w.start, signedOf([][]byte{root}, append(slices.Clone(honest), end.all...)))
		for _, s := range append(states, w.start) {
			sameState(rt, "decided", deliver(rt, s, signedOf([][]byte{root}, both)), want)
		}
	})
}
