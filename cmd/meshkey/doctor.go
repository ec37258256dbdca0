package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type doctorOptions struct {
	ResetFloor bool
	DryRun     bool
	Yes        bool
}

func newDoctor(c *cli) *cobra.Command {
	o := doctorOptions{}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at this node, and say of each problem how to end it",
		Example: `  meshkey doctor
  meshkey doctor --reset-time-floor --dry-run
  meshkey doctor --reset-time-floor          this machine's clock is right, and what it learnt under a wrong one is not`,
		Long: `Ends with code 8 if something needs attention. The time floor is the latest time that this node has learnt from others, or shared with
one: its idea of now does not fall behind that, so that a clock set back revives nothing that has ended. If the clock once was in the
future, and an entry was signed or a peer agreed meanwhile, the floor stays there. --reset-time-floor sets it to the clock of now, on your
word, and the audit log keeps that. Be sure that the clock is right: what has ended since would be good again.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.ResetFloor, "reset-time-floor", false, "set the time floor to this machine's clock, if that stands before it")
	f.BoolVar(&o.DryRun, "dry-run", false, "change nothing, show what would change")
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	return cmd
}

func runDoctor(ctx context.Context, c *cli, o doctorOptions) error {
	if (o.DryRun || o.Yes) && !o.ResetFloor {
		return control.Errorf(control.Usage, "meshkey doctor", "--dry-run and --yes are for --reset-time-floor; without it nothing is changed")
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if o.ResetFloor {
		return resetFloor(ctx, c, client, o)
	}
	d, err := client.Doctor(ctx)
	if err != nil {
		return err
	}
	well := true
	for _, x := range d.Checks {
		well = well && x.OK
	}
	if err := c.print(d, func() { c.showDoctor(d) }); err != nil {
		return err
	}
	if !well {
		return exitWith(control.Degraded)
	}
	return nil
}

func (c *cli) showDoctor(d *control.Doctor) {
	var rows [][]string
	for _, x := range d.Checks {
		mark, text := "ok", x.Text
		if !x.OK {
			mark = "!"
			if x.Fix != "" {
				text += "   -> " + x.Fix
			}
		}
		rows = append(rows, []string{mark, x.Name, text})
	}
	table(c.out, rows)
}

func resetFloor(ctx context.Context, c *cli, client *control.Client, o doctorOptions) error {
	would, err := client.ResetTimeFloor(ctx, &control.ResetTimeFloorRequest{DryRun: true})
	if err != nil {
		return err
	}
	if !would.Changed {
		return c.print(would, func() {
			c.say("Nothing to do: the clock does not stand before the time floor (%s).", moment(would.Before))
		})
	}
	c.say("The time floor is %s, this machine's clock says %s.", moment(would.Before), moment(would.After))
	if o.DryRun {
		return c.print(would, func() { c.say("Nothing was changed.") })
	}
	if !o.Yes {
		answer, err := c.ask(ctx, "Is the clock right? What has ended since then would be good again. [y/N] ", "--yes does it without asking")
		if err != nil {
			return err
		}
		if answer != "y" && answer != "Y" && answer != "yes" {
			return control.Errorf(control.Failed, "", "nothing was changed")
		}
	}
	res, err := client.ResetTimeFloor(ctx, &control.ResetTimeFloorRequest{})
	if err != nil {
		return err
	}
	return c.print(res, func() { c.say("The time floor is %s now.", moment(res.After)) })
}
