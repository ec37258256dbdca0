package plain

import (
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// listen serves f on loopback until the test ends, and waits for it.
func listen(t *testing.T, serve func(net.Listener)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); serve(ln) }()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

// chain is client, daemon, daemon, server.
func chain(t *testing.T, server func(*net.TCPConn)) *net.TCPConn {
	t.Helper()
	addr := listen(t, func(ln net.Listener) {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			server(c.(*net.TCPConn))
			c.Close()
		}
	})
	for range 2 {
		f := New(addr)
		addr = listen(t, func(ln net.Listener) {
			if err := f.Serve(ln); err != nil {
				t.Error(err)
			}
		})
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func TestForwardsBothWaysAndHalfCloses(t *testing.T) {
	want := make([]byte, 3*bufferSize+17)
	rand.Read(want)
	c := chain(t, func(s *net.TCPConn) {
		got, err := io.ReadAll(s) // ends only if our half-close is passed on
		if err != nil {
			t.Error(err)
		}
		s.Write(got)
	})
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	c.CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d came back: %v", len(got), len(want), err)
	}
}

func TestResetIsPassedOn(t *testing.T) {
	c := chain(t, func(s *net.TCPConn) {
		io.ReadFull(s, make([]byte, 1))
		s.SetLinger(0)
	})
	c.Write([]byte("x"))
	if n, err := io.ReadAll(c); err == nil {
		t.Errorf("a reset came through as a clean end after %d bytes", len(n))
	}
}

func TestNoTargetIsReset(t *testing.T) {
	f := New("127.0.0.1:1")
	addr := listen(t, func(ln net.Listener) { f.Serve(ln) })
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return // the reset was faster than we
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(c); err == nil {
		t.Error("a clean end")
	}
}

func TestIdleHoldsNoBuffer(t *testing.T) {
	var fds [2]int
	if err := syscall.Pipe(fds[:]); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fds[0])
	defer syscall.Close(fds[1])
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		t.Fatal(err)
	}
	f := New("")
	b, _, _ := f.read(once{fds[0]})
	if b != nil {
		t.Error("a buffer is held although nothing came")
	}
	syscall.Write(fds[1], []byte("abc"))
	b, n, err := f.read(once{fds[0]})
	if err != nil || n != 3 || string((*b)[:n]) != "abc" {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// once calls the function one time, where the runtime would wait and call again.
type once struct{ fd int }

func (o once) Control(func(uintptr)) error           { return nil }
func (o once) Write(func(uintptr) bool) error        { return nil }
func (o once) Read(f func(uintptr) bool) (err error) { f(uintptr(o.fd)); return nil }
