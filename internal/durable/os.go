package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// osFS is a directory of the operating system. Every name goes through [os.Root], so neither "..", an absolute path nor
// a symbolic link leads out of it.
type osFS struct {
	// immutable
	root     *os.Root
	readOnly bool
}

// osFile adds the cheapest sync that keeps content and size.
type osFile struct {
	*os.File
}

func (f osFile) Sync() error { return datasync(f.File) }

// OS returns the directory dir as an FS that also is an [io.Closer]. The directory must exist, belong to the user of
// this process and be closed to everybody else (mode 0700): the error says which of these is not so and what to type.
// See [MakeDir].
func OS(dir string) (FS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	// Stat goes through the open descriptor: what is checked is what is used, also if dir is replaced meanwhile.
	info, err := root.Stat(".")
	if err == nil {
		err = checkDir(dir, info, os.Geteuid())
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return &osFS{root: root}, nil
}

// View returns the directory dir as an FS, also an [io.Closer], on which everything that would change something fails
// with [fs.ErrPermission]. It asks nothing of the directory's owner and mode: it is for looking at a copy.
func View(dir string) (FS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &osFS{root: root, readOnly: true}, nil
}

// check is the first step of every method.
func (o *osFS) check(op string, changes bool, names ...string) error {
	for _, name := range names {
		if err := checkName(op, name); err != nil {
			return err
		}
		if changes && o.readOnly {
			return &fs.PathError{Op: op, Path: name, Err: fs.ErrPermission}
		}
	}
	return nil
}

// checkDir is the permission rule of the state directory.
func checkDir(dir string, info fs.FileInfo, euid int) error {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != euid {
		return fmt.Errorf("state directory %s belongs to uid %d, this process runs as uid %d: run as its owner, or: chown -R %d %s",
			dir, st.Uid, euid, euid, dir)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("state directory %s is open to other users (mode %#o): run: chmod 700 %s", dir, perm, dir)
	}
	if perm := info.Mode().Perm(); perm&0o700 != 0o700 {
		return fmt.Errorf("state directory %s is not usable by its owner (mode %#o): run: chmod 700 %s", dir, perm, dir)
	}
	return nil
}

// MakeDir makes the directory dir and its missing parents, mode 0700, and makes their names durable. An existing
// directory is left as it is; [OS] judges it.
func MakeDir(dir string) error {
	dir = filepath.Clean(dir)
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MakeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.Open(parent)
	if err != nil {
		// A parent we may enter but not read (mode 0711) cannot be synced by us; the directory exists.
		if errors.Is(err, fs.ErrPermission) {
			return nil
		}
		return err
	}
	defer f.Close()
	return syncDirFile(f)
}

func (o *osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	if err := o.check("open", flag != os.O_RDONLY, name); err != nil {
		return nil, err
	}
	f, err := o.root.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: name, Err: errNotRegular}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return osFile{f}, nil
}

func (o *osFS) Rename(oldname, newname string) error {
	if err := o.check("rename", true, oldname, newname); err != nil {
		return err
	}
	return o.root.Rename(oldname, newname)
}

func (o *osFS) Link(oldname, newname string) error {
	if err := o.check("link", true, oldname, newname); err != nil {
		return err
	}
	return o.root.Link(oldname, newname)
}

func (o *osFS) Remove(name string) error {
	if err := o.check("remove", true, name); err != nil {
		return err
	}
	return o.root.Remove(name)
}

func (o *osFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := o.check("readdir", false, name); err != nil {
		return nil, err
	}
	f, err := o.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (o *osFS) Mkdir(name string, perm fs.FileMode) error {
	if err := o.check("mkdir", true, name); err != nil {
		return err
	}
	return o.root.Mkdir(name, perm)
}

func (o *osFS) SyncDir(name string) error {
	if err := o.check("syncdir", true, name); err != nil {
		return err
	}
	f, err := o.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return syncDirFile(f)
}

// Close closes the directory; open files stay usable.
func (o *osFS) Close() error { return o.root.Close() }

// syncDirFile syncs an open directory. Some file systems (CIFS, some FUSE) have no such thing and say so by EINVAL or
// ENOTSUP; they order their directory changes themselves or not at all, and nobody can do more there.
func syncDirFile(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	return err
}

var errNotRegular = errors.New("not a regular file")
