package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

func newGrants(c *cli) *cobra.Command {
	q := control.GrantsQuery{}
	cmd := &cobra.Command{
		Use:   "grants",
		Short: "List the permissions of the mesh",
		Example: `  meshkey grants
  meshkey grants --what gpu1/ollama
  meshkey grants --who laptop`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runGrants(cmd.Context(), c, q) },
	}
	f := cmd.Flags()
	f.StringVar(&q.Who, "who", "", "only for this `subject`")
	f.StringVar(&q.What, "what", "", "only for this `service`")
	return cmd
}

func runGrants(ctx context.Context, c *cli, q control.GrantsQuery) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	g, err := client.Grants(ctx, q)
	if err != nil {
		return err
	}
	return c.print(g, func() {
		if len(g.Grants) == 0 {
			c.say("no grants: nobody may use anything yet. Give one with: meshkey grant WHO WHAT")
			return
		}
		rows := [][]string{{"GRANT", "WHO", "WHAT", "STATE", "UNTIL", "BY", "NOTE"}}
		for _, x := range g.Grants {
			rows = append(rows, []string{x.ID, x.Who, x.What, x.State, moment(x.NotAfter), dash(x.Issuer), x.Note})
		}
		table(c.out, rows)
	})
}
