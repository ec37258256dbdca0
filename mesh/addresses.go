package mesh

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/internal/netmon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
)

// interfacesChanged follows the host's interfaces: sockets, announced endpoints, and the core's idea of neighbours.
func (n *Node) interfacesChanged(s netmon.Snapshot) {
	s, listened := n.usable(s)
	n.packets.Update(s)
	eps := slices.Clone(n.cfg.Endpoints)
	for _, ap := range listened.Endpoints(n.port) {
		if !slices.Contains(eps, ap) {
			eps = append(eps, ap)
		}
	}
	n.endpointsA.Store(&eps)
	var prefixes []netip.Prefix
	var views []interfaceView
	for _, i := range s {
		v := interfaceView{name: i.Name, index: i.Index}
		for _, p := range slices.Concat(i.V4, i.V6) {
			prefixes = append(prefixes, p.Masked())
			v.addrs = append(v.addrs, p.String())
		}
		views = append(views, v)
	}
	n.mu.Lock()
	for k := range views {
		for _, old := range n.interfaces {
			if old.index == views[k].index {
				views[k].mute = old.mute
			}
		}
	}
	n.interfaces = views
	var full []core.SessionID
	for id, l := range n.links {
		if l.open() {
			full = append(full, id)
		}
	}
	n.mu.Unlock()
	n.tellSelf(full...)
	n.post(core.NetChange{Prefixes: prefixes})
}

// setMute marks an interface and returns its name.
func (n *Node) setMute(index int, mute bool) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := range n.interfaces {
		if n.interfaces[i].index == index {
			n.interfaces[i].mute = mute
			return n.interfaces[i].name
		}
	}
	return strconv.Itoa(index)
}

// noteBeacon remembers where a peer whose beacon was heard here accepts connections. It reports whether the beacon is worth more: one
// of unknown time that is not the newest of its node may have been recorded by anybody, long ago.
func (n *Node) noteBeacon(h *beacon.Heard) bool {
	if !n.isMember(h.Node) {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o := order{h.Epoch, h.Counter}
	heard := !h.ClockSkew || o.newer(n.guards.announced[h.Node])
	if !n.guards.newestLocked(h.Node, o, !h.ClockSkew) {
		return false
	}
	p := n.presence[h.Node]
	if heard { // not a repetition of the newest one
		p.seen, p.digest = time.Now(), h.Digest
	}
	p.skew, p.gen, p.issues = h.ClockSkew, h.GroupGen, h.Flags.Has(beacon.FlagIssuer)
	n.presence[h.Node] = p
	n.records[h.Node] = h.Envelope
	n.setEndpointsLocked(h.Node, h.Dialable())
	return true
}

// isMember reports whether the log names the node. Whoever holds the group secret can announce any number of other ids, and what is
// remembered of a node is bounded by there being an entry for it.
func (n *Node) isMember(id keys.NodeID) bool {
	_, ok := n.State().Member(id)
	return ok
}

// noteRecord remembers the same from a peer record, unless the peer itself was heard more recently here. It reports whether the
// record is newer than all that is known of its node.
func (n *Node) noteRecord(id keys.NodeID, o order, eps []netip.AddrPort) bool {
	if !n.isMember(id) {
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Since(n.presence[id].seen) < core.HintLife {
		return !n.guards.announced[id].newer(o)
	}
	if !n.guards.newestLocked(id, o, false) {
		return false
	}
	n.setEndpointsLocked(id, eps)
	return true
}

func (n *Node) setEndpointsLocked(id keys.NodeID, eps []netip.AddrPort) {
	old := n.endpoints[id]
	if slices.Equal(old, eps) {
		return
	}
	for _, ap := range old {
		decrement(n.knownAddrs, ap.Addr().WithZone(""))
	}
	for _, ap := range eps {
		n.knownAddrs[ap.Addr().WithZone("")]++
	}
	n.endpoints[id] = slices.Clone(eps)
	n.wakeLocked() // a stream may be waiting for an address
}

// Addresses is where a member accepts connections, as its newest beacon or record says; none if nothing was heard of it.
func (n *Node) Addresses(id keys.NodeID) []netip.AddrPort {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.endpoints[id])
}

// noteDial remembers why the last dial of a peer failed, for people.
func (n *Node) noteDial(id keys.NodeID, at netip.AddrPort, err error) {
	if !n.isMember(id) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dialErrs[id] = at.String() + ": " + err.Error()
}

// lastDial is why the last dial of a peer failed, ready to be put before another error.
func (n *Node) lastDial(id keys.NodeID) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.dialErrs[id]; s != "" {
		return "last try: " + s + ": "
	}
	return ""
}

// tellPeers hands the peer records this node was born with to the core.
func (n *Node) tellPeers() {
	for _, raw := range n.cfg.Peers {
		a, err := beacon.ParseEnvelope(raw, n.mesh)
		if err != nil || a.Node == n.self {
			continue
		}
		eps := a.Addresses(netip.Addr{}, 0)
		if len(eps) == 0 {
			eps = a.Addresses(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0) // a mesh on one machine
		}
		n.noteRecord(a.Node, order{a.Epoch, a.Counter}, eps)
		n.noteIssuer(a.Node, a.Flags)
		for _, at := range eps {
			n.post(core.AddSeed{Peer: a.Node, At: at})
		}
	}
}

// trySeeds asks configured addresses for their beacon. A seed is "host:port", where port is the shared beacon port of that host; what
// answers says, signed, who it is and where it accepts connections. So seeds cross routers and need no node id.
func (n *Node) trySeeds(ctx context.Context) error {
	if len(n.cfg.Seeds) == 0 {
		return nil
	}
	for {
		for _, s := range n.cfg.Seeds {
			n.askSeed(ctx, s)
		}
		pause := seedFast
		if n.sessions() > 0 {
			pause = seedSlow
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

func (n *Node) askSeed(ctx context.Context, seed string) {
	host, port, err := net.SplitHostPort(seed)
	if err != nil {
		n.log.Warn("seed is not host:port", "seed", seed)
		return
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil || p == 0 {
		n.log.Warn("seed has no usable port", "seed", seed)
		return
	}
	rctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(rctx, "ip", host)
	if err != nil {
		n.log.Debug("seed does not resolve", "seed", seed, "err", err)
		return
	}
	d, ok := n.announce(beacon.FlagSolicit)
	if !ok {
		return
	}
	for _, ip := range ips[:min(len(ips), maxSeedAddresses)] {
		if err := n.packets.Unicast(netip.AddrPortFrom(ip.Unmap(), uint16(p)), d); err != nil {
			n.count("beacon.send-failed")
		}
	}
}

// sessions returns the number of full sessions.
func (n *Node) sessions() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	full := 0
	for _, l := range n.links {
		if l.open() {
			full++
		}
	}
	return full
}
