package trust

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestPvecIsAList compares the persistent list with Go's own, old versions included, however it was made.
func TestPvecIsAList(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 700).Draw(rt, "n")
		type version struct {
			v    pvec[int]
			want []int
		}
		var all []version
		var b vecBuilder[int]
		cur := version{}
		for i := range n {
			cur = version{cur.v.push(i), append(cur.want, i)}
			b.add(i)
			if i%97 == 0 {
				all = append(all, cur)
			}
		}
		at := rapid.IntRange(0, n+3).Draw(rt, "cut")
		cut := version{cur.v.first(uint64(at)), slices.Clone(cur.want[:min(at, n)])}
		built := version{b.done(), cur.want}
		all = append(all, cur, cut, built, version{cut.v.push(-1), append(slices.Clone(cut.want), -1)}, version{built.v.push(-2), append(slices.Clone(cur.want), -2)})
		for _, x := range all {
			if x.v.len() != uint64(len(x.want)) {
				rt.Fatalf("len %d, want %d", x.v.len(), len(x.want))
			}
			for i, want := range x.want {
				if got, ok := x.v.at(uint64(i)); !ok || got != want {
					rt.Fatalf("at %d of %d: %d %v, want %d", i, len(x.want), got, ok, want)
				}
			}
			if _, ok := x.v.at(x.v.len()); ok {
				rt.Fatal("an element behind the end")
			}
		}
	})
}

// TestPmapBuiltAtOnce: a map made of a list is the one made key by key, in its order too, and goes on as one.
func TestPmapBuiltAtOnce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var one pmap[badKey, int]
		var list []pleaf[badKey, int]
		for i, k := range rapid.SliceOfNDistinct(rapid.IntRange(0, 300), 0, 200, rapid.ID).Draw(rt, "keys") {
			one = one.set(badKey(k), i)
			list = append(list, pleaf[badKey, int]{badKey(k), i})
		}
		same := func(a, b pmap[badKey, int]) {
			rt.Helper()
			var x, y []int
			for k, v := range a.all() {
				x = append(x, int(k), v)
			}
			for k, v := range b.all() {
				y = append(y, int(k), v)
			}
			if a.len() != b.len() || !slices.Equal(x, y) {
				rt.Fatalf("%d %v\n%d %v", a.len(), x, b.len(), y)
			}
		}
		two := buildPmap(list)
		same(one, two)
		for k := range badKey(301) {
			a, aok := one.get(k)
			if b, bok := two.get(k); a != b || aok != bok {
				rt.Fatalf("%d: %d %v, want %d %v", k, b, bok, a, aok)
			}
		}
		same(one.set(7, -1).set(1000, -2), two.set(7, -1).set(1000, -2))
	})
}
