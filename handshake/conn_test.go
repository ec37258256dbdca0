package handshake

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// deadlineConn notes the last deadline that was set.
type deadlineConn struct {
	net.Conn
	last time.Time
	sets int
}

func (c *deadlineConn) SetDeadline(t time.Time) error {
	c.last = t
	c.sets++
	return c.Conn.SetDeadline(t)
}

func (c *deadlineConn) SetReadDeadline(t time.Time) error {
	c.last = t
	c.sets++
	return c.Conn.SetReadDeadline(t)
}

func (c *deadlineConn) SetWriteDeadline(t time.Time) error {
	c.last = t
	c.sets++
	return c.Conn.SetWriteDeadline(t)
}

// scriptConn is a connection whose other end is a function: what is written is handed to it, what it returns can be read. It has
// no deadlines and no goroutines. Reading at the end is EOF.
type scriptConn struct {
	in     bytes.Buffer
	sent   int
	closed atomic.Bool
	peer   func(written []byte) []byte
}

func (c *scriptConn) Read(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	if c.in.Len() == 0 {
		return 0, io.EOF
	}
	return c.in.Read(b)
}

func (c *scriptConn) Write(b []byte) (int, error) {
	if c.closed.Load() {
		return 0, errors.New("write after close")
	}
	c.sent += len(b)
	if c.peer != nil {
		c.in.Write(c.peer(b))
	}
	return len(b), nil
}

func (c *scriptConn) Close() error                     { c.closed.Store(true); return nil }
func (c *scriptConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *scriptConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *scriptConn) SetDeadline(time.Time) error      { return nil }
func (c *scriptConn) SetReadDeadline(time.Time) error  { return nil }
func (c *scriptConn) SetWriteDeadline(time.Time) error { return nil }

// chanConn is one end of a connection whose writes go through a function and whose reads come from a channel.
type chanConn struct {
	in   <-chan []byte
	rest []byte
	out  func([]byte)
	done func()
	once sync.Once
	shut atomic.Bool
}

func (c *chanConn) Read(b []byte) (int, error) {
	for len(c.rest) == 0 {
		m, ok := <-c.in
		if !ok {
			return 0, io.EOF
		}
		c.rest = m
	}
	n := copy(b, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *chanConn) Write(b []byte) (int, error) {
	if c.shut.Load() {
		return 0, net.ErrClosed
	}
	c.out(b)
	return len(b), nil
}

func (c *chanConn) Close() error {
	c.shut.Store(true)
	c.once.Do(c.done)
	return nil
}
func (c *chanConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *chanConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *chanConn) SetDeadline(time.Time) error      { return nil }
func (c *chanConn) SetReadDeadline(time.Time) error  { return nil }
func (c *chanConn) SetWriteDeadline(time.Time) error { return nil }
