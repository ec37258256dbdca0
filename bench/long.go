package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/internal/sim"
)

// longRuns are the runs by name.
var longRuns = map[string]struct {
	what string
	run  func() error
	rig  func(context.Context, *rig, io.Writer) error // in place of run: needs the namespaces
}{
	"sim-1000":  {what: "a revocation in a simulated mesh of 1,000, flooded and by digests alone", run: func() error { return revocation(1000) }},
	"sim-10000": {what: "the same with 10,000 nodes in 40 segments: some minutes, 8 GiB", run: func() error { return revocation(10000) }},
	"log-2000": {what: "the log of 2,000 members: start and join, in some seconds", run: func() error {
		return bigLog(2000, logTarget{start: time.Second, join: 5 * time.Second, rss: 64 << 20})
	}},
	"log-10000": {what: "the log of 10,000 members: start and join", run: func() error {
		return bigLog(10000, logTarget{start: time.Second, join: 5 * time.Second, rss: 64 << 20, idle: 30 * time.Second})
	}},
	"log-100000": {what: "the log of 100,000 members: start", run: func() error {
		return bigLog(100000, logTarget{start: time.Second, rss: 128 << 20, idle: 30 * time.Second})
	}},
	"streams":   {what: "10 GiB through 64 streams at a time, with resets, half-closes, rekeys and a revocation: some minutes", run: storm},
	"sim-seeds": {what: "2,000 random scenarios of 2 to 50 nodes", run: seeds},
	"sessions":  {what: "one daemon with 1,000 idle sessions: memory and CPU, some minutes", rig: sessions},
}

func runLong(args []string) int {
	if len(args) == 1 {
		switch l := longRuns[args[0]]; {
		case l.run != nil:
			return code(l.run())
		case l.rig != nil:
			return inside(&options{only: []string{nameMeshkey}}, l.rig)
		}
	}
	return code(longUsage())
}

func longUsage() error {
	var b strings.Builder
	b.WriteString("go run ./bench long NAME\n")
	for _, name := range slices.Sorted(maps.Keys(longRuns)) {
		fmt.Fprintf(&b, "  %-10s  %s\n", name, longRuns[name].what)
	}
	return usageError(b.String())
}

// storm runs the storm of package mesh at its full size.
func storm() error {
	cmd := exec.Command("go", "test", "-count=1", "-timeout=2h", "-v", "-run", "^TestStorm$", "./mesh")
	cmd.Env = append(os.Environ(), "MESHKEY_STORM_MIB=10240")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// revocation lets a mesh settle, lets one node in a hundred stall, and follows a revocation; then the same with nothing flooded.
func revocation(nodes int) error {
	debug.SetGCPercent(40)
	for _, noFlood := range []bool{false, true} {
		began := time.Now()
		w, err := sim.New(sim.Config{Seed: 1, Nodes: nodes, Late: 0.001, NoFlood: noFlood, Quiet: true})
		if err != nil {
			return err
		}
		w.Start(5 * time.Second)
		w.RunFor(60 * time.Second)
		settled := time.Since(began)
		all := w.Nodes()
		for i := 7; i < len(all)-1; i += 100 {
			all[i].Stall(200*time.Millisecond + time.Duration(i)*time.Second/time.Duration(len(all))*8/10)
		}
		within := 5 * time.Second
		if noFlood {
			within = 60 * time.Second
		}
		connected := w.Connected()
		s := w.RevokeAndWatch(all[0], all[len(all)-1], within)
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Printf("%d nodes, flooding %v: connected %d; applied by 50 %% %v, 99 %% %v, 100 %% %v, missing %d\n",
			nodes, !noFlood, connected, s.At(0.5), s.At(0.99), s.At(1), s.Missing)
		fmt.Printf("  60 virtual seconds in %v, %d steps, %d MiB in use, %d MiB of the system\n",
			settled.Round(time.Second), w.Steps(), m.HeapInuse>>20, m.Sys>>20)
		if len(w.Broken()) > 0 {
			return fmt.Errorf("broken: %v", w.Broken())
		}
	}
	return nil
}

func seeds() error {
	began := time.Now()
	for seed := range uint64(2000) {
		s := sim.Random(seed)
		w, err := s.Run()
		if err != nil {
			return err
		}
		if len(w.Broken()) > 0 {
			s = s.Shrink()
			if w, err = s.Run(); err != nil {
				return err
			}
			return fmt.Errorf("%s", s.Report(w))
		}
	}
	fmt.Printf("2,000 scenarios without a broken invariant, in %v\n", time.Since(began).Round(time.Second))
	return nil
}
