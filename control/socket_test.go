package control_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
)

func TestSocketModeIs0600(t *testing.T) {
	path := socketPath(t)
	ln, err := control.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

func TestSocketOfAGroupIs0660(t *testing.T) {
	path := socketPath(t)
	gid := uint32(os.Getgid())
	ln, err := control.Listen(path, &gid)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o660 || info.Sys().(*syscall.Stat_t).Gid != gid {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
}

// stale makes a socket that nobody listens on, as a killed daemon leaves it.
func stale(t *testing.T, path string) {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := socketPath(t)
	stale(t, path)
	ln, err := control.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the socket is left behind: %v", err)
	}
	if ln, err = control.Listen(path, nil); err != nil {
		t.Fatal("second start:", err)
	}
	ln.Close()
}

func TestLiveSocketIsNotTaken(t *testing.T) {
	// A listener that never took our lock: another program, or one in another mount namespace.
	path := socketPath(t)
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_, err = control.Listen(path, nil)
	wantCode(t, "second daemon", err, control.InUse)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal("the first daemon's socket is gone:", err)
	}
	c.Close()
}

func TestLockKeepsASecondDaemonOut(t *testing.T) {
	path := socketPath(t)
	ln, err := control.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	// Even where the socket file itself has been removed by somebody.
	os.Remove(path)
	_, err = control.Listen(path, nil)
	wantCode(t, "second daemon", err, control.InUse)
}

func TestForeignFileIsNotRemoved(t *testing.T) {
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path, nil); err == nil {
		t.Fatal("listened in place of a file")
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Fatal("the file is gone")
	}
}

func TestSymbolicLinkIsNotFollowed(t *testing.T) {
	path := socketPath(t)
	target := filepath.Join(filepath.Dir(path), "elsewhere")
	stale(t, target)
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path, nil); err == nil {
		t.Fatal("listened through a link")
	}
	if _, err := os.Lstat(target); err != nil {
		t.Fatal("the link's target is gone")
	}
	// The lock file neither.
	path = socketPath(t)
	if err := os.Symlink(filepath.Join(filepath.Dir(path), "victim"), path+".lock"); err != nil {
		t.Fatal(err)
	}
	if _, err := control.Listen(path, nil); err == nil {
		t.Fatal("locked through a link")
	}
}

func TestCloseLeavesANewerSocket(t *testing.T) {
	path := socketPath(t)
	ln, err := control.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	newer, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer newer.Close()
	ln.Close()
	if c, err := net.Dial("unix", path); err != nil {
		t.Fatal("closing removed somebody else's socket:", err)
	} else {
		c.Close()
	}
}

func TestSocketErrorsSayWhatToDo(t *testing.T) {
	_, err := control.Listen("/"+strings.Repeat("x", 200), nil)
	if e := wantCode(t, "long path", err, control.Usage); !strings.Contains(e.Next, "--socket") {
		t.Errorf("next %q", e.Next)
	}
	_, err = control.Listen(filepath.Join(filepath.Dir(socketPath(t)), "no", "s"), nil)
	if e := wantCode(t, "no directory", err, control.Failed); !strings.Contains(e.Next, "mkdir") {
		t.Errorf("next %q", e.Next)
	}
}

func TestNoDaemonIsCode3(t *testing.T) {
	path := socketPath(t)
	c := control.NewClient(path)
	_, err := c.Status(t.Context())
	wantCode(t, "no socket", err, control.NotRunning)
	stale(t, path)
	_, err = c.Status(t.Context())
	e := wantCode(t, "stale socket", err, control.NotRunning)
	if e.Next != "meshkey daemon" || !strings.Contains(e.Message, path) {
		t.Errorf("%q, next %q", e.Message, e.Next)
	}
	_, err = c.Stream(t.Context(), &control.ConnectRequest{Target: "a/b"})
	wantCode(t, "stream", err, control.NotRunning)
	err = c.WaitReady(t.Context(), 50*1e6)
	wantCode(t, "ready", err, control.NotRunning)
}

func TestWaitReadyWaitsForTheSocket(t *testing.T) {
	path := socketPath(t)
	done := make(chan error, 1)
	go func() { done <- control.NewClient(path).WaitReady(t.Context(), patience) }()
	ln, err := control.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	srv := control.NewServer(control.ServerConfig{Backend: controltest.New().Backend(), Owner: owner, Credentials: as(owner)})
	served := make(chan error, 1)
	ctx, cancel := contextOf(t)
	go func() { served <- srv.Run(ctx, ln) }()
	if err := wait(t, "ready", done); err != nil {
		t.Fatal(err)
	}
	cancel()
	wait(t, "end", served)
}
