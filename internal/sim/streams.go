package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

const (
	// streamGrace is how long streams outlive the last full session of their peer, as in package mesh.
	streamGrace = 30 * time.Second
	// openTries and openEvery bound how long an opener waits for a session.
	openTries = 20
	openEvery = 250 * time.Millisecond
	// maxDecisions bounds how often a decision starts over because trust moved under it.
	maxDecisions = 8
)

// stream is a stream between two nodes, decided at its destination.
type stream struct {
	from, to       *Node
	fromRun, toRun int
	line           int // of the destination's audit log
	accepted       bool
}

func (s *stream) other(n *Node) *Node {
	if s.from == n {
		return s.to
	}
	return s.from
}

func (s *stream) otherRun(n *Node) int {
	if s.from == n {
		return s.toRun
	}
	return s.fromRun
}

// record is a line of a node's audit log, chained to the one before.
type record struct {
	at      time.Duration
	stream  *stream
	peer    keys.NodeID
	allowed bool
	chain   [32]byte
}

// record appends a line to the node's audit log and returns its number.
func (n *Node) record(s *stream, allowed bool) int {
	r := record{at: n.w.now, stream: s, peer: s.from.id, allowed: allowed}
	r.chain = n.chained(len(n.audit), &r)
	n.audit = append(n.audit, r)
	return len(n.audit) - 1
}

// chained is the hash of a line behind the lines before it.
func (n *Node) chained(i int, r *record) [32]byte {
	b := make([]byte, 0, 80)
	if i > 0 {
		b = append(b, n.audit[i-1].chain[:]...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(r.at))
	b = append(b, r.peer[:]...)
	if r.allowed {
		b = append(b, 1)
	}
	return sha256.Sum256(b)
}

// Open asks for a stream to another node: first for a session, then, over it, for the stream. It gives up after some seconds.
func (n *Node) Open(to *Node) {
	if !n.awake() || n == to {
		return
	}
	n.w.note(n, "wants a stream to %d", to.i)
	n.uses(to)
	n.step(core.Want{Peer: to.id})
	n.tryOpen(to, openTries)
}

func (n *Node) tryOpen(to *Node, tries int) {
	if e := n.fullWith(to); e != nil {
		run := n.run
		n.send(e.id, func(there *end) { there.n.askedFor(n, run, there) })
		return
	}
	if tries > 0 {
		n.later(openEvery, func() { n.tryOpen(to, tries-1) })
	}
}

// fullWith is a full session with a peer, nil if there is none.
func (n *Node) fullWith(peer *Node) *end {
	var best *end
	for _, e := range n.ends {
		if e.peer.n == peer && e.state == session.Full && (best == nil || e.id > best.id) {
			best = e
		}
	}
	return best
}

// askedFor is the destination's side, in the order that lets no stream slip past a revocation: the session is full, the stream joins
// the peer's set, decision, record, no sweep since, accept.
func (n *Node) askedFor(from *Node, run int, e *end) {
	if !e.usable() {
		return
	}
	s := &stream{from: from, to: n, fromRun: run, toRun: n.run}
	n.join(s)
	n.decide(s, maxDecisions)
}

func (n *Node) decide(s *stream, tries int) {
	if tries == 0 || !slices.Contains(n.streams, s) {
		n.leave(s)
		return
	}
	sweeps := n.sweeps
	d := n.ledger.Current().Decide(s.from.id, n.id, service, n.clock().Trust)
	line := n.record(s, d.Allowed)
	if !d.Allowed {
		n.w.note(n, "refuses a stream of %d: %s", s.from.i, d.Reason)
		n.leave(s)
		return
	}
	n.later(syncTime, func() { // the record is on the disk
		switch {
		case !slices.Contains(n.streams, s):
		case n.sweeps != sweeps:
			n.decide(s, tries-1)
		default:
			s.line, s.accepted = line, true
			n.checkAccepted(s)
			n.accepted(s)
		}
	})
}

// accepted tells the opener.
func (n *Node) accepted(s *stream) {
	from := s.from
	n.w.in(n.w.latency(n, from), func() {
		if from.run != s.fromRun || n.w.blocked(n, from) {
			return // nobody uses it; the destination's end goes with the session
		}
		from.do(func() {
			if from.run == s.fromRun && from.fullWith(n) != nil {
				from.join(s)
			}
		})
	})
}

// uses remembers a peer that data goes to or comes from.
func (n *Node) uses(peer *Node) {
	if n.data == nil {
		n.data = map[int]bool{}
	}
	n.data[peer.i] = true
}

func (n *Node) join(s *stream) {
	first := !n.hasStreams(s.other(n))
	n.streams = append(n.streams, s)
	n.uses(s.other(n))
	if first {
		n.tellUse(s.other(n))
	}
}

// tellUse tells the core, in a step of its own, whether there are streams with a peer.
func (n *Node) tellUse(peer *Node) {
	n.later(0, func() { n.step(core.Using{Peer: peer.id, Streams: n.hasStreams(peer)}) })
}

func (n *Node) hasStreams(peer *Node) bool {
	return slices.ContainsFunc(n.streams, func(s *stream) bool { return s.other(n) == peer })
}

// cutStreams ends the streams that match, and resets their connections.
func (n *Node) cutStreams(match func(*stream) bool) {
	for _, s := range slices.Clone(n.streams) {
		if match(s) {
			n.leave(s)
			n.resetStream(s)
		}
	}
}

func (n *Node) resetStream(s *stream) {
	o := s.other(n)
	n.w.in(n.w.latency(n, o), func() {
		if !n.w.blocked(n, o) {
			o.do(func() { o.leave(s) })
		}
	})
}

func (n *Node) leave(s *stream) {
	i := slices.Index(n.streams, s)
	if i < 0 {
		return
	}
	n.streams = slices.Delete(n.streams, i, i+1)
	if !n.hasStreams(s.other(n)) {
		n.tellUse(s.other(n))
	}
}

// sweepStreams authorises every stream again after a change of trust.
func (n *Node) sweepStreams() {
	n.sweeps++
	st, now := n.ledger.Current(), n.clock().Trust
	n.cutStreams(func(s *stream) bool {
		if _, live := st.LiveMember(s.other(n).id, now); !live {
			return true
		}
		return s.to == n && !st.Decide(s.from.id, n.id, service, now).Allowed
	})
}

// sessionLost gives the streams of a peer some time to see another session.
func (n *Node) sessionLost(e *end) {
	peer := e.peer.n
	if !n.hasStreams(peer) || n.fullWith(peer) != nil {
		return
	}
	n.later(streamGrace, func() {
		if n.fullWith(peer) == nil {
			n.cutStreams(func(s *stream) bool { return s.other(n) == peer })
		}
	})
}

// sessionFull ends streams of an earlier life of the peer.
func (n *Node) sessionFull(e *end) {
	n.cutStreams(func(s *stream) bool { return s.other(n) == e.peer.n && s.otherRun(n) != e.peer.run })
}

// endStreams is the end of the daemon: the kernel resets its connections.
func (n *Node) endStreams() {
	all := n.streams
	n.streams = nil
	for _, s := range all {
		n.resetStream(s)
	}
}
