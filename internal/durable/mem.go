package durable

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrPowerCut is what every operation on a [Mem] fails with between [Mem.CutPower] taking effect and [Mem.Crash], and
// what handles opened before a crash fail with for ever.
var ErrPowerCut = errors.New("the power is cut")

// sectorSize is the unit in which a Mem loses or keeps what was not synced.
const sectorSize = 512

// Mem is an FS in memory for tests, as unkind as POSIX allows: content survives a crash only if it was synced, a name
// only if its directory was. [Mem.Crash] is a power loss, [Mem.Kill] the end of the process; [Mem.Fail] and
// [Mem.CutPower] make single operations fail. It counts the operations that change something, so that a test can
// do one thing to each of them in turn.
type Mem struct {
	mu sync.Mutex

	// guarded by mu
	root    *memNode
	pending []dirChange // directory changes not yet synced, oldest first
	life    int         // process and power: handles of an earlier life are dead
	steps   int         // changing operations so far
	cut     int         // which of them meets the power cut; 0 none
	keep    bool        // whether that one happens
	down    bool
	faults  []*Fault
	space   int64 // bytes that fit, if limited
	limited bool
}

// memNode is a file or directory; names are links to it.
type memNode struct {
	dir  bool
	perm fs.FileMode

	// directories: what lookups see, and what a crash leaves
	names map[string]*memNode
	saved map[string]*memNode

	// files: what reads see, what a crash leaves, and how they differ
	data   []byte
	disk   []byte
	dirty  map[int64]bool // sectors written since the last sync
	resize bool           // the size was changed since the last sync
	shrunk int64          // the smallest size since then
}

// dirChange is one atomic change of names: a rename has two.
type dirChange []nameChange

type nameChange struct {
	dir  *memNode
	name string
	node *memNode // nil: removed
}

// NewMem returns an empty file system without limits or faults.
func NewMem() *Mem {
	return &Mem{root: newMemDir(dirPerm)}
}

func newMemDir(perm fs.FileMode) *memNode {
	return &memNode{dir: true, perm: perm, names: map[string]*memNode{}, saved: map[string]*memNode{}}
}

// Crash is a power loss: everything not synced is gone, open handles are dead, pending faults and cuts are cleared.
func (m *Mem) Crash() { m.crash(func() bool { return false }) }

// CrashKeeping is a power loss after which the disk happens to hold some of what was not synced: each sector or none,
// and the directory changes up to some point, by a coin that seed determines.
func (m *Mem) CrashKeeping(seed uint64) {
	coin := rand.New(rand.NewPCG(seed, 0))
	m.crash(func() bool { return coin.IntN(2) == 0 })
}

func (m *Mem) crash(coin func() bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	// Metadata is journaled in order: a prefix of the changes survives.
	for _, c := range m.pending {
		if !coin() {
			break
		}
		c.save()
	}
	m.pending = nil
	m.root.crash(coin, map[*memNode]bool{})
	m.reviveLocked()
}

// crash makes a node and those below it what the disk has.
func (n *memNode) crash(coin func() bool, done map[*memNode]bool) {
	if done[n] {
		return
	}
	done[n] = true
	if !n.dir {
		n.settle(func(int64) bool { return coin() }, coin())
		n.data = slices.Clone(n.disk)
		return
	}
	n.names = map[string]*memNode{}
	// Sorted, so that a seed means the same crash each time.
	for _, name := range sortedNames(n.saved) {
		child := n.saved[name]
		child.crash(coin, done)
		n.names[name] = child
	}
}

// settle writes the chosen sectors, and if wanted the size, to the disk, and forgets what was dirty.
func (n *memNode) settle(sector func(i int64) bool, size bool) {
	if size && n.resize {
		n.disk = n.disk[:min(int64(len(n.disk)), n.shrunk)]
		n.disk = growTo(n.disk, int64(len(n.data)))
	}
	var order []int64
	for i := range n.dirty {
		order = append(order, i)
	}
	slices.Sort(order)
	for _, i := range order {
		from, to := i*sectorSize, min((i+1)*sectorSize, int64(len(n.data)))
		if from >= to || !sector(i) {
			continue
		}
		n.disk = growTo(n.disk, to)
		copy(n.disk[from:to], n.data[from:to])
	}
	n.dirty, n.resize, n.shrunk = nil, false, int64(len(n.data))
}

func growTo(b []byte, size int64) []byte {
	if grow := size - int64(len(b)); grow > 0 {
		return append(b, make([]byte, grow)...)
	}
	return b
}

// Kill is the end of the process without a power loss: open handles are dead, pending faults and cuts are cleared,
// files stay as they look.
func (m *Mem) Kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reviveLocked()
}

func (m *Mem) reviveLocked() {
	m.life++
	m.cut, m.down, m.faults = 0, false, nil
}

// Limit sets how many bytes all files together may have from now on; a write that needs more writes what fits and
// fails with ENOSPC. A negative limit is none.
func (m *Mem) Limit(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.space, m.limited = bytes, bytes >= 0
}

// Used returns how many bytes all files that have a name have together.
func (m *Mem) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.usedLocked()
}

func (m *Mem) usedLocked() int64 { return m.root.used(map[*memNode]bool{}) }

func (n *memNode) used(done map[*memNode]bool) int64 {
	if done[n] {
		return 0
	}
	done[n] = true
	sum := int64(len(n.data))
	for _, c := range n.names {
		sum += c.used(done)
	}
	return sum
}

// lookup finds a node, or the error that the operating system would give.
func (m *Mem) lookup(name string) (*memNode, error) {
	n := m.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.dir {
			return nil, syscall.ENOTDIR
		}
		if n = n.names[part]; n == nil {
			return nil, syscall.ENOENT
		}
	}
	return n, nil
}

// parent finds the directory a name is in.
func (m *Mem) parent(name string) (*memNode, string, error) {
	if name == "." {
		return nil, "", syscall.EBUSY
	}
	dir, err := m.lookup(path.Dir(name))
	if err != nil {
		return nil, "", err
	}
	if !dir.dir {
		return nil, "", syscall.ENOTDIR
	}
	return dir, path.Base(name), nil
}

func (m *Mem) changeLocked(c dirChange) {
	for _, n := range c {
		set(n.dir.names, n.name, n.node)
	}
	m.pending = append(m.pending, c)
}

func (c dirChange) save() {
	for _, n := range c {
		set(n.dir.saved, n.name, n.node)
	}
}

func (c dirChange) touches(dir *memNode) bool {
	return slices.ContainsFunc(c, func(n nameChange) bool { return n.dir == dir })
}

func set(names map[string]*memNode, name string, node *memNode) {
	if node == nil {
		delete(names, name)
	} else {
		names[name] = node
	}
}

func sortedNames(names map[string]*memNode) []string {
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}

// memInfo is the FileInfo and DirEntry of a node.
type memInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (n *memNode) info(name string) memInfo {
	mode := n.perm
	if n.dir {
		mode |= fs.ModeDir
	}
	return memInfo{name: path.Base(name), size: int64(len(n.data)), mode: mode}
}

func (i memInfo) Name() string               { return i.name }
func (i memInfo) Size() int64                { return i.size }
func (i memInfo) Mode() fs.FileMode          { return i.mode }
func (i memInfo) Type() fs.FileMode          { return i.mode.Type() }
func (i memInfo) ModTime() time.Time         { return time.Time{} }
func (i memInfo) IsDir() bool                { return i.mode.IsDir() }
func (i memInfo) Sys() any                   { return nil }
func (i memInfo) Info() (fs.FileInfo, error) { return i, nil }

// writable reports whether a handle with these flags may write.
func writable(flag int) bool { return flag&(os.O_WRONLY|os.O_RDWR) != 0 }
