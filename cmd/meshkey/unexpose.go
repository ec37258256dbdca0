package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

func newUnexpose(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:     "unexpose NAME",
		Short:   "Stop offering a service and cut its streams",
		Example: `  meshkey unexpose ollama`,
		Args:    exactly("NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return runUnexpose(cmd.Context(), c, args[0]) },
	}
}

func runUnexpose(ctx context.Context, c *cli, name string) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	res, err := client.Unexpose(ctx, &control.UnexposeRequest{Name: name})
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.say("%s is not offered any more (closed %s). Its grants stay.", clean(res.Service.Name), plural(uint64(res.ClosedStreams), "stream"))
		undo := "meshkey expose " + res.Service.Name + " " + res.Service.Target
		if res.Service.HTTP {
			undo += " --http"
		}
		c.say("Undo: %s", clean(undo))
	})
}
