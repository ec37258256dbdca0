package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
)

func newServices(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "services",
		Short: "List what this node offers and what it may use",
		Example: `  meshkey services
  meshkey services --json=1`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runServices(cmd.Context(), c) },
	}
}

func runServices(ctx context.Context, c *cli) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	s, err := client.Services(ctx)
	if err != nil {
		return err
	}
	return c.print(s, func() {
		if len(s.Offering) > 0 {
			rows := [][]string{{"OFFERING", "TARGET", "STATE", "STREAMS", "WHO"}}
			for _, x := range s.Offering {
				var who []string
				for _, n := range x.AllowedTo {
					who = append(who, node(n))
				}
				rows = append(rows, []string{x.Name, x.Target, offered(x), count(uint64(x.Streams)), dash(join(who))})
			}
			table(c.out, rows)
		}
		if len(s.Reachable) > 0 {
			rows := [][]string{{"REACHABLE", "PROTO", "STATE", "GRANT"}}
			for _, x := range s.Reachable {
				rows = append(rows, []string{node(x.Node) + "/" + x.Name, dash(x.Proto), because(x.State, x.Reason), dash(x.Grant)})
			}
			table(c.out, rows)
		}
		if len(s.Offering) == 0 && len(s.Reachable) == 0 {
			c.say("nothing offered here, nothing reachable: meshkey expose NAME PORT")
		}
	})
}

func join(list []string) string { return strings.Join(list, ", ") }
