package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"
)

type peersOptions struct {
	Full bool
}

func newPeers(c *cli) *cobra.Command {
	o := peersOptions{}
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List the members of the mesh",
		Example: `  meshkey peers
  meshkey peers --full           with tags, ids and expiry`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runPeers(cmd.Context(), c, o) },
	}
	cmd.Flags().BoolVar(&o.Full, "full", false, "show tags, node ids and when certificates end")
	return cmd
}

func runPeers(ctx context.Context, c *cli, o peersOptions) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	p, err := client.Peers(ctx)
	if err != nil {
		return err
	}
	return c.print(p, func() {
		if len(p.Peers) == 0 {
			c.say("no other members yet: meshkey invite NAME")
			return
		}
		rows := peerRows(p.Peers, time.Now())
		if o.Full {
			rows[0] = append(rows[0], "TAGS", "UNTIL", "ID")
			for i, x := range p.Peers {
				rows[i+1] = append(rows[i+1], dash(join(x.Tags)), moment(x.NotAfter), x.ID)
			}
		}
		table(c.out, rows)
	})
}
