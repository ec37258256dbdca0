package durable

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

func TestOSChecksTheDirectory(t *testing.T) {
	dir := privateDir(t)
	for _, mode := range []fs.FileMode{0o755, 0o750, 0o701, 0o770, 0o600, 0o500} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		fsys, err := OS(dir)
		if os.Geteuid() != 0 && mode&0o100 == 0 && err != nil {
			continue // the system refuses it before we can
		}
		if err == nil || fsys != nil || !strings.Contains(err.Error(), "chmod 700 "+dir) || !strings.Contains(err.Error(), fmt.Sprintf("%#o", mode)) {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fsys, err := OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := fsys.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
	// A file is no directory, and nothing is nothing.
	if err := os.WriteFile(filepath.Join(dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"f", "none"} {
		if fsys, err := OS(filepath.Join(dir, name)); err == nil || fsys != nil {
			t.Errorf("%s was taken for a directory", name)
		}
	}
}

func TestOSChecksTheOwner(t *testing.T) {
	dir := privateDir(t)
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	other := os.Geteuid() + 1
	err = checkDir(dir, info, other)
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(other)) || !strings.Contains(err.Error(), "chown") {
		t.Errorf("a directory of somebody else: %v", err)
	}
	if err := checkDir(dir, info, os.Geteuid()); err != nil {
		t.Error(err)
	}
}

// TestOSStaysInside: no symbolic link leads out of the directory, for no operation.
func TestOSStaysInside(t *testing.T) {
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := privateDir(t)
	fsys, err := OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"abs": secret, "rel": "../" + filepath.Base(outside) + "/secret", "dir": outside} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"abs", "rel", "dir/secret", "dir/new"} {
		for _, flag := range []int{os.O_RDONLY, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_TRUNC} {
			if f, err := fsys.OpenFile(name, flag, filePerm); err == nil {
				f.Close()
				t.Errorf("opened %s with %#x", name, flag)
			}
		}
	}
	put(t, fsys, "mine", "x")
	linker := fsys.(Linker)
	for what, err := range map[string]error{
		"rename out":  fsys.Rename("mine", "dir/mine"),
		"rename in":   fsys.Rename("dir/secret", "got"),
		"link out":    linker.Link("mine", "dir/mine"),
		"link in":     linker.Link("dir/secret", "got"),
		"remove":      fsys.Remove("dir/secret"),
		"mkdir":       fsys.Mkdir("dir/d", dirPerm),
		"syncdir":     fsys.SyncDir("dir"),
		"WriteFile":   WriteFile(fsys, "dir/mine", nil),
		"WriteNew":    WriteNew(fsys, "dir/mine", nil),
		"MkdirAll":    MkdirAll(fsys, "dir/a/b"),
		"new in link": WriteNew(fsys, "abs", nil),
	} {
		if err == nil {
			t.Errorf("%s went through a symbolic link", what)
		}
	}
	if _, err := fsys.ReadDir("dir"); err == nil {
		t.Error("readdir went through a symbolic link")
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("the file outside: %q %v", b, err)
	}
	if list, _ := os.ReadDir(outside); len(list) != 1 {
		t.Errorf("outside there are %d entries", len(list))
	}
}

func TestOSFilesArePrivate(t *testing.T) {
	dir := privateDir(t)
	fsys, err := OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, _, _ := mustOpen(t, fsys)
	l.Close()
	_, reserveErr := OpenReserve(fsys, "reserve", reserveMin)
	lock, lockErr := Lock(dir)
	for _, err := range []error{WriteFile(fsys, "a", nil), WriteNew(fsys, "b", nil), MkdirAll(fsys, "d/e"), reserveErr, lockErr} {
		if err != nil {
			t.Fatal(err)
		}
	}
	defer lock.Close()
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestMakeDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a/b/c")
	for range 2 {
		if err := MakeDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := OS(dir); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(filepath.Dir(dir)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the parent: %v %v", info, err)
	}
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(filepath.Join(file, "d")); err == nil {
		t.Error("made a directory in a file")
	}
}

// TestView reads a log in a directory that OS refuses, and changes nothing.
func TestView(t *testing.T) {
	dir := privateDir(t)
	fsys, err := OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, _, _ := mustOpen(t, fsys)
	mustAppend(t, l, 0, 3)
	l.Close()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	view, err := View(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer view.(io.Closer).Close()
	if rec, err := ReadLog(view, "log", testMax, nil); err != nil || rec.Frames != 3 {
		t.Errorf("%+v %v", rec, err)
	}
	_, openErr := view.OpenFile("new", os.O_RDWR|os.O_CREATE, filePerm)
	_, rdwrErr := view.OpenFile("log.000001", os.O_RDWR, 0)
	for what, err := range map[string]error{
		"create":  openErr,
		"write":   rdwrErr,
		"rename":  view.Rename("log.000001", "x"),
		"link":    view.(Linker).Link("log.000001", "x"),
		"remove":  view.Remove("log.000001"),
		"mkdir":   view.Mkdir("d", dirPerm),
		"syncdir": view.SyncDir("."),
	} {
		wantErr(t, what, err, fs.ErrPermission)
	}
	if got := names(t, view, "."); len(got) != 1 {
		t.Errorf("directory holds %q", got)
	}
}

// helpAppend appends frames for ever and prints each acknowledged number.
func helpAppend(dir string) error {
	fsys, err := OS(dir)
	if err != nil {
		return err
	}
	l, _, err := OpenLog(fsys, "log", testMax, nil)
	if err != nil {
		return err
	}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	for i := int(l.Len()); ; i++ {
		if _, err := l.AppendSync(frame(i)); err != nil {
			return err
		}
		fmt.Println(i)
	}
}

// TestKillUnderLoad kills a process that appends, again and again: no acknowledged frame is lost.
func TestKillUnderLoad(t *testing.T) {
	dir := privateDir(t)
	fsys, err := OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	acked := -1
	for round := range 12 {
		cmd, out := helper(t, "append", dir)
		for range 20 + 13*round {
			if !out.Scan() {
				break
			}
			n, err := strconv.Atoi(out.Text())
			if err != nil {
				t.Fatalf("helper: %s", out.Text())
			}
			acked = n
		}
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for out.Scan() { // acknowledged before the signal arrived
			if n, err := strconv.Atoi(out.Text()); err == nil {
				acked = n
			}
		}
		_ = cmd.Wait()
		l, rec, frames := mustOpen(t, fsys)
		if len(frames) <= acked {
			t.Fatalf("round %d: %d frames, %d was acknowledged", round, len(frames), acked)
		}
		wantFrames(t, frames, len(frames))
		if round == 0 && rec.Clean {
			t.Error("a killed log counts as closed in order")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acked < 500 {
		t.Errorf("only %d frames were acknowledged", acked)
	}
}
