package control_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
	"github.com/sovereignmesh/meshkey/internal/forward"
)

// localUser makes the entrance see one uid.
func localUser(uid uint32, err error) func(*control.ServerConfig) {
	return func(cfg *control.ServerConfig) {
		cfg.LocalUser = func(net.Conn) (uint32, error) { return uid, err }
	}
}

// connect starts a connect and returns its events, the first of which has been read, and a way to end it.
func connect(t *testing.T, c *control.Client, req *control.ConnectRequest) (first *control.ConnectEvent, events <-chan *control.ConnectEvent, end func() error) {
	t.Helper()
	ctx, cancel := contextOf(t)
	ch := make(chan *control.ConnectEvent, 16)
	done := make(chan error, 1)
	go func() {
		done <- c.Connect(ctx, req, func(ev *control.ConnectEvent) error { ch <- ev; return nil })
	}()
	select {
	case first = <-ch:
	case err := <-done:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("blocked")
	}
	if first.Event != "listening" {
		t.Fatalf("first event %+v", first)
	}
	return first, ch, func() error { cancel(); return wait(t, "connect's end", done) }
}

func echoThrough(t *testing.T, addr, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, text)
	conn.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(conn); err != nil || string(got) != text {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestConnectServesTheOwner(t *testing.T) {
	fake := controltest.New()
	c, _, _ := start(t, fake, localUser(owner, nil))
	first, events, end := connect(t, c, &control.ConnectRequest{Target: "gpu1/ollama"})
	if first.Target != "gpu1/ollama" || first.Note != "" {
		t.Errorf("first event %+v", first)
	}
	if runtime.GOOS == "linux" && (!strings.HasPrefix(first.Listen, "127.77.") || !strings.HasSuffix(first.Listen, ":11434")) {
		t.Errorf("listens on %s", first.Listen)
	}
	echoThrough(t, first.Listen, "hello")
	if ev := wait(t, "open", events); ev.Event != "open" {
		t.Errorf("%+v", ev)
	}
	if ev := wait(t, "close", events); ev.Event != "close" || ev.BytesIn != 5 || ev.BytesOut != 5 || ev.Error != nil {
		t.Errorf("%+v", ev)
	}
	st, err := c.Status(t.Context())
	if err != nil || len(st.Connections) != 1 || st.Connections[0].Listen != first.Listen || st.Connections[0].Total != 1 || st.Connections[0].Active != 0 {
		t.Errorf("status shows %+v, %v", st.Connections, err)
	}
	if e := control.AsError(end()); e == nil || e.Code != control.Interrupted {
		t.Errorf("end: %v", e)
	}
	// The listener goes with its client.
	deadline := time.Now().Add(patience)
	for {
		conn, err := net.Dial("tcp", first.Listen)
		if errors.Is(err, syscall.ECONNREFUSED) {
			break
		}
		if err == nil {
			conn.Close()
		}
		if time.Now().After(deadline) {
			t.Fatal("still listening after the client has gone")
		}
	}
	for {
		st, err = c.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Connections) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status shows %+v", st.Connections)
		}
	}
}

func refusedConnect(t *testing.T, uid uint32, err error, req *control.ConnectRequest) {
	t.Helper()
	fake := controltest.New()
	c, _, _ := start(t, fake, localUser(uid, err))
	first, events, end := connect(t, c, req)
	defer end()
	conn, dialErr := net.Dial("tcp", first.Listen)
	if dialErr == nil {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v; want a reset", err)
		}
	}
	ev := wait(t, "refused", events)
	if ev.Event != "refused" || ev.Error == nil || ev.Error.Next == "" {
		t.Errorf("%+v", ev)
	}
	for _, call := range fake.Calls() {
		if strings.HasPrefix(call, "Open") {
			t.Error("a stream was opened for a refused user")
		}
	}
}

func TestConnectRefusesAnotherUser(t *testing.T) {
	refusedConnect(t, 1001, nil, &control.ConnectRequest{Target: "gpu1/ollama"})
}

func TestConnectRefusesAnUnknownUser(t *testing.T) {
	refusedConnect(t, 0, forward.ErrUnknownUser, &control.ConnectRequest{Target: "gpu1/ollama"})
}

func TestConnectServesOwnerNotRoot(t *testing.T) {
	refusedConnect(t, 0, nil, &control.ConnectRequest{Target: "gpu1/ollama"})
}

func TestConnectAllowsWhomTheOwnerNames(t *testing.T) {
	c, _, _ := start(t, controltest.New(), localUser(1001, nil))
	first, _, end := connect(t, c, &control.ConnectRequest{Target: "gpu1/ollama", AllowUIDs: []uint32{1001}})
	echoThrough(t, first.Listen, "x")
	end()
}

func TestConnectAnyUser(t *testing.T) {
	c, _, _ := start(t, controltest.New(), localUser(0, forward.ErrUnknownUser))
	first, _, end := connect(t, c, &control.ConnectRequest{Target: "gpu1/ollama", AnyUser: true})
	echoThrough(t, first.Listen, "x")
	end()
}

func TestConnectAsksTheKernelByDefault(t *testing.T) {
	c, _, _ := start(t, controltest.New(), func(cfg *control.ServerConfig) {
		cfg.Owner, cfg.Credentials = uint32(os.Getuid()), nil
	})
	first, _, end := connect(t, c, &control.ConnectRequest{Target: "gpu1/ollama"})
	echoThrough(t, first.Listen, "mine")
	end()
}

func TestConnectWhereTheUserSays(t *testing.T) {
	c, _, _ := start(t, controltest.New(), localUser(owner, nil))
	first, _, end := connect(t, c, &control.ConnectRequest{Target: "gpu1/ollama", Listen: "127.0.0.1:0"})
	if !strings.HasPrefix(first.Listen, "127.0.0.1:") {
		t.Errorf("listens on %s", first.Listen)
	}
	// The same address again is in use.
	err := c.Connect(t.Context(), &control.ConnectRequest{Target: "gpu1/ollama", Listen: first.Listen}, nil)
	if e := wantCode(t, "second", err, control.InUse); !strings.Contains(e.Next, "-L") {
		t.Errorf("%+v", e)
	}
	end()
}

var denial = control.Denial{From: "laptop", Target: "gpu1/postgres", Reason: "no grant matches", Near: "g-09 tag:dba -> */postgres", Command: "meshkey grant laptop gpu1/postgres"}

func TestDeniedConnectTellsThePeersAuditNumber(t *testing.T) {
	fake := controltest.New()
	remote := denial
	remote.Audit = "gpu1#18211"
	fake.LocallyDenied = map[string]control.Denial{"gpu1/postgres": denial}
	fake.Denied = map[string]control.Denial{"gpu1/postgres": remote}
	c, _, _ := start(t, fake, localUser(owner, nil))
	err := c.Connect(t.Context(), &control.ConnectRequest{Target: "gpu1/postgres"}, nil)
	if e := wantCode(t, "connect", err, control.Denied); e.Denial == nil || e.Denial.Audit != "gpu1#18211" || e.Denial.Near == "" {
		t.Errorf("%+v", e)
	}
	_, err = c.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/postgres"})
	if e := wantCode(t, "stream", err, control.Denied); e.Denial == nil || e.Denial.Audit != "gpu1#18211" {
		t.Errorf("%+v", e)
	}
}

func TestPeerIsAskedOnce(t *testing.T) {
	fake := controltest.New()
	answered := denial
	answered.Audit = "gpu1#18211"
	fake.LocallyDenied = map[string]control.Denial{"gpu1/postgres": answered}
	c, _, _ := start(t, fake, localUser(owner, nil))
	err := c.Connect(t.Context(), &control.ConnectRequest{Target: "gpu1/postgres"}, nil)
	wantCode(t, "connect", err, control.Denied)
	for _, call := range fake.Calls() {
		if strings.HasPrefix(call, "Open") {
			t.Error("the peer was asked again, and has a second record of one attempt")
		}
	}
}

func TestOldGrantsHereDoNotDecide(t *testing.T) {
	fake := controltest.New()
	fake.LocallyDenied = map[string]control.Denial{"gpu1/postgres": denial}
	c, _, _ := start(t, fake, localUser(owner, nil))
	first, _, end := connect(t, c, &control.ConnectRequest{Target: "gpu1/postgres"})
	echoThrough(t, first.Listen, "newer grant")
	end()
}

func TestRefusalAtTheEntranceIsAnEvent(t *testing.T) {
	fake := controltest.New()
	fake.Denied = map[string]control.Denial{"gpu1/ollama": denial}
	c, _, _ := start(t, fake, localUser(owner, nil))
	first, events, end := connect(t, c, &control.ConnectRequest{Target: "gpu1/ollama"})
	if conn, err := net.Dial("tcp", first.Listen); err == nil {
		defer conn.Close()
	}
	if ev := wait(t, "refused", events); ev.Event != "refused" || ev.Error == nil || ev.Error.Code != control.Denied || ev.Error.Denial == nil {
		t.Errorf("%+v", ev)
	}
	end()
}

func TestUnknownPeerIsNotFound(t *testing.T) {
	fake := controltest.New()
	missing := control.Errorf(control.NotFound, "meshkey peers", "no peer named gpu7")
	fake.Fail = map[string]error{"Resolve": missing, "Open": missing}
	c, _, _ := start(t, fake, nil)
	err := c.Connect(t.Context(), &control.ConnectRequest{Target: "gpu7/x"}, nil)
	wantCode(t, "connect", err, control.NotFound)
	_, err = c.Stream(t.Context(), &control.ConnectRequest{Target: "gpu7/x"})
	wantCode(t, "stream", err, control.NotFound)
}

func TestServerEndClosesEntrances(t *testing.T) {
	c, _, stop := start(t, controltest.New(), localUser(owner, nil))
	done := make(chan error, 1)
	listening := make(chan string, 1)
	go func() {
		done <- c.Connect(t.Context(), &control.ConnectRequest{Target: "gpu1/ollama"}, func(ev *control.ConnectEvent) error {
			if ev.Event == "listening" {
				listening <- ev.Listen
			}
			return nil
		})
	}()
	addr := wait(t, "listening", listening)
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "x")
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/ollama"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	stop()
	if e := control.AsError(wait(t, "connect's end", done)); e == nil {
		t.Error("connect ended without an error although the daemon went away")
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("program read: %v; want a reset", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("stream read: %v; want no orderly end", err)
	}
}

func TestStreamHalfClose(t *testing.T) {
	c, _, _ := start(t, controltest.New(), nil)
	s, err := c.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/ollama"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(patience))
	want := make([]byte, 3<<20)
	rand.Read(want)
	go func() { s.Write(want); s.CloseWrite() }()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if n, err := s.Write([]byte("x")); err == nil || n != 0 {
		t.Error("wrote after the end")
	}
	if err := s.CloseWrite(); err != nil {
		t.Error("second end:", err)
	}
}

func TestTornStreamIsNoEnd(t *testing.T) {
	fake := controltest.New()
	fake.Torn = true
	c, _, _ := start(t, fake, nil)
	s, err := c.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/ollama"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(patience))
	io.WriteString(s, "torn")
	got, err := io.ReadAll(s)
	if err == nil {
		t.Fatalf("read %q and an orderly end", got)
	}
}

func TestStreamCancelled(t *testing.T) {
	path := socketPath(t)
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := control.NewClient(path).Stream(ctx, &control.ConnectRequest{Target: "a/b"})
		done <- err
	}()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	wantCode(t, "stream", wait(t, "stream", done), control.Interrupted)
}

func TestAliasAddressesAreLoopbackOnly(t *testing.T) {
	for _, s := range []string{"0.0.0.0:1", "[::]:1", "192.0.2.1:80", "1.2.3.4", "localhost", "[::ffff:127.0.0.1]:80", "127.0.0.1:x", "127.0.0.1:65536", "65536", "-1", "", "[fe80::1%lo]:80", "example.org:80"} {
		if a, err := control.ParseListen(s); err == nil {
			t.Errorf("%q is accepted as %v", s, a)
		}
	}
	for s, want := range map[string]string{"8080": "127.0.0.1:8080", "127.5.6.7": "127.5.6.7:0", "localhost:80": "127.0.0.1:80", "[::1]:9": "[::1]:9", "127.77.0.3:11434": "127.77.0.3:11434"} {
		if a, err := control.ParseListen(s); err != nil || a != netip.MustParseAddrPort(want) {
			t.Errorf("%q: %v, %v", s, a, err)
		}
	}
}
