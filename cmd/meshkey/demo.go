package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/demo"
)

// demoTakes is how long the demo is; twenty of them are the silence after which a peer is pruned.
const demoTakes = "about 25 seconds"

func newDemo(c *cli) *cobra.Command {
	cleanUp, simulated := "", simOptions{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on this machine: three real daemons on loopback",
		Example: `  meshkey demo
  meshkey demo --json=1
  meshkey demo --nodes 1000 --revoke    simulated: how a revocation spreads, as a curve`,
		Long: `Founds a mesh in a temporary directory, enrols two more daemons, denies, allows and uses a service, revokes a node under a live
stream, freezes one until it is pruned, and edits an audit log until verification fails. Takes ` + demoTakes + `, needs no root, opens
nothing beyond loopback, and leaves nothing behind. Exits with 1 if any step did not really happen.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cleanUp != "" {
				return demo.CleanUp(c.in, cleanUp)
			}
			if cmd.Flags().Changed("nodes") || simulated.revoke {
				return runSimDemo(cmd.Context(), c, simulated)
			}
			return runDemo(cmd.Context(), c)
		},
	}
	cmd.Flags().IntVar(&simulated.nodes, "nodes", 1000, "simulate a mesh of so many nodes instead")
	cmd.Flags().BoolVar(&simulated.revoke, "revoke", false, "with --nodes: revoke one and draw how that spreads")
	cmd.Flags().Uint64Var(&simulated.seed, "seed", 1, "with --nodes: what the simulated chance is made from")
	cmd.Flags().StringVar(&cleanUp, "clean-up", "", "wait for the end of stdin, then remove the demo's `directory`")
	cmd.Flags().Lookup("clean-up").Hidden = true
	return cmd
}

// demoDocument is the story for machines.
type demoDocument struct {
	control.Envelope
	demo.Result
}

func (*demoDocument) SchemaName() string { return "meshkey.demo/1" }

func runDemo(ctx context.Context, c *cli) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	began := time.Now()
	c.say("Three daemons, one mesh, on this machine's loopback only. This takes %s.", demoTakes)
	r, err := demo.Run(ctx, demo.Options{Binary: self, Step: func(s demo.Step) { c.showStep(s, time.Since(began)) }})
	if r != nil {
		if perr := c.print(&demoDocument{Result: *r}, func() {}); perr != nil {
			return perr
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return control.Errorf(control.Failed, "run it again; if it fails again, report it with its output", "the demo did not happen as it should: %w", err)
	}
	if !c.json() {
		fmt.Fprintf(c.out, "All %d steps happened, in %.1f s. Next: meshkey init --mesh NAME\n", len(r.Steps), r.TotalMS/1000)
	}
	return nil
}

// showStep prints one step as it happens: for people on stdout, beside a document on stderr.
func (c *cli) showStep(s demo.Step, at time.Duration) {
	w := c.out
	if c.json() {
		w = c.err
	}
	mark := "ok  "
	if !s.OK {
		mark = "FAIL"
	}
	fmt.Fprintf(w, "%5.1fs %s %s\n", at.Seconds(), mark, clean(s.Text))
	if s.Command != "" {
		fmt.Fprintf(w, "            $ %s\n", clean(s.Command))
	}
	detail := fmt.Sprintf("%.0f ms", s.TookMS)
	if s.Figure != "" {
		detail += " · " + s.Figure
	}
	if s.Error != "" {
		detail += " · " + s.Error
	}
	fmt.Fprintf(w, "            %s\n", clean(detail))
}
