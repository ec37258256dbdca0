package sim

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	// checkEvery is how often what takes a walk over everybody is looked at.
	checkEvery = time.Second
	// cutWithin is how soon nothing may be left with a node whose revocation was applied.
	cutWithin = 100 * time.Millisecond
	// doubleFor is how long a node may hold two usable sessions with another: one whose path is gone ends after 20 s of silence, and
	// the peer cannot say sooner that it has lost.
	doubleFor = 25 * time.Second
	// noneFor is how long two nodes of a full mesh may be without a session while there is a path; across sites, where no beacon tells
	// that somebody is back, a dial's back-off is added.
	noneFor     = 30 * time.Second
	noneForFar  = 75 * time.Second
	looks       = 15 // for how many seconds a degree must be off to count
	maxEnds     = 512
	maxEffects  = 8192
	maxBacklog  = 8192
	smallEnough = 64 // members up to which whole states are compared
	// maxDialsAtOnce is what the core allows at once, and a session of each of its peers that is replaced.
	maxDialsAtOnce = 16 + 16
)

// checkCause is half of I2: nothing but a frame of the trust log, or this host's own entry, changes the trust state.
func (n *Node) checkCause(before *trust.State, ev core.Event, f core.FrameIn) {
	if before == nil || n.ledger.Current() == before {
		return
	}
	if f.Body == nil || f.Body.Kind() < session.KindRoot || f.Body.Kind() > session.KindHead {
		n.w.fail("I2: %T changed the trust state of node %d", ev, n.i)
	}
}

// expectGone is I1: nothing is left with a node a moment after its revocation was applied here.
func (n *Node) expectGone(id keys.NodeID) {
	n.later(cutWithin, func() {
		if _, gone := n.ledger.Current().Revoked(id); gone { // no root has taken it back meanwhile
			n.checkGone(func(o *Node) bool { return o.id == id })
		}
	})
}

func (n *Node) checkGone(gone func(*Node) bool) {
	for _, e := range n.ends {
		if gone(e.peer.n) {
			n.w.fail("I1: node %d holds a session with %d, whose revocation it has applied", n.i, e.peer.n.i)
		}
	}
	for _, s := range n.streams {
		if gone(s.other(n)) {
			n.w.fail("I1: node %d holds a stream with %d, whose revocation it has applied", n.i, s.other(n).i)
		}
	}
}

// checkAccepted is I4, at the moment a stream takes effect: its record is there, says yes, and was made before.
func (n *Node) checkAccepted(s *stream) {
	if s.line >= len(n.audit) || n.audit[s.line].stream != s || !n.audit[s.line].allowed || n.audit[s.line].at >= n.w.now {
		n.w.fail("I4: node %d accepted a stream of %d without a record", n.i, s.from.i)
	}
	if _, revoked := n.ledger.Current().Revoked(s.from.id); revoked {
		n.w.fail("I1: node %d accepted a stream of %d, which it knows to be revoked", n.i, s.from.i)
	}
}

// checkAudit is the rest of I4: the log verifies from its beginning.
func (n *Node) checkAudit() {
	for i := range n.audit {
		if n.chained(i, &n.audit[i]) != n.audit[i].chain {
			n.w.fail("I4: line %d of node %d's audit log does not verify", i, n.i)
			return
		}
	}
}

// look checks what takes a walk over everybody.
func (w *World) look() {
	small := w.members() <= core.FullMesh
	for _, n := range w.nodes {
		if !n.awake() {
			continue
		}
		st := n.ledger.Current()
		n.checkGone(func(o *Node) bool { _, gone := st.Revoked(o.id); return gone })
		n.checkDoubles()
		if len(n.backlog) > maxBacklog {
			w.fail("I5: %d things wait for node %d", len(n.backlog), n.i)
		}
		if !small {
			n.checkAlone()
		}
	}
	if small {
		w.checkPairs()
	}
	w.in(checkEvery, w.look)
}

// calmSince is since when nothing has happened to two nodes, nor to the network.
func (w *World) calmSince(a, b *Node) time.Duration {
	return max(a.calm, b.calm, a.wallAt, b.wallAt, w.cutAt)
}

// checkDoubles is the first half of I3: at most one usable session with a peer.
func (n *Node) checkDoubles() {
	for _, e := range n.ends {
		double := false
		for _, o := range n.ends {
			double = double || o != e && o.peer.n == e.peer.n && o.state == session.Full
		}
		switch now := n.w.now; {
		case !double || e.state != session.Full:
			e.double = 0
		case e.double == 0:
			e.double = now
		case now-max(e.double, n.w.calmSince(n, e.peer.n)) > doubleFor:
			n.w.fail("I3: node %d has two usable sessions with %d", n.i, e.peer.n.i)
			e.double = now
		}
	}
}

// canTalk reports whether two nodes should be able to have a session: both run, are members by either clock, and the network carries
// both ways.
func (w *World) canTalk(a, b *Node) bool {
	if !a.awake() || !b.awake() || w.blocked(a, b) || w.blocked(b, a) || w.revoked(a.id) || w.revoked(b.id) {
		return false
	}
	for _, n := range []*Node{a, b} {
		st, now := n.ledger.Current(), n.clock().Trust
		_, one := st.LiveMember(a.id, now)
		_, two := st.LiveMember(b.id, now)
		if !one || !two {
			return false
		}
		if v := st.View(now); v.Stale && v.Restrict {
			return false // it lets nobody in
		}
	}
	return true
}

// checkPairs is the second half of I3 where everybody has a session with everybody.
func (w *World) checkPairs() {
	for _, a := range w.nodes {
		for _, b := range w.nodes[a.i+1:] {
			pair := [2]int{a.i, b.i}
			if !w.canTalk(a, b) || a.fullWith(b) != nil && b.fullWith(a) != nil {
				delete(w.pairs, pair)
				continue
			}
			since, ok := w.pairs[pair]
			if !ok {
				w.pairs[pair] = w.now
				continue
			}
			limit := noneFor
			if a.segment != b.segment {
				limit = noneForFar
			}
			if w.now-max(since, w.calmSince(a, b)) > limit {
				w.fail("I3: nodes %d and %d have had no session for %v", a.i, b.i, limit)
				w.pairs[pair] = w.now
			}
		}
	}
}

// checkAlone is the same where a node keeps sessions with some: it has one, if there is anybody to have it with.
func (n *Node) checkAlone() {
	w, pair := n.w, [2]int{n.i, -1}
	with := false
	for _, e := range n.ends {
		with = with || e.state == session.Full
	}
	if with || !slices.ContainsFunc(w.segments[n.segment], func(o *Node) bool { return o != n && w.canTalk(n, o) }) {
		delete(w.pairs, pair)
		return
	}
	since, ok := w.pairs[pair]
	if !ok {
		w.pairs[pair] = w.now
	} else if w.now-max(since, w.calmSince(n, n)) > noneFor {
		w.fail("I3: node %d has had no session for %v", n.i, noneFor)
		w.pairs[pair] = w.now
	}
}

// members counts the members of the mesh now.
func (w *World) members() int {
	st := w.reference.Current()
	if w.countOf != st {
		w.countOf, w.count = st, 0
		for range st.Members() {
			w.count++
		}
	}
	return w.count
}

// alive are the nodes that run and are members.
func (w *World) alive() []*Node {
	var list []*Node
	for _, n := range w.nodes {
		if _, member := w.reference.Current().Member(n.id); n.awake() && member {
			list = append(list, n)
		}
	}
	return list
}

// Settled is I2 and I6, for a time when faults have long ended: everybody who runs and is a member holds the same view, is connected,
// and has as many sessions as the overlay wants.
func (w *World) Settled() {
	alive := w.alive()
	for _, n := range w.nodes {
		n.checkAudit()
	}
	if len(alive) < 2 {
		return
	}
	for _, n := range alive {
		w.compare(n)
	}
	low, high := 6, 12
	if w.members() <= core.FullMesh {
		low = w.members() - 1
	}
	// Sessions that streams use or lately used come on top. A degree may be off for as long as a look of the overlay takes to mend it.
	off := map[int]int{}
	for range looks {
		for _, n := range alive {
			if d := n.Degree(); d < min(low, len(alive)-1) || d > high+len(n.data) {
				off[n.i]++
			}
		}
		w.RunFor(time.Second)
	}
	for _, n := range alive {
		if off[n.i] == looks {
			w.fail("I6: node %d has %d sessions for %d s, of %d nodes", n.i, n.Degree(), looks, len(alive))
		}
	}
	if got := w.Connected(); got != len(alive) {
		w.fail("I6: %d of %d nodes are connected", got, len(alive))
	}
}

// compare is I2 and I6 for one node: it holds what was signed, and everything in its state follows from that. Behind a fork branches
// may differ, but neither the evidence nor what is removed.
func (w *World) compare(n *Node) {
	mine, want := n.ledger.Current(), w.reference.Current()
	forked := false
	for _, k := range w.law.issuers {
		_, a := want.EvidenceOf(k.Public())
		_, b := mine.EvidenceOf(k.Public())
		forked = forked || a
		if a != b {
			w.fail("I2: node %d holds evidence: %v, there is some: %v", n.i, b, a)
		}
	}
	if !forked && w.digest(mine) != w.digest(want) {
		w.fail("I6: node %d holds another view than the issuer", n.i)
		return
	}
	if len(w.nodes) > smallEnough {
		return
	}
	for _, o := range w.nodes {
		x, revoked := mine.Revoked(o.id)
		y, wanted := want.Revoked(o.id)
		_, member := mine.Member(o.id)
		_, wantMember := want.Member(o.id)
		if revoked != wanted || member != wantMember || x.Reason != y.Reason {
			w.fail("I2: node %d says of %d: member %v, revoked %v; what was signed says %v, %v", n.i, o.i, member, revoked, wantMember, wanted)
		}
	}
}

// Degree is the number of peers the node has a usable session with.
func (n *Node) Degree() int {
	peers := map[*Node]bool{}
	for _, e := range n.ends {
		if e.state == session.Full {
			peers[e.peer.n] = true
		}
	}
	return len(peers)
}

// Connected counts the nodes that usable sessions connect with the first of those that run and are members.
func (w *World) Connected() int {
	alive := w.alive()
	if len(alive) == 0 {
		return 0
	}
	seen := make([]bool, len(w.nodes))
	todo, count := alive[:1:1], 0
	seen[todo[0].i] = true
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		count++
		for _, e := range n.ends {
			if m := e.peer.n; e.state == session.Full && m.awake() && !seen[m.i] {
				seen[m.i] = true
				todo = append(todo, m)
			}
		}
	}
	return count
}

// pruned counts what was taken for gone although it ran and could be heard.
func (n *Node) pruned(e core.PeerChanged) {
	w := n.w
	w.note(n, "prunes %s: %s", w.name(e.Peer), e.Why)
	for _, o := range w.segments[n.segment] {
		if o.id == e.Peer && o.awake() && !w.revoked(o.id) && w.now-max(w.calmSince(n, o), w.silent[n.segment]) > e.Silent && !w.blocked(o, n) && !w.blocked(n, o) {
			w.falsePrunes++
			w.note(n, "which was there all the time")
		}
	}
}
