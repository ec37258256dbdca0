package trust

import (
	"encoding/binary"
	"hash/fnv"
	"iter"
	"math/bits"

	"github.com/sovereignmesh/meshkey/keys"
)

// pkey is a key of a persistent map. The hash is a function of the key alone, never of a process-wide seed, so that two nodes
// walk equal maps in the same order. Collisions cost time only; nobody but an issuer can choose keys.
type pkey interface {
	comparable
	hash() uint64
}

// pmap is an immutable map: set returns a new map that shares all but a few nodes with the old one. It is a trie over the hash,
// five bits at a time from the top, so keys that hash to their own first bytes are walked in sorted order. The zero value is an
// empty map.
type pmap[K pkey, V any] struct {
	root *pnode[K, V]
	n    int
}

type pnode[K pkey, V any] struct {
	used  uint32 // bit i: slot i is present
	slots []pslot[K, V]
}

// pslot holds exactly one of its two fields.
type pslot[K pkey, V any] struct {
	sub  *pnode[K, V]
	leaf *pleaf[K, V]
}

// pleaf is a key and its value; next has the same hash.
type pleaf[K pkey, V any] struct {
	key  K
	val  V
	next *pleaf[K, V]
}

const pbits = 5

func pindex(h uint64, shift uint) uint { return uint(h << shift >> (64 - pbits)) }

func (n *pnode[K, V]) at(i uint) int { return bits.OnesCount32(n.used & (1<<i - 1)) }

// len returns the number of keys.
func (m pmap[K, V]) len() int { return m.n }

// get returns the value of a key.
func (m pmap[K, V]) get(k K) (v V, ok bool) {
	h := k.hash()
	for n, shift := m.root, uint(0); n != nil; shift += pbits {
		i := pindex(h, shift)
		if n.used&(1<<i) == 0 {
			return v, false
		}
		s := n.slots[n.at(i)]
		if s.sub != nil {
			n = s.sub
			continue
		}
		for l := s.leaf; l != nil; l = l.next {
			if l.key == k {
				return l.val, true
			}
		}
		return v, false
	}
	return v, false
}

// set returns a map in which k has the value v.
func (m pmap[K, V]) set(k K, v V) pmap[K, V] {
	n := m.root
	if n == nil {
		n = &pnode[K, V]{}
	}
	root, added := n.set(k.hash(), 0, k, v)
	if added {
		m.n++
	}
	m.root = root
	return m
}

func (n *pnode[K, V]) set(h uint64, shift uint, k K, v V) (_ *pnode[K, V], added bool) {
	i := pindex(h, shift)
	at := n.at(i)
	if n.used&(1<<i) == 0 {
		c := &pnode[K, V]{used: n.used | 1<<i, slots: make([]pslot[K, V], len(n.slots)+1)}
		copy(c.slots, n.slots[:at])
		c.slots[at].leaf = &pleaf[K, V]{key: k, val: v}
		copy(c.slots[at+1:], n.slots[at:])
		return c, true
	}
	c := &pnode[K, V]{used: n.used, slots: append([]pslot[K, V](nil), n.slots...)}
	s := &c.slots[at]
	switch {
	case s.sub != nil:
		s.sub, added = s.sub.set(h, shift+pbits, k, v)
	case s.leaf.key.hash() == h:
		s.leaf, added = s.leaf.set(k, v)
	default:
		// Two hashes meet in this slot and differ further down: push the old leaf one level deeper and try there.
		old := s.leaf
		sub := &pnode[K, V]{used: 1 << pindex(old.key.hash(), shift+pbits), slots: []pslot[K, V]{{leaf: old}}}
		s.leaf = nil
		s.sub, added = sub.set(h, shift+pbits, k, v)
	}
	return c, added
}

func (l *pleaf[K, V]) set(k K, v V) (_ *pleaf[K, V], added bool) {
	if l == nil {
		return &pleaf[K, V]{key: k, val: v}, true
	}
	if l.key == k {
		return &pleaf[K, V]{key: k, val: v, next: l.next}, false
	}
	next, added := l.next.set(k, v)
	return &pleaf[K, V]{key: l.key, val: l.val, next: next}, added
}

// all walks the map in the order of the hashes.
func (m pmap[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.root.walk(yield) }
}

func (n *pnode[K, V]) walk(yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	for _, s := range n.slots {
		if s.sub != nil {
			if !s.sub.walk(yield) {
				return false
			}
			continue
		}
		for l := s.leaf; l != nil; l = l.next {
			if !yield(l.key, l.val) {
				return false
			}
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
	h := fnv.New64a()
	h.Write([]byte(k))
	return h.Sum64()
}

// hash reverses the bits: numbers in a row then differ at the top and share no long path.
func (k seqKey) hash() uint64 { return bits.Reverse64(uint64(k)) }

func (k factKey) hash() uint64 {
	return binary.BigEndian.Uint64(k.issuer[:]) ^ bits.Reverse64(k.number)
}

func (t Target) hash() uint64 {
	return binary.BigEndian.Uint64(t.Node[:]) ^ nameKey(t.Tag).hash() ^ uint64(t.Kind)
}
