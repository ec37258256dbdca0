package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/trust"
)

type rootSignOptions struct {
	File  string
	Out   string
	Chain string
	Yes   bool
	Key   rootKeyFlags
}

func newRootSign(c *cli) *cobra.Command {
	o := rootSignOptions{}
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Add a root key's signature to a proposal, on any machine, without a network",
		Example: `  meshkey root sign next.root
  meshkey root sign next.root --key /media/stick/root.age --chain homelab.chain`,
		Long: `Shows what changes against the root before it, and asks. The file holds the whole chain of roots, and the key names its mesh, so
nothing else is needed. What the file cannot know is whether its last root is still the newest: --chain FILE compares it with a chain
you trust, and where a daemon runs its chain is compared by itself.`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.File = args[0]
			return runRootSign(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Out, "out", "", "write the signed proposal to this `file` instead of replacing FILE")
	f.StringVar(&o.Chain, "chain", "", "the root chain to compare with, a `file` of meshkey root export --chain")
	f.BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	o.Key.add(cmd)
	return cmd
}

func runRootSign(ctx context.Context, c *cli, o rootSignOptions) error {
	text, err := c.readCarried(o.File)
	if err != nil {
		return err
	}
	p, err := trust.ParseProposal(text)
	if err != nil {
		return daemon.RootError(err)
	}
	if err := c.compareChain(ctx, p, o.Chain); err != nil {
		return err
	}
	c.showProposal(p)
	if err := c.signProposal(ctx, p, o.Key, o.Yes); err != nil {
		return err
	}
	signed, err := p.Encode()
	if err != nil {
		return err
	}
	out := o.Out
	switch {
	case out == "" && o.File == "-":
		return control.Errorf(control.Usage, "give --out FILE", "a proposal from stdin has no file to go back to")
	case out == "":
		out, err = o.File, writeFile(o.File, signed, 0o644, true)
	default:
		err = writeFile(out, signed, 0o644, false)
	}
	if err != nil {
		return err
	}
	return c.print(proposalDoc(p), func() {
		g := p.Progress()
		c.say("Signed: %d of %d by the keys before the change, %d of %d by those after it.", g.Old, g.OldNeed, g.New, g.NewNeed)
		c.sayNext(p, out)
	})
}

// compareChain holds the root a proposal follows to one that is known otherwise: that of a file, else that of the daemon if there is one
// here, in the same mesh.
func (c *cli) compareChain(ctx context.Context, p *trust.Proposal, file string) error {
	st, err := c.chain(ctx, file)
	if err != nil {
		if file != "" {
			return err
		}
		return nil // no daemon here: the file alone says what it follows
	}
	if st.Mesh() != p.Base().Mesh {
		if file == "" {
			return nil // this machine is in another mesh
		}
		return control.Errorf(control.Unverified, "get the file of this mesh", "the proposal is for mesh %s, the chain of mesh %s", p.Base().Mesh.Short(), st.Mesh().Short())
	}
	if st.Root().Hash() != p.Base().Hash() {
		return control.Errorf(control.Unverified, "make the change again on the root that holds: meshkey root show",
			"the proposal follows root %d (%s), and root %d (%s) holds", p.Base().Version, p.Base().Hash(), st.Root().Version, st.Root().Hash())
	}
	return nil
}
