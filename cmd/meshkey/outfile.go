package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sovereignmesh/meshkey/control"
)

func readAll(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxCarried+1))
	if err != nil {
		return nil, control.Errorf(control.Failed, "", "reading %s: %w", name, err)
	}
	if len(b) > maxCarried {
		return nil, control.Errorf(control.Usage, "", "%s is longer than anything meshkey writes", name)
	}
	return b, nil
}

// writeFile writes a file somebody will carry away: whole, and on the disk when this returns. An existing file is only replaced if
// replace says so, and then by a whole one. It works where there are no links, as on a memory stick.
func writeFile(name string, data []byte, perm fs.FileMode, replace bool) error {
	fail := func(err error) error {
		next := "choose another place with --out FILE"
		if errors.Is(err, fs.ErrExist) {
			next = "give another --out FILE, or move that one away: files are not overwritten"
		}
		return control.Errorf(control.Failed, next, "nothing was written: %w", err)
	}
	to := name
	if replace {
		to = name + ".new"
		if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fail(err)
		}
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil && replace {
		err = os.Rename(to, name)
	}
	if err != nil {
		os.Remove(to)
		return fail(err)
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return nil // a directory we may write but not read: the file is there
	}
	defer dir.Close()
	_ = dir.Sync() // some file systems refuse it for directories
	return nil
}
