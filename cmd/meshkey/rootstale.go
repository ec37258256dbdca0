package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/trust"
)

func newRootStale(c *cli) *cobra.Command {
	o := changeOptions{}
	after, action := "", ""
	cmd := &cobra.Command{
		Use:   "stale",
		Short: "Propose from which age on a node's view of the mesh counts as stale",
		Example: `  meshkey root stale --after 15m --action warn        status says so, and ends with code 8
  meshkey root stale --after 1h --action restrict     and the node opens and takes no streams until it knows more
  meshkey root stale --after never`,
		Long: `A machine that is kept from the others sees an old but valid view, in which nobody was revoked since. What tells it how old its view
is are heads: each issuer with the right "head" signs one every five minutes while its daemon runs. With restrict, streams end on every
machine that has seen none for that time, so let two machines sign heads, and give them time for a reboot.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if after == "" {
				return control.Errorf(control.Usage, "--after 15m, or --after never", "from which age on is missing")
			}
			limit := time.Duration(0)
			if after != "never" {
				var err error
				if limit, err = parseSpan(after); err != nil {
					return err
				}
				if limit < daemon.LeastStale {
					return control.Errorf(control.Usage, "--after 15m", "heads come every five minutes, so a view is not stale before %s", millis(daemon.LeastStale.Milliseconds()))
				}
			} else if action != "" {
				return control.Errorf(control.Usage, "leave --action out", "a view that is never stale needs no action")
			}
			number := map[string]uint64{"": 0, "warn": 0, "restrict": 1}
			n, ok := number[action]
			if !ok {
				return control.Errorf(control.Usage, "write warn or restrict", "%q is no action", clipArg(action))
			}
			return c.propose(cmd.Context(), o, func(r *trust.Root) error {
				signs := false
				for i := range r.Issuers {
					is := &r.Issuers[i]
					signs = signs || is.Works(time.Now().Unix()) && is.Caps.Has(trust.CapHead)
				}
				if n == 1 && !signs && !o.Force {
					return control.Errorf(control.Denied, "add an issuer with the right head first (meshkey root issuer add), or add --force",
						"no issuer of this root signs heads, so every view would be stale and every stream end")
				}
				r.Params.MaxStale, r.Params.StaleAction = int64(limit/time.Second), n
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&after, "after", "", "the `age` from which on a view is stale, or never")
	cmd.Flags().StringVar(&action, "action", "", "`what` to do beyond it: warn (default) or restrict")
	o.add(cmd)
	return cmd
}
