package netmon

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Interface is one usable network interface at one moment.
type Interface struct {
	Index     int
	Name      string
	Loopback  bool
	Broadcast bool // IPv4 broadcast works on it
	Multicast bool // IPv6 multicast works on it

	V4        []netip.Prefix // address and prefix length, in the kernel's order
	V6        []netip.Prefix // global and unique local addresses that are finished, lasting and not deprecated
	LinkLocal netip.Addr     // without zone; invalid until duplicate address detection has finished
}

// Equal reports whether a sender would treat both alike.
func (i Interface) Equal(o Interface) bool {
	return i.Index == o.Index && i.Name == o.Name && i.Loopback == o.Loopback && i.Broadcast == o.Broadcast &&
		i.Multicast == o.Multicast && i.LinkLocal == o.LinkLocal && slices.Equal(i.V4, o.V4) && slices.Equal(i.V6, o.V6)
}

// Snapshot is every usable interface at one moment, sorted by index. It is never changed after it was handed out.
type Snapshot []Interface

// Equal reports whether nothing a sender cares about differs.
func (s Snapshot) Equal(o Snapshot) bool { return slices.EqualFunc(s, o, Interface.Equal) }

// ByIndex finds an interface.
func (s Snapshot) ByIndex(index int) (Interface, bool) {
	for _, i := range s {
		if i.Index == index {
			return i, true
		}
	}
	return Interface{}, false
}

// Holding returns the index of the interface that has a prefix with this address in it, or 0. It is how the receiver of a
// datagram names the interface where the kernel does not.
func (s Snapshot) Holding(a netip.Addr) int {
	a = a.Unmap().WithZone("")
	for _, i := range s {
		for _, p := range i.V4 {
			if p.Contains(a) {
				return i.Index
			}
		}
		for _, p := range i.V6 {
			if p.Contains(a) {
				return i.Index
			}
		}
	}
	return 0
}

// Endpoints lists at most [MaxEndpoints] addresses this host can be reached at, the most useful first: IPv4, global and unique
// local IPv6, self-assigned IPv4, link-local IPv6 (without zone: the receiver knows on which link it heard it). Within
// a class the interfaces take turns, so that one with many addresses does not push out the only one of another.
func (s Snapshot) Endpoints(port uint16) []netip.AddrPort {
	var out []netip.AddrPort
	for _, class := range []func(Interface) []netip.Addr{routable4, routable6, selfAssigned4, linkLocal6} {
		var lists [][]netip.Addr
		longest := 0
		for _, i := range s {
			l := class(i)
			lists = append(lists, l)
			longest = max(longest, len(l))
		}
		for turn := range longest {
			for _, l := range lists {
				if turn >= len(l) {
					continue
				}
				if len(out) == MaxEndpoints {
					return out
				}
				out = append(out, netip.AddrPortFrom(l[turn], port))
			}
		}
	}
	return out
}

func routable4(i Interface) []netip.Addr {
	return addrs(i.V4, func(a netip.Addr) bool { return !a.IsLinkLocalUnicast() })
}

func selfAssigned4(i Interface) []netip.Addr { return addrs(i.V4, netip.Addr.IsLinkLocalUnicast) }

func routable6(i Interface) []netip.Addr {
	return addrs(i.V6, func(netip.Addr) bool { return true })
}

func linkLocal6(i Interface) []netip.Addr {
	if i.LinkLocal.IsValid() {
		return []netip.Addr{i.LinkLocal}
	}
	return nil
}

func addrs(prefixes []netip.Prefix, keep func(netip.Addr) bool) []netip.Addr {
	var out []netip.Addr
	for _, p := range prefixes {
		if keep(p.Addr()) {
			out = append(out, p.Addr())
		}
	}
	return out
}

// address is one address of one interface as the system reports it.
type address struct {
	index     int
	prefix    netip.Prefix
	tentative bool // duplicate address detection is running or has failed
	fading    bool // deprecated, or a privacy address
}

// filter decides which interfaces are used.
type filter struct {
	ignore, include []string
	loopback        LoopbackMode
}

func (f filter) wants(i net.Interface) bool {
	if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagRunning == 0 {
		return false
	}
	if i.Flags&net.FlagLoopback != 0 {
		return f.loopback != WithoutLoopback
	}
	if f.loopback == OnlyLoopback {
		return false
	}
	return matches(f.include, i.Name) || !matches(f.ignore, i.Name)
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(name, prefix) || p == name {
			return true
		}
	}
	return false
}

// build makes a snapshot of what the system reported.
func build(f filter, links []net.Interface, addresses []address) Snapshot {
	var out Snapshot
	for _, l := range links {
		if !f.wants(l) {
			continue
		}
		i := Interface{
			Index: l.Index, Name: l.Name,
			Loopback:  l.Flags&net.FlagLoopback != 0,
			Broadcast: l.Flags&net.FlagBroadcast != 0,
			Multicast: l.Flags&net.FlagMulticast != 0,
		}
		for _, a := range addresses {
			if a.index == l.Index {
				i.add(a)
			}
		}
		if len(i.V4) > 0 || len(i.V6) > 0 || i.LinkLocal.IsValid() {
			out = append(out, i)
		}
	}
	slices.SortFunc(out, func(a, b Interface) int { return cmp.Compare(a.Index, b.Index) })
	if len(out) > MaxInterfaces {
		out = out[:MaxInterfaces]
	}
	return out
}

func (i *Interface) add(a address) {
	ip := a.prefix.Addr()
	switch {
	case a.tentative || ip.IsUnspecified() || ip.IsMulticast():
	case ip.Is4():
		if len(i.V4) < MaxPrefixes {
			i.V4 = append(i.V4, a.prefix)
		}
	case a.fading:
	case ip.IsLinkLocalUnicast():
		if !i.LinkLocal.IsValid() {
			i.LinkLocal = ip
		}
	case len(i.V6) < MaxPrefixes:
		i.V6 = append(i.V6, a.prefix)
	}
}
