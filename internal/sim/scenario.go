package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Scenario is a mesh and what happens to it.
type Scenario struct {
	Config
	For    time.Duration // how long faults may begin; after it the mesh has Heal to recover
	Heal   time.Duration
	Faults []Fault
}

// Random makes a scenario from a seed: 2 to 50 nodes, faults for most of 120 virtual seconds, then quiet.
func Random(seed uint64) Scenario {
	r := rand.New(rand.NewPCG(seed, 0x5eed))
	s := Scenario{For: 60 * time.Second, Heal: 60 * time.Second}
	s.Seed, s.Nodes = seed, 2+r.IntN(49)
	if r.IntN(3) == 0 {
		s.Segment = max(2, s.Nodes/2)
	}
	s.Loss, s.Late = float64(r.IntN(3))*0.05, float64(r.IntN(3))*0.005
	for range 2 + r.IntN(20) {
		f := Fault{
			At: 3*time.Second + time.Duration(r.Int64N(int64(50*time.Second))), Kind: r.IntN(faultKinds), A: r.IntN(s.Nodes), B: r.IntN(s.Nodes),
			For: time.Duration(r.Int64N(int64(20 * time.Second))),
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
	w.Start(time.Second)
	w.Watch()
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
	for size := len(s.Faults) / 2; size > 0; {
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

// Report is what a person needs of a run that broke something: the seed, the faults, what broke, and the end of the flow.
func (s Scenario) Report(w *World) string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d nodes, %d segments\n", s.Seed, s.Nodes, len(w.segments))
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "  fault  %s\n", f)
	}
	for _, l := range w.broken {
		fmt.Fprintf(&b, "  broken %s\n", l)
	}
	const most = 60
	for _, l := range w.flow[max(0, len(w.flow)-most):] {
		who := "mesh"
		if l.node >= 0 {
			who = fmt.Sprintf("node %d", l.node)
		}
		fmt.Fprintf(&b, "  %12v  %-8s %s\n", l.at.Round(time.Microsecond), who, l.text)
	}
	return b.String()
}
