package sim

import (
	"os"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// held counts the connections that both daemons hold as a session, usable or not yet.
func held(a, b *Node) int {
	n := 0
	for _, e := range a.ends {
		if e.peer.n == b && e.peer.run == b.run && e.peer.id != 0 && !e.peer.closed && !e.gone {
			n++
		}
	}
	return n
}

// usable counts the sessions that both ends of a pair hold as full.
func usable(a, b *Node) int {
	n := 0
	for _, e := range a.ends {
		if e.peer.n == b && e.state == session.Full && e.peer.state == session.Full && e.peer.run == b.run && !e.peer.closed && !e.gone {
			n++
		}
	}
	return n
}

// T-04: lost beacons, one by one up to four in ten and in bursts, close no session; at one in twenty 50 hosts prune nobody by mistake.
func TestT04BeaconLoss(t *testing.T) {
	t.Parallel()
	last, more, nodes := 4*time.Minute, 4*time.Minute, testrun.Cases(50, 25)
	if hours() {
		last, more, nodes = 24*time.Hour, 30*time.Minute, 50
	}
	for _, c := range []struct {
		loss  float64
		burst time.Duration
		last  time.Duration
	}{{0.05, 0, last}, {0.4, 0, more}, {0.05, 18 * time.Second, more}, {0, 90 * time.Second, more}} {
		w := world(t, Config{Seed: 4, Nodes: nodes, Loss: c.loss, Quiet: true})
		w.Start(time.Second)
		w.RunFor(30 * time.Second)
		clear(w.closes)
		for w.Now() < c.last {
			if c.burst > 0 {
				w.Silence(0, c.burst)
			}
			w.RunFor(2 * time.Minute)
		}
		for code, n := range w.closes {
			if code != session.CodeLimit && code != session.CodeDuplicate { // the overlay keeps no more than it needs
				t.Fatalf("loss %v, bursts of %v: %d sessions ended with code %d", c.loss, c.burst, n, code)
			}
		}
		if w.falsePrunes > 0 && c.loss <= 0.05 {
			t.Fatalf("loss %v, bursts of %v: %d nodes were pruned in %v although they were there", c.loss, c.burst, w.falsePrunes, w.Now())
		}
		w.want(t)
	}
}

// T-12: two nodes that dial each other at the same moment, near and far, with restarts and short cuts in between, have exactly one session
// within 3 s, and never none after the first.
func TestT12SimultaneousDials(t *testing.T) {
	t.Parallel()
	cases := 500
	if hours() {
		cases = 100_000
	}
	l, err := found(Config{Nodes: 2})
	if err != nil {
		t.Fatal(err)
	}
	for i := range cases {
		cfg := Config{Seed: uint64(i), Nodes: 2, Segment: 1 + i%2, Late: float64(i%5) * 0.05, Quiet: true}
		w := newWorld(cfg, l)
		a, b := w.nodes[0], w.nodes[1]
		w.Start(time.Duration(i%7) * 10 * time.Millisecond)
		wait := 3 * time.Second
		switch i % 4 {
		case 0:
			w.RunFor(w.between(0, 1500*time.Millisecond))
			x := w.nodes[i/4%2]
			x.Kill()
			w.RunFor(w.between(0, 300*time.Millisecond))
			x.Start()
		case 1:
			w.RunFor(w.between(0, 1500*time.Millisecond))
			x := w.nodes[i/4%2]
			x.CutPower()
			x.Power()
			wait = 5 * time.Second // the peer has to ask the session it holds: 2 s
		}
		if cfg.Segment == 1 {
			wait += 2 * time.Second // nobody hears the other's beacons: seeds are dialled, with a back-off
		}
		took := w.RunUntil(wait, func() bool { return usable(a, b) == 1 })
		if took < 0 {
			t.Fatalf("case %d: %d sessions after %v", i, usable(a, b), wait)
		}
		// From here on there is one at any moment. One that has just won may wait for a READY that was lost on its way.
		for k := range 20 {
			w.RunFor(100 * time.Millisecond)
			since := time.Duration(k+1) * 100 * time.Millisecond
			if n := usable(a, b); held(a, b) == 0 || n != 1 && since > time.Second {
				t.Fatalf("case %d: %d sessions, %d usable, %v after the first", i, held(a, b), n, since)
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
	testrun.Scenario(t)
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

// T-22: expired stays expired: neither sleep nor a clock set back revives a certificate, and a wrong clock costs nobody else anything.
func TestT22ExpiredStaysExpired(t *testing.T) {
	testrun.Scenario(t)
	w := world(t, Config{Seed: 22, Nodes: 5, Life: 10 * time.Minute})
	w.Start(time.Second)
	w.RunTo(9 * time.Minute)
	wantDegrees(t, w, 4)
	w.nodes[3].Sleep(3 * time.Minute)
	w.RunTo(10*time.Minute + 6*time.Second)
	for _, d := range []time.Duration{0, -time.Hour, -year} {
		w.nodes[1].SetClock(d)
		w.nodes[2].SetClock(d)
		for range 300 {
			w.RunFor(time.Second)
			for _, n := range w.nodes {
				if n.Degree() > 0 && n.awake() && w.Now()-n.calm > 6*time.Second {
					t.Fatalf("%v: clocks set by %v: node %d has a session, and every certificate has ended", w.Now(), d, n.i)
				}
			}
		}
	}
	w.want(t)
}

// T-24: what was cut off from the rest, half of a mesh, one node, or one direction, is found again within 10 s on a LAN and 60 s across
// sites; everybody has one view 5 s later, and what was revoked meanwhile has crossed.
func TestT24Partition(t *testing.T) {
	testrun.Scenario(t)
	halves := func(from, to *Node) bool { return from.i < 20 != (to.i < 20) }
	single := func(from, to *Node) bool { return (from.i == 7) != (to.i == 7) }
	oneWay := func(from, to *Node) bool { return from.i < 20 && to.i >= 20 }
	for _, c := range []struct {
		what    string
		segment int
		cut     time.Duration
		heal    time.Duration
		blocks  func(from, to *Node) bool
	}{
		{"halves", 0, 10 * time.Second, 10 * time.Second, halves},
		{"halves", 0, 3 * time.Minute, 10 * time.Second, halves},
		{"halves of two sites", 20, 30 * time.Second, 60 * time.Second, halves},
		{"halves of two sites", 20, 5 * time.Minute, 60 * time.Second, halves},
		{"one node", 0, 2 * time.Minute, 10 * time.Second, single},
		{"one direction", 0, 2 * time.Minute, 10 * time.Second, oneWay},
		{"one direction between sites", 20, 2 * time.Minute, 60 * time.Second, oneWay},
	} {
		w := world(t, Config{Seed: 24, Nodes: 40, Segment: c.segment})
		w.Start(time.Second)
		w.RunFor(30 * time.Second)
		w.Partition(c.cut, c.what, c.blocks)
		w.RunFor(c.cut / 2)
		w.Revoke(w.nodes[3], w.nodes[39])
		w.RunFor(c.cut - c.cut/2)
		took := w.RunUntil(c.heal, func() bool { return w.Connected() == 39 })
		if took < 0 {
			t.Fatalf("%s, cut for %v: %d of 39 nodes are connected %v after it", c.what, c.cut, w.Connected(), c.heal)
		}
		same := w.RunUntil(5*time.Second, func() bool {
			for _, n := range w.alive() {
				if _, gone := n.State().Revoked(w.nodes[39].id); !gone {
					return false
				}
			}
			return true
		})
		t.Logf("%s, cut for %v: connected %v after it, one view %v later", c.what, c.cut, took, same)
		if same < 0 {
			t.Fatalf("%s, cut for %v: not everybody has heard of the revocation", c.what, c.cut)
		}
		w.want(t)
	}
}

// T-24, for very long: a node that was away for 30 days comes back, and so does what was revoked meanwhile.
func TestT24ThirtyDays(t *testing.T) {
	testrun.Scenario(t)
	days := 1
	if hours() {
		days = 30
	}
	w := world(t, Config{Seed: 24, Nodes: 4, Life: 60 * day * time.Second, Quiet: true})
	w.Start(time.Second)
	w.RunFor(30 * time.Second)
	heal := w.Cut("node 3 is alone", func(from, to *Node) bool { return (from.i == 3) != (to.i == 3) })
	w.RunFor(time.Duration(days) * day * time.Second / 2)
	w.Revoke(w.nodes[0], w.nodes[2])
	w.RunFor(time.Duration(days) * day * time.Second / 2)
	heal()
	w.RunFor(10 * time.Second)
	if _, gone := w.nodes[3].State().Revoked(w.nodes[2].id); !gone || usable(w.nodes[3], w.nodes[0]) != 1 || usable(w.nodes[3], w.nodes[1]) != 1 {
		t.Fatal("it has not found back")
	}
	w.want(t)
}

// T-25: half of the nodes lose power at once, which nobody is told; a revocation reaches 99 % of the others all the same, they are connected,
// and have their degree again within 30 s. Then a churn of 5 % a minute keeps 99 % of those that run connected.
func TestT25Churn(t *testing.T) {
	testrun.Scenario(t)
	nodes, segment, from, to := 120, 40, uint64(25), uint64(30)
	if hours() {
		nodes, segment, to = 2000, 250, 26
	}
	if os.Getenv("MESHKEY_SIM_SEEDS") != "" {
		from, to = seedRange(t)
	}
	for seed := from; seed < to; seed++ {
		w := world(t, Config{Seed: seed, Nodes: nodes, Segment: segment, Quiet: true})
		w.Start(2 * time.Second)
		w.RunFor(60 * time.Second)
		for i := 1; i < nodes; i += 2 {
			w.nodes[i].CutPower()
		}
		s := w.RevokeAndWatch(w.nodes[0], w.nodes[nodes-2], 30*time.Second)
		t.Logf("with half of the nodes gone: 90 %% %v, 99 %% %v, missing %d", s.At(0.9), s.At(0.99), s.Missing)
		if s.At(0.99) < 0 {
			t.Fatalf("%d of %d do not hear of a revocation", s.Missing, nodes/2)
		}
		w.RunTo(90 * time.Second)
		wantDegrees(t, w, 6)
		w.want(t)
		if seed > from {
			continue
		}
		for range 5 {
			for range max(1, nodes*5/100) {
				if x := w.nodes[1+w.rng.IntN(nodes-1)]; x.up {
					x.CutPower()
				} else {
					x.Power()
				}
			}
			w.RunFor(time.Minute)
			if got, up := w.Connected(), len(w.alive()); got < up*99/100 {
				t.Fatalf("%d of %d are connected under churn", got, up)
			}
		}
		w.want(t)
	}
}

// T-26: an issuer that contradicts itself, by theft or because its machine was restored from a backup, is evidence on every node within
// 2 s, whoever saw which branch first. What both branches remove is removed, and what others sign goes on.
func TestT26ForkedIssuer(t *testing.T) {
	t.Parallel()
	for seed := range uint64(testrun.Cases(5, 2)) {
		w := world(t, Config{Seed: seed, Nodes: 60, Segment: 20, Issuers: 2})
		w.Start(time.Second)
		w.RunFor(30 * time.Second)
		gone, also := w.nodes[50], w.nodes[51]
		if seed%2 == 0 {
			w.Fork(1, w.nodes[2], w.nodes[47], gone, also)
		} else {
			backup := w.law.books[1].Clone()
			w.Publish(w.nodes[2], 1, trust.OpRevokeNode{Node: gone.id, Reason: 1})
			w.RunFor(10 * time.Second)
			w.law.books[1] = backup
			w.nodes[2].LoseDisk()
			w.nodes[2].Start()
			w.Publish(w.nodes[2], 1, trust.OpRevokeNode{Node: also.id, Reason: 1})
		}
		issuer := w.law.issuers[1].Public()
		proved := func() bool {
			for _, n := range w.nodes {
				st := n.State()
				_, proof := st.EvidenceOf(issuer)
				_, one := st.Revoked(gone.id)
				_, two := st.Revoked(also.id)
				if n != gone && n != also && (!proof || !one || !two) {
					return false
				}
			}
			return true
		}
		took := w.RunUntil(2*time.Second, proved)
		t.Logf("seed %d: evidence everywhere after %v", seed, took)
		if took < 0 {
			t.Fatalf("seed %d: not everybody holds the evidence after 2 s", seed)
		}
		s := w.RevokeAndWatch(w.nodes[0], w.nodes[59], 2*time.Second)
		if s.Missing > 0 {
			t.Fatalf("%d nodes did not hear the honest issuer", s.Missing)
		}
		w.want(t)
	}
}

// T-52: a node that slept while another was revoked applies it before it authorises any stream of that one.
func TestT52SleepingNode(t *testing.T) {
	testrun.Scenario(t)
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
