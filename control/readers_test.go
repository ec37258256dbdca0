package control

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// memory runs a server in virtual time on connections whose callers the test names.
func memory(t *testing.T, b Backend, fn func(t *testing.T, dial func(uid uint32) net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		readers := uint32(77)
		var uid atomic.Uint32
		s := NewServer(ServerConfig{
			Backend: b, Owner: 1000, ReadGroup: &readers,
			Credentials: func(net.Conn) (Credentials, error) { return Credentials{UID: uid.Load(), GID: readers}, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, p) }()
		fn(t, func(as uint32) net.Conn {
			uid.Store(as)
			c := p.dial()
			synctest.Wait() // it has been looked at
			return c
		})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// askFor asks on a connection and returns the status line, or "" if the server closes.
func askFor(c net.Conn, path string) string {
	c.SetDeadline(time.Now().Add(time.Hour))
	c.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"))
	b := make([]byte, 12)
	n, _ := c.Read(b)
	return string(b[:n])
}

// Readers beyond their places who say nothing hold up nobody behind them.
func TestRefusingReadersDoesNotDelayTheOwner(t *testing.T) {
	b := Backend{Process: versionOnly{}, Offer: noOffer{}, Policy: noPolicy{}, Invites: noInvites{}, Roots: noRoots{}, Life: noLife{}}
	memory(t, b, func(t *testing.T, dial func(uint32) net.Conn) {
		began := time.Now()
		for range maxOtherConns + maxRefusals + 50 {
			defer dial(1001).Close()
		}
		c := dial(1000)
		defer c.Close()
		if got := askFor(c, "/v1/version"); got != "HTTP/1.1 200" {
			t.Fatalf("the owner: %q", got)
		}
		if d := time.Since(began); d > 0 {
			t.Fatalf("the owner waited %v for readers", d)
		}
	})
}

// Clients that are being refused are bounded: one more is closed at once. The owner's are counted apart.
func TestRefusalsAreBounded(t *testing.T) {
	b := Backend{Process: versionOnly{}, Offer: noOffer{}, Policy: noPolicy{}, Invites: noInvites{}, Roots: noRoots{}, Life: noLife{}}
	memory(t, b, func(t *testing.T, dial func(uint32) net.Conn) {
		for range maxOtherConns + maxRefusals {
			defer dial(1001).Close()
		}
		c := dial(1001)
		defer c.Close()
		if got := askFor(c, "/v1/version"); got != "" {
			t.Fatalf("one more than %d refusals: %q", maxRefusals, got)
		}
		for range maxConns {
			defer dial(1000).Close()
		}
		c = dial(1000)
		defer c.Close()
		if got := askFor(c, "/v1/version"); got != "HTTP/1.1 503" {
			t.Fatalf("the owner is told: %q", got)
		}
		time.Sleep(refuseTimeout)
		synctest.Wait()
		c = dial(1001)
		defer c.Close()
		if got := askFor(c, "/v1/version"); got != "HTTP/1.1 503" {
			t.Fatalf("a reader, after those before it were told: %q", got)
		}
	})
}

// slowAuditor verifies until it is let go.
type slowAuditor struct {
	Auditor
	began chan struct{}
	free  chan struct{}
}

func (a *slowAuditor) Verify(ctx context.Context) (*AuditReport, error) {
	a.began <- struct{}{}
	select {
	case <-a.free:
	case <-ctx.Done():
	}
	return &AuditReport{}, nil
}

// A reader who verifies does not keep the owner from it; each side has one turn.
func TestReadersVerifyApartFromTheOwner(t *testing.T) {
	a := &slowAuditor{}
	b := Backend{Process: versionOnly{}, Offer: noOffer{}, Policy: noPolicy{}, Invites: noInvites{}, Audit: a, Roots: noRoots{}, Life: noLife{}}
	memory(t, b, func(t *testing.T, dial func(uint32) net.Conn) {
		a.began, a.free = make(chan struct{}, 10), make(chan struct{})
		for i, want := range []struct {
			uid     uint32
			running int
		}{{1001, 1}, {1002, 1}, {1000, 2}, {0, 2}} {
			c := dial(want.uid)
			defer c.Close()
			go askFor(c, "/v1/audit/verify")
			synctest.Wait()
			if n := len(a.began); n != want.running {
				t.Fatalf("caller %d, uid %d: %d verifications run, want %d", i, want.uid, n, want.running)
			}
		}
		close(a.free)
	})
}

// A full queue of connections is waited for: others may have filled it.
func TestClientWaitsForAFullQueue(t *testing.T) {
	dir, err := os.MkdirTemp("", "mk")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.CloseOnExec(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	ln, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// The daemon is busy when the client comes.
	accepted := make(chan struct{})
	time.AfterFunc(2*readyPoll, func() {
		defer close(accepted)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	c, err := NewClient(path).dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	ln.Close()
	<-accepted
	if _, err := NewClient(path).dial(t.Context()); err == nil {
		t.Fatal("nobody listens")
	}
}
