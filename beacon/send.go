package beacon

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/sovereignmesh/meshkey/internal/netmon"
)

// The steps that can fail on one interface or socket.
const (
	opListen4 = "listen on IPv4"
	opListen6 = "listen on IPv6"
	opShare   = "listen for loopback broadcasts"
	opJoin    = "join the IPv6 group"
	opSend4   = "IPv4 broadcast"
	opSend6   = "IPv6 multicast"
)

// InterfaceError is what fails on one interface (or, with index 0, on a socket). It is never fatal: the other interfaces go on.
type InterfaceError struct {
	Index int
	Name  string
	Op    string
	Err   error
}

// Error says which step failed where.
func (e *InterfaceError) Error() string {
	if e.Index == 0 {
		return fmt.Sprintf("%s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("%s on %s: %v", e.Op, e.Name, e.Err)
}

// Unwrap returns the system's error.
func (e *InterfaceError) Unwrap() error { return e.Err }

type faultKey struct {
	index int
	op    string
}

// target is one place a broadcast is sent to.
type target struct {
	index    int
	name     string
	op       string
	socket   *socket
	to       netip.AddrPort
	control  []byte
	fallback netip.AddrPort // used if to fails; invalid if there is none
}

// Update sets the interfaces to send on and to hear the IPv6 group on. It is called with each new snapshot.
func (s *Sockets) Update(interfaces netmon.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.interfaces, s.targets = interfaces, nil
	for _, i := range interfaces {
		if s.cfg.LoopbackOnly && !i.Loopback {
			continue
		}
		s.targets = append(s.targets, s.targets4(i)...)
		if t, ok := s.target6(i); ok {
			s.targets = append(s.targets, t)
		}
	}
	for k := range s.faults {
		if _, ok := interfaces.ByIndex(k.index); k.index != 0 && !ok {
			delete(s.faults, k)
		}
	}
	s.rejoinLocked()
}

// targets4 lists one directed broadcast per prefix. A prefix too long to have one (a point-to-point address) leaves the interface
// to 255.255.255.255, which is also what a directed broadcast falls back to.
func (s *Sockets) targets4(i netmon.Interface) []target {
	if s.own4 == nil || len(i.V4) == 0 || !i.Broadcast && !i.Loopback {
		return nil
	}
	limited := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), s.cfg.Port)
	var out []target
	for _, p := range i.V4 {
		to, ok := directedBroadcast(p)
		if !ok || s.cfg.LoopbackOnly && !to.IsLoopback() {
			continue
		}
		t := s.target4(i, p.Addr(), netip.AddrPortFrom(to, s.cfg.Port))
		if !i.Loopback {
			t.fallback = limited
		}
		out = append(out, t)
	}
	if len(out) == 0 && !i.Loopback {
		out = append(out, s.target4(i, i.V4[0].Addr(), limited))
	}
	return out
}

func (s *Sockets) target4(i netmon.Interface, from netip.Addr, to netip.AddrPort) target {
	cm := ipv4.ControlMessage{IfIndex: i.Index, Src: from.AsSlice()}
	return target{index: i.Index, name: i.Name, op: opSend4, socket: s.own4, to: to, control: cm.Marshal()}
}

func (s *Sockets) target6(i netmon.Interface) (target, bool) {
	if s.own6 == nil || !i.Multicast || !i.LinkLocal.IsValid() {
		return target{}, false
	}
	cm := ipv6.ControlMessage{IfIndex: i.Index}
	to := netip.AddrPortFrom(s.cfg.Group.WithZone(strconv.Itoa(i.Index)), s.cfg.Port)
	return target{index: i.Index, name: i.Name, op: opSend6, socket: s.own6, to: to, control: cm.Marshal()}, true
}

// directedBroadcast is the last address of a prefix that has one.
func directedBroadcast(p netip.Prefix) (netip.Addr, bool) {
	if !p.Addr().Is4() || p.Bits() > 30 || p.Bits() < 1 {
		return netip.Addr{}, false
	}
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(b), true
}

// Broadcast sends the datagram on every interface. The error joins one *InterfaceError for each interface that failed; nil means that
// every one took it, also if there is none.
func (s *Sockets) Broadcast(datagram []byte) error {
	s.mu.Lock()
	targets := s.targets
	s.mu.Unlock()
	var errs []error
	failed := make(map[faultKey]bool)
	for _, t := range targets {
		err := send(t.socket, datagram, t.control, t.to)
		if err != nil && t.fallback.IsValid() {
			err = send(t.socket, datagram, t.control, t.fallback)
		}
		key := faultKey{t.index, t.op}
		if err == nil && failed[key] {
			continue // another prefix of the same interface failed: the fault stays
		}
		failed[key] = err != nil
		if e := s.fault(t.index, t.name, t.op, err); e != nil {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}

// Unicast sends the datagram to one address, from this daemon's own port.
func (s *Sockets) Unicast(to netip.AddrPort, datagram []byte) error {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if s.cfg.LoopbackOnly && !to.Addr().IsLoopback() {
		return fmt.Errorf("beacon to %s: only loopback is open", to)
	}
	c := s.own6
	if to.Addr().Is4() {
		c = s.own4
	}
	if c == nil {
		return fmt.Errorf("beacon to %s: this host has no socket of that family", to)
	}
	return send(c, datagram, nil, to)
}

func send(c *socket, datagram, control []byte, to netip.AddrPort) error {
	_, _, err := c.conn.WriteMsgUDPAddrPort(datagram, control, to)
	return err
}

func (s *Sockets) rejoin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejoinLocked()
}

// rejoinLocked leaves and joins the group on each interface, which makes the kernel report the membership to the switches anew,
// and leaves it where an interface is no longer used. An interface that vanished has left by itself.
func (s *Sockets) rejoinLocked() {
	if s.shared6 == nil {
		return
	}
	group := &net.UDPAddr{IP: s.cfg.Group.AsSlice()}
	for index := range s.joined {
		s.shared6.LeaveGroup(&net.Interface{Index: index}, group)
		delete(s.joined, index)
	}
	for _, i := range s.interfaces {
		if !i.Multicast || !i.LinkLocal.IsValid() {
			continue
		}
		err := s.shared6.JoinGroup(&net.Interface{Index: i.Index}, group)
		s.joined[i.Index] = err == nil
		s.faultLocked(i.Index, i.Name, opJoin, err)
	}
}

// fault records that a step failed, or with a nil error that it worked, and returns the recorded error.
func (s *Sockets) fault(index int, name, op string, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.faultLocked(index, name, op, err)
}

func (s *Sockets) faultLocked(index int, name, op string, err error) error {
	key := faultKey{index, op}
	if err == nil {
		delete(s.faults, key)
		return nil
	}
	e := &InterfaceError{Index: index, Name: name, Op: op, Err: err}
	s.faults[key] = e
	return e
}

// Faults lists what failed when it was last tried, by interface.
func (s *Sockets) Faults() []*InterfaceError {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*InterfaceError
	for _, e := range s.faults {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *InterfaceError) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Op, b.Op))
	})
	return out
}
