package mesh

import (
	"context"
	"fmt"
	"net"
	"net/netip"

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
	// Listen is where TCP connections are accepted; the zero value is port 0 on every address.
	At netip.AddrPort
	// Beacons says which UDP sockets to open.
	Beacons beacon.Config
	// Interfaces says which interfaces to use.
	Interfaces netmon.Config
}

// NewHostNetwork checks that a loopback-only network is that in all its parts.
func NewHostNetwork(h HostNetwork) (*HostNetwork, error) {
	if h.Beacons.LoopbackOnly != (h.Interfaces.Loopback == netmon.OnlyLoopback) ||
		h.Beacons.LoopbackOnly && !h.At.Addr().IsLoopback() {
		return nil, fmt.Errorf("loopback only: the listener %s, the beacons and the interfaces must all be", h.At)
	}
	return &h, nil
}

// Listen implements [Network]. Multipath TCP is off: its sockets refuse TCP_USER_TIMEOUT.
func (h *HostNetwork) Listen(ctx context.Context) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	addr := ":" + fmt.Sprint(h.At.Port())
	if h.At.Addr().IsValid() && !h.At.Addr().IsUnspecified() {
		addr = h.At.String()
	}
	return lc.Listen(ctx, "tcp", addr)
}

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
