package beacon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/sovereignmesh/meshkey/internal/netmon"
)

// DefaultGroup is the IPv6 link-local group beacons are sent to: ff02::6d6b, "mk" in ASCII.
func DefaultGroup() netip.Addr { return netip.MustParseAddr("ff02::6d6b") }

// loopbackBroadcast is where daemons on one machine hear each other.
func loopbackBroadcast() netip.Addr { return netip.AddrFrom4([4]byte{127, 255, 255, 255}) }

// Config says which sockets to open. The zero value is what a daemon wants.
type Config struct {
	Port         uint16     // shared port for broadcast and multicast; zero: DefaultPort
	UnicastPort  uint16     // this daemon's own port; zero: any free one
	Group        netip.Addr // IPv6 link-local group; zero: DefaultGroup
	LoopbackOnly bool       // open, hear and send nothing outside 127/8
}

// Sockets are the UDP sockets of one daemon: per family one on the shared port, which any number of daemons on a machine bind
// together, and one of its own, from which everything is sent.
type Sockets struct {
	// immutable
	cfg     Config
	unicast uint16
	conns   []*socket
	own4    *socket // nil where the family is missing, like the others
	own6    *socket
	shared6 *ipv6.PacketConn

	handling sync.Mutex // held while the handler runs
	readers  sync.WaitGroup
	closed   chan struct{}

	// guarded by mu
	mu         sync.Mutex
	running    bool
	interfaces netmon.Snapshot
	targets    []target
	joined     map[int]bool
	faults     map[faultKey]*InterfaceError
}

// socket is one UDP socket and how to read the interface and the address a datagram came to from its control messages.
type socket struct {
	conn    *net.UDPConn
	name    string
	unicast bool
	arrived func(control []byte) (int, netip.Addr)
}

// Listen opens the sockets and starts nothing. A family that is missing or whose port is taken is a fault, see
// [Sockets.Faults], as long as the other one works.
func Listen(cfg Config) (*Sockets, error) {
	if cfg.Port == 0 {
		cfg.Port = DefaultPort
	}
	if !cfg.Group.IsValid() {
		cfg.Group = DefaultGroup()
	}
	if !cfg.Group.Is6() || !cfg.Group.IsLinkLocalMulticast() {
		return nil, fmt.Errorf("beacon group %s is not an IPv6 link-local multicast address", cfg.Group)
	}
	s := &Sockets{
		cfg: cfg, closed: make(chan struct{}), joined: make(map[int]bool), faults: make(map[faultKey]*InterfaceError),
	}
	any4, shared4 := netip.IPv4Unspecified(), netip.IPv4Unspecified()
	if cfg.LoopbackOnly {
		any4, shared4 = netip.AddrFrom4([4]byte{127, 0, 0, 1}), loopbackBroadcast()
	}
	err4 := s.listen4(any4, shared4)
	err6 := errors.New("not used on loopback")
	if !cfg.LoopbackOnly {
		err6 = s.listen6()
	}
	if err4 != nil && err6 != nil {
		s.closeAll()
		if cfg.LoopbackOnly {
			return nil, fmt.Errorf("beacon sockets: %w", err4)
		}
		return nil, fmt.Errorf("beacon sockets: IPv4: %w; IPv6: %w", err4, err6)
	}
	s.fault(0, "", opListen4, err4)
	if !cfg.LoopbackOnly {
		s.fault(0, "", opListen6, err6)
	}
	return s, nil
}

// listen4 opens the IPv4 pair, all or nothing.
func (s *Sockets) listen4(any4, shared netip.Addr) error {
	own, err := open4(netip.AddrPortFrom(any4, s.cfg.UnicastPort), false)
	if err != nil {
		return err
	}
	common, err := open4(netip.AddrPortFrom(shared, s.cfg.Port), true)
	switch {
	case err == nil:
		s.conns = append(s.conns, common)
	case s.cfg.LoopbackOnly && runtime.GOOS != "linux":
		// Elsewhere loopback has no broadcast address: the daemons on this machine need seeds, but all else works.
		s.fault(0, "", opShare, err)
	default:
		return errors.Join(err, own.conn.Close())
	}
	s.own4 = own
	s.unicast = portOf(own.conn)
	s.conns = append(s.conns, own)
	return nil
}

// listen6 opens the IPv6 pair. The unicast port is the same for both families, because a beacon names one; if the system gave
// IPv4 a port that IPv6 has in use, both move on.
func (s *Sockets) listen6() error {
	common, err := open6(netip.AddrPortFrom(netip.IPv6Unspecified(), s.cfg.Port), true)
	if err != nil {
		return err
	}
	var own *socket
	for range portAttempts {
		port := s.cfg.UnicastPort
		if s.own4 != nil {
			port = s.unicast
		}
		if own, err = open6(netip.AddrPortFrom(netip.IPv6Unspecified(), port), false); err == nil {
			break
		}
		if s.cfg.UnicastPort != 0 || s.own4 == nil {
			break
		}
		next, err4 := open4(netip.AddrPortFrom(netip.IPv4Unspecified(), 0), false)
		if err4 != nil {
			break
		}
		s.own4.conn.Close()
		s.own4.conn, s.unicast = next.conn, portOf(next.conn)
	}
	if err != nil {
		return errors.Join(err, common.conn.Close())
	}
	s.own6 = own
	s.unicast = portOf(own.conn)
	s.shared6 = ipv6.NewPacketConn(common.conn)
	s.conns = append(s.conns, own, common)
	return nil
}

func open4(a netip.AddrPort, shared bool) (*socket, error) {
	conn, err := openUDP("udp4", a, shared)
	if err != nil {
		return nil, err
	}
	// Where the system cannot tell the interface, the source's prefix does.
	ipv4.NewPacketConn(conn).SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true)
	return &socket{conn: conn, name: "udp4 " + a.String(), unicast: !shared, arrived: func(control []byte) (int, netip.Addr) {
		var cm ipv4.ControlMessage
		if cm.Parse(control) != nil {
			return 0, netip.Addr{}
		}
		to, _ := netip.AddrFromSlice(cm.Dst)
		return cm.IfIndex, to.Unmap()
	}}, nil
}

func open6(a netip.AddrPort, shared bool) (*socket, error) {
	conn, err := openUDP("udp6", a, shared)
	if err != nil {
		return nil, err
	}
	ipv6.NewPacketConn(conn).SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true)
	return &socket{conn: conn, name: "udp6 " + a.String(), unicast: !shared, arrived: func(control []byte) (int, netip.Addr) {
		var cm ipv6.ControlMessage
		if cm.Parse(control) != nil {
			return 0, netip.Addr{}
		}
		to, _ := netip.AddrFromSlice(cm.Dst)
		return cm.IfIndex, to
	}}, nil
}

func openUDP(network string, a netip.AddrPort, shared bool) (*net.UDPConn, error) {
	var lc net.ListenConfig
	if shared {
		lc.Control = shareAddress
	}
	pc, err := lc.ListenPacket(context.Background(), network, a.String())
	if err != nil {
		return nil, err
	}
	conn := pc.(*net.UDPConn)
	conn.SetReadBuffer(readBuffer) // as much of it as the system allows
	return conn, nil
}

func portOf(c *net.UDPConn) uint16 { return c.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// Port is this daemon's own port, to be announced.
func (s *Sockets) Port() uint16 { return s.unicast }

// Run receives until ctx ends or Close, and calls handle for one datagram at a time. It joins the IPv6 group again each minute. It
// closes the sockets, returns after all its goroutines have, and may be called once.
func (s *Sockets) Run(ctx context.Context, handle func(Packet)) error {
	s.mu.Lock()
	if s.running {
		s.mu.Unlock()
		return errors.New("beacon sockets run already")
	}
	select {
	case <-s.closed:
		s.mu.Unlock()
		return net.ErrClosed
	default:
	}
	s.running = true
	for _, c := range s.conns {
		s.readers.Go(func() { s.read(c, handle) })
	}
	s.mu.Unlock()
	defer s.Close()

	rejoin := time.NewTicker(rejoinEvery)
	defer rejoin.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return net.ErrClosed
		case <-rejoin.C:
			s.rejoin()
		}
	}
}

// read is one socket's goroutine. It ends when the socket is closed, and with nothing else.
func (s *Sockets) read(c *socket, handle func(Packet)) {
	// One byte more than any datagram has, so that a longer one is not taken for a valid one that was cut.
	data := make([]byte, MaxDatagram+1)
	control := make([]byte, controlBuffer)
	failing := false
	for {
		n, cn, _, from, err := c.conn.ReadMsgUDPAddrPort(data, control)
		if failing || err != nil {
			failing = err != nil
			s.fault(0, "", "receive on "+c.name, err)
		}
		if err != nil {
			select {
			case <-s.closed:
				return
			case <-time.After(readPause):
			}
			continue
		}
		p := Packet{Data: data[:n], From: from, Unicast: c.unicast}
		p.Interface, p.To = c.arrived(control[:cn])
		if p.Interface == 0 {
			p.Interface = s.holding(from.Addr())
		}
		s.handling.Lock()
		handle(p)
		s.handling.Unlock()
	}
}

func (s *Sockets) holding(a netip.Addr) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.interfaces {
		if zone := a.Zone(); zone != "" && (zone == i.Name || zone == strconv.Itoa(i.Index)) {
			return i.Index
		}
	}
	return s.interfaces.Holding(a)
}

// Close closes the sockets and returns after every goroutine of Run has ended. It may be called any number of times, but not from
// the handler.
func (s *Sockets) Close() error {
	s.closeAll()
	s.readers.Wait()
	return nil
}

// closeAll holds the lock so that a Run that begins meanwhile either started its readers before or finds the sockets closed.
func (s *Sockets) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return
	default:
	}
	close(s.closed)
	for _, c := range s.conns {
		c.conn.Close()
	}
}
