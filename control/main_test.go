package control_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// TestMain fails the run if a test left a server, a splice or an HTTP connection behind.
func TestMain(m *testing.M) {
	os.Exit(testrun.Leaks{Tests: m, Of: []string{"meshkey/", "net/http.(*conn)"}}.Run())
}

const patience = 30 * time.Second

func wait[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatal("blocked: " + what)
		panic("unreachable")
	}
}

// socketPath returns a short path: the test's own directory may be too long for a socket.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// as returns a source of credentials for one user.
func as(uid uint32, groups ...uint32) func(net.Conn) (control.Credentials, error) {
	return func(net.Conn) (control.Credentials, error) {
		return control.Credentials{UID: uid, GID: 5555, Groups: groups}, nil
	}
}

const owner = 1000

// start serves a backend until the test ends. cfg may be nil for a caller who is the owner.
func start(t *testing.T, fake *controltest.Fake, change func(*control.ServerConfig)) (client *control.Client, path string, stop func()) {
	t.Helper()
	path = socketPath(t)
	ln, err := control.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := control.ServerConfig{Backend: fake.Backend(), Owner: owner, Credentials: as(owner)}
	if change != nil {
		change(&cfg)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- control.NewServer(cfg).Run(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := wait(t, "server's end", done); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return control.NewClient(path), path, stop
}

func wantCode(t *testing.T, what string, err error, code control.Code) *control.Error {
	t.Helper()
	e := control.AsError(err)
	if e == nil || e.Code != code {
		t.Fatalf("%s: %v (code %v); want code %v", what, err, e, code)
	}
	return e
}

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}

type ctxT = context.Context
