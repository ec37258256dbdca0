// Package plain is the forwarder without encryption: the limit of every forwarder that copies in user space, meshkey too. Client to
// daemon to daemon to server, a TCP connection per stream, as meshkey has them; each direction reads up to 256 KiB and writes them with
// one call. There is no splice(2): whoever encrypts cannot have it, and so the limit has not.
//
// It is no toy for a comparison to look good beside: half-closes are passed on, and while a connection is idle it holds no buffer.
package plain

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// bufferSize is what one read takes at most, as in meshkey.
const bufferSize = 256 << 10

// Forwarder accepts connections and joins each to a new one to its target.
type Forwarder struct {
	target  string    // immutable
	buffers sync.Pool // of *[]byte
}

// New makes a forwarder to the target.
func New(target string) *Forwarder {
	return &Forwarder{target: target, buffers: sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}}
}

// Serve accepts until the listener is closed, and returns when all its connections have ended.
func (f *Forwarder) Serve(ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		wg.Go(func() { f.join(c.(*net.TCPConn)) })
	}
}

func (f *Forwarder) join(a *net.TCPConn) {
	defer a.Close()
	c, err := net.Dial("tcp", f.target)
	if err != nil {
		a.SetLinger(0)
		return
	}
	defer c.Close()
	b := c.(*net.TCPConn)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.copy(a, b)
	}()
	f.copy(b, a)
	<-done
}

// copy moves what comes from src to dst until src ends, and passes that end on: in order if it was, else by a reset of both.
func (f *Forwarder) copy(dst, src *net.TCPConn) {
	raw, err := src.SyscallConn()
	if err != nil {
		return
	}
	for {
		b, n, err := f.read(raw)
		if n > 0 {
			_, err = dst.Write((*b)[:n])
		}
		if b != nil {
			f.buffers.Put(b)
		}
		if err == io.EOF {
			dst.CloseWrite()
			return
		}
		if err != nil {
			// The other direction must not wait for an end that will not come.
			for _, c := range []*net.TCPConn{src, dst} {
				c.SetLinger(0)
				c.Close()
			}
			return
		}
	}
}

// read takes a buffer when there is something to read, and not before.
func (f *Forwarder) read(raw syscall.RawConn) (b *[]byte, n int, err error) {
	outer := raw.Read(func(fd uintptr) bool {
		b = f.buffers.Get().(*[]byte)
		for {
			if n, err = syscall.Read(int(fd), *b); err != syscall.EINTR {
				break
			}
		}
		if err == syscall.EAGAIN {
			f.buffers.Put(b)
			b = nil
			return false
		}
		return true
	})
	switch {
	case outer != nil:
		return b, 0, outer
	case err != nil:
		return b, 0, err
	case n == 0:
		return b, 0, io.EOF
	}
	return b, n, nil
}
