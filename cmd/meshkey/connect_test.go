package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
)

// A held address outlives its daemon's restart, and programs find the service where it was.
func TestConnectOutlivesTheDaemon(t *testing.T) {
	w := newWorld(t, "")
	start := func() func() { return w.fakeDaemon(t) }
	says := func(what string) { t.Helper(); w.says(t, what) }
	echoes := func() {
		t.Helper()
		addr, _, _ := strings.Cut(w.out.String(), " ")
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		var b [4]byte
		conn.Write([]byte("ping"))
		if _, err := io.ReadFull(conn, b[:]); err != nil || string(b[:]) != "ping" {
			t.Fatal(err)
		}
	}
	stop := start()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	go func() {
		code <- execute(ctx, w.cli, []string{"connect", "gpu1/ollama", "-L", "127.0.0.1:0", "--any-user"})
	}()
	says("Serving your programs")
	echoes()
	first := w.out.String()
	stop()
	says("waiting for it to come back")
	stop = start()
	says("Serving again on")
	echoes()
	cancel()
	if got := <-code; got != int(control.Interrupted) || w.out.String() != first {
		t.Errorf("code %d, printed %q", got, w.out)
	}
	stop()
}

// Who takes a held address while its daemon is away does not get it unnoticed: the command ends, and says who has been talked to.
func TestConnectWhoseAddressIsTaken(t *testing.T) {
	w := newWorld(t, "")
	stop := w.fakeDaemon(t)
	code := make(chan int, 1)
	go func() {
		code <- execute(t.Context(), w.cli, []string{"connect", "gpu1/ollama", "-L", "127.0.0.1:0", "--any-user"})
	}()
	w.says(t, "Serving your programs")
	addr, _, _ := strings.Cut(w.out.String(), " ")
	stop()
	w.says(t, "waiting for it to come back")
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	defer w.fakeDaemon(t)()
	select {
	case got := <-code:
		if said := w.err.String(); got != int(control.InUse) || !strings.Contains(said, "another program took "+addr) || strings.Contains(said, "Serving again") {
			t.Errorf("code %d:\n%s", got, said)
		}
	case <-time.After(comeBack - 5*time.Second):
		t.Fatalf("it waits on:\n%s", w.err)
	}
}

// fakeDaemon serves until stop is called.
func (w *world) fakeDaemon(t *testing.T) (stop func()) {
	t.Helper()
	ln, err := control.Listen(filepath.Join(w.dir, "meshkey.sock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	srv := control.NewServer(control.ServerConfig{Backend: controltest.New().Backend(), Owner: uint32(os.Getuid())})
	go func() { done <- srv.Run(ctx, ln) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// says waits until something was written to stderr.
func (w *world) says(t *testing.T, what string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(patience); !strings.Contains(w.err.String(), what); <-tick.C {
		if time.Now().After(late) {
			t.Fatalf("it never said %q:\n%s", what, w.err)
		}
	}
}
