package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"testing"
)

var (
	_ Linker = (*Mem)(nil)
	_ Linker = (*osFS)(nil)
)

// openOS returns a real directory.
func openOS(t testing.TB) FS {
	t.Helper()
	fsys, err := OS(privateDir(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fsys.(io.Closer).Close() })
	return fsys
}

// privateDir is t.TempDir with the mode OS asks for, whatever the umask is.
func privateDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, dirPerm); err != nil {
		t.Fatal(err)
	}
	return dir
}

// eachFS runs a test over every implementation of FS.
func eachFS(t *testing.T, test func(t *testing.T, fsys FS)) {
	t.Run("Mem", func(t *testing.T) { test(t, NewMem()) })
	t.Run("OS", func(t *testing.T) { test(t, openOS(t)) })
}

func put(t testing.TB, fsys FS, name, content string) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, fsys FS, name string) string {
	t.Helper()
	b, err := ReadFile(fsys, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t testing.TB, fsys FS, dir string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: error %v, want %v", what, err, want)
	}
}

func TestContractNames(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "a", "1")
		for _, name := range []string{"", "/a", "../a", "x/../a", "./a", "a/", "a//b"} {
			_, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, filePerm)
			wantErr(t, "open "+name, err, fs.ErrInvalid)
			wantErr(t, "rename from "+name, fsys.Rename(name, "b"), fs.ErrInvalid)
			wantErr(t, "rename to "+name, fsys.Rename("a", name), fs.ErrInvalid)
			wantErr(t, "link to "+name, fsys.(Linker).Link("a", name), fs.ErrInvalid)
			wantErr(t, "link from "+name, fsys.(Linker).Link(name, "b"), fs.ErrInvalid)
			wantErr(t, "remove "+name, fsys.Remove(name), fs.ErrInvalid)
			wantErr(t, "mkdir "+name, fsys.Mkdir(name, dirPerm), fs.ErrInvalid)
			wantErr(t, "syncdir "+name, fsys.SyncDir(name), fs.ErrInvalid)
			_, err = fsys.ReadDir(name)
			wantErr(t, "readdir "+name, err, fs.ErrInvalid)
		}
		if got := names(t, fsys, "."); !slices.Equal(got, []string{"a"}) {
			t.Errorf("directory holds %q", got)
		}
	})
}

func TestContractEntries(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "b", "bb")
		put(t, fsys, "a", "aaa")
		if err := fsys.Mkdir("d", dirPerm); err != nil {
			t.Fatal(err)
		}
		put(t, fsys, "d/x", "x")
		wantErr(t, "mkdir again", fsys.Mkdir("d", dirPerm), fs.ErrExist)
		wantErr(t, "mkdir below nothing", fsys.Mkdir("no/d", dirPerm), fs.ErrNotExist)
		_, err := fsys.OpenFile("a", os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
		wantErr(t, "exclusive create", err, fs.ErrExist)
		_, err = fsys.OpenFile("none", os.O_RDONLY, 0)
		wantErr(t, "open nothing", err, fs.ErrNotExist)
		if f, err := fsys.OpenFile("d", os.O_RDONLY, 0); err == nil {
			f.Close()
			t.Error("a directory was opened as a file")
		}
		if got := names(t, fsys, "."); !slices.Equal(got, []string{"a", "b", "d"}) {
			t.Errorf("entries %q, not sorted", got)
		}

		linker := fsys.(Linker)
		wantErr(t, "link over b", linker.Link("a", "b"), fs.ErrExist)
		if got := get(t, fsys, "b"); got != "bb" {
			t.Errorf("link changed b to %q", got)
		}
		if err := linker.Link("a", "d/a"); err != nil {
			t.Fatal(err)
		}
		if err := fsys.Rename("a", "b"); err != nil {
			t.Fatal(err)
		}
		if got := get(t, fsys, "b"); got != "aaa" {
			t.Errorf("after rename b is %q", got)
		}
		if got := get(t, fsys, "d/a"); got != "aaa" {
			t.Errorf("second name holds %q", got)
		}
		wantErr(t, "rename nothing", fsys.Rename("a", "c"), fs.ErrNotExist)
		wantErr(t, "remove nothing", fsys.Remove("a"), fs.ErrNotExist)
		if err := fsys.Remove("d"); err == nil {
			t.Error("a directory with entries was removed")
		}
		if err := errors.Join(fsys.Remove("d/a"), fsys.Remove("d/x"), fsys.Remove("d")); err != nil {
			t.Fatal(err)
		}
		if err := fsys.SyncDir("."); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "syncdir of nothing", fsys.SyncDir("d"), fs.ErrNotExist)
		if got := names(t, fsys, "."); !slices.Equal(got, []string{"b"}) {
			t.Errorf("entries %q", got)
		}
	})
}

func TestContractFile(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		f, err := fsys.OpenFile("f", os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := f.Write([]byte("0123456789")); n != 10 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := f.WriteAt([]byte("ab"), 14); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		if got := get(t, fsys, "f"); got != "0123456789\x00\x00\x00\x00ab" {
			t.Errorf("content %q", got)
		}
		b := make([]byte, 4)
		if n, err := f.ReadAt(b, 13); n != 3 || err != io.EOF {
			t.Errorf("ReadAt over the end: %d, %v", n, err)
		}
		if n, err := f.ReadAt(b, 99); n != 0 || err != io.EOF {
			t.Errorf("ReadAt behind the end: %d, %v", n, err)
		}
		// Shrinking and growing again must not bring the old bytes back.
		if err := errors.Join(f.Truncate(3), f.Truncate(6), f.Sync()); err != nil {
			t.Fatal(err)
		}
		if got := get(t, fsys, "f"); got != "012\x00\x00\x00" {
			t.Errorf("content %q", got)
		}
		if info, err := f.Stat(); err != nil || info.Size() != 6 || !info.Mode().IsRegular() || info.Mode().Perm() != filePerm {
			t.Errorf("Stat: %v %v", info, err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteAt(b, 0)
		wantErr(t, "write after close", err, fs.ErrClosed)
		wantErr(t, "sync after close", f.Sync(), fs.ErrClosed)
		wantErr(t, "close after close", f.Close(), fs.ErrClosed)

		ro, err := fsys.OpenFile("f", os.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ro.WriteAt(b, 0); err == nil {
			t.Error("wrote through a handle for reading")
		}
		if got, err := io.ReadAll(ro); err != nil || string(got) != "012\x00\x00\x00" {
			t.Errorf("ReadAll: %q %v", got, err)
		}
		ro.Close()

		app, err := fsys.OpenFile("f", os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := app.Write([]byte("end")); err != nil {
			t.Fatal(err)
		}
		if _, err := app.WriteAt([]byte("x"), 0); err == nil {
			t.Error("WriteAt on a file opened for appending")
		}
		app.Close()
		if got := get(t, fsys, "f"); got != "012\x00\x00\x00end" {
			t.Errorf("content %q", got)
		}
	})
}

func TestReadFileLimit(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		put(t, fsys, "f", "12345")
		if b, err := ReadFile(fsys, "f", 5); err != nil || string(b) != "12345" {
			t.Errorf("%q %v", b, err)
		}
		if b, err := ReadFile(fsys, "f", 4); err == nil || b != nil {
			t.Errorf("a file over the limit was read: %q", b)
		}
	})
}

func TestMkdirAll(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		for range 2 {
			if err := MkdirAll(fsys, "a/b/c"); err != nil {
				t.Fatal(err)
			}
		}
		put(t, fsys, "a/b/c/f", "x")
		wantErr(t, "MkdirAll outside", MkdirAll(fsys, "../x"), fs.ErrInvalid)
	})
	m := NewMem()
	if err := MkdirAll(m, "a/b"); err != nil {
		t.Fatal(err)
	}
	m.Crash()
	if got := names(t, m, "a"); !slices.Equal(got, []string{"b"}) {
		t.Errorf("after a crash the directory holds %q", got)
	}
	// Made but not synced by a process that died: the next one has to sync it.
	if err := m.Mkdir("a/b/c", dirPerm); err != nil {
		t.Fatal(err)
	}
	m.Kill()
	if err := MkdirAll(m, "a/b/c"); err != nil {
		t.Fatal(err)
	}
	m.Crash()
	if got := names(t, m, "a/b"); !slices.Equal(got, []string{"c"}) {
		t.Errorf("after a crash the directory holds %q", got)
	}
}
