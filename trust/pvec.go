package trust

// pvec is an immutable list: push returns a new one that shares all but a few nodes with the old one. It is a tree of sixteen branches,
// the elements in its leaves, at hand by their index from 0. The zero value is an empty list.
type pvec[V any] struct {
	root  *vnode[V]
	n     uint64
	depth uint // levels of nodes above the leaves
}

// vnode is a leaf with values, or has nodes below.
type vnode[V any] struct {
	vals []V
	subs []*vnode[V]
}

const (
	vbits  = 4
	vwidth = 1 << vbits
)

// len returns the number of elements.
func (v pvec[V]) len() uint64 { return v.n }

// at returns an element.
func (v pvec[V]) at(i uint64) (x V, ok bool) {
	if i >= v.n {
		return x, false
	}
	n := v.root
	for d := v.depth; d > 0; d-- {
		n = n.subs[i>>(d*vbits)%vwidth]
	}
	return n.vals[i%vwidth], true
}

// push returns a list with an element more.
func (v pvec[V]) push(x V) pvec[V] {
	if v.root == nil {
		v.root = &vnode[V]{}
	}
	if v.n == 1<<((v.depth+1)*vbits) {
		v.root = &vnode[V]{subs: []*vnode[V]{v.root}}
		v.depth++
	}
	v.root = v.root.push(v.n, v.depth, x)
	v.n++
	return v
}

func (n *vnode[V]) push(i uint64, depth uint, x V) *vnode[V] {
	if depth == 0 {
		return &vnode[V]{vals: with(n.vals, len(n.vals), x, false)}
	}
	at := int(i >> (depth * vbits) % vwidth)
	if at < len(n.subs) {
		return &vnode[V]{subs: with(n.subs, at, n.subs[at].push(i, depth-1, x), true)}
	}
	return &vnode[V]{subs: with(n.subs, at, (&vnode[V]{}).push(i, depth-1, x), false)}
}

// first returns a list of the first n elements.
func (v pvec[V]) first(n uint64) (out pvec[V]) {
	b := vecBuilder[V]{}
	for i := range min(n, v.n) {
		x, _ := v.at(i)
		b.add(x)
	}
	return b.done()
}

// vecBuilder makes a list without the garbage of making it one by one.
type vecBuilder[V any] struct {
	leaves []*vnode[V]
	n      uint64
}

func (b *vecBuilder[V]) add(x V) {
	if b.n%vwidth == 0 {
		b.leaves = append(b.leaves, &vnode[V]{vals: make([]V, 0, vwidth)})
	}
	last := b.leaves[len(b.leaves)-1]
	last.vals = append(last.vals, x)
	b.n++
}

func (b *vecBuilder[V]) done() pvec[V] {
	v := pvec[V]{n: b.n}
	level := b.leaves
	for len(level) > 1 {
		var up []*vnode[V]
		for i := 0; i < len(level); i += vwidth {
			up = append(up, &vnode[V]{subs: append([]*vnode[V](nil), level[i:min(i+vwidth, len(level))]...)})
		}
		level = up
		v.depth++
	}
	if len(level) == 1 {
		v.root = level[0]
	}
	return v
}
