package durable

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// tempMark separates a file's name from the number of a temporary file beside it. Nothing else may use it.
const tempMark = ".tmp~"

// WriteFile replaces the file name by data, mode 0600: readers and crashes see the old content or the new one, whole.
// When it returns nil the new content survives a power loss. When it fails the old content stands, unless the error is
// [ErrUncertain].
//
// The order of writes is the recovery argument. If the power goes
//
//	before the rename: name is untouched; a temporary file may be left, which Sweep removes;
//	after the rename and before the SyncDir: name holds old or new content. The new content was synced before it got
//	the name, so it is whole in either case;
//	after the SyncDir: the new content is there.
func WriteFile(fsys FS, name string, data []byte) error {
	return WriteFileFunc(fsys, name, whole(data))
}

// WriteFileFunc is [WriteFile] for content that is never in memory as a whole: write writes it, in pieces of its choice. An error of
// write leaves name as it was.
func WriteFileFunc(fsys FS, name string, write func(io.Writer) error) error {
	temp, err := writeTemp(fsys, name, write)
	if err != nil {
		return err
	}
	if err := fsys.Rename(temp, name); err != nil {
		// A failed rename may have happened. Then temp is gone and the Remove does nothing.
		_ = fsys.Remove(temp)
		return uncertain(name, err)
	}
	if err := fsys.SyncDir(path.Dir(name)); err != nil {
		return uncertain(name, err)
	}
	return nil
}

// WriteNew is [WriteFile] for a file that must not exist yet: it never replaces one, also not in a race with others;
// then the error is [fs.ErrExist]. It needs an FS that is a [Linker], and a file system with hard links.
//
// A link is the only step that at once gives a whole file its name and fails if the name is taken. If the power goes
//
//	before the link: name does not exist, a temporary file may be left;
//	after it: name may or may not exist, and is whole if it does; the temporary file may be left as its second name;
//	after the SyncDir: name exists.
func WriteNew(fsys FS, name string, data []byte) error {
	linker, ok := fsys.(Linker)
	if !ok {
		return &fs.PathError{Op: "link", Path: name, Err: errors.ErrUnsupported}
	}
	temp, err := writeTemp(fsys, name, whole(data))
	if err != nil {
		return err
	}
	linkErr := linker.Link(temp, name)
	removeErr := fsys.Remove(temp)
	switch {
	case errors.Is(linkErr, fs.ErrExist):
		return linkErr
	case linkErr != nil:
		return uncertain(name, linkErr)
	}
	// A temporary name that could not be removed is only a second name: Sweep's work, but the disk is ill, so say it.
	if err := errors.Join(removeErr, fsys.SyncDir(path.Dir(name))); err != nil {
		return uncertain(name, err)
	}
	return nil
}

// whole writes all of data at once.
func whole(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// writeTemp writes and syncs a temporary file beside name and returns its name. On error there is none, if it can be
// removed at all.
func writeTemp(fsys FS, name string, write func(io.Writer) error) (string, error) {
	if err := checkName("write", name); err != nil {
		return "", err
	}
	f, temp, err := createTemp(fsys, name)
	if err != nil {
		return "", err
	}
	err = write(f)
	if err == nil {
		// Before the rename: else the new name could appear before its content.
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		_ = fsys.Remove(temp)
		return "", fmt.Errorf("writing %s: %w", name, err)
	}
	return temp, nil
}

// createTemp opens the first free temporary name. O_EXCL gives it to one writer only, so concurrent writers of one
// name never share a file.
func createTemp(fsys FS, name string) (File, string, error) {
	for i := range maxTempTries {
		temp := fmt.Sprintf("%s%s%d", name, tempMark, i)
		f, err := fsys.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
		if err == nil {
			return f, temp, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, "", err
		}
	}
	return nil, "", fmt.Errorf("%s: %d temporary files in the way: remove %s%s*", name, maxTempTries, name, tempMark)
}

// Sweep removes the temporary files that a crash may have left in the directory dir. Only the holder of the [Lock]
// may call it: it would take the files of a running writer away.
func Sweep(fsys FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	removed := false
	for _, e := range entries {
		if e.IsDir() || !isTemp(e.Name()) {
			continue
		}
		if err := fsys.Remove(path.Join(dir, e.Name())); err != nil {
			return err
		}
		removed = true
	}
	if !removed {
		return nil
	}
	return fsys.SyncDir(dir)
}

func isTemp(name string) bool {
	i := strings.LastIndex(name, tempMark)
	return i > 0 && isDigits(name[i+len(tempMark):])
}

func isDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}

func uncertain(name string, err error) error {
	return fmt.Errorf("%s: %w: %w", name, ErrUncertain, err)
}
