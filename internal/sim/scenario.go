package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/trust"
)

// Fault is one fault of a scenario.
type Fault struct {
	At   time.Duration
	Kind FaultKind
	A, B int
	For  time.Duration
}

// FaultKind is a kind of fault.
type FaultKind int

// The kinds of faults.
const (
	FaultStall FaultKind = iota
	FaultSleep
	FaultKill
	FaultPower
	FaultDisk
	FaultClock
	FaultMove
	FaultPartition
	FaultOneWay
	FaultSilence
	FaultRevoke
	FaultFork
	FaultRoot
	FaultEnrol
	FaultStream
	faultKinds
)

// String is the fault as a sentence.
func (f Fault) String() string {
	what := [...]string{
		"node %d stalls", "node %d sleeps", "node %d is killed", "node %d loses power", "node %d loses its disk", "node %d has a wrong clock",
		"node %d changes its address", "nodes below and above %d are cut off from each other", "node %d cannot send",
		"no beacon is heard in the segment of node %d", "node %d is not revoked, the other is", "the second issuer contradicts itself at node %d",
		"a root decides the fork (%d)", "a newcomer is enrolled (%d)", "node %d opens a stream",
	}[f.Kind]
	return fmt.Sprintf("%v: "+what+" (%d), for %v", f.At.Round(time.Millisecond), f.A, f.B, f.For.Round(time.Millisecond))
}

const (
	year = 365 * 24 * time.Hour
	// longestStall keeps a stall below what looks like death.
	longestStall = 3 * time.Second
)

// clockErrors are the errors a wrong clock has: a little, a lot, and enough to make every certificate look ended or not begun.
var clockErrors = [...]time.Duration{100 * time.Second, -100 * time.Second, 10 * time.Minute, -10 * time.Minute, year, -year}

func (w *World) inject(f Fault) {
	a, b := w.nodes[f.A%len(w.nodes)], w.nodes[f.B%len(w.nodes)]
	switch f.Kind {
	case FaultStall:
		a.Stall(min(f.For, longestStall))
	case FaultSleep:
		a.Sleep(f.For)
	case FaultKill:
		a.Kill()
		w.in(f.For, a.Start)
	case FaultPower:
		a.CutPower()
		w.in(f.For, a.Power)
	case FaultDisk:
		if a.i != 0 && a.awake() {
			a.LoseDisk()
			w.in(f.For, a.Start)
		}
	case FaultClock:
		if a.i != 0 { // where entries are written
			a.SetClock(clockErrors[f.B%len(clockErrors)])
			w.in(f.For, func() { a.SetClock(0) })
		}
	case FaultMove:
		a.Move()
	case FaultPartition:
		edge := max(1, f.A%len(w.nodes))
		w.Partition(f.For, fmt.Sprintf("below and above %d", edge), func(from, to *Node) bool { return from.i < edge != (to.i < edge) })
	case FaultOneWay:
		w.Partition(f.For, fmt.Sprintf("%d cannot send", a.i), func(from, to *Node) bool { return from == a && to != a })
	case FaultSilence:
		w.Silence(a.segment, f.For)
	case FaultRevoke:
		if at := w.nodes[0]; b.i != 0 && at.awake() && len(w.nodes) > 3 && w.member(b) {
			w.Revoke(at, b)
		}
	case FaultFork:
		w.injectFork(a, b)
	case FaultRoot:
		if at := w.nodes[0]; len(w.forked) == 2 && at.awake() {
			w.CutOff(at, 1, w.forked[f.B%2])
			w.forked = nil
		}
	case FaultEnrol:
		if n := len(w.nodes) - w.newcomers; w.newcomers > 0 && w.nodes[0].awake() {
			w.newcomers--
			w.Enrol(w.nodes[0], w.nodes[n])
		}
	case FaultStream:
		a.Open(b)
	}
}

// injectFork forks the second issuer once, where the mesh has one and enough nodes to lose two.
func (w *World) injectFork(a, b *Node) {
	if !w.member(a) || !w.member(b) {
		return
	}
	if len(w.law.books) < 2 || len(w.nodes) < 8 || w.forkedOnce || a == b || a.i == 0 || b.i == 0 || !a.awake() || !b.awake() {
		return
	}
	var gone []*Node
	for _, n := range w.nodes[1:] {
		if n != a && n != b && w.member(n) && len(gone) < 2 {
			gone = append(gone, n)
		}
	}
	if len(gone) == 2 {
		w.forkedOnce = true
		x, y := w.Fork(1, a, b, gone[0], gone[1])
		w.forked = []trust.Change{x, y}
	}
}

// Scenario is a mesh and what happens to it.
type Scenario struct {
	Config
	For    time.Duration // how long faults may last; after it the mesh has Heal to recover
	Heal   time.Duration
	Faults []Fault

	sabotage func(n *Node, e core.Effect) bool
}

// Random makes a scenario from a seed: 2 to 50 nodes, faults for most of 60 virtual seconds, then quiet for 60 more.
func Random(seed uint64) Scenario {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	s := Scenario{For: 60 * time.Second, Heal: 60 * time.Second}
	s.Seed, s.Nodes, s.Issuers = seed, 2+r.IntN(49), 1+r.IntN(2)
	if r.IntN(3) == 0 {
		s.Nodes = 2 + r.IntN(8) // where everybody has a session with everybody
	}
	if r.IntN(3) == 0 {
		s.Segment = max(2, s.Nodes/2)
	}
	if r.IntN(2) == 0 && s.Nodes > 6 {
		s.Newcomers = 1 + r.IntN(3)
	}
	s.NoFlood = r.IntN(8) == 0
	s.Loss, s.Late = float64(r.IntN(3))*0.05, float64(r.IntN(3))*0.005
	for range 2 + r.IntN(20) {
		f := Fault{
			At: 3*time.Second + time.Duration(r.Int64N(int64(50*time.Second))), Kind: FaultKind(r.IntN(int(faultKinds))), A: r.IntN(s.Nodes),
			B: r.IntN(s.Nodes), For: time.Duration(r.Int64N(int64(20 * time.Second))),
		}
		// What began has ended when the faults end.
		f.For = min(f.For, s.For-f.At)
		s.Faults = append(s.Faults, f)
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	return s
}

// Run runs the scenario and returns the world as it ended.
func (s Scenario) Run() (*World, error) {
	w, err := New(s.Config)
	if err != nil {
		return nil, err
	}
	w.sabotage = s.sabotage
	w.Start(time.Second)
	for _, f := range s.Faults {
		w.RunTo(f.At)
		w.note(nil, "%s", f)
		w.inject(f)
	}
	w.RunTo(s.For + s.Heal)
	w.Settled()
	return w, nil
}

// Shrink returns a scenario with as few of the faults as still break something.
func (s Scenario) Shrink() Scenario {
	for size := max(1, len(s.Faults)/2); size > 0; {
		smaller := false
		for at := 0; at+size <= len(s.Faults); {
			try := s
			try.Faults = slices.Delete(slices.Clone(s.Faults), at, at+size)
			if w, err := try.Run(); err == nil && len(w.broken) > 0 {
				s, smaller = try, true
			} else {
				at += size
			}
		}
		if !smaller {
			size /= 2
		}
	}
	return s
}

// reportLines is how much of the flow a report shows.
const reportLines = 80

// Report is what a person needs of a run that broke something: the seed, the faults, what broke, and the flow up to there.
func (s Scenario) Report(w *World) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d nodes (%d newcomers), %d segments, %d issuers, loss %g, late %g\n", s.Seed, s.Nodes, s.Newcomers, len(w.segments), len(w.law.books), s.Loss, s.Late)
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "  fault  %s\n", f)
	}
	for _, l := range w.broken {
		fmt.Fprintf(&b, "  broken %s\n", l)
	}
	last := slices.IndexFunc(w.flow, func(l line) bool { return strings.HasPrefix(l.text, "BROKEN") }) + 1
	if last == 0 {
		last = len(w.flow)
	}
	for _, l := range w.flow[max(0, last-reportLines):last] {
		who := "mesh"
		if l.node >= 0 {
			who = fmt.Sprintf("node %d", l.node)
		}
		fmt.Fprintf(&b, "  %12v  %-8s %s\n", l.at.Round(time.Microsecond), who, l.text)
	}
	return b.String()
}
