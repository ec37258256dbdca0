package audit

import (
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// tree is the right edge of a Merkle tree of RFC 6962: enough to add entries, to compute the root, and to write the tiles
// that are not complete yet. It holds at most 255 hashes per tile level and one per bit of its size.
type tree struct {
	size  uint64
	stack []tlog.Hash   // roots of the perfect subtrees of size's binary form, largest first
	tiles [][]tlog.Hash // per tile level the hashes of its last, incomplete tile
}

// treeNode is a hash that became complete at a tile level: the n-th of that level.
type treeNode struct {
	level int
	n     uint64
	hash  tlog.Hash
}

// add appends one entry by its record hash. emit, which may be nil, is called with every hash that a tile level gains, and
// full with every tile that becomes complete.
func (t *tree) add(h tlog.Hash, emit func(treeNode), full func(level int, n uint64, hashes []tlog.Hash)) {
	t.push(0, h, emit, full)
}

// addTile appends 256 entries at once by the root of their subtree. The size must be a multiple of 256.
func (t *tree) addTile(h tlog.Hash, emit func(treeNode), full func(level int, n uint64, hashes []tlog.Hash)) {
	if t.size%tileWidth != 0 {
		panic("audit: subtree added to an unaligned tree")
	}
	t.push(tileHeight, h, emit, full)
}

// push adds the root of a perfect subtree of the given height and merges it with its left neighbours.
func (t *tree) push(height int, h tlog.Hash, emit func(treeNode), full func(int, uint64, []tlog.Hash)) {
	n, size := t.size>>height, t.size+1<<height
	for {
		if height%tileHeight == 0 {
			t.gain(treeNode{height / tileHeight, n, h}, emit, full)
		}
		if n&1 == 0 {
			break
		}
		left := t.stack[len(t.stack)-1]
		t.stack = t.stack[:len(t.stack)-1]
		h = tlog.NodeHash(left, h)
		n >>= 1
		height++
	}
	t.stack = append(t.stack, h)
	t.size = size
}

func (t *tree) gain(nd treeNode, emit func(treeNode), full func(int, uint64, []tlog.Hash)) {
	for len(t.tiles) <= nd.level {
		t.tiles = append(t.tiles, nil)
	}
	hashes := append(t.tiles[nd.level], nd.hash)
	if emit != nil {
		emit(nd)
	}
	if len(hashes) == tileWidth {
		if full != nil {
			full(nd.level, nd.n/tileWidth, hashes)
		}
		hashes = nil // full may keep the slice
	}
	t.tiles[nd.level] = hashes
}

// root returns the tree hash of RFC 6962 §2.1.
func (t *tree) root() tlog.Hash {
	if len(t.stack) == 0 {
		h, _ := tlog.TreeHash(0, nil) // of nothing; reads nothing, cannot fail
		return h
	}
	h := t.stack[len(t.stack)-1]
	for i := len(t.stack) - 2; i >= 0; i-- {
		h = tlog.NodeHash(t.stack[i], h)
	}
	return h
}

// clone returns a copy that shares nothing that changes.
func (t *tree) clone() *tree {
	c := &tree{size: t.size, stack: append([]tlog.Hash(nil), t.stack...), tiles: make([][]tlog.Hash, len(t.tiles))}
	for i, hashes := range t.tiles {
		c.tiles[i] = append([]tlog.Hash(nil), hashes...)
	}
	return c
}

// levelCount is how many hashes tile level has in a tree of size entries.
func levelCount(size uint64, level int) uint64 {
	if level*tileHeight >= 64 {
		return 0
	}
	return size >> (level * tileHeight)
}

// levels is how many tile levels a tree of size entries has.
func levels(size uint64) int {
	n := 0
	for levelCount(size, n) > 0 {
		n++
	}
	return n
}

// treeFromTiles rebuilds a tree of the given size from the last tile of each level: tiles[L] holds the first
// levelCount(size, L) % 256 hashes of it. Nothing is authenticated until the root is compared.
func treeFromTiles(size uint64, tiles [][]tlog.Hash) *tree {
	t := &tree{size: size, tiles: tiles}
	for level := len(tiles) - 1; level >= 0; level-- {
		hashes := tiles[level]
		for bit := tileHeight - 1; bit >= 0; bit-- {
			if len(tiles[level])&(1<<bit) == 0 {
				continue
			}
			t.stack = append(t.stack, subtreeHash(hashes[:1<<bit]))
			hashes = hashes[1<<bit:]
		}
	}
	return t
}

// subtreeHash is the root over a power of two of hashes.
func subtreeHash(hashes []tlog.Hash) tlog.Hash {
	if len(hashes) == 1 {
		return hashes[0]
	}
	half := len(hashes) / 2
	return tlog.NodeHash(subtreeHash(hashes[:half]), subtreeHash(hashes[half:]))
}
