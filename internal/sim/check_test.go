package sim

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

func (w *World) brokenNames(what string) bool {
	return slices.ContainsFunc(w.broken, func(s string) bool { return strings.Contains(s, what) })
}

// Every invariant is broken by a daemon that does not do what its core says.
func TestInvariantsBite(t *testing.T) {
	t.Parallel()
	revoke := Fault{At: 20 * time.Second, Kind: FaultRevoke, A: 0, B: 3}
	for _, c := range []struct {
		want     string
		nodes    int
		faults   []Fault
		sabotage func(n *Node, e core.Effect) bool
	}{
		{"I1: node 2 holds a session", 6, []Fault{revoke}, func(n *Node, e core.Effect) bool {
			_, cut := e.(core.CutNode)
			return cut && n.i == 2
		}},
		{"I3: nodes 1 and 2 have had no session", 3, nil, func(n *Node, e core.Effect) bool {
			d, dial := e.(core.Dial)
			return dial && (n.i == 1 && d.Peer == n.w.nodes[2].id || n.i == 2 && d.Peer == n.w.nodes[1].id)
		}},
		{"I3: node 7 has had no session", 20, nil, func(n *Node, e core.Effect) bool {
			_, ready := e.(core.Send)
			return ready && n.i == 7
		}},
		{"I3: node 1 has two usable sessions", 2, []Fault{{At: 20 * time.Second, Kind: FaultMove, A: 1}}, func(n *Node, e core.Effect) bool {
			_, closed := e.(core.CloseSession)
			_, state := e.(core.SessionState)
			return closed || state && n.w.now > 20*time.Second && e.(core.SessionState).State != session.Full
		}},
		{"I6: node 4 holds another view", 6, []Fault{revoke}, func(n *Node, e core.Effect) bool {
			r, frame := e.(core.SendRaw)
			to := n.ends[r.ID]
			return frame && to != nil && to.peer.n.i == 4 && isEntry(r.Raw)
		}},
		{"I6: 10 of 20 nodes are connected", 20, nil, func(n *Node, e core.Effect) bool {
			d, dial := e.(core.Dial)
			return dial && n.i < 10 != (n.w.index(d.Peer) < 10)
		}},
		{"I6: node 7 has ", 20, nil, func(n *Node, e core.Effect) bool {
			d, dial := e.(core.Dial)
			return dial && (n.i == 7 && n.w.index(d.Peer) > 3 || n.i > 3 && n.w.index(d.Peer) == 7)
		}},
	} {
		s := Scenario{Config: Config{Seed: 1, Nodes: c.nodes}, For: 40 * time.Second, Heal: 40 * time.Second, Faults: c.faults, sabotage: c.sabotage}
		w, err := s.Run()
		if err != nil {
			t.Fatal(err)
		}
		if !w.brokenNames(c.want) {
			t.Errorf("%q was not noticed; broken: %q", c.want, w.broken)
		}
		s.sabotage = nil
		if w, err = s.Run(); err != nil || len(w.broken) > 0 {
			t.Errorf("without sabotage: %q", w.broken)
		}
	}
}

// A stream without its record, a record that says no, and a log that was edited are I4.
func TestAuditInvariantBites(t *testing.T) {
	for what, spoil := range map[string]func(s *stream){
		"no record":          func(s *stream) { s.line = 99 },
		"another's record":   func(s *stream) { s.to.audit[s.line].stream = &stream{} },
		"a denial":           func(s *stream) { s.to.audit[s.line].allowed = false },
		"a record too late":  func(s *stream) { s.to.audit[s.line].at = s.to.w.now },
		"an edited log":      func(s *stream) { s.to.audit[0].at-- },
		"nothing at all":     nil,
		"a line cut out":     func(s *stream) { s.to.audit = slices.Delete(s.to.audit, 0, 1); s.line-- },
		"two lines reversed": func(s *stream) { a := s.to.audit; a[0], a[1] = a[1], a[0] },
	} {
		w := world(t, Config{Seed: 1, Nodes: 3})
		w.Start(0)
		w.RunFor(5 * time.Second)
		for range 3 {
			w.nodes[1].Open(w.nodes[2])
			w.RunFor(time.Second)
		}
		if len(w.nodes[2].streams) != 3 || len(w.nodes[1].streams) != 3 || len(w.broken) > 0 {
			t.Fatalf("%d streams at the destination, %d at the opener, broken %q", len(w.nodes[2].streams), len(w.nodes[1].streams), w.broken)
		}
		if spoil != nil {
			spoil(w.nodes[2].streams[2])
		}
		w.nodes[2].checkAccepted(w.nodes[2].streams[2])
		w.nodes[2].checkAudit()
		if w.brokenNames("I4") != (spoil != nil) {
			t.Errorf("%s: broken %q", what, w.broken)
		}
	}
}

// A scenario that breaks something is reduced to the faults it takes, and the report says seed, faults, what broke, and how it came.
func TestShrink(t *testing.T) {
	t.Parallel()
	s := Random(11)
	s.Nodes, s.Newcomers = 12, 0
	s.Faults = append(s.Faults, Fault{At: 30 * time.Second, Kind: FaultRevoke, B: 5}, Fault{At: 31 * time.Second, Kind: FaultStall, A: 2, For: time.Second})
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	s.Faults = slices.DeleteFunc(s.Faults, func(f Fault) bool {
		return f.Kind == FaultFork || f.Kind == FaultRevoke && f.At != 30*time.Second
	})
	// This daemon forgets to cut anybody off.
	s.sabotage = func(_ *Node, e core.Effect) bool { _, cut := e.(core.CutNode); return cut }
	small := s.Shrink()
	if len(s.Faults) < 4 || len(small.Faults) != 1 || small.Faults[0].Kind != FaultRevoke {
		t.Fatalf("%d faults were reduced to %v", len(s.Faults), small.Faults)
	}
	w, err := small.Run()
	if err != nil {
		t.Fatal(err)
	}
	r := small.Report(w)
	for _, want := range []string{"seed 11, 12 nodes", "fault  30s: node", "broken", "I1: node", "revokes 5"} {
		if !strings.Contains(r, want) {
			t.Errorf("the report does not say %q:\n%s", want, r)
		}
	}
}

// A trust state that changes without a frame of the log or an own entry is I2; connections and dials without end are I5.
func TestCauseAndBoundsBite(t *testing.T) {
	w := world(t, Config{Seed: 1, Nodes: 3})
	w.Start(0)
	w.RunFor(5 * time.Second)
	n := w.nodes[1]
	before := n.State()
	w.Revoke(w.nodes[0], w.nodes[2])
	w.RunFor(time.Second)
	if w.want(t); n.State() == before {
		t.Fatal("nothing changed")
	}
	n.checkCause(before, core.Timer{}, core.FrameIn{})
	n.checkCause(before, core.FrameIn{}, core.FrameIn{Body: session.Ready{State: session.Full}})
	if len(w.broken) != 2 || !w.brokenNames("I2: core.Timer") {
		t.Errorf("broken: %q", w.broken)
	}
	for range maxEnds + 1 {
		n.open(&end{n: n, run: n.run, peer: &end{n: w.nodes[0]}})
	}
	for i := range maxDialsAtOnce + 1 {
		n.dial(core.Dial{ID: core.DialID(1000 + i), Peer: w.nodes[0].id, At: w.nodes[0].tcp()})
	}
	if !w.brokenNames("I5: node 1 has 513 connections") || !w.brokenNames("I5: node 1 has 33 dials") {
		t.Errorf("broken: %q", w.broken)
	}
}
