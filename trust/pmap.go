package trust

import (
	"cmp"
	"encoding/binary"
	"iter"
	"math/bits"
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
)

// pkey is a key of a persistent map. The hash is a function of the key alone, never of a process-wide seed, so that two nodes
// walk equal maps in the same order. Collisions cost time only; nobody but an issuer can choose keys.
type pkey interface {
	comparable
	hash() uint64
}

// pmap is an immutable map: set returns a new map that shares all but a few nodes with the old one. It is a trie over the hash,
// five bits at a time from the top, so keys that hash to their own first bytes are walked in sorted order. Keys and values lie in the
// nodes themselves: of a hundred thousand members the pointers to them would be a tenth of the memory. The zero value is an empty map.
type pmap[K pkey, V any] struct {
	root *pnode[K, V]
	n    int
}

// pnode has a leaf, a node below, or nothing for each value of five bits. Below the last bits of the hash (shift ≥ 64) keys of one hash
// stand in a row.
type pnode[K pkey, V any] struct {
	leafBits uint32 // bit i: leaves has one for i
	subBits  uint32 // bit i: subs has one for i
	leaves   []pleaf[K, V]
	subs     []*pnode[K, V]
}

type pleaf[K pkey, V any] struct {
	key K
	val V
}

const pbits = 5

func pindex(h uint64, shift uint) uint { return uint(h << shift >> (64 - pbits)) }

// below is how many of the set bits are below i.
func below(set uint32, i uint) int { return bits.OnesCount32(set & (1<<i - 1)) }

// len returns the number of keys.
func (m pmap[K, V]) len() int { return m.n }

// get returns the value of a key.
func (m pmap[K, V]) get(k K) (v V, ok bool) {
	h := k.hash()
	n, shift := m.root, uint(0)
	for ; n != nil && shift < 64; shift += pbits {
		i := pindex(h, shift)
		if n.leafBits&(1<<i) != 0 {
			if l := &n.leaves[below(n.leafBits, i)]; l.key == k {
				return l.val, true
			}
			return v, false
		}
		if n.subBits&(1<<i) == 0 {
			return v, false
		}
		n = n.subs[below(n.subBits, i)]
	}
	if n != nil {
		for i := range n.leaves {
			if n.leaves[i].key == k {
				return n.leaves[i].val, true
			}
		}
	}
	return v, false
}

// set returns a map in which k has the value v.
func (m pmap[K, V]) set(k K, v V) pmap[K, V] {
	n := m.root
	if n == nil {
		n = &pnode[K, V]{}
	}
	root, added := n.set(k.hash(), 0, pleaf[K, V]{k, v})
	if added {
		m.n++
	}
	m.root = root
	return m
}

// with returns a copy of the list, no longer than it has to be, with an element more or replaced.
func with[T any](list []T, at int, x T, replace bool) []T {
	if replace {
		out := make([]T, len(list))
		copy(out, list)
		out[at] = x
		return out
	}
	out := make([]T, len(list)+1)
	copy(out, list[:at])
	out[at] = x
	copy(out[at+1:], list[at:])
	return out
}

func without[T any](list []T, at int) []T {
	if len(list) == 1 {
		return nil
	}
	out := make([]T, len(list)-1)
	copy(out, list[:at])
	copy(out[at:], list[at+1:])
	return out
}

func (n *pnode[K, V]) set(h uint64, shift uint, l pleaf[K, V]) (_ *pnode[K, V], added bool) {
	c := *n
	if shift >= 64 {
		for at := range n.leaves {
			if n.leaves[at].key == l.key {
				c.leaves = with(n.leaves, at, l, true)
				return &c, false
			}
		}
		c.leaves = with(n.leaves, len(n.leaves), l, false)
		return &c, true
	}
	i := pindex(h, shift)
	bit, leafAt, subAt := uint32(1)<<i, below(n.leafBits, i), below(n.subBits, i)
	switch {
	case n.subBits&bit != 0:
		sub, added := n.subs[subAt].set(h, shift+pbits, l)
		c.subs = with(n.subs, subAt, sub, true)
		return &c, added
	case n.leafBits&bit == 0:
		c.leafBits |= bit
		c.leaves = with(n.leaves, leafAt, l, false)
		return &c, true
	case n.leaves[leafAt].key == l.key:
		c.leaves = with(n.leaves, leafAt, l, true)
		return &c, false
	}
	// Two keys meet here: both go one level down.
	old := n.leaves[leafAt]
	sub, _ := (&pnode[K, V]{}).set(old.key.hash(), shift+pbits, old)
	sub, _ = sub.set(h, shift+pbits, l)
	c.leafBits &^= bit
	c.subBits |= bit
	c.leaves = without(n.leaves, leafAt)
	c.subs = with(n.subs, subAt, sub, false)
	return &c, true
}

// del returns a map without k.
func (m pmap[K, V]) del(k K) pmap[K, V] {
	if _, ok := m.get(k); !ok {
		return m
	}
	return pmap[K, V]{root: m.root.del(k.hash(), 0, k), n: m.n - 1}
}

// del returns the node without a key that is below it, or nil if nothing else is.
func (n *pnode[K, V]) del(h uint64, shift uint, k K) *pnode[K, V] {
	c := *n
	if shift >= 64 {
		c.leaves = without(n.leaves, slices.IndexFunc(n.leaves, func(l pleaf[K, V]) bool { return l.key == k }))
	} else {
		i := pindex(h, shift)
		bit := uint32(1) << i
		if n.leafBits&bit != 0 {
			c.leafBits &^= bit
			c.leaves = without(n.leaves, below(n.leafBits, i))
		} else {
			at := below(n.subBits, i)
			if sub := n.subs[at].del(h, shift+pbits, k); sub != nil {
				c.subs = with(n.subs, at, sub, true)
			} else {
				c.subBits &^= bit
				c.subs = without(n.subs, at)
			}
		}
	}
	if len(c.leaves)+len(c.subs) == 0 {
		return nil
	}
	return &c
}

// buildPmap makes a map of keys that are all different, without the garbage of making it one by one. It sorts the list.
func buildPmap[K pkey, V any](list []pleaf[K, V]) pmap[K, V] {
	if len(list) == 0 {
		return pmap[K, V]{}
	}
	slices.SortStableFunc(list, func(a, b pleaf[K, V]) int { return cmp.Compare(a.key.hash(), b.key.hash()) })
	return pmap[K, V]{root: buildNode(list, 0), n: len(list)}
}

func buildNode[K pkey, V any](list []pleaf[K, V], shift uint) *pnode[K, V] {
	if shift >= 64 {
		return &pnode[K, V]{leaves: slices.Clone(list)}
	}
	n := &pnode[K, V]{}
	// run is the end of the keys that share the five bits of the one at i.
	run := func(i int) (int, uint32) {
		at, j := pindex(list[i].key.hash(), shift), i+1
		for j < len(list) && pindex(list[j].key.hash(), shift) == at {
			j++
		}
		return j, 1 << at
	}
	for i := 0; i < len(list); {
		j, bit := run(i)
		if j == i+1 {
			n.leafBits |= bit
		} else {
			n.subBits |= bit
		}
		i = j
	}
	n.leaves = make([]pleaf[K, V], 0, bits.OnesCount32(n.leafBits))
	n.subs = make([]*pnode[K, V], 0, bits.OnesCount32(n.subBits))
	for i := 0; i < len(list); {
		j, _ := run(i)
		if j == i+1 {
			n.leaves = append(n.leaves, list[i])
		} else {
			n.subs = append(n.subs, buildNode(list[i:j], shift+pbits))
		}
		i = j
	}
	return n
}

// all walks the map in the order of the hashes.
func (m pmap[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.root.walk(0, yield) }
}

func (n *pnode[K, V]) walk(shift uint, yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	if shift >= 64 {
		for i := range n.leaves {
			if !yield(n.leaves[i].key, n.leaves[i].val) {
				return false
			}
		}
		return true
	}
	leaf, sub := 0, 0
	for rest := n.leafBits | n.subBits; rest != 0; rest &= rest - 1 {
		if bit := rest & -rest; n.leafBits&bit != 0 {
			if !yield(n.leaves[leaf].key, n.leaves[leaf].val) {
				return false
			}
			leaf++
		} else {
			if !n.subs[sub].walk(shift+pbits, yield) {
				return false
			}
			sub++
		}
	}
	return true
}

// The key types. Ids hash to their own beginning: maps of them are walked in their order.
type (
	nodeKey keys.NodeID
	hashKey keys.Hash
	nameKey string
	seqKey  uint64
	// factKey is (issuer, serial) or (issuer, gid).
	factKey struct {
		issuer keys.PublicKey
		number uint64
	}
)

func (k nodeKey) hash() uint64 { return binary.BigEndian.Uint64(k[:]) }

func (k hashKey) hash() uint64 { return binary.BigEndian.Uint64(k[:]) }

func (k nameKey) hash() uint64 {
	h := uint64(14695981039346656037) // FNV-1a, without the garbage of a hash.Hash
	for i := range len(k) {
		h = (h ^ uint64(k[i])) * 1099511628211
	}
	return h
}

// hash reverses the bits: numbers in a row then differ at the top and share no long path.
func (k seqKey) hash() uint64 { return bits.Reverse64(uint64(k)) }

func (k factKey) hash() uint64 {
	return binary.BigEndian.Uint64(k.issuer[:]) ^ bits.Reverse64(k.number)
}

// hash begins with the end, the latest first and no end before all: a walk meets those that are over last.
func (k endKey) hash() uint64 {
	var before uint64
	if k.end != 0 {
		before = uint64(maxTime-k.end) + 1
	}
	return before<<23 | k.fact.hash()>>41
}

func (t Target) hash() uint64 {
	return binary.BigEndian.Uint64(t.Node[:]) ^ nameKey(t.Tag).hash() ^ uint64(t.Kind)
}
