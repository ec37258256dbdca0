package mesh

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/internal/netmon"
)

// everyAddress reports whether listening there accepts on all addresses of both families.
func everyAddress(a netip.Addr) bool { return !a.IsValid() || a == netip.IPv6Unspecified() }

// Listened implements [Network]: what is announced and told in invites must be what is listened on, and beacons belong on the same
// interfaces.
func (h *HostNetwork) Listened(s netmon.Snapshot) (netmon.Snapshot, bool) {
	if slices.ContainsFunc(h.At, func(at netip.AddrPort) bool { return everyAddress(at.Addr()) }) {
		return s, true
	}
	var out netmon.Snapshot
	for _, i := range s {
		i.V4, i.V6 = h.at(i, i.V4), h.at(i, i.V6)
		if !h.linkLocal(i) {
			i.LinkLocal = netip.Addr{}
		}
		if len(i.V4)+len(i.V6) > 0 || i.LinkLocal.IsValid() {
			out = append(out, i)
		}
	}
	return out, false
}

// at keeps the addresses of an interface that are listened on.
func (h *HostNetwork) at(i netmon.Interface, prefixes []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		for _, at := range h.At {
			a := at.Addr()
			switch {
			case a == p.Addr(), a == netip.IPv4Unspecified() && p.Addr().Is4():
				out = append(out, p)
			case i.Loopback && p.Contains(a): // the whole prefix is this host's
				out = append(out, netip.PrefixFrom(a, p.Bits()))
			}
		}
	}
	return out
}

func (h *HostNetwork) linkLocal(i netmon.Interface) bool {
	return i.LinkLocal.IsValid() && slices.ContainsFunc(h.At, func(at netip.AddrPort) bool {
		a := at.Addr()
		return a.WithZone("") == i.LinkLocal && (a.Zone() == "" || a.Zone() == i.Name || a.Zone() == strconv.Itoa(i.Index))
	})
}

// usable cuts the host's interfaces down to those listened on, and remembers which they are for what is received. Beacons go out on such an
// interface from all its addresses, for they name where to connect themselves.
func (n *Node) usable(s netmon.Snapshot) (used, listened netmon.Snapshot) {
	listened, all := n.net.Listened(s)
	if all {
		n.heardOn.Store(nil)
		return s, s
	}
	h := &heardOn{}
	for _, i := range s {
		part, ok := listened.ByIndex(i.Index)
		if i.Loopback {
			h.host = append(h.host, i.Index)
		}
		if !ok {
			continue
		}
		used, h.interfaces = append(used, i), append(h.interfaces, i.Index)
		h.near = append(append(append(h.near, addresses(i.V4)...), addresses(i.V6)...), i.LinkLocal)
		h.listened = append(append(h.listened, addresses(part.V4)...), addresses(part.V6)...)
	}
	n.heardOn.Store(h)
	return used, listened
}

// heardOn says which datagrams come to where a node listens. The sockets cannot: broadcasts are received only by one that is open to all
// interfaces, and the own port is one for all addresses.
type heardOn struct {
	interfaces []int        // those listened on
	host       []int        // where this host's own datagrams to itself come in
	listened   []netip.Addr // not the link-local ones: they may be another interface's, too
	near       []netip.Addr // all of those interfaces: beacons name them as their source
}

func addresses(prefixes []netip.Prefix) (out []netip.Addr) {
	for _, p := range prefixes {
		out = append(out, p.Addr())
	}
	return out
}

// elsewhere reports a datagram that came to where this node does not listen.
func (n *Node) elsewhere(p beacon.Packet) bool {
	h := n.heardOn.Load()
	if h == nil {
		return false
	}
	on := slices.Contains(h.interfaces, p.Interface)
	if !p.Unicast || !p.To.IsValid() {
		return !on
	}
	return !slices.Contains(h.listened, p.To) && !(slices.Contains(h.near, p.To) && (on || slices.Contains(h.host, p.Interface)))
}
