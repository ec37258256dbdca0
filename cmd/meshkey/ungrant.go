package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type ungrantOptions struct {
	ID   string
	Wait string
}

func newUngrant(c *cli) *cobra.Command {
	o := ungrantOptions{}
	cmd := &cobra.Command{
		Use:     "ungrant GRANT",
		Short:   "Take a permission back and cut what it allowed",
		Example: `  meshkey ungrant g-18           the ids are in meshkey grants`,
		Args:    exactly("GRANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.ID = args[0]
			return runUngrant(cmd.Context(), c, o)
		},
	}
	cmd.Flags().StringVar(&o.Wait, "wait", defaultWait, "wait up to this `time` for peers to acknowledge")
	return cmd
}

func runUngrant(ctx context.Context, c *cli, o ungrantOptions) error {
	ms, err := waitMS(o.Wait)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.Ungrant(ctx, &control.UngrantRequest{ID: o.ID, WaitMS: ms})
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.say("Taken back: %s  %s", clean(res.Grant.ID), clean(grantText(res.Grant)))
		c.say("%s.", clean(spread(res.Spread)))
		c.warn(res.Warnings)
		c.say("Undo: %s", clean(regrant(res.Grant, time.Now())))
	})
}

// regrant is the command that gives a permission again, for what is left of its time.
func regrant(g control.Grant, now time.Time) string {
	s := "meshkey grant " + quoteArg(g.Who) + " " + quoteArg(g.What)
	if !g.NotAfter.IsZero() && g.NotAfter.After(now) {
		s += " --until " + g.NotAfter.UTC().Format(time.RFC3339)
	}
	if g.NotBefore.After(now) {
		s += " --from " + g.NotBefore.UTC().Format(time.RFC3339)
	}
	if g.Note != "" {
		s += " --reason " + quoteArg(g.Note)
	}
	return s
}

// quoteArg quotes what a shell would not take as one plain word.
func quoteArg(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:,@+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
