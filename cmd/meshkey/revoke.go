package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type revokeOptions struct {
	Node   string
	Reason string
	Yes    bool
	DryRun bool
	Force  bool
	Now    bool
	Wait   string
}

func newRevoke(c *cli) *cobra.Command {
	o := revokeOptions{}
	cmd := &cobra.Command{
		Use:   "revoke NODE",
		Short: "Remove a machine's key from the mesh, for ever, and cut it off now",
		Example: `  meshkey revoke laptop --dry-run       what it would cut off
  meshkey revoke laptop --reason stolen
  meshkey revoke laptop --yes --wait 10s`,
		Long: `There is no way back: the machine can only be enrolled again with a new key. To take back one access, use ungrant.`,
		Args: exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Node = args[0]
			return runRevoke(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Reason, "reason", "", "why, for the audit log")
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.DryRun, "dry-run", false, "change nothing, show what it would cut off")
	f.BoolVar(&o.Force, "force", false, "also if it is the last issuer, after which nobody can enrol or revoke without the root key")
	f.BoolVar(&o.Now, "now", false, "change the group secret at once, also if it was changed within a day")
	f.StringVar(&o.Wait, "wait", defaultWait, "wait up to this `time` for peers to acknowledge")
	return cmd
}

func runRevoke(ctx context.Context, c *cli, o revokeOptions) error {
	ms, err := waitMS(o.Wait)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	r := &control.RevokeRequest{Node: o.Node, Reason: o.Reason, DryRun: true, Force: o.Force, Now: o.Now}
	if o.DryRun || !o.Yes {
		// The preview resolves the name: what is confirmed is the node that will be revoked, by its id.
		would, err := client.Revoke(ctx, r)
		if err != nil {
			return err
		}
		if o.DryRun {
			return c.print(would, func() { c.wouldRevoke(would) })
		}
		c.wouldRevoke(would)
		if err := c.askName(ctx, "Type the machine's name to revoke it: ", "--yes revokes without asking, --dry-run only shows", would.Node, "nothing was revoked"); err != nil {
			return err
		}
		r.Node = would.Node.ID
	}
	r.DryRun, r.WaitMS = false, ms
	res, err := client.Revoke(ctx, r)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.say("Revoked %s.", clean(node(res.Node)))
		c.say("%s", clean(spread(res.Spread)))
		if res.Generation != 0 {
			c.say("The group secret was changed with it (generation %d).", res.Generation)
		}
		for _, v := range res.Invites {
			c.say("Invite %s for that name was taken back with it.", clean(v.ID))
		}
		c.warn(res.Warnings)
		c.say("Next: meshkey invite %s, to enrol it again with a new key; machines that have used the name then want: meshkey repin %s", clean(node(res.Node)), clean(node(res.Node)))
	})
}

func (c *cli) wouldRevoke(w *control.RevokeResult) {
	sessions, streams := 0, 0
	for _, a := range w.Applied {
		sessions += a.ClosedSessions
		streams += a.ClosedStreams
	}
	c.say("Revoking %s (%s)", clean(node(w.Node)), clean(w.Node.ID))
	c.say("  cuts %s and %s at this node, and what it has with others", plural(uint64(sessions), "session"), plural(uint64(streams), "stream"))
	for _, g := range w.Grants {
		c.say("  makes void  %s  %s", clean(g.ID), clean(grantText(g)))
	}
	c.shared(w.Shared)
	for _, v := range w.Invites {
		c.say("  takes back  invite %s, open for that name", clean(v.ID))
	}
	c.warn(w.Warnings)
}
