package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type rotateOptions struct {
	Group  bool
	Now    bool
	Drop   bool
	Yes    bool
	DryRun bool
	Wait   string
}

func newRotate(c *cli) *cobra.Command {
	o := rotateOptions{}
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Change this machine's key, or the mesh's group secret",
		Example: `  meshkey rotate --dry-run         what a new key of this machine would cut off
  meshkey rotate                   a new key; name, tags and grants stay
  meshkey rotate --group           a new group secret; members fetch it by themselves
  meshkey rotate --group --now     also if the last one is less than a day old`,
		Long: `Changes this machine's own key: a new one is made here, the old one signs that it follows, and an issuer that can be reached enrols the
new one and revokes the old one in one step. Name, tags and grants stay, and others' pinned names follow. Sessions and streams of this
machine end and are made again. A running "meshkey connect", here or to this machine, keeps its address: what is open is cut, new connections
work. The audit log goes on in a new one that commits to the old.
A daemon whose keys are sealed to a passphrase asks for it again, as at a start.
If the key may be known to somebody else, do not rotate: revoke the machine and enrol it anew, for whoever has the key can rotate, too.

--group changes the secret that hides beacons and the handshake from outsiders. It is changed by itself with a revocation, at most once a
day, and when it is 90 days old. A machine that is away meanwhile is heard with its old one when it comes back, and fetches the new one.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runRotate(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.Group, "group", false, "change the group secret, not this machine's key")
	f.BoolVar(&o.Now, "now", false, "with --group: also if the last one is less than a day old")
	f.BoolVar(&o.Drop, "drop", false, "give up a rotation that waits for an issuer which is gone for good")
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	f.BoolVar(&o.DryRun, "dry-run", false, "change nothing, show what it would cut off")
	f.StringVar(&o.Wait, "wait", defaultWait, "wait up to this `time` for peers to acknowledge a group secret, or for the daemon to serve with the new key")
	return cmd
}

func runRotate(ctx context.Context, c *cli, o rotateOptions) error {
	ms, err := waitMS(o.Wait)
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	switch {
	case o.Group && (o.Drop || o.DryRun || o.Yes):
		return control.Errorf(control.Usage, "meshkey rotate --group", "--drop, --dry-run and --yes are for this machine's key")
	case o.Now && !o.Group:
		return control.Errorf(control.Usage, "meshkey rotate --group --now", "--now is for the group secret")
	case !o.Group:
		return rotateNode(ctx, c, client, o, max(time.Duration(ms)*time.Millisecond, restartWait))
	}
	res, err := client.RotateGroup(ctx, &control.RotateGroupRequest{Now: o.Now, WaitMS: ms})
	if err != nil {
		return err
	}
	return c.print(res, func() {
		c.say("The group secret is new (generation %d); members fetch it by themselves.", res.Generation)
		c.say("%s", clean(spread(res.Spread)))
	})
}

// restartWait is the least that is waited for a daemon that takes its new key: it reads its logs again.
const restartWait = 30 * time.Second

func rotateNode(ctx context.Context, c *cli, client *control.Client, o rotateOptions, wait time.Duration) error {
	if o.DryRun || !o.Yes && !o.Drop {
		would, err := client.RotateNode(ctx, &control.RotateNodeRequest{DryRun: true})
		if err != nil {
			return err
		}
		if o.DryRun {
			return c.print(would, func() { c.wouldRotate(would) })
		}
		c.wouldRotate(would)
		if err := c.askName(ctx, "Type the machine's name to change its key: ", "--yes changes it without asking, --dry-run only shows", would.Old, "nothing was changed"); err != nil {
			return err
		}
	}
	res, err := client.RotateNode(ctx, &control.RotateNodeRequest{Drop: o.Drop})
	if err != nil {
		return err
	}
	if o.Drop {
		return c.print(res, func() {
			c.say("The rotation is given up; this machine's key is the one it had.")
			c.say("If its issuer had carried it out after all, enrol this machine again: meshkey invite %s, on an issuer", clean(node(res.Old)))
		})
	}
	if err := serves(ctx, client, res.New.ID, wait); err != nil {
		return err
	}
	return c.print(res, func() {
		c.say("%s has a new key: %s", clean(node(res.New)), clean(res.New.ID))
		c.say("  the old one, %s, is revoked by %s; name, tags and grants are the new one's", clean(res.Old.ID), clean(node(res.Issuer)))
		c.say("Next: meshkey audit verify, which checks the old key's log with the new one's; meshkey audit log --earlier 1 reads it")
	})
}

// serves waits until the daemon serves as a node.
func serves(ctx context.Context, client *control.Client, id string, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := client.Status(ctx)
		if err == nil && s.Node.ID == id {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return control.Errorf(control.Unreachable, "meshkey status; meshkey daemon, if it does not run", "the key is changed, and the daemon does not serve with it yet")
		}
	}
}

func (c *cli) wouldRotate(w *control.RotateNodeResult) {
	c.say("A new key for %s (now %s)", clean(node(w.Old)), clean(w.Old.ID))
	c.say("  ends %s and %s of this machine; they are made again", plural(uint64(w.Sessions), "session"), plural(uint64(w.Streams), "stream"))
	for _, g := range w.Grants {
		c.say("  passes on  %s  %s", clean(g.ID), clean(grantText(g)))
	}
	if w.Pending {
		c.say("  goes on with the rotation that is under way")
	}
}
