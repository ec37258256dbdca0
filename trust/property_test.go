package trust

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/sovereignmesh/meshkey/keys"
)

// history is everything some mesh ever signed: roots in order and a chain per issuer, of random ops.
func history(t *rapid.T, w *world) (roots [][]byte, entries []*Entry) {
	names := []string{"a", "b", "c"}
	nodes := []string{"n0", "n1", "n2", "n3", "n4"}
	node := rapid.SampledFrom(nodes)
	target := rapid.Custom(func(t *rapid.T) Target {
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			return AnyNode()
		case 1:
			return NodeTarget(nodeID(node.Draw(t, "node")))
		}
		return TagTarget(rapid.SampledFrom([]string{"x", "y"}).Draw(t, "tag"))
	})
	s := w.start
	writers := map[string]*writer{}
	for _, n := range names {
		writers[n] = w.writer(n)
	}
	steps := rapid.IntRange(1, 25).Draw(t, "steps")
	for range steps {
		name := rapid.SampledFrom(names).Draw(t, "issuer")
		x := writers[name]
		if rapid.IntRange(0, 9).Draw(t, "root?") == 0 {
			raw := w.root(s, func(r *Root) { r.Issued++ })
			s = mustRoot(w.t, s, raw)
			roots = append(roots, raw)
		}
		x.rootVersion = rapid.Uint64Range(x.rootVersion, s.Root().Version).Draw(t, "root version")
		var ops []Op
		for range rapid.IntRange(1, 3).Draw(t, "ops") {
			n := node.Draw(t, "node")
			issuer := writers[rapid.SampledFrom(names).Draw(t, "other")].key.Public()
			small := rapid.Uint64Range(1, 6).Draw(t, "number")
			switch rapid.IntRange(0, 8).Draw(t, "op") {
			case 0, 1, 2:
				ops = append(ops, x.enrollAs(n, rapid.SampledFrom([]string{"alpha", "beta"}).Draw(t, "name"), "x"))
			case 3:
				ops = append(ops, revokeNode(n))
			case 4:
				ops = append(ops, OpRevokeCert{Issuer: issuer, Serial: small, Reason: small})
			case 5:
				ops = append(ops, OpGroup{Generation: small, Commit: keys.Sum([]byte{byte(small)})})
			case 6:
				ops = append(ops, x.grant(target.Draw(t, "who"), target.Draw(t, "what"), "svc"))
			case 7:
				ops = append(ops, OpUngrant{Issuer: issuer, GID: small})
			case 8:
				to := node.Draw(t, "to")
				if to != n {
					ops = append(ops, x.enrollAs(to, "gamma"), OpRevokeNode{
						Node: nodeID(n), Successor: &Successor{Node: nodeID(to), Sig: RotateSignature(w.mesh, keyOf("node %s", n), nodeID(to))},
					})
				}
			}
		}
		if len(ops) == 0 {
			continue
		}
		entries = append(entries, x.add(ops...))
	}
	if rapid.Bool().Draw(t, "cut") {
		cut := writers[rapid.SampledFrom(names).Draw(t, "whom")]
		if len(cut.all) > 0 {
			at := rapid.SampledFrom(cut.all).Draw(t, "where")
			roots = append(roots, w.root(s, func(r *Root) { cutoff(r, cut.key.Public(), at.Seq, at.hash) }))
		}
	}
	return roots, entries
}

// settle applies objects in a random order, with repetitions, until nothing is missing.
func settle(t *rapid.T, s *State, roots [][]byte, entries []*Entry) *State {
	type item struct {
		root  []byte
		entry *Entry
	}
	var items []item
	for _, r := range roots {
		items = append(items, item{root: r})
	}
	for _, e := range entries {
		items = append(items, item{entry: e})
	}
	indices := make([]int, len(items))
	for i := range indices {
		indices[i] = i
	}
	for round := 0; ; round++ {
		if round > len(items)+2 {
			t.Fatal("never settles")
		}
		gaps := 0
		order := rapid.Permutation(indices).Draw(t, "order")
		for _, at := range append(order, order[:len(order)/2]...) {
			i := items[at]
			var n *State
			var done Applied
			var err error
			if i.root != nil {
				n, err = s.ApplyRoot(i.root)
			} else {
				n, done, err = s.ApplyEntry(i.entry.raw)
			}
			switch {
			case err == nil:
				if s = n; done.Vouched {
					gaps++ // the entry itself is still to be applied
				}
			case errors.Is(err, ErrGap):
				gaps++
			case errors.Is(err, ErrHave), errors.Is(err, ErrVoid):
			default:
				t.Fatalf("%v", err)
			}
		}
		if gaps == 0 {
			return s
		}
	}
}

// TestAnyOrderGivesOneState: any order, duplication, gaps and interleaving of issuers and roots end in the same State and digest.
func TestAnyOrderGivesOneState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a", "b", "c")
	rapid.Check(t, func(rt *rapid.T) {
		roots, entries := history(rt, w)
		one := settle(rt, w.start, roots, entries)
		two := settle(rt, w.start, roots, entries)
		if a, b := dump(one), dump(two); a != b {
			rt.Fatalf("two orders, two states:\n%s\n%s", a, b)
		}
		if one.Digest() != two.Digest() {
			rt.Fatal("two digests")
		}
	})
}

// TestRevokeAlwaysWins: whatever else is signed, before or after, a revoked node is never live and never allowed anything.
func TestRevokeAlwaysWins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, "a", "b", "c")
	rapid.Check(t, func(rt *rapid.T) {
		_, entries := history(rt, w)
		s := settle(rt, w.start, nil, filterRoot1(entries))
		for _, e := range filterRoot1(entries) {
			for _, o := range e.Ops {
				o, ok := o.(OpRevokeNode)
				if !ok {
					continue
				}
				if _, live := s.LiveMember(o.Node, epoch0+day); live {
					rt.Fatalf("%s is live", o.Node)
				}
				if d := s.Decide(o.Node, nodeID("n0"), "svc", epoch0+day); d.Allowed {
					rt.Fatalf("%s is allowed", o.Node)
				}
			}
		}
	})
}

// filterRoot1 keeps each chain up to its first entry under a later root.
func filterRoot1(es []*Entry) (out []*Entry) {
	stop := map[keys.PublicKey]bool{}
	for _, e := range es {
		if e.RootVersion > 1 {
			stop[e.Issuer] = true
		}
		if !stop[e.Issuer] {
			out = append(out, e)
		}
	}
	return out
}

// TestPmapIsAMap compares the persistent map with Go's own, old versions included.
func TestPmapIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type version struct {
			m    pmap[badKey, int]
			want map[badKey]int
		}
		cur := version{want: map[badKey]int{}}
		var old []version
		for i := range rapid.IntRange(0, 200).Draw(rt, "n") {
			k := badKey(rapid.IntRange(0, 60).Draw(rt, "key"))
			next := version{m: cur.m.set(k, i), want: map[badKey]int{}}
			for a, b := range cur.want {
				next.want[a] = b
			}
			next.want[k] = i
			if rapid.IntRange(0, 2).Draw(rt, "del") == 0 {
				k := badKey(rapid.IntRange(0, 60).Draw(rt, "gone"))
				next.m = next.m.del(k)
				delete(next.want, k)
			}
			old = append(old, cur)
			cur = next
		}
		for _, v := range append(old, cur) {
			if v.m.len() != len(v.want) {
				rt.Fatalf("len %d, want %d", v.m.len(), len(v.want))
			}
			n := 0
			for k, got := range v.m.all() {
				if v.want[k] != got {
					rt.Fatalf("%v: %d, want %d", k, got, v.want[k])
				}
				n++
			}
			if n != len(v.want) {
				rt.Fatalf("walked %d, want %d", n, len(v.want))
			}
			for k := range badKey(61) {
				got, ok := v.m.get(k)
				want, wok := v.want[k]
				if got != want || ok != wok {
					rt.Fatalf("%v: %d %v", k, got, ok)
				}
			}
		}
	})
}

// badKey collides: in the whole hash, and in all but its last bits.
type badKey int

func (k badKey) hash() uint64 {
	if k < 20 {
		return 7
	}
	return uint64(k) / 2
}

func TestPmapWalksInOrder(t *testing.T) {
	var m pmap[nodeKey, int]
	for i := range 500 {
		m = m.set(nodeKey(nodeID(fmt.Sprint(i))), i)
	}
	var last nodeKey
	for k := range m.all() {
		if string(last[:]) > string(k[:]) {
			t.Fatal("out of order")
		}
		last = k
	}
	m.all()(func(nodeKey, int) bool { return false })
}
