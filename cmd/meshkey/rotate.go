package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type rotateOptions struct {
	Group bool
	Now   bool
	Wait  string
}

func newRotate(c *cli) *cobra.Command {
	o := rotateOptions{}
	cmd := &cobra.Command{
		Use:   "rotate --group",
		Short: "Change the mesh's group secret",
		Example: `  meshkey rotate --group           a new secret; members fetch it by themselves
  meshkey rotate --group --now     also if the last one is less than a day old`,
		Long: `The group secret hides beacons and the handshake from outsiders. It is changed by itself with a revocation, at most once a day, and
when it is 90 days old. A machine that is away meanwhile is heard with its old one when it comes back, and fetches the new one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRotate(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.Group, "group", false, "change the group secret")
	f.BoolVar(&o.Now, "now", false, "also if the last one is less than a day old")
	f.StringVar(&o.Wait, "wait", defaultWait, "wait up to this `time` for peers to acknowledge")
	return cmd
}

func runRotate(ctx context.Context, c *cli, o rotateOptions) error {
	if !o.Group {
		return control.Errorf(control.Usage, "meshkey rotate --group", "say what to rotate")
	}
	ms, err := waitMS(o.Wait)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.RotateGroup(ctx, &control.RotateGroupRequest{Now: o.Now, WaitMS: ms})
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.say("The group secret is new (generation %d); members fetch it by themselves.", res.Generation)
		c.say("%s", clean(spread(res.Spread)))
	})
}
