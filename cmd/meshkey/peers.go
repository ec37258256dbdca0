package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
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
		Long: `VIEW is the peer's view of the mesh as it told it: the same as this node's or another one, and how long ago the newest head was
signed that it holds. HEALTH is what the peer last said of itself, and how long ago; of one without a session here others have passed
it on, signed by it. It is no sign of life. The last line is the age of this node's own view.`,
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
		now := time.Now()
		rows := peerRows(p.Peers, now)
		rows[0] = append(rows[0], "VIEW", "HEALTH")
		for i, x := range p.Peers {
			rows[i+1] = append(rows[i+1], peerView(x.View, now), peerHealth(x.Health, now))
		}
		if o.Full {
			rows[0] = append(rows[0], "TAGS", "UNTIL", "ID")
			for i, x := range p.Peers {
				rows[i+1] = append(rows[i+1], dash(join(x.Tags)), moment(x.NotAfter), x.ID)
			}
		}
		table(c.out, rows)
		if p.Trust != nil {
			c.say("%s", clean(trustAge(p.Trust, now)))
		}
	})
}

// peerView is a peer's trust view as it told it: whether it is this node's, and how old its newest head is. What was told a while ago says
// when.
func peerView(v *control.PeerView, now time.Time) string {
	if v == nil {
		return "-"
	}
	s := "other"
	if v.Same {
		s = "same"
	}
	if v.AgeMS != nil {
		s += ", " + millis(*v.AgeMS) + " old"
	}
	if told := now.Sub(v.At); told > time.Minute {
		s += " (" + span(told) + " ago)"
	}
	return s
}

// peerHealth is what a peer last said of itself: "load 0.42, 12G free, 3 s ago".
func peerHealth(h *control.Health, now time.Time) string {
	if h == nil {
		return "-"
	}
	s := fmt.Sprintf("load %.2f", h.Load)
	if h.DiskFree > 0 {
		s += ", " + size(h.DiskFree) + " free"
	}
	if h.Audit == "degraded" {
		s += ", audit degraded"
	}
	return s + ", " + span(max(now.Sub(h.At), 0)) + " ago"
}
