package sim

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// stream is a stream between two nodes, decided at its destination.
type stream struct {
	from, to *Node
}

func (s *stream) other(n *Node) *Node {
	if s.from == n {
		return s.to
	}
	return s.from
}

// record is a line of a node's audit log.
type record struct {
	at      time.Duration
	peer    keys.NodeID
	allowed bool
}

// Open asks for a stream to another node: first for a session, then, over it, for the stream. It gives up after some seconds.
func (n *Node) Open(to *Node) {
	if !n.up || n == to {
		return
	}
	n.w.note(n, "wants a stream to %d", to.i)
	n.data[to.i] = true
	n.step(core.Want{Peer: to.id})
	n.tryOpen(to, 20)
}

func (n *Node) tryOpen(to *Node, tries int) {
	for _, id := range n.sortedEnds() {
		if e := n.ends[id]; e.peer.n == to && e.state == session.Full {
			n.send(id, func(there *end) { there.n.decide(n, there) })
			return
		}
	}
	if tries > 0 {
		n.later(250*time.Millisecond, func() { n.tryOpen(to, tries-1) })
	}
}

// decide is the destination's side, in the order that lets no stream slip past a revocation: session full, decision, record, accept.
func (n *Node) decide(from *Node, e *end) {
	if e.state != session.Full {
		return
	}
	d := n.ledger.Current().Decide(from.id, n.id, service, n.clock().Trust)
	n.audit = append(n.audit, record{n.w.now, from.id, d.Allowed})
	if !d.Allowed {
		n.w.note(n, "refuses a stream of %d: %s", from.i, d.Reason)
		return
	}
	s := &stream{from: from, to: n}
	n.join(s)
	if from.up {
		from.join(s)
	}
	if n.removed[from.id] {
		n.w.fail("node %d opened a stream to %d, which it knows to be revoked", n.i, from.i)
	}
}

func (n *Node) join(s *stream) {
	first := !n.uses(s.other(n))
	n.streams = append(n.streams, s)
	n.data[s.other(n).i] = true
	if first {
		n.later(0, func() { n.step(core.Using{Peer: s.other(n).id, Streams: n.uses(s.other(n))}) })
	}
}

func (n *Node) uses(peer *Node) bool {
	for _, s := range n.streams {
		if s.other(n) == peer {
			return true
		}
	}
	return false
}

// cutStreams ends the streams that match, at both ends.
func (n *Node) cutStreams(match func(*stream) bool) {
	for _, s := range slices.Clone(n.streams) {
		if match(s) {
			n.leave(s)
			o := s.other(n)
			n.w.in(n.w.latency(n, o), func() {
				if o.up && slices.Contains(o.streams, s) && !n.w.blocked(n, o) {
					o.leave(s)
				}
			})
		}
	}
}

func (n *Node) leave(s *stream) {
	n.streams = slices.DeleteFunc(n.streams, func(o *stream) bool { return o == s })
	o := s.other(n)
	n.later(0, func() { n.step(core.Using{Peer: o.id, Streams: n.uses(o)}) })
}

// sweepStreams authorises every stream again after a change of trust.
func (n *Node) sweepStreams() {
	st, now := n.ledger.Current(), n.clock().Trust
	n.cutStreams(func(s *stream) bool { return !st.Decide(s.from.id, s.to.id, service, now).Allowed })
}
