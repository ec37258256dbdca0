package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

func newRootAddKey(c *cli) *cobra.Command {
	o := changeOptions{}
	name, threshold := "", uint64(0)
	cmd := &cobra.Command{
		Use:   "add-key FILE… | -",
		Short: "Propose further root keys",
		Example: `  meshkey keys new root --name safe > safe.key        where the key shall be; the line names it, and is public
  meshkey root add-key safe.key --out next.root
  meshkey root add-key safe.key vault.key --threshold 2 --out next.root`,
		Long: `More than half of the keys must be needed. Without --threshold it stays as it is, or becomes the least that is more than half:
a second key makes it 2 of 2, so that the new one has to sign as well; a third leaves it at 2 of 3.`,
		Args: between(1, 14, "FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if name != "" && len(args) > 1 {
				return control.Errorf(control.Usage, "", "--name is for one key")
			}
			st, err := c.chain(cmd.Context(), o.Chain)
			if err != nil {
				return err
			}
			var lines []keys.PublicLine
			for _, file := range args {
				l, err := c.publicLine(file, keys.KindRoot, st.Mesh())
				if err != nil {
					return err
				}
				if name != "" {
					l.Name = name
				}
				lines = append(lines, l)
			}
			return c.proposeOn(cmd.Context(), st, o, func(r *trust.Root) error {
				for _, l := range lines {
					if err := r.AddKey(trust.RootKey{Pub: l.Key, Name: l.Name}, threshold); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the key in the root (default: the one in the line)")
	cmd.Flags().Uint64Var(&threshold, "threshold", 0, "how `many` keys have to sign from then on")
	o.add(cmd)
	return cmd
}

func newRootRemoveKey(c *cli) *cobra.Command {
	o := changeOptions{}
	threshold := uint64(0)
	cmd := &cobra.Command{
		Use:     "remove-key NAME",
		Short:   "Propose the root without one of its keys",
		Example: `  meshkey root remove-key safe --out next.root`,
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.propose(cmd.Context(), o, func(r *trust.Root) error { return r.RemoveKey(args[0], threshold) })
		},
	}
	cmd.Flags().Uint64Var(&threshold, "threshold", 0, "how `many` keys have to sign from then on")
	o.add(cmd)
	return cmd
}

func newRootThreshold(c *cli) *cobra.Command {
	o := changeOptions{}
	cmd := &cobra.Command{
		Use:     "threshold M",
		Short:   "Propose how many root keys have to sign",
		Example: `  meshkey root threshold 2 --out next.root`,
		Args:    exactly("M"),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := strconv.ParseUint(args[0], 10, 8)
			if err != nil || m == 0 {
				return control.Errorf(control.Usage, "meshkey root threshold 2", "%q is no number of keys", clipArg(args[0]))
			}
			return c.propose(cmd.Context(), o, func(r *trust.Root) error { r.Threshold = m; return nil })
		},
	}
	o.add(cmd)
	return cmd
}
