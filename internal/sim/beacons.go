package sim

import (
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/mesh/core"
)

// maxSkew is how far two clocks may differ for a beacon to be presence, as in package beacon.
const maxSkew = 2 * time.Minute

// place names an envelope: one is signed for each run and address of a node, and forwarded by others.
type place struct {
	node  int
	epoch uint64
	at    netip.AddrPort
}

// envelope is the node's signed beacon as of its address now. Others verify it once and share it.
func (n *Node) envelope() []byte {
	w, p := n.w, place{n.i, n.epoch, n.tcp()}
	if env := w.envelopes[p]; env != nil {
		return env
	}
	n.counter++
	a := beacon.Announcement{
		Node: n.id, Epoch: n.epoch, Counter: n.counter, TimeMS: uint64(epoch0*1000 + w.now.Milliseconds()),
		Endpoints: []identity.Endpoint{identity.EndpointOf(n.tcp())}, Digest: beacon.Digest(w.digest(n.ledger.Current())),
		IntervalMS: uint64(n.every.Milliseconds()), Boot: beacon.Boot(n.boot[:8]), UnicastPort: n.udp().Port(),
	}
	env, err := a.Sign(w.law.mesh, n.key)
	if err != nil {
		panic("sim: own beacon: " + err.Error()) // its fields are all from here
	}
	w.envelopes[p] = env
	return env
}

// record reads and verifies an envelope that a session brought; the result is kept, for everybody is brought the same ones.
func (w *World) record(env []byte) (core.BeaconIn, bool) {
	if r, ok := w.records[string(env)]; ok {
		return r, true
	}
	a, err := beacon.ParseEnvelope(env, w.law.mesh)
	if err != nil {
		w.fail("a peer record does not verify: %v", err)
		return core.BeaconIn{}, false
	}
	r := core.BeaconIn{
		Node: a.Node, Endpoints: a.Addresses(netip.Addr{}, 0), Digest: a.Digest, Boot: a.Boot, Interval: a.Interval(), Epoch: a.Epoch,
		Counter: a.Counter, Envelope: env, Told: true,
	}
	w.records[string(env)] = r
	return r, true
}

// announce makes this node's next beacon.
func (n *Node) announce() core.BeaconIn {
	env := n.envelope()
	n.counter++
	return core.BeaconIn{
		Node: n.id, Endpoints: []netip.AddrPort{n.tcp()}, ReplyTo: n.udp(), Interface: 1, Digest: beacon.Digest(n.w.digest(n.ledger.Current())),
		Boot: beacon.Boot(n.boot[:8]), Interval: n.every, Epoch: n.epoch, Counter: n.counter, Envelope: env,
	}
}

func (n *Node) sendBeacon(e core.SendBeacon) {
	n.every = max(e.Interval, core.Interval)
	a := n.announce()
	if e.To.IsValid() {
		if m := n.w.at[netip.AddrPortFrom(e.To.Addr(), tcpPort)]; m != nil {
			n.datagram([]*Node{m}, a, e.Flags, true)
		}
		return
	}
	n.crowd = e.Crowd
	n.datagram(n.w.segments[n.segment], a, e.Flags, false)
}

// datagram carries a beacon. Probes are answered, and soliciting broadcasts by some of those who hear them.
func (n *Node) datagram(to []*Node, a core.BeaconIn, flags beacon.Flags, unicast bool) {
	w, sent := n.w, n.run
	w.in(w.between(nearMin, nearMax), func() {
		for _, m := range to {
			if m == n || !m.up || !unicast && m.segment != n.segment || sent != n.run || w.blocked(n, m) || w.lost(n, m) {
				continue
			}
			m.do(func() { m.hear(n, a, flags, unicast) })
		}
	})
}

// lost reports whether the air loses this beacon.
func (w *World) lost(from, to *Node) bool {
	if w.now < w.silent[from.segment] || w.now < w.silent[to.segment] {
		return true
	}
	return w.chance(w.cfg.Loss)
}

func (m *Node) hear(from *Node, a core.BeaconIn, flags beacon.Flags, unicast bool) {
	w := m.w
	if _, revoked := m.ledger.Current().Revoked(from.id); revoked {
		return // dropped before anything is verified
	}
	skew := m.wall - from.wall
	a.Skewed = skew > maxSkew || -skew > maxSkew
	answer := flags.Has(beacon.FlagProbe) && unicast ||
		flags.Has(beacon.FlagSolicit) && !unicast && w.rng.IntN(max(m.crowd, 1)) < 4
	if answer && !a.Skewed {
		m.datagram([]*Node{from}, m.announce(), beacon.FlagReply, true)
	}
	m.step(a)
}
