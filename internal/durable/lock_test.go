package durable

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// helperEnv makes the test binary act as another process: see TestMain.
const helperEnv = "DURABLE_TEST_HELPER"

// TestMain is the other process of the tests that need one. Its task is "verb directory".
func TestMain(m *testing.M) {
	verb, dir, ok := strings.Cut(os.Getenv(helperEnv), " ")
	if !ok {
		os.Exit(m.Run())
	}
	var err error
	switch verb {
	case "lock":
		err = helpLock(dir)
	case "append":
		err = helpAppend(dir)
	}
	fmt.Println("error:", err)
	os.Exit(1)
}

// helper starts this test binary as another process and returns its output.
func helper(t *testing.T, verb, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperEnv+"="+verb+" "+dir)
	// The helper ends with us: reading its input ends when this pipe does.
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

// helpLock holds the lock until it is killed or its input ends.
func helpLock(dir string) error {
	l, err := Lock(dir)
	if err != nil {
		return err
	}
	fmt.Println("locked")
	_, _ = os.Stdin.Read(make([]byte, 1))
	return l.Close()
}

func TestTwoLockers(t *testing.T) {
	dir := privateDir(t)
	first, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Lock(dir)
	wantErr(t, "second lock", err, ErrLocked)
	if second != nil {
		t.Error("a lock with the error")
	}
	for _, part := range []string{dir, fmt.Sprintf("pid %d", os.Getpid()), "stop that one"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err = Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLockOfAnotherProcess: its number is in the message, and its end, by kill -9, frees the lock.
func TestLockOfAnotherProcess(t *testing.T) {
	dir := privateDir(t)
	cmd, out := helper(t, "lock", dir)
	if !out.Scan() || out.Text() != "locked" {
		t.Fatalf("helper: %q", out.Text())
	}
	_, err := Lock(dir)
	wantErr(t, "lock", err, ErrLocked)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("pid %d", cmd.Process.Pid)) {
		t.Errorf("the message does not name the holder: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	l, err := Lock(dir)
	if err != nil {
		t.Fatalf("after the holder was killed: %v", err)
	}
	l.Close()
}

// TestLockWithoutNumber: a lock file with nonsense in it still locks, and the message has no number.
func TestLockWithoutNumber(t *testing.T) {
	for _, text := range []string{"", "12", "x\n", "-1\n", "+5\n", "1 2\n", strings.Repeat("1", 100) + "\n"} {
		dir := privateDir(t)
		l, err := Lock(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, lockName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Lock(dir)
		wantErr(t, "second lock", err, ErrLocked)
		if err != nil && strings.Contains(err.Error(), "pid") {
			t.Errorf("%q: %v", text, err)
		}
		l.Close()
	}
}

func TestLockFailures(t *testing.T) {
	dir := privateDir(t)
	if _, err := Lock(filepath.Join(dir, "none")); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("no directory: %v", err)
	}
	// A link in place of the lock file must not make us write elsewhere.
	target := filepath.Join(t.TempDir(), "target")
	if err := os.WriteFile(target, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, lockName)); err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("a symbolic link as lock file: %v", err)
	}
	if b, _ := os.ReadFile(target); string(b) != "precious" {
		t.Errorf("the target holds %q", b)
	}
}
