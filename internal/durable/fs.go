package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// FS is the file system everything durable is written against: one directory and what is below it. Names are
// relative and slash-separated as in [fs.ValidPath]; "." is the directory itself. Implementations are [OS] and [Mem],
// both held to this contract by the same test. All methods are safe for concurrent use.
type FS interface {
	// OpenFile opens a regular file with the flags of [os.OpenFile]. Anything but a regular file is an error.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	// Rename atomically replaces newname. It is durable once the directories of both names have been synced.
	Rename(oldname, newname string) error
	// Remove removes a file or an empty directory; durable once its directory has been synced.
	Remove(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	// Mkdir makes one directory; durable once its parent has been synced.
	Mkdir(name string, perm fs.FileMode) error
	// SyncDir makes what happened to the entries of a directory durable.
	SyncDir(name string) error
}

// Linker is the optional part of an [FS] that [WriteNew] and logs need: Link makes newname a second name of the file
// oldname and fails with [fs.ErrExist], changing nothing, if newname exists. A type that wraps an FS must pass it on.
type Linker interface {
	Link(oldname, newname string) error
}

// File is an open regular file of an [FS]. WriteAt must not be used on a file opened with [os.O_APPEND].
//
// Sync makes the content and size durable, not the name: that takes [FS.SyncDir]. After Sync has failed the state of
// everything written since the last successful Sync is unknown and stays unknown: a second Sync may report success
// although the bytes were dropped. Write it again through a new descriptor, to another place, or give up.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Stat() (fs.FileInfo, error)
	Close() error
}

// ErrUncertain marks an error after which a change may or may not have happened, and may or may not survive a crash:
// the file holds its old content or its new one, whole in both cases. Read it again before going on.
var ErrUncertain = errors.New("the change may or may not have happened; read the file again")

// IsNoSpace reports whether err says that the disk is full or a quota is used up: the one failure that passes by
// making room, and the one a [Reserve] helps against.
func IsNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Open opens a file to be read in pieces.
func Open(fsys FS, name string) (File, error) { return fsys.OpenFile(name, os.O_RDONLY, 0) }

// ReadFile reads a whole file of at most limit bytes; a longer one is an error.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One byte more than allowed: the size by Stat may have changed by the time we read.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s: longer than the %d bytes it may have", name, limit)
	}
	return data, nil
}

// MkdirAll makes the directory name and its missing parents, mode 0700, durably. What exists already is left as it is.
func MkdirAll(fsys FS, name string) error {
	if name == "." {
		return nil
	}
	parent := path.Dir(name)
	if err := MkdirAll(fsys, parent); err != nil {
		return err
	}
	if err := fsys.Mkdir(name, dirPerm); err != nil {
		if errors.Is(err, fs.ErrExist) {
			// It may have been made by a process that died before its SyncDir, but then nothing in it was
			// acknowledged either, unless by us: so sync in any case.
			return fsys.SyncDir(parent)
		}
		return err
	}
	return fsys.SyncDir(parent)
}

// checkName refuses what could leave the directory or mean two things. Both implementations call it first.
func checkName(op, name string) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	return nil
}
