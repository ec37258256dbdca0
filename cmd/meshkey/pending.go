package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

func newPending(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "pending",
		Short: "List the machines that wait for approval",
		Example: `  meshkey pending
  meshkey approve a1b2c3d4e5f60718`,
		Long: `On an issuer. WORDS are what the machine itself shows: compare them before you approve. NAME and TAGS are its wishes; without --name and
--tag, approve gives it what its invite says.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runPending(cmd.Context(), c) },
	}
}

func runPending(ctx context.Context, c *cli) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	p, err := client.Pending(ctx)
	if err != nil {
		return err
	}
	return c.print(p, func() {
		if len(p.Waiting) == 0 {
			c.say("Nobody waits. Machines do whose invite was made with --require-approval.")
			return
		}
		rows := [][]string{{"REQUEST", "WORDS", "NODE", "NAME", "TAGS", "SINCE", "FROM", "INVITE"}}
		for _, w := range p.Waiting {
			rows = append(rows, []string{w.ID, wordsText(w.Words), w.NodeText, w.Name, dash(join(w.Tags)), moment(w.Since), dash(w.Address), w.InviteName})
		}
		table(c.out, rows)
		c.say("Compare the words with the machine's own screen.  Then: meshkey approve REQUEST, or meshkey deny REQUEST")
	})
}

func newDeny(c *cli) *cobra.Command {
	r := &control.DenyRequest{}
	cmd := &cobra.Command{
		Use: "deny REQUEST", Short: "Refuse a machine that waits for approval", Example: `  meshkey deny a1b2c3d4e5f60718 --reason "not ours"`,
		Long: `It cannot ask again by that invite. The reason goes into the audit log of this machine, not to the other one.`,
		Args: exactly("REQUEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.ID = args[0]
			return runDeny(cmd.Context(), c, r)
		},
	}
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why, for those who read the audit log")
	return cmd
}

func runDeny(ctx context.Context, c *cli, r *control.DenyRequest) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.Deny(ctx, r)
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.say("Denied %s (%s).  If it shall come after all: meshkey invite %s", clean(res.Waiter.Name), clean(res.Waiter.NodeText), clean(res.Waiter.InviteName))
	})
}
