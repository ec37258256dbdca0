package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

func newGrants(c *cli) *cobra.Command {
	q, all := control.GrantsQuery{}, false
	cmd := &cobra.Command{
		Use:   "grants",
		Short: "List the permissions of the mesh",
		Example: `  meshkey grants
  meshkey grants --what gpu1/ollama
  meshkey grants --who laptop
  meshkey grants --all           also those that are over or void`,
		Long: `A machine is meant with every key it has had: what was granted to the one before a rotation is the next one's. A grant is void when a
machine it names is no member any more.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runGrants(cmd.Context(), c, q, all) },
	}
	f := cmd.Flags()
	f.StringVar(&q.Who, "who", "", "only for this `subject`")
	f.BoolVar(&all, "all", false, "also those that are over, and void ones")
	f.StringVar(&q.What, "what", "", "only for this `service`")
	return cmd
}

func runGrants(ctx context.Context, c *cli, q control.GrantsQuery, all bool) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	g, err := client.Grants(ctx, q)
	if err != nil {
		return err
	}
	return c.print(g, func() {
		rows := [][]string{{"GRANT", "WHO", "WHAT", "STATE", "UNTIL", "BY", "NOTE"}}
		hidden := 0
		for _, x := range g.Grants {
			if over := x.State == "void" || x.State == "expired"; over && !all {
				hidden++
				continue
			}
			note := x.Note
			if x.Why != "" {
				note = strings.TrimPrefix(note+"; "+x.Why, "; ")
			}
			rows = append(rows, []string{x.ID, x.Who, x.What, x.State, moment(x.NotAfter), dash(x.Issuer), note})
		}
		switch {
		case len(rows) > 1:
			table(c.out, rows)
		case q != control.GrantsQuery{}:
			c.say("no grant matches%s%s.", asked(" --who ", q.Who), asked(" --what ", q.What))
		case hidden == 0:
			c.say("no grants: nobody may use anything yet. Give one with: meshkey grant WHO WHAT")
		default:
			c.say("no grants in force: nobody may use anything now. Give one with: meshkey grant WHO WHAT")
		}
		if hidden > 0 {
			c.say("%s not shown, over or void: meshkey grants --all", plural(uint64(hidden), "grant"))
		}
	})
}

// asked repeats a filter that was given.
func asked(flag, value string) string {
	if value == "" {
		return ""
	}
	return flag + clean(clipArg(value))
}
