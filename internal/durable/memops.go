package durable

import (
	"io/fs"
	"os"
	"slices"
	"syscall"
)

// Op is a kind of operation that a [Fault] can hit. All but OpRead change something and are counted by [Mem.Steps].
type Op uint8

const (
	OpAny Op = iota // every changing operation
	OpRead
	OpCreate // OpenFile that makes or truncates a file
	OpWrite
	OpTruncate
	OpSync
	OpRename
	OpLink
	OpRemove
	OpMkdir
	OpSyncDir
)

// Fault makes operations of a Mem fail.
type Fault struct {
	Op   Op
	Name string // the file, or the new name of a rename or link; empty: any
	Nth  int    // the how many-th matching operation from now fails, counted from 1 as in CutPower; 0 means 1
	Stay bool   // and all matching ones after it

	Err error
	// Happen is the flavour "failed but persisted": the operation is done in full, and yet reports Err. Without it
	// nothing happens, but for a write, whose first half is written, and for a Sync, which leaves the file looking
	// as before although what was not synced will never reach the disk unless it is written again: so does Linux.
	Happen bool
}

// Fail adds a fault; it lasts until it has hit, or until Crash or Kill.
func (m *Mem) Fail(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, &f)
}

// Heal removes all faults.
func (m *Mem) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = nil
}

// Steps returns how many changing operations there have been.
func (m *Mem) Steps() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.steps
}

// CutPower lets the n-th changing operation from now (n ≥ 1) meet a power cut: it and all operations after it fail
// with [ErrPowerCut], until Crash. If keep is set, that one operation still happens.
func (m *Mem) CutPower(n int, keep bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut, m.keep = m.steps+n, keep
}

// stepLocked is called once by every operation, before it does anything: it says whether to do it, and what to report.
func (m *Mem) stepLocked(op Op, name string) (do bool, err error) {
	if m.down {
		return false, ErrPowerCut
	}
	if op != OpRead {
		m.steps++
		if m.steps == m.cut {
			m.down = true
			return m.keep, ErrPowerCut
		}
	}
	for i, f := range m.faults {
		if f.Op != op && (f.Op != OpAny || op == OpRead) || f.Name != "" && f.Name != name {
			continue
		}
		if f.Nth > 1 {
			f.Nth--
			continue
		}
		if !f.Stay {
			m.faults = slices.Delete(m.faults, i, i+1)
		}
		return f.Happen, f.Err
	}
	return true, nil
}

// do is the frame of the operations on names.
func (m *Mem) do(op Op, verb, name string, names []string, change func() error) error {
	for _, n := range names {
		if err := checkName(verb, n); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	do, err := m.stepLocked(op, name)
	if do {
		if changeErr := change(); err == nil {
			err = changeErr
		}
	}
	if err != nil {
		return &fs.PathError{Op: verb, Path: name, Err: err}
	}
	return nil
}

func (m *Mem) Mkdir(name string, perm fs.FileMode) error {
	return m.do(OpMkdir, "mkdir", name, []string{name}, func() error {
		if _, err := m.lookup(name); err == nil {
			return syscall.EEXIST
		}
		dir, base, err := m.parent(name)
		if err != nil {
			return err
		}
		m.changeLocked(dirChange{{dir, base, newMemDir(perm)}})
		return nil
	})
}

func (m *Mem) Rename(oldname, newname string) error {
	return m.do(OpRename, "rename", newname, []string{oldname, newname}, func() error {
		node, err := m.lookup(oldname)
		if err != nil {
			return err
		}
		oldDir, oldBase, err := m.parent(oldname)
		if err != nil {
			return err
		}
		newDir, newBase, err := m.parent(newname)
		if err != nil {
			return err
		}
		there := newDir.names[newBase]
		switch {
		case there == node: // POSIX: two names of one file, nothing happens
			return nil
		case node.dir && (there != nil || newDir != oldDir):
			return syscall.ENOTSUP // more than this package promises
		case there != nil && there.dir:
			return syscall.EISDIR
		}
		m.changeLocked(dirChange{{oldDir, oldBase, nil}, {newDir, newBase, node}})
		return nil
	})
}

func (m *Mem) Link(oldname, newname string) error {
	return m.do(OpLink, "link", newname, []string{oldname, newname}, func() error {
		node, err := m.lookup(oldname)
		if err != nil {
			return err
		}
		dir, base, err := m.parent(newname)
		switch {
		case err != nil:
			return err
		case node.dir:
			return syscall.EPERM
		case dir.names[base] != nil:
			return syscall.EEXIST
		}
		m.changeLocked(dirChange{{dir, base, node}})
		return nil
	})
}

func (m *Mem) Remove(name string) error {
	return m.do(OpRemove, "remove", name, []string{name}, func() error {
		node, err := m.lookup(name)
		if err != nil {
			return err
		}
		dir, base, err := m.parent(name)
		if err != nil {
			return err
		}
		if len(node.names) > 0 {
			return syscall.ENOTEMPTY
		}
		m.changeLocked(dirChange{{dir, base, nil}})
		return nil
	})
}

func (m *Mem) SyncDir(name string) error {
	return m.do(OpSyncDir, "syncdir", name, []string{name}, func() error {
		dir, err := m.lookup(name)
		if err != nil {
			return err
		}
		if !dir.dir {
			return syscall.ENOTDIR
		}
		m.pending = slices.DeleteFunc(m.pending, func(c dirChange) bool {
			if !c.touches(dir) {
				return false
			}
			c.save()
			return true
		})
		return nil
	})
}

func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	var list []fs.DirEntry
	err := m.do(OpRead, "readdir", name, []string{name}, func() error {
		dir, err := m.lookup(name)
		if err != nil {
			return err
		}
		if !dir.dir {
			return syscall.ENOTDIR
		}
		for _, base := range sortedNames(dir.names) {
			list = append(list, dir.names[base].info(base))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}

func (m *Mem) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	op := OpRead
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		op = OpCreate
	}
	var h *memFile
	err := m.do(op, "open", name, []string{name}, func() error {
		node, err := m.lookup(name)
		switch {
		case err == nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
			return syscall.EEXIST
		case err == nil && node.dir:
			return errNotRegular
		case err == syscall.ENOENT && flag&os.O_CREATE != 0:
			dir, base, err := m.parent(name)
			if err != nil {
				return err
			}
			node = &memNode{perm: perm}
			m.changeLocked(dirChange{{dir, base, node}})
		case err != nil:
			return err
		}
		if flag&os.O_TRUNC != 0 && writable(flag) {
			node.truncate(0)
		}
		h = &memFile{fsys: m, node: node, name: name, flag: flag, life: m.life}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}
