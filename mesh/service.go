package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// Caller is who opened a stream. Everything in it follows from the key proven in the handshake and the trust log.
type Caller struct {
	Node  keys.NodeID
	Name  string   // empty when two live nodes hold the name
	Tags  []string // of the logged certificate
	Grant string   // the grant that allows the stream
}

// Handler serves the streams of one service.
type Handler interface {
	// Prepare readies what a stream needs, such as a connection to the local target, while the decision is made and recorded.
	// Nothing of the peer's may reach the target before Serve. An error refuses the stream as unavailable.
	Prepare(ctx context.Context, who Caller) (Prepared, error)
}

// Prepared is a stream's local side before it is accepted.
type Prepared interface {
	// Serve owns the stream until it returns.
	Serve(ctx context.Context, c *Conn)
	// Abort gives the local side back when the stream was not accepted.
	Abort()
}

// ServiceState is whether a service can be used now.
type ServiceState struct {
	Up     bool
	Since  time.Time
	Reason string // why not
}

// service is one registered service.
type service struct {
	name    string
	proto   string
	handler Handler

	// guarded by Node.svcMu
	state   ServiceState
	streams int
	refused uint64
}

// Errors of the service table.
var (
	// ErrServiceTaken: the name is already served by this node.
	ErrServiceTaken = errors.New("this node already offers a service of that name")
	// ErrClosed: the node, or the listener, was closed.
	ErrClosed = net.ErrClosed
)

// Handle offers a service. proto is a word for people, such as tcp or http. The returned function withdraws the service and
// resets its streams.
func (n *Node) Handle(name, proto string, h Handler) (remove func(), err error) {
	if err := identity.CheckName(name); err != nil {
		return nil, err
	}
	n.svcMu.Lock()
	defer n.svcMu.Unlock()
	if n.services[name] != nil {
		return nil, fmt.Errorf("%w: %s", ErrServiceTaken, name)
	}
	s := &service{name: name, proto: proto, handler: h, state: ServiceState{Up: true, Since: time.Now()}}
	n.services[name] = s
	n.servicesChangedLocked()
	return sync.OnceFunc(func() {
		n.svcMu.Lock()
		if n.services[name] == s {
			delete(n.services, name)
			n.servicesChangedLocked()
		}
		n.svcMu.Unlock()
		n.streams.cutService(name, "service withdrawn")
	}), nil
}

// SetServiceState says whether a service's target works, as a real check found it. Peers that may use it are told within a
// second.
func (n *Node) SetServiceState(name string, up bool, reason string) {
	for len(reason) > maxServiceReason || !utf8.ValidString(reason) {
		reason = reason[:len(reason)-1] // a reason that does not fit its record would keep the whole list from being sent
	}
	n.svcMu.Lock()
	defer n.svcMu.Unlock()
	s := n.services[name]
	if s == nil || s.state.Up == up && s.state.Reason == reason {
		return
	}
	if s.state.Up != up {
		s.state.Since = time.Now()
	}
	s.state.Up, s.state.Reason = up, reason
	n.servicesChangedLocked()
}

func (n *Node) service(name string) *service {
	n.svcMu.Lock()
	defer n.svcMu.Unlock()
	return n.services[name]
}

// listener is a service whose streams the program accepts itself.
type listener struct {
	node   *Node
	name   string
	queue  chan *Conn
	done   chan struct{}
	remove func()      // withdraws the service
	stop   func() bool // ends the watch of the context
	once   sync.Once
}

// Listen offers a service and returns its listener. The connections it accepts are [*Conn]; [Peer] tells who is at the other end.
// Closing the listener, or ctx ending, withdraws the service.
func (n *Node) Listen(ctx context.Context, name string) (net.Listener, error) {
	l := &listener{node: n, name: name, queue: make(chan *Conn, acceptBacklog), done: make(chan struct{})}
	remove, err := n.Handle(name, "tcp", l)
	if err != nil {
		return nil, err
	}
	l.remove = remove
	l.stop = context.AfterFunc(ctx, func() { l.end() })
	return l, nil
}

func (l *listener) Prepare(context.Context, Caller) (Prepared, error) {
	if len(l.queue) == cap(l.queue) {
		return nil, errors.New("the program accepts too slowly")
	}
	return l, nil
}

func (l *listener) Abort() {}

// Serve hands the stream to Accept and waits until the program is done with it.
func (l *listener) Serve(ctx context.Context, c *Conn) {
	select {
	case l.queue <- c:
	case <-l.done:
		c.Abort()
		return
	case <-ctx.Done():
		c.Abort()
		return
	}
	<-c.Done()
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "meshkey", Addr: l.Addr(), Err: net.ErrClosed}
	}
}

func (l *listener) Close() error {
	l.stop()
	l.end()
	return nil
}

func (l *listener) end() {
	l.once.Do(func() {
		close(l.done)
		l.remove()
	})
}

func (l *listener) Addr() net.Addr { return Addr{Node: l.node.self.Compact(), Service: l.name} }

// Addr is the mesh address of one end of a stream.
type Addr struct {
	Node    string
	Service string
}

// Network returns "meshkey".
func (Addr) Network() string { return "meshkey" }

// String returns node/service.
func (a Addr) String() string { return a.Node + "/" + a.Service }
