package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/trust"
)

func newRootShow(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "show [FILE]",
		Short: "Show the root this node follows, or what a proposal or a root chain in a file says",
		Example: `  meshkey root show
  meshkey root show next.root        what a proposal changes, and who has signed; needs no daemon
  meshkey root show --json=1`,
		Long: `Ends with code 8 if the root needs attention: the lines with "!" say what, and what to do.`,
		Args: between(0, 1, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return runRootShowFile(c, args[0])
			}
			return runRootShow(cmd.Context(), c)
		},
	}
}

func runRootShow(ctx context.Context, c *cli) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	d, err := client.Root(ctx)
	if err != nil {
		e := control.AsError(err)
		if e.Code == control.NotRunning {
			e.Next = "meshkey daemon; a proposal or a root chain in a file is shown without it: meshkey root show FILE"
		}
		return e
	}
	if err := c.print(d, func() { c.showRoot(d, false) }); err != nil {
		return err
	}
	if len(d.Warnings) > 0 {
		return exitWith(control.Degraded)
	}
	return nil
}

func runRootShowFile(c *cli, name string) error {
	text, err := c.readCarried(name)
	if err != nil {
		return err
	}
	if trust.IsChain(text) {
		st, err := trust.ParseChain(text)
		if err != nil {
			return daemon.RootError(err)
		}
		d := daemon.RootDoc(st.Root())
		return c.print(d, func() { c.showRoot(d, true) })
	}
	p, err := trust.ParseProposal(text)
	if err != nil {
		return daemon.RootError(err)
	}
	d := proposalDoc(p)
	return c.print(d, func() {
		c.showProposal(p)
		c.showRoot(d, true)
	})
}

func (c *cli) showRoot(d *control.Root, file bool) {
	fmt.Fprintf(c.out, "mesh %s  %s\n", clean(d.Mesh.Name), clean(d.Mesh.ID))
	fmt.Fprintf(c.out, "root %d of %s  %s\n", d.Version, d.Issued.Format(time.RFC3339), clean(d.Hash))
	rows := [][]string{{"ROOT KEY", "", fmt.Sprintf("%d of %d sign", d.Threshold, len(d.Keys))}}
	for _, k := range d.Keys {
		rows = append(rows, []string{"", k.Name, k.Key})
	}
	table(c.out, rows)
	rows = [][]string{{"ISSUER", "MAY", "TAGS", "CERTIFICATES", "UNTIL", "ENTRIES", "STATE"}}
	for _, i := range d.Issuers {
		state := i.State
		if i.Cutoff != nil {
			state = fmt.Sprintf("cut off after %d", i.Cutoff.Seq)
		}
		if i.Here {
			state += ", here"
		}
		if i.Key == d.GroupIssuer {
			state += ", group secret"
		}
		entries := count(i.Entries)
		if file {
			entries = "-" // roots do not tell
		}
		rows = append(rows, []string{
			i.Name, dash(strings.Join(i.Rights, ",")), dash(strings.Join(i.Tags, ",")), "up to " + millis(i.MaxTTLMS),
			i.NotAfter.Format("2006-01-02"), entries, state,
		})
	}
	table(c.out, rows)
	rows = nil
	for _, i := range d.Issuers {
		rows = append(rows, []string{"  " + i.Name, i.Key})
	}
	table(c.out, rows)
	never := func(ms int64) string {
		if ms == 0 {
			return "never"
		}
		return millis(ms)
	}
	fmt.Fprintf(c.out, "PARAMS  view stale after %s (%s) · group secret renewed after %s\n", never(d.Params.MaxStaleMS), d.Params.StaleAction, never(d.Params.GroupMaxAgeMS))
	for _, f := range d.Pending {
		fmt.Fprintf(c.out, "PENDING  root %d of %s  %s\n", f.Version, f.Issued.Format(time.RFC3339), clean(f.Hash))
		c.sayChanges(f.Changes)
		c.say("  choose it, on every machine: meshkey root accept %s", clean(f.Hash))
	}
	for _, i := range d.Issuers {
		if i.Evidence != nil {
			c.say("%s has signed two entries with number %d: %s", clean(i.Name), i.Evidence.Seq, strings.Join(i.Evidence.Hashes, " and "))
		}
	}
	c.warn(d.Warnings)
}
