// Command bench measures meshkey beside what it is compared with, and takes the figures that take long.
//
//	go run ./bench [options]        the comparison; --quick in three minutes once everything is compiled, else about half an hour
//	go run ./bench long NAME        what it printed last stands in docs/measurements.md
//
// # The rig
//
//	namespace "client": load ── daemon ──┐
//	                                     │ one veth pair, net.ipv4.tcp_congestion_control=reno
//	namespace "server": load ── daemon ──┘
//
// Everything runs on one machine and shares its cores, so that throughput counts only as a ratio within one run, and CPU time per gigabyte
// is the figure to carry elsewhere. It needs no root and leaves nothing behind, see package netns. Every contestant has its turn in every
// round, in an order that moves on by one, and only the one whose turn it is has a client side running. Ratios are taken within a round;
// what is printed is the median over the rounds and the ends.
//
// Contestants whose tools are missing are named with the Debian package that has them, and left out; --strict makes that an error.
// The peers written in Go are a module of their own, bench/peers, which pins them and never enters the product's.
//
// # Processes
//
// The program runs itself again: outside it builds the programs, inside the namespaces (package netns) it is the one that measures, and as
// "bench helper REQUEST" it is one end of a measurement, or the forwarder without encryption.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/sovereignmesh/meshkey/internal/netns"
)

// Exit codes, of the table that the command has.
const (
	exitFailed = 1
	exitUsage  = 2
)

// planEnv names, inside the namespaces, the folder with what was built outside.
const planEnv = "MESHKEY_BENCH"

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	switch {
	case len(args) > 0 && args[0] == "helper":
		return code(help(args[1:], os.Stdin, os.Stdout))
	case len(args) > 0 && args[0] == "long":
		return runLong(args[1:])
	}
	o, err := parseOptions(args, os.Stderr)
	if err != nil {
		return code(err)
	}
	return inside(o, func(ctx context.Context, r *rig, out io.Writer) error {
		res, err := r.compare(ctx, o)
		if err != nil {
			return err
		}
		return publish(o, res, out)
	})
}

func code(err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// inside builds outside and measures inside.
func inside(o *options, f func(context.Context, *rig, io.Writer) error) int {
	if os.Getenv(planEnv) == "" {
		dir, err := os.MkdirTemp(o.dir, "meshkey-bench-")
		if err != nil {
			return code(err)
		}
		defer os.RemoveAll(dir)
		// Interrupted while it builds, it still removes what it made; afterwards package netns passes the signal on.
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err = build(ctx, o, dir, os.Stderr)
		stop()
		if err != nil {
			return code(err)
		}
		if err := os.Setenv(planEnv, dir); err != nil {
			return code(err)
		}
	}
	return netns.Main(runner(f))
}

// runner is what is done in the rig.
type runner func(context.Context, *rig, io.Writer) error

// Run makes the rig; netns.Main calls it inside the namespaces, or, where there are none, outside.
func (f runner) Run() int {
	if err := netns.Why(); err != nil {
		return code(fmt.Errorf("the rig needs network namespaces: %w", err))
	}
	return code(f.run(context.Background(), os.Stdout, os.Stderr))
}

func (f runner) run(ctx context.Context, out, words io.Writer) (err error) {
	var p plan
	if err := p.load(os.Getenv(planEnv)); err != nil {
		return err
	}
	r, err := newRig(&p, words)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	return f(ctx, r, out)
}

// publish prints the table and writes the files that were asked for.
func publish(o *options, res *results, out io.Writer) error {
	rep := summarize(res)
	if err := rep.writeTable(out); err != nil {
		return err
	}
	if o.json != "" {
		if err := rep.writeJSON(o.json); err != nil {
			return err
		}
	}
	if o.doc != "" {
		if err := rep.writeDoc(o.doc); err != nil {
			return err
		}
	}
	if o.strict {
		return rep.complete()
	}
	return nil
}
