package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/internal/netmon"
)

// Network is what a node needs of its host. A simulation brings its own.
type Network interface {
	// Listen opens the node's TCP listener.
	Listen(ctx context.Context) (net.Listener, error)
	// Dial opens a TCP connection to a peer.
	Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Packets opens the beacon sockets.
	Packets() (Packets, error)
	// Watch tells the host's interfaces at once and after each change, until ctx ends.
	Watch(ctx context.Context, changed func(netmon.Snapshot)) error
	// Listened returns what of the interfaces the listener accepts on, and whether that is all there are and will be.
	Listened(s netmon.Snapshot) (part netmon.Snapshot, all bool)
}

// Packets are a node's beacon sockets.
type Packets interface {
	Run(ctx context.Context, handle func(beacon.Packet)) error
	Update(interfaces netmon.Snapshot)
	Broadcast(datagram []byte) error
	Unicast(to netip.AddrPort, datagram []byte) error
	Port() uint16
	Close() error
}

var _ Packets = (*beacon.Sockets)(nil)

// HostNetwork is the host's own network.
type HostNetwork struct {
	// At is where TCP connections are accepted, all on one port. An address that is not valid means every address.
	At []netip.AddrPort
	// Beacons says which UDP sockets to open.
	Beacons beacon.Config
	// Interfaces says which interfaces to use.
	Interfaces netmon.Config
}

// NewHostNetwork checks that a loopback-only network is that in all its parts.
func NewHostNetwork(h HostNetwork) (*HostNetwork, error) {
	if len(h.At) == 0 {
		return nil, errors.New("no address to listen on")
	}
	loop := h.Beacons.LoopbackOnly
	if loop != (h.Interfaces.Loopback == netmon.OnlyLoopback) {
		return nil, errors.New("loopback only: beacons and interfaces must agree")
	}
	for _, at := range h.At {
		if at.Port() != h.At[0].Port() {
			return nil, fmt.Errorf("listening on %s and %s: a node announces one port, so all its addresses must share it", h.At[0], at)
		}
		if loop && !at.Addr().IsLoopback() {
			return nil, fmt.Errorf("loopback only: will not listen on %s", at)
		}
	}
	return &h, nil
}

// Listen implements [Network]. Multipath TCP is off: its sockets refuse TCP_USER_TIMEOUT.
func (h *HostNetwork) Listen(ctx context.Context) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	var all []net.Listener
	port := h.At[0].Port()
	for _, at := range h.At {
		network, addr := listenOn(at.Addr(), port)
		ln, err := lc.Listen(ctx, network, addr)
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, err
		}
		port = addrOf(ln.Addr()).Port() // port 0: the first address chooses for all
		all = append(all, ln)
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return newMultiListener(all), nil
}

// listenOn is what the system is asked for.
func listenOn(a netip.Addr, port uint16) (network, addr string) {
	switch {
	case everyAddress(a):
		return "tcp", ":" + strconv.Itoa(int(port))
	case a == netip.IPv4Unspecified():
		return "tcp4", ":" + strconv.Itoa(int(port)) // of IPv4 alone: Go would take 0.0.0.0 for every address of both families
	}
	return "tcp", netip.AddrPortFrom(a, port).String()
}

// multiListener accepts on several addresses of one port.
type multiListener struct {
	all   []net.Listener
	conns chan net.Conn
	errs  chan error
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

func newMultiListener(all []net.Listener) *multiListener {
	m := &multiListener{all: all, conns: make(chan net.Conn), errs: make(chan error, len(all)), done: make(chan struct{})}
	for _, l := range all {
		m.wg.Go(func() { m.pump(l) })
	}
	return m
}

func (m *multiListener) pump(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			select {
			case m.errs <- err:
			case <-m.done:
				return
			}
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		select {
		case m.conns <- c:
		case <-m.done:
			c.Close()
			return
		}
	}
}

// Accept implements net.Listener.
func (m *multiListener) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case err := <-m.errs:
		return nil, err
	case <-m.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener and waits for its goroutines.
func (m *multiListener) Close() error {
	var err error
	m.once.Do(func() {
		close(m.done)
		for _, l := range m.all {
			err = errors.Join(err, l.Close())
		}
		m.wg.Wait()
	})
	return err
}

// Addr implements net.Listener.
func (m *multiListener) Addr() net.Addr { return m.all[0].Addr() }

// Dial implements [Network].
func (h *HostNetwork) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if h.Beacons.LoopbackOnly && !to.Addr().IsLoopback() {
		return nil, fmt.Errorf("loopback only: will not dial %s", to)
	}
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, "tcp", to.String())
}

// Packets implements [Network].
func (h *HostNetwork) Packets() (Packets, error) { return beacon.Listen(h.Beacons) }

// Watch implements [Network].
func (h *HostNetwork) Watch(ctx context.Context, changed func(netmon.Snapshot)) error {
	return netmon.New(h.Interfaces).Run(ctx, changed)
}
