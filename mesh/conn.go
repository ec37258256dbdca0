package mesh

import (
	"net"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/session"
)

// Conn is one stream: a net.Conn with CloseWrite, whose other end is a proven member.
type Conn struct {
	*session.Stream

	// immutable
	node    *Node
	entry   *entry
	who     Caller
	service string
	began   time.Time
	over    chan struct{}
	once    sync.Once
}

// newConn wraps an accepted stream and watches for its end.
func (n *Node) newConn(s *session.Stream, e *entry, who Caller, service string) *Conn {
	c := &Conn{Stream: s, node: n, entry: e, who: who, service: service, began: time.Now(), over: make(chan struct{})}
	n.tally.began(c)
	n.wg.Go(func() {
		<-s.Done()
		c.finish()
	})
	return c
}

// finish takes the stream out of its peer's set and records its end, once.
func (c *Conn) finish() {
	c.once.Do(func() {
		in, out := c.Moved()
		c.node.tally.ended(c)
		why, code := c.node.streams.leave(c.entry)
		c.node.auditStreamEnd(c.entry, c.who, why, code, c.began, in, out)
		close(c.over)
	})
}

// Done is closed when the stream is over and recorded.
func (c *Conn) Done() <-chan struct{} { return c.over }

// Caller tells who is at the other end of an accepted stream, or which member was dialled.
func (c *Conn) Caller() Caller { return c.who }

// Service is the name the stream was opened for.
func (c *Conn) Service() string { return c.service }

// cut resets the stream because trust says so. It does not block.
func (c *Conn) cut(code session.Code) { c.Stream.Reset(code) }

// Abort resets the stream: the peer's application sees an error, never a clean end.
func (c *Conn) Abort() { c.Stream.Reset(session.CodeAborted) }

// LocalAddr is this node's end.
func (c *Conn) LocalAddr() net.Addr {
	if c.entry.inbound {
		return Addr{Node: c.node.self.Compact(), Service: c.service}
	}
	return Addr{Node: c.node.self.Compact()}
}

// RemoteAddr is the peer's end.
func (c *Conn) RemoteAddr() net.Addr {
	if c.entry.inbound {
		return Addr{Node: c.who.Node.Compact()}
	}
	return Addr{Node: c.who.Node.Compact(), Service: c.service}
}

// Peer returns the proven identity behind a connection of this package, also when it is wrapped by something with a NetConn
// method, as crypto/tls does.
func Peer(c net.Conn) (Caller, bool) {
	for range 8 {
		switch v := c.(type) {
		case *Conn:
			return v.who, true
		case interface{ NetConn() net.Conn }:
			c = v.NetConn()
		default:
			return Caller{}, false
		}
	}
	return Caller{}, false
}
