package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type canOptions struct {
	Who  string
	What string
	At   string
}

func newCan(c *cli) *cobra.Command {
	o := canOptions{}
	cmd := &cobra.Command{
		Use:   "can WHO WHAT",
		Short: "Ask whether a machine may use a service, and why (not)",
		Example: `  meshkey can laptop gpu1/ollama
  meshkey can laptop gpu1/ollama --at 2026-12-24
  meshkey can laptop gpu1/ollama --json && echo yes`,
		Long: `WHO is a machine, WHAT is NODE/SERVICE. The exit code is 0 if it may, and 5 if not. The answer is the one gpu1 gives by the grants that are
known here. --at asks the grants of now about another time: what has been taken back since is taken back. What was decided at a time in
the past is in the audit log: meshkey audit log.`,
		Args: exactly("WHO", "WHAT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Who, o.What = args[0], args[1]
			return runCan(cmd.Context(), c, o, time.Now())
		},
	}
	cmd.Flags().StringVar(&o.At, "at", "", "at this `time`, not now")
	return cmd
}

func runCan(ctx context.Context, c *cli, o canOptions, now time.Time) error {
	at, err := parseWhen(o.At, now)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	d, err := client.Decide(ctx, control.DecideRequest{From: o.Who, Target: o.What, At: at})
	if err != nil {
		return err
	}
	if err := c.print(d, func() { c.showDecision(d) }); err != nil {
		return err
	}
	if !d.Allowed {
		return exitWith(control.Denied)
	}
	return nil
}

func (c *cli) showDecision(d *control.Decision) {
	when := ""
	if !d.At.IsZero() {
		when = " at " + moment(d.At)
	}
	if d.Allowed {
		by := d.Grant
		if d.By != nil {
			by = d.By.ID + "  " + grantText(*d.By)
		}
		fmt.Fprintf(c.out, "yes: %s may use %s%s   by %s\n", clean(d.From), clean(d.Target), when, clean(by))
		return
	}
	fmt.Fprintf(c.out, "no: %s may not use %s%s (%s)\n", clean(d.From), clean(d.Target), when, clean(d.Reason))
	if d.Why != "" {
		c.say("nearest: %s", clean(d.Near))
		c.say("  %s", clean(d.Why))
	}
	if d.Command != "" {
		c.say("  -> %s", clean(d.Command))
	}
}
