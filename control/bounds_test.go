package control

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are made in memory, for virtual time.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	a, b := net.Pipe()
	p.conns <- b
	return a
}

type versionOnly struct{ Process }

func (versionOnly) Version() *Version { return &Version{Version: strings.Repeat("v", 1<<20)} }

// virtual runs a server in virtual time.
func virtual(t *testing.T, fn func(t *testing.T, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		s := NewServer(ServerConfig{
			Backend:     Backend{Process: versionOnly{}, Offer: noOffer{}, Policy: noPolicy{}, Invites: noInvites{}, Roots: noRoots{}, Life: noLife{}},
			Credentials: func(net.Conn) (Credentials, error) { return Credentials{}, nil },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, p) }()
		fn(t, p)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

type (
	noOffer   struct{ Offerer }
	noPolicy  struct{ Policy }
	noInvites struct{ Inviter }
	noRoots   struct{ Rooter }
	noLife    struct{ Lifer }
)

// cutAfter reads until the server closes and returns how long that took.
func cutAfter(c net.Conn) time.Duration {
	began := time.Now()
	c.SetReadDeadline(began.Add(time.Hour))
	io.Copy(io.Discard, c)
	return time.Since(began)
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	virtual(t, func(t *testing.T, p *pipes) {
		c := p.dial()
		defer c.Close()
		io.WriteString(c, "GET /v1/ver")
		if d := cutAfter(c); d > headerTimeout+time.Second {
			t.Errorf("cut off after %s", d)
		}
	})
}

func TestSlowBodyIsCutOff(t *testing.T) {
	virtual(t, func(t *testing.T, p *pipes) {
		c := p.dial()
		defer c.Close()
		io.WriteString(c, "POST /v1/revoke HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		if d := cutAfter(c); d > bodyTimeout+time.Second {
			t.Errorf("cut off after %s", d)
		}
	})
}

func TestIdleConnectionIsClosed(t *testing.T) {
	virtual(t, func(t *testing.T, p *pipes) {
		c := p.dial()
		defer c.Close()
		io.WriteString(c, "GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
		if d := cutAfter(c); d > idleTimeout+time.Second {
			t.Errorf("closed after %s", d)
		}
	})
}

func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	virtual(t, func(t *testing.T, p *pipes) {
		c := p.dial()
		defer c.Close()
		io.WriteString(c, "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
		time.Sleep(writeTimeout + time.Second)
		// What was buffered before the cut is all there is: not the whole answer.
		c.SetReadDeadline(time.Now().Add(time.Hour))
		if n, _ := io.Copy(io.Discard, c); n >= 1<<20 {
			t.Errorf("the server waited and sent %d bytes", n)
		}
	})
}

// serveUnix serves on a real socket with credentials that can change from connection to connection.
func serveUnix(t *testing.T, uid *atomic.Uint32, s *Server) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	ln, err := Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return path
}

func TestReadersCannotCrowdOutTheOwner(t *testing.T) {
	crowd(t, func() (Credentials, error) { return Credentials{UID: 1001}, nil })
}

func TestUnknownCallersCannotCrowdOutTheOwner(t *testing.T) {
	// The zero uid that comes with the error must not take an owner's place.
	crowd(t, func() (Credentials, error) { return Credentials{}, errors.New("no idea") })
}

// crowd opens connections of others until there is no more place, and wants the owner to be served.
func crowd(t *testing.T, other func() (Credentials, error)) {
	var uid atomic.Uint32
	s := NewServer(ServerConfig{
		Backend: Backend{Process: versionOnly{}, Offer: noOffer{}, Policy: noPolicy{}, Invites: noInvites{}, Roots: noRoots{}, Life: noLife{}}, Owner: 1000,
		Credentials: func(net.Conn) (Credentials, error) {
			if uid.Load() == 1000 {
				return Credentials{UID: 1000}, nil
			}
			return other()
		},
	})
	path := serveUnix(t, &uid, s)
	open := func() net.Conn {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ask := func(c net.Conn) int {
		c.SetDeadline(time.Now().Add(10 * time.Second))
		io.WriteString(c, "GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	for range maxOtherConns {
		// Asked, so that the server has accepted it.
		if got := ask(open()); got != http.StatusForbidden {
			t.Fatalf("status %d", got)
		}
	}
	if got := ask(open()); got != http.StatusServiceUnavailable {
		t.Fatalf("one more than %d: status %d", maxOtherConns, got)
	}
	uid.Store(1000)
	if got := ask(open()); got != http.StatusOK {
		t.Fatalf("the owner: status %d", got)
	}
	_, err := NewClient(path).Version(t.Context())
	if err != nil {
		t.Fatal(err)
	}
}

func TestTooManyConnectionsIsASentence(t *testing.T) {
	var uid atomic.Uint32
	s := NewServer(ServerConfig{
		Backend:     Backend{Process: versionOnly{}, Offer: noOffer{}, Policy: noPolicy{}, Invites: noInvites{}, Roots: noRoots{}, Life: noLife{}},
		Credentials: func(net.Conn) (Credentials, error) { return Credentials{UID: uid.Load()}, nil },
	})
	path := serveUnix(t, &uid, s)
	for range maxConns {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	_, err := NewClient(path).Version(t.Context())
	if e := AsError(err); e == nil || !strings.Contains(e.Message, "too many") {
		t.Fatalf("%v", err)
	}
}

func TestHeldConnectionsAreBounded(t *testing.T) {
	var uid atomic.Uint32
	s := NewServer(ServerConfig{
		Backend:     Backend{Process: versionOnly{}, Offer: noOffer{}, Policy: noPolicy{}, Invites: noInvites{}, Roots: noRoots{}, Life: noLife{}},
		Credentials: func(net.Conn) (Credentials, error) { return Credentials{UID: uid.Load()}, nil },
	})
	path := serveUnix(t, &uid, s)
	for range maxHeld {
		if _, err := s.hold(); err != nil {
			t.Fatal(err)
		}
	}
	err := NewClient(path).Connect(t.Context(), &ConnectRequest{Target: "a/b"}, nil)
	if e := AsError(err); e == nil || e.Next != "close some meshkey connect" {
		t.Fatalf("connect: %v", err)
	}
	_, err = NewClient(path).Stream(t.Context(), &ConnectRequest{Target: "a/b"})
	if e := AsError(err); e == nil || e.Next != "close some meshkey connect" {
		t.Fatalf("stream: %v", err)
	}
	if _, err := NewClient(path).Version(t.Context()); err != nil {
		t.Fatal("a plain request:", err)
	}
}

func TestTurnstile(t *testing.T) {
	var g turnstile
	for range 2 {
		if !g.enter() {
			t.Fatal("closed from the start")
		}
	}
	g.leave()
	out := make(chan struct{})
	go func() { g.shut(); close(out) }()
	for {
		if !g.enter() {
			break
		}
		g.leave()
	}
	select {
	case <-out:
		t.Fatal("shut although one is inside")
	default:
	}
	g.leave()
	<-out
}

func TestCodesAreTheExitTable(t *testing.T) {
	want := []Code{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 75, 130}
	if len(codes) != len(want) {
		t.Fatalf("%d codes", len(codes))
	}
	for i, k := range codes {
		if k.code != want[i] || k.word == "" || k.status < 200 || !k.code.known() || k.code.String() != k.word || k.code.status() != k.status {
			t.Errorf("%+v", k)
		}
	}
	if Code(99).known() || Code(99).String() != "failed" || Code(99).status() != 500 {
		t.Error("an unknown code")
	}
}

func TestAsError(t *testing.T) {
	if AsError(nil) != nil {
		t.Error("an error of nothing")
	}
	for err, code := range map[error]Code{context.Canceled: Interrupted, context.DeadlineExceeded: Unreachable, errors.New("x"): Failed} {
		if e := AsError(err); e.Code != code || !errors.Is(e, err) {
			t.Errorf("%v: %+v", err, e)
		}
	}
	if e := Errorf(Failed, "", "reading: %w", os.ErrNotExist); !errors.Is(e, os.ErrNotExist) || e.Message != "reading: "+os.ErrNotExist.Error() {
		t.Errorf("%+v", e)
	}
}
