package sim

import (
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// checkEvery is how often what takes a walk over everybody is looked at, and doubleFor how long a pair may have two usable sessions.
const (
	checkEvery = time.Second
	doubleFor  = 10 * time.Second
	// looks is for how many seconds a degree must be off to count.
	looks = 15
)

// checkRevoked is I1: nothing is left with a node once its revocation was applied here.
func (n *Node) checkRevoked() {
	for _, id := range n.sortedEnds() {
		if e := n.ends[id]; n.removed[e.peer.n.id] {
			n.w.fail("I1: node %d holds a session with %d, whose revocation it has applied", n.i, e.peer.n.i)
		}
	}
	for _, s := range n.streams {
		if n.removed[s.other(n).id] {
			n.w.fail("I1: node %d holds a stream with %d, whose revocation it has applied", n.i, s.other(n).i)
		}
	}
}

// Watch checks I3 and I4 from now on.
func (w *World) Watch() {
	double := map[[2]int]time.Duration{}
	var look func()
	look = func() {
		for _, n := range w.nodes {
			if !n.up {
				continue
			}
			full := map[int]int{}
			for _, e := range n.ends {
				if e.state == session.Full {
					full[e.peer.n.i]++
				}
			}
			for _, m := range w.nodes {
				pair := [2]int{n.i, m.i}
				if full[m.i] <= 1 {
					delete(double, pair)
				} else if since, ok := double[pair]; !ok {
					double[pair] = w.now
				} else if w.now-since > doubleFor {
					w.fail("I3: node %d has %d usable sessions with %d", n.i, full[m.i], m.i)
					double[pair] = w.now
				}
			}
			n.checkRecords()
		}
		w.in(checkEvery, look)
	}
	w.in(checkEvery, look)
}

// checkRecords is I4: every stream that runs here was recorded, allowed, before.
func (n *Node) checkRecords() {
	for _, s := range n.streams {
		if s.to != n {
			continue
		}
		found := false
		for _, r := range n.audit {
			found = found || r.peer == s.from.id && r.allowed
		}
		if !found {
			n.w.fail("I4: node %d runs a stream of %d without a record", n.i, s.from.i)
		}
	}
}

// Settled is I2 and I6, for a time when faults have long ended: everybody who runs and is no thief holds the same view, is connected, and
// has as many sessions as the overlay wants.
func (w *World) Settled() {
	var alive []*Node
	st := w.law.books[0].Current()
	for _, n := range w.nodes {
		if _, gone := st.Revoked(n.id); n.up && !gone {
			alive = append(alive, n)
		}
	}
	if len(alive) < 2 {
		return
	}
	want := st.Digest()
	members := 0
	for range st.Members() {
		members++
	}
	low, high := 6, 12
	if members <= core.FullMesh {
		low = members - 1
	}
	for _, n := range alive {
		if n.ledger.Current().Digest() != want {
			w.fail("I2: node %d holds another view than the issuer", n.i)
		}
	}
	// Sessions that streams use or lately used come on top. A degree may be off for as long as a look of the overlay takes to mend it.
	off := map[*Node]int{}
	for range looks {
		for _, n := range alive {
			if d := n.Degree(); d < min(low, len(alive)-1) || d > high+len(n.data) {
				off[n]++
			}
		}
		w.RunFor(time.Second)
	}
	for _, n := range alive {
		if off[n] == looks {
			w.fail("I6: node %d has %d sessions for %d s, of %d nodes", n.i, n.Degree(), looks, len(alive))
		}
	}
	if got := w.Connected(); got != len(alive) {
		w.fail("I6: %d of %d nodes are connected", got, len(alive))
	}
}

// Degree is the number of peers the node has a usable session with.
func (n *Node) Degree() int {
	peers := map[int]bool{}
	for _, e := range n.ends {
		if e.state == session.Full {
			peers[e.peer.n.i] = true
		}
	}
	return len(peers)
}

// Connected counts the running nodes that usable sessions connect with the first.
func (w *World) Connected() int {
	seen := make([]bool, len(w.nodes))
	var todo []*Node
	st := w.law.books[0].Current()
	for _, n := range w.nodes {
		if _, gone := st.Revoked(n.id); n.up && !gone {
			todo = append(todo, n)
			seen[n.i] = true
			break
		}
	}
	count := 0
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		count++
		for _, e := range n.ends {
			if m := e.peer.n; e.state == session.Full && m.up && !seen[m.i] {
				seen[m.i] = true
				todo = append(todo, m)
			}
		}
	}
	return count
}
