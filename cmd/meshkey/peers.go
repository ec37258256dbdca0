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
	All  bool
}

func newPeers(c *cli) *cobra.Command {
	o := peersOptions{}
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "List the members of the mesh",
		Example: `  meshkey peers
  meshkey peers --full           with tags, ids and expiry
  meshkey peers --all            also keys that were revoked`,
		Long: `VIEW is the peer's view of the mesh as it told it: the same as this node's or another one, and how long ago the newest head was
signed that it holds. HEALTH is what the peer last said of itself, and how long ago; of one without a session here others have passed
it on, signed by it. It is no sign of life. The last line is the age of this node's own view.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runPeers(cmd.Context(), c, o) },
	}
	cmd.Flags().BoolVar(&o.All, "all", false, "also keys that were revoked, or replaced by a rotation")
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
		shown, hidden := withoutRevoked(p.Peers)
		if o.All {
			shown, hidden = p.Peers, 0
		}
		if len(shown) == 0 {
			c.say("no other members now: meshkey invite NAME")
			c.hiddenKeys(hidden)
			return
		}
		rows := peerRows(shown, now)
		rows[0] = append(rows[0], "VIEW", "HEALTH")
		for i, x := range shown {
			rows[i+1] = append(rows[i+1], peerView(x.View, now), peerHealth(x.Health, now))
		}
		if o.Full {
			rows[0] = append(rows[0], "TAGS", "UNTIL", "ID")
			for i, x := range shown {
				rows[i+1] = append(rows[i+1], dash(join(x.Tags)), moment(x.NotAfter), x.ID)
			}
		}
		table(c.out, rows)
		c.hiddenKeys(hidden)
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
	if told := now.Sub(v.At); told > time.Minute && !v.At.IsZero() {
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

// withoutRevoked leaves out keys that are revoked: of a mesh in which keys are rotated they become many, and nothing is to be done about them.
func withoutRevoked(peers []control.Peer) (shown []control.Peer, hidden int) {
	for _, p := range peers {
		if p.State == "revoked" {
			hidden++
			continue
		}
		shown = append(shown, p)
	}
	return shown, hidden
}

func (c *cli) hiddenKeys(n int) {
	if n > 0 {
		c.say("%s not shown: meshkey peers --all", plural(uint64(n), "revoked key"))
	}
}
