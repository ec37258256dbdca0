package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/sim"
)

// simDocument is the simulated revocation for machines.
type simDocument struct {
	control.Envelope
	Nodes     int       `json:"nodes"`
	Connected int       `json:"connected"`
	Seed      uint64    `json:"seed"`
	Applied   []float64 `json:"applied_ms"` // when each connected node had applied it, ascending
	Missing   int       `json:"missing"`
	TookMS    int64     `json:"took_ms"` // of real time
}

func (*simDocument) SchemaName() string { return "meshkey.demo-sim/1" }

type simOptions struct {
	nodes  int
	revoke bool
	seed   uint64
}

const (
	maxSimNodes = 10_000
	simSettle   = 45 * time.Second
	simWithin   = 10 * time.Second
	curveRows   = 12
	curveWidth  = 60
)

func runSimDemo(ctx context.Context, c *cli, o simOptions) error {
	switch {
	case !o.revoke:
		return control.Errorf(control.Usage, fmt.Sprintf("meshkey demo --nodes %d --revoke", o.nodes), "say what to show with --nodes")
	case o.nodes < 3 || o.nodes > maxSimNodes:
		return control.Errorf(control.Usage, "meshkey demo --nodes 1000 --revoke", "a simulation has 3 to %d nodes", maxSimNodes)
	}
	began := time.Now()
	c.say("Simulating %d nodes in %d sites, on the same code as the daemon, in virtual time (seed %d).", o.nodes, (o.nodes+249)/250, o.seed)
	w, err := sim.New(sim.Config{Seed: o.seed, Nodes: o.nodes, Late: 0.001, Quiet: true})
	if err != nil {
		return err
	}
	w.Start(time.Second)
	for w.Now() < simSettle {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.RunFor(time.Second)
	}
	all := w.Nodes()
	doc := &simDocument{Nodes: o.nodes, Seed: o.seed, Connected: w.Connected()}
	c.say("%d of %d nodes are connected after %v; now one is revoked at another.", doc.Connected, o.nodes, simSettle)
	s := w.RevokeAndWatch(all[0], all[len(all)-1], simWithin)
	for _, t := range s.Times {
		doc.Applied = append(doc.Applied, float64(t.Microseconds())/1000)
	}
	doc.Missing, doc.TookMS = s.Missing, time.Since(began).Milliseconds()
	if err := c.print(doc, func() { drawSpread(c, s) }); err != nil {
		return err
	}
	if broken := w.Broken(); len(broken) > 0 || s.Missing > 0 {
		return control.Errorf(control.Failed, "report it with the seed", "%d nodes missed the revocation; broken: %s", s.Missing, strings.Join(broken, "; "))
	}
	return nil
}

// drawSpread draws how many nodes had applied the revocation at which time.
func drawSpread(c *cli, s sim.Spread) {
	if len(s.Times) == 0 {
		return
	}
	last := s.Times[len(s.Times)-1]
	step := max(last/curveRows, time.Millisecond).Round(time.Millisecond)
	total := len(s.Times) + s.Missing
	for at := step; ; at += step {
		n := 0
		for _, t := range s.Times {
			if t <= at {
				n++
			}
		}
		share := float64(n) / float64(total)
		fmt.Fprintf(c.out, "%8v  %-*s %5.1f %%\n", at, curveWidth, strings.Repeat("#", int(share*curveWidth)), share*100)
		if at >= last {
			break
		}
	}
	fmt.Fprintf(c.out, "Revoked on 50 %% of %d nodes after %v, on 99 %% after %v, on all after %v.\n", total, s.At(0.5), s.At(0.99), s.At(1))
}
