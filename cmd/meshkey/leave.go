package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type leaveOptions struct {
	Yes    bool
	DryRun bool
	Force  bool
	Wait   string
}

func newLeave(c *cli) *cobra.Command {
	o := leaveOptions{}
	cmd := &cobra.Command{
		Use:   "leave",
		Short: "Leave the mesh: have this machine's key revoked, and set its state aside",
		Example: `  meshkey leave --dry-run        what ends
  meshkey leave
  meshkey leave --yes --force    also if no issuer can be asked: then an admin has to revoke the key`,
		Long: `Asks an issuer that can be reached to revoke this machine's key, for ever, and stops the daemon. Keys, logs and settings of the
membership go into the folder left-N of the state directory, the mesh's group secrets are removed. The audit log stays there:
meshkey audit verify --offline --state DIR/left-1. To come back the machine is enrolled anew.

Without an issuer nothing is changed, unless --force says so: then the key stays valid until somebody revokes it. The last issuer of a mesh
does not leave without --force either.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runLeave(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.DryRun, "dry-run", false, "change nothing, show what ends")
	f.BoolVar(&o.Force, "force", false, "leave although no issuer can be asked, or although this is the last one")
	f.StringVar(&o.Wait, "wait", "15s", "look up to this `time` for an issuer")
	return cmd
}

func runLeave(ctx context.Context, c *cli, o leaveOptions) error {
	ms, err := waitMS(o.Wait)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if o.DryRun || !o.Yes {
		would, err := client.Leave(ctx, &control.LeaveRequest{DryRun: true, Force: o.Force})
		if err != nil {
			return err
		}
		if o.DryRun {
			return c.print(would, func() { c.wouldLeave(would) })
		}
		c.wouldLeave(would)
		if err := c.askName(ctx, "Type the machine's name to leave: ", "--yes leaves without asking, --dry-run only shows", would.Node, "nothing was changed"); err != nil {
			return err
		}
	}
	res, err := client.Leave(ctx, &control.LeaveRequest{Force: o.Force, WaitMS: ms})
	if err != nil {
		return err
	}
	if err := gone(ctx, client); err != nil {
		return err
	}
	return c.print(res, func() {
		switch {
		case res.Already:
			c.say("%s has left %s: its key was revoked before, by %s.", clean(node(res.Node)), clean(res.Mesh.Name), clean(node(res.Issuer)))
		case res.Applied:
			c.say("%s has left %s: its key is revoked by %s.", clean(node(res.Node)), clean(res.Mesh.Name), clean(node(res.Issuer)))
		case res.Told:
			c.say("%s has left %s; by what peers say, its key was revoked before.", clean(node(res.Node)), clean(res.Mesh.Name))
		default:
			c.say("%s has left %s, and its key is still valid.", clean(node(res.Node)), clean(res.Mesh.Name))
		}
		c.warn(res.Warnings)
		c.say("Keys, settings and the audit log are in %s; the group secrets are removed.", clean(res.Kept))
		c.say("Check the log: meshkey audit verify --offline --state %s; read it: meshkey audit log --offline --state %s", clean(res.Kept), clean(res.Kept))
	})
}

// gone waits until the daemon has stopped: only then is its state aside.
func gone(ctx context.Context, client *control.Client) error {
	ctx, cancel := context.WithTimeout(ctx, restartWait)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := client.Version(ctx); err != nil && ctx.Err() == nil && control.AsError(err).Code == control.NotRunning {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return control.Errorf(control.Unreachable, "its log says why; stop it, and run meshkey leave again if it starts", "the key is revoked, and the daemon has not stopped yet")
		}
	}
}

func (c *cli) wouldLeave(w *control.LeaveResult) {
	c.say("%s leaves %s (%s)", clean(node(w.Node)), clean(w.Mesh.Name), clean(w.Node.ID))
	c.say("  ends %s and %s", plural(uint64(w.Sessions), "session"), plural(uint64(w.Streams), "stream"))
	if len(w.Services) > 0 {
		c.say("  no longer offers %s", clean(strings.Join(w.Services, ", ")))
	}
	for _, g := range w.Grants {
		c.say("  makes void  %s  %s", clean(g.ID), clean(grantText(g)))
	}
	c.shared(w.Shared)
	c.say("  keys, settings and the audit log go to %s, the group secrets are removed", clean(w.Kept))
	c.warn(w.Warnings)
}

// shared shows grants that a machine has a part in and that stay without it.
func (c *cli) shared(grants []control.Grant) {
	for _, g := range grants {
		c.say("  no longer by  %s  %s", clean(g.ID), clean(grantText(g)))
	}
}
