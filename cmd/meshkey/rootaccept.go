package main

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/trust"
)

type rootAcceptOptions struct {
	What []string
	Yes  bool
	Wait string
}

func newRootAccept(c *cli) *cobra.Command {
	o := rootAcceptOptions{}
	cmd := &cobra.Command{
		Use:   "accept FILE… | HASH",
		Short: "Make a signed root hold, or choose between roots that contradict each other",
		Example: `  meshkey root accept next.root
  meshkey root accept from-anna.root from-ben.root      copies of one proposal, signed apart
  meshkey root accept HASH                              ends a fork, on this machine; meshkey root show lists the hashes`,
		Args: between(1, 15, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.What = args
			return runRootAccept(cmd.Context(), c, o)
		},
	}
	cmd.Flags().BoolVarP(&o.Yes, "yes", "y", false, "do not ask before a fork is ended")
	cmd.Flags().StringVar(&o.Wait, "wait", defaultWait, "wait up to this `time` for peers to acknowledge")
	return cmd
}

func runRootAccept(ctx context.Context, c *cli, o rootAcceptOptions) error {
	if len(o.What) == 1 && isHash(o.What[0]) {
		return c.chooseRoot(ctx, o)
	}
	var p *trust.Proposal
	for _, name := range o.What {
		text, err := c.readCarried(name)
		if err != nil {
			return err
		}
		next, err := trust.ParseProposal(text)
		if err != nil {
			return daemon.RootError(err)
		}
		if p == nil {
			p = next
		} else if err := p.Merge(next); err != nil {
			return daemon.RootError(err)
		}
	}
	c.showProposal(p)
	return c.acceptProposal(ctx, p, o.Wait)
}

// isHash reports whether an argument is the hash of a root and no file.
func isHash(s string) bool {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 32 {
		return false
	}
	_, err = os.Stat(s)
	return errors.Is(err, fs.ErrNotExist)
}

// chooseRoot ends a fork by the operator's word.
func (c *cli) chooseRoot(ctx context.Context, o rootAcceptOptions) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	d, err := client.Root(ctx)
	if err != nil {
		return err
	}
	for _, f := range d.Pending {
		if f.Hash != o.What[0] || o.Yes {
			continue
		}
		c.say("root %d, to follow root %d", f.Version, d.Version)
		c.sayChanges(f.Changes)
		answer, err := c.ask(ctx, "The other root is refused for ever. Choose this one? [y/N] ", "--yes chooses without asking")
		if err != nil {
			return err
		}
		if answer != "y" && answer != "Y" && answer != "yes" {
			return control.Errorf(control.Failed, "", "nothing was changed")
		}
	}
	return c.acceptRoot(ctx, &control.AcceptRootRequest{Hash: o.What[0]}, o.Wait)
}
