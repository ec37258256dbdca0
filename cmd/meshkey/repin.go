package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type repinOptions struct {
	Name   string
	Yes    bool
	DryRun bool
}

func newRepin(c *cli) *cobra.Command {
	o := repinOptions{}
	cmd := &cobra.Command{
		Use:   "repin NAME",
		Short: "Accept that a name means another key than when this machine first used it",
		Example: `  meshkey repin gpu1 --dry-run       both keys, and what became of the old one
  meshkey repin gpu1`,
		Long: `This machine remembers which key a name meant when it first used it, and refuses the name when it means another one: an issuer, or
a thief of its key, can revoke a machine and enrol another one under its name. A name follows a rotation by itself, because the old key has
signed the new one; and on the issuer that has enrolled the new key itself. Otherwise a person decides, on each machine that has used the name.
Compare the new id with what "meshkey status --json" shows on the machine that is meant. Ids always work without that.`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			return runRepin(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.DryRun, "dry-run", false, "change nothing, show both keys")
	return cmd
}

func runRepin(ctx context.Context, c *cli, o repinOptions) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	would, err := client.Repin(ctx, &control.RepinRequest{Name: o.Name, DryRun: true})
	if err != nil {
		return err
	}
	if !would.Changed {
		return c.print(would, func() { c.say("Nothing to do: %s is not refused here.", clean(o.Name)) })
	}
	if o.DryRun {
		return c.print(would, func() { c.wouldRepin(would) })
	}
	if !c.json() || !o.Yes {
		c.wouldRepin(would)
	}
	if !o.Yes {
		if err := c.askName(ctx, "Type the name to accept the new key: ", "--yes accepts it without asking, --dry-run only shows", would.Is, "nothing was changed"); err != nil {
			return err
		}
	}
	res, err := client.Repin(ctx, &control.RepinRequest{Name: o.Name, Was: would.Was.ID, Is: would.Is.ID})
	if err != nil {
		return err
	}
	return c.print(res, func() { c.say("%s is %s on this machine from now on.", clean(res.Name), clean(res.Is.ID)) })
}

func (c *cli) wouldRepin(r *control.RepinResult) {
	c.say("%s was  %s", clean(r.Name), clean(r.Was.ID))
	c.say("  %s", clean(r.WasText))
	c.say("%s is   %s", clean(r.Name), clean(r.Is.ID))
	c.say("  enrolled by %s on %s", clean(dash(r.Issuer)), moment(r.Since))
	if r.Living {
		c.say("%s", c.yellow("! ")+"the old key is a member still: nobody has taken it away, and its name went to another one. Ask who did that before you accept it.")
	}
}
