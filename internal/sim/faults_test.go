package sim

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// usable counts the sessions that both ends of a pair hold as full.
func usable(a, b *Node) int {
	n := 0
	for _, e := range a.ends {
		if e.peer.n == b && e.state == session.Full && e.peer.state == session.Full && !e.gone {
			n++
		}
	}
	return n
}

// T-04: lost beacons, up to four in ten, close no session; one in twenty prunes nobody.
func TestT04BeaconLoss(t *testing.T) {
	for _, loss := range []float64{0.05, 0.2, 0.4} {
		w := world(t, Config{Seed: 4, Nodes: 20, Loss: loss})
		w.Start(time.Second)
		w.RunFor(30 * time.Second)
		before := w.sessions()
		w.RunFor(5 * time.Minute)
		for pair := range before {
			if usable(w.nodes[pair[0]], w.nodes[pair[1]]) == 0 && !w.shed(pair) {
				t.Fatalf("loss %v: the session of %v is gone", loss, pair)
			}
		}
		if loss <= 0.05 && w.falsePrunes > 0 {
			t.Fatalf("loss %v: %d prunes of nodes that were there", loss, w.falsePrunes)
		}
		w.want(t)
	}
}

// sessions are the pairs with a usable session.
func (w *World) sessions() map[[2]int]bool {
	out := map[[2]int]bool{}
	for _, a := range w.nodes {
		for _, e := range a.ends {
			if b := e.peer.n; a.i < b.i && usable(a, b) > 0 {
				out[[2]int{a.i, b.i}] = true
			}
		}
	}
	return out
}

// shed reports whether a pair's session was ended by the overlay, which needs fewer, and not by a fault.
func (w *World) shed(pair [2]int) bool {
	a, b := w.nodes[pair[0]], w.nodes[pair[1]]
	return a.Degree() >= 6 && b.Degree() >= 6
}

// T-12: two nodes that dial each other at the same moment, with every delay, restarts in between, end with exactly one session within
// 3 s, and never have none after the first.
func TestT12SimultaneousDials(t *testing.T) {
	cases := 1000
	if long() {
		cases = 100_000
	}
	for i := range cases {
		w := world(t, Config{Seed: uint64(i), Nodes: 2, Late: float64(i%5) * 0.05, Quiet: true})
		a, b := w.nodes[0], w.nodes[1]
		w.Start(time.Duration(i%7) * 10 * time.Millisecond)
		if i%3 == 0 {
			w.RunFor(w.between(0, 1500*time.Millisecond))
			x := w.nodes[i%2]
			x.Kill()
			w.RunFor(w.between(0, 300*time.Millisecond))
			x.Start()
		}
		w.RunFor(3 * time.Second)
		if got := usable(a, b); got != 1 {
			t.Fatalf("case %d: %d sessions after 3 s", i, got)
		}
		for range 20 {
			w.RunFor(250 * time.Millisecond)
			if usable(a, b) == 0 {
				t.Fatalf("case %d: none after the first", i)
			}
		}
		w.want(t)
	}
}

// T-13: a node that changes its address without a word is reached at the new one within 5 s.
func TestT13AddressChange(t *testing.T) {
	w := world(t, Config{Seed: 13, Nodes: 6})
	w.Start(time.Second)
	w.RunFor(20 * time.Second)
	for _, x := range w.nodes[:5] {
		x.Move()
		w.RunFor(5 * time.Second)
		for _, n := range w.nodes {
			if n != x && usable(x, n) != 1 {
				t.Fatalf("node %d has %d sessions with the one that moved", n.i, usable(x, n))
			}
		}
		w.RunFor(20 * time.Second)
	}
	w.want(t)
}

// T-20, T-22: after a sleep of seconds, minutes or hours a node is usable within 3 s; a clock that is wrong by a year costs nobody else
// anything, and revives nothing.
func TestT20SleepAndClocks(t *testing.T) {
	for _, d := range []time.Duration{30 * time.Second, 5 * time.Minute, 8 * time.Hour} {
		w := world(t, Config{Seed: 20, Nodes: 6})
		w.Start(time.Second)
		w.RunFor(20 * time.Second)
		x := w.nodes[2]
		x.Sleep(d)
		w.RunFor(d + 3*time.Second)
		for _, n := range w.nodes {
			if n != x && usable(x, n) != 1 {
				t.Fatalf("after a sleep of %v node %d has %d sessions with it", d, n.i, usable(x, n))
			}
		}
		w.want(t)
	}
	for _, d := range []time.Duration{365 * 24 * time.Hour, -365 * 24 * time.Hour} {
		w := world(t, Config{Seed: 22, Nodes: 6})
		w.Start(time.Second)
		w.RunFor(20 * time.Second)
		w.Revoke(w.nodes[0], w.nodes[5])
		w.RunFor(time.Second)
		x := w.nodes[2]
		x.SetClock(d)
		w.RunFor(60 * time.Second)
		if usable(x, w.nodes[5]) != 0 {
			t.Fatal("a wrong clock revived a revoked node")
		}
		for _, a := range w.nodes[:5] {
			for _, b := range w.nodes[:5] {
				if a.i < b.i && a != x && b != x && usable(a, b) != 1 {
					t.Fatalf("nodes %d and %d have %d sessions because a third one's clock is wrong", a.i, b.i, usable(a, b))
				}
			}
		}
		w.want(t)
	}
}

// T-24: a mesh of two sites that were cut off from each other, and a single node, find together within 10 s on a LAN and 60 s across sites;
// what was revoked on one side is known on the other 5 s later.
func TestT24Partition(t *testing.T) {
	for _, c := range []struct {
		segment   int
		cut, heal time.Duration
	}{{0, 10 * time.Second, 10 * time.Second}, {0, 3 * time.Minute, 10 * time.Second}, {20, 30 * time.Second, 60 * time.Second}, {20, time.Hour, 60 * time.Second}} {
		w := world(t, Config{Seed: 24, Nodes: 40, Segment: c.segment})
		w.Start(time.Second)
		w.RunFor(30 * time.Second)
		w.Partition(c.cut, "halves", func(from, to *Node) bool { return from.i < 20 != (to.i < 20) })
		w.RunFor(c.cut / 2)
		w.Revoke(w.nodes[3], w.nodes[39])
		w.RunFor(c.cut/2 + c.heal)
		if got := w.Connected(); got != 39 {
			t.Fatalf("cut for %v, segments of %d: %d of 39 nodes are connected %v after it", c.cut, c.segment, got, c.heal)
		}
		w.RunFor(5 * time.Second)
		want := w.nodes[3].ledger.Current().Digest()
		for _, n := range w.nodes[:39] {
			if n.ledger.Current().Digest() != want {
				t.Fatalf("cut for %v: node %d has another view", c.cut, n.i)
			}
		}
		w.want(t)
	}
}

// T-25: half of the nodes crash at once; the others are connected within 30 s, with degrees in bounds soon after; then a churn of 5 % a
// minute keeps 99 % of those that run connected.
func TestT25Churn(t *testing.T) {
	nodes := 120
	if long() {
		nodes = 2000
	}
	w := world(t, Config{Seed: 25, Nodes: nodes, Quiet: true})
	w.Start(2 * time.Second)
	w.RunFor(60 * time.Second)
	for i := 0; i < nodes; i += 2 {
		w.nodes[i].CutPower()
	}
	w.RunFor(30 * time.Second)
	if got := w.Connected(); got < nodes/2*99/100 {
		t.Fatalf("%d of %d are connected 30 s after the other half crashed", got, nodes/2)
	}
	for range 3 {
		for range nodes / 2 * 5 / 100 {
			x := w.nodes[w.rng.IntN(nodes)]
			if x.up {
				x.CutPower()
			} else {
				x.Power()
			}
		}
		w.RunFor(time.Minute)
		up := 0
		for _, n := range w.nodes {
			if n.up {
				up++
			}
		}
		if got := w.Connected(); got < up*99/100 {
			t.Fatalf("%d of %d are connected under churn", got, up)
		}
	}
	w.want(t)
}

// T-26: an issuer that contradicts itself is evidence on every node within 2 s, whoever saw which branch first.
func TestT26ForkedIssuer(t *testing.T) {
	w := world(t, Config{Seed: 26, Nodes: 30, Issuers: 2})
	w.Start(time.Second)
	w.RunFor(30 * time.Second)
	twin := w.law.books[1].Clone()
	w.Publish(w.nodes[2], 1, trust.OpGrant{GID: 7, Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: "one"}})
	c, err := twin.AppendOwn(w.law.issuers[1], epoch0+40, trust.OpGrant{GID: 7, Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: "two"}})
	if err != nil {
		t.Fatal(err)
	}
	w.nodes[27].learn(c)
	w.RunFor(2 * time.Second)
	for _, n := range w.nodes {
		v := n.ledger.Current().Vector()
		forked := false
		for _, p := range v.Issuers {
			forked = forked || p.Issuer == w.law.issuers[1].Public() && p.Forked == 1
		}
		if !forked {
			t.Fatalf("node %d has no evidence", n.i)
		}
	}
	// It can still take away, and nothing of what others signed is void.
	w.Revoke(w.nodes[0], w.nodes[29])
	w.RunFor(time.Second)
	for _, n := range w.nodes[:29] {
		if _, gone := n.ledger.Current().Revoked(w.nodes[29].id); !gone {
			t.Fatalf("node %d did not hear the honest issuer", n.i)
		}
	}
	w.want(t)
}

// T-52: a node that slept while another was revoked applies it before it authorises any stream of that one.
func TestT52SleepingNode(t *testing.T) {
	for seed := range uint64(2) {
		w := world(t, Config{Seed: seed, Nodes: 12})
		w.Start(time.Second)
		w.RunFor(30 * time.Second)
		sleeper, thief := w.nodes[5], w.nodes[9]
		sleeper.Sleep(time.Hour)
		w.RunFor(30 * time.Minute)
		w.Revoke(w.nodes[0], thief)
		at := len(sleeper.audit)
		w.RunFor(30*time.Minute - time.Second)
		for range 100 {
			thief.Open(sleeper)
			w.RunFor(100 * time.Millisecond)
		}
		for _, r := range sleeper.audit[at:] {
			if r.peer == thief.id && r.allowed {
				t.Fatalf("seed %d: a stream of the revoked node was authorised %v after", seed, r.at)
			}
		}
		if _, gone := sleeper.State().Revoked(thief.id); !gone {
			t.Fatal("the sleeper has not learnt it")
		}
		w.want(t)
	}
}
