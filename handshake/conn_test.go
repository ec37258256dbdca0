package handshake

import (
	"bytes"
	"errors"
	"io"
	"net"
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
