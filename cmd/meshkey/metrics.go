package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

func newMetrics(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print this node's figures in the Prometheus text format",
		Example: `  meshkey metrics
  meshkey metrics > /var/lib/node_exporter/meshkey.prom     for its textfile collector
  curl --unix-socket /run/meshkey/meshkey.sock http://meshkey/metrics`,
		Long: `Among them: when each member's certificate ends, by the log; sessions, streams, refused handshakes and dropped datagrams by reason; the
state of the audit log and of the trust view; and what status warns of, by code.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runMetrics(cmd.Context(), c) },
	}
}

func runMetrics(ctx context.Context, c *cli) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	m, err := client.Metrics(ctx)
	if err != nil {
		return err
	}
	if c.json() {
		return control.WriteDocument(c.out, m)
	}
	return control.WriteMetrics(c.out, m)
}
