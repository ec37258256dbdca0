package main

import (
	"context"
	"fmt"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type inviteOptions struct {
	Name string
	Tags []string
	TTL  string
	Uses int
	QR   bool
}

func newInvite(c *cli) *cobra.Command {
	o := inviteOptions{}
	cmd := &cobra.Command{
		Use:   "invite NAME",
		Short: "Print an invite for another machine",
		Example: `  meshkey invite gpu1 --tag gpu
  meshkey invite gpu1 --ttl 10m | ssh gpu1 meshkey enroll --yes -
  meshkey invite ls
  meshkey invite rm 0102030405060708`,
		Long: `The invite is a secret: whoever has it first becomes NAME. It is good for one use and one hour. Name and tags are fixed here; the
newcomer cannot choose them. Machines named "ls" or "rm" cannot be invited by this form.`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Name = args[0]
			return runInvite(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Tags, "tag", nil, "a `tag` of the machine, may be repeated")
	f.StringVar(&o.TTL, "ttl", "", "how `long` it is good (default 1h, at most 7d)")
	f.IntVar(&o.Uses, "uses", 0, "how many machines may use it (default 1); more than one get numbered names")
	f.BoolVar(&o.QR, "qr", false, "show it as a QR code on stderr as well")
	cmd.AddCommand(newInviteList(c), newInviteRemove(c))
	return cmd
}

func runInvite(ctx context.Context, c *cli, o inviteOptions) error {
	r := &control.InviteRequest{Name: o.Name, Tags: o.Tags, Uses: o.Uses}
	if o.TTL != "" {
		d, err := parseSpan(o.TTL)
		if err != nil {
			return err
		}
		r.TTLMS = d.Milliseconds()
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.CreateInvite(ctx, r)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		fmt.Fprintln(c.out, clean(res.Text))
		if o.QR {
			qrterminal.GenerateHalfBlock(res.Text, qrterminal.L, c.err)
		}
		c.say("On %s run:  meshkey enroll (and this line).  It is a secret, good for %s until %s.", clean(res.Invite.Name), plural(uint64(max(res.Invite.Uses, 1)), "use"), moment(res.Invite.Expires))
		c.warn(res.Warnings)
		c.say("Undo: meshkey invite rm %s", clean(res.Invite.ID))
	})
}

func newInviteList(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "ls", Short: "List the invites of this issuer", Example: `  meshkey invite ls`, Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runInviteList(cmd.Context(), c) },
	}
}

func runInviteList(ctx context.Context, c *cli) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	l, err := client.Invites(ctx)
	if err != nil {
		return err
	}
	return c.print(l, func() {
		if len(l.Invites) == 0 {
			c.say("no invites: meshkey invite NAME")
			return
		}
		rows := [][]string{{"INVITE", "NAME", "STATE", "USES", "UNTIL", "TAGS", "USED BY"}}
		for _, i := range l.Invites {
			var by []string
			for _, n := range i.UsedBy {
				by = append(by, node(n))
			}
			rows = append(rows, []string{i.ID, i.Name, i.State, count(uint64(max(i.Uses, 0))), moment(i.Expires), dash(join(i.Tags)), dash(join(by))})
		}
		table(c.out, rows)
	})
}

func newInviteRemove(c *cli) *cobra.Command {
	return &cobra.Command{
		Use: "rm INVITE", Short: "Withdraw an invite", Example: `  meshkey invite rm 0102030405060708`, Args: exactly("INVITE"),
		RunE: func(cmd *cobra.Command, args []string) error { return runInviteRemove(cmd.Context(), c, args[0]) },
	}
}

func runInviteRemove(ctx context.Context, c *cli, id string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if err := client.RemoveInvite(ctx, id); err != nil {
		return err
	}
	return c.print(&control.Empty{}, func() {
		c.say("Invite %s cannot be used any more. Who has used it stays a member: meshkey revoke NODE", clean(id))
	})
}
