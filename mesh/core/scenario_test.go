package core

import (
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/session"
)

const second = time.Second

// content is the object in a frame [kind, object].
func content(body []byte) []byte {
	var w struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		Raw  []byte
	}
	if err := wire.Unmarshal(body, &w); err != nil {
		panic(err)
	}
	return w.Raw
}

// mesh starts n nodes at once.
func mesh(t testing.TB, n int, seed uint64) *sim {
	t.Helper()
	s := newSim(t, newFixture(t, n), seed)
	for _, n := range s.nodes {
		n.start()
	}
	return s
}

// settledMesh is a mesh in which everybody has had a session with everybody for a while.
func settledMesh(t testing.TB, n int, seed uint64) *sim {
	t.Helper()
	s := mesh(t, n, seed)
	s.runFor(30 * second)
	s.wantAllSessions()
	return s
}

// shared are the connections between two nodes that are a session at both ends, on which both have READY.
func (s *sim) shared(a, b *simNode) []*sess {
	return slices.DeleteFunc(s.held(a, b), func(x *sess) bool {
		return !x.ready() || !b.core.byID[a.ends[x.id].peer.id].ready()
	})
}

// held are the connections that both nodes hold as a session.
func (s *sim) held(a, b *simNode) (list []*sess) {
	if !a.up || !b.up {
		return nil
	}
	for _, x := range a.core.live {
		e := a.ends[x.id]
		if x.peer.id != b.id || e == nil || e.closed {
			continue
		}
		if y := b.core.byID[e.peer.id]; y != nil && e.peer.n == b && !e.peer.closed {
			list = append(list, x)
		}
	}
	return list
}

func (s *sim) wantAllSessions() {
	s.t.Helper()
	for _, a := range s.nodes {
		for _, b := range s.nodes {
			if a.i >= b.i || !a.up || !b.up {
				continue
			}
			list := s.shared(a, b)
			if len(list) != 1 || !list[0].full() {
				s.t.Fatalf("%v: nodes %d and %d share %d sessions", s.now, a.i, b.i, len(list))
			}
			if len(a.ends) != len(a.core.live) {
				s.t.Fatalf("%v: node %d has %d connections and %d sessions", s.now, a.i, len(a.ends), len(a.core.live))
			}
		}
	}
}

// effects returns a node's effects of a type since a time.
func effects[E Effect](n *simNode, since time.Duration) (out []E, at []time.Duration) {
	for _, l := range n.log {
		if e, ok := l.e.(E); ok && l.at >= since {
			out = append(out, e)
			at = append(at, l.at)
		}
	}
	return out, at
}

// peer is what n knows of m; of a member something is always known.
func (n *simNode) peer(m *simNode) *peer {
	if _, enrolled := n.core.st.Member(m.id); enrolled {
		return n.core.peerFor(m.id)
	}
	return n.core.peers[m.id]
}

// presences returns what a node said of another since a time.
func (n *simNode) presences(m *simNode, since time.Duration) (out []PeerChanged, at []time.Duration) {
	all, when := effects[PeerChanged](n, since)
	for i, e := range all {
		if e.Peer == m.id {
			out = append(out, e)
			at = append(at, when[i])
		}
	}
	return out, at
}

func (n *simNode) wantNoPrune(since time.Duration) {
	n.s.t.Helper()
	changes, at := effects[PeerChanged](n, since)
	for i, e := range changes {
		if e.Presence == Pruned {
			n.s.t.Fatalf("%v: node %d pruned %s (%s)", at[i], n.i, e.Peer.Short(), e.Why)
		}
	}
}

func (n *simNode) wantNoClose(since time.Duration) {
	n.s.t.Helper()
	if closed, at := effects[CloseSession](n, since); len(closed) > 0 {
		n.s.t.Fatalf("%v: node %d closed a session: %+v", at[0], n.i, closed[0])
	}
}

func (n *simNode) wantAlarm(code string, since time.Duration) time.Duration {
	n.s.t.Helper()
	alarms, at := effects[Alarm](n, since)
	for i, a := range alarms {
		if a.Code == code {
			return at[i]
		}
	}
	n.s.t.Fatalf("node %d raised no alarm %s", n.i, code)
	return 0
}

func wantBetween(t testing.TB, what string, got, lo, hi time.Duration) {
	t.Helper()
	if got < lo || got > hi {
		t.Fatalf("%s: %v, want %v to %v", what, got, lo, hi)
	}
}

// All wanted sessions are there 2 s after a start of everybody at once, full, and stay.
func TestAllSessionsWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 5, 9} {
		for seed := range uint64(20) {
			s := mesh(t, n, seed)
			s.runFor(2 * second)
			s.wantAllSessions()
			s.runFor(60 * second)
			s.wantAllSessions()
			for _, n := range s.nodes {
				n.wantNoPrune(0)
				if closed, _ := effects[CloseSession](n, 3*second); len(closed) > 0 {
					t.Fatalf("node %d closed %+v", n.i, closed[0])
				}
			}
		}
	}
}

// A host that comes to a running mesh is heard of by everybody, and hears of everybody, within 1.5 s; with half of the beacons lost too
// in nearly all cases, and has its sessions within 2 s.
func TestNewHostIsDiscovered(t *testing.T) {
	t.Parallel()
	for newcomer := range 4 {
		for seed := range uint64(20) {
			s := newSim(t, newFixture(t, 4), seed)
			for _, n := range s.nodes {
				if n.i != newcomer {
					n.start()
				}
			}
			s.runFor(20*second + s.between(0, 5*second))
			x, at := s.nodes[newcomer], s.now
			x.start()
			s.runFor(1500 * time.Millisecond)
			for _, n := range s.nodes {
				if n != x && (n.peer(x).presence < Stale || x.peer(n).presence < Stale) {
					t.Fatalf("seed %d: nodes %d and %d do not know each other %v after the start", seed, newcomer, n.i, s.now-at)
				}
			}
			s.runTo(at + 2*second)
			s.wantAllSessions()
		}
	}
}

// After the burst at 0, 1 and 2 s (+ 250 ms) every gap between beacons is 4.0 to 5.0 s.
func TestBeaconGaps(t *testing.T) {
	for seed := range uint64(20) {
		s := mesh(t, 2, seed)
		s.runFor(120 * second)
		for _, n := range s.nodes {
			var at []time.Duration
			all, when := effects[SendBeacon](n, 0)
			for i, e := range all {
				if !e.To.IsValid() {
					at = append(at, when[i])
				}
			}
			for i := range 3 {
				wantBetween(t, "burst", at[i], time.Duration(i)*second, time.Duration(i)*second+250*time.Millisecond)
			}
			for i := 3; i < len(at); i++ {
				wantBetween(t, "gap", at[i]-at[i-1], 4*second, 5*second)
			}
			if len(at) < 25 {
				t.Fatalf("only %d beacons in two minutes", len(at))
			}
		}
	}
}

// A session idle for three minutes is the same session: no reconnect.
func TestIdleSessionStays(t *testing.T) {
	s := settledMesh(t, 2, 1)
	before := s.shared(s.nodes[0], s.nodes[1])[0]
	since := s.now
	s.runFor(180 * second)
	if after := s.shared(s.nodes[0], s.nodes[1]); len(after) != 1 || after[0] != before {
		t.Fatal("the session was replaced")
	}
	for _, n := range s.nodes {
		n.wantNoClose(since)
		if d, _ := effects[Dial](n, since); len(d) > 0 {
			t.Fatal("a peer with a session was dialled")
		}
	}
}

// Every node says READY{full} to everybody, and only then does the shell hear of full: nothing opens before both said so.
func TestFullOnlyWhenBothSaidSo(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 1)
	s.onStep = func(n *simNode) {
		for _, x := range n.core.live {
			if x.published.State == session.Full && (x.states.Local() != session.Full || x.states.Peer() != session.Full) {
				t.Fatalf("full is published while we said %s and the peer %s", x.states.Local(), x.states.Peer())
			}
		}
	}
	s.nodes[0].start()
	s.nodes[1].start()
	s.runFor(5 * second)
	s.wantAllSessions()
}
