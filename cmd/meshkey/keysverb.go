package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/keys"
)

func newKeys(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Show, make and reseal this machine's key files",
		Example: `  meshkey keys ls
  meshkey keys new issuer                      an issuer's key, used as soon as the root names it
  meshkey keys new root --name safe            a root key, on any machine
  meshkey keys reseal root --to age1pq1…       seal it anew; the old file goes when the new one has opened`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return groupHelp(cmd, args) },
	}
	cmd.AddCommand(newKeysLs(c), newKeysNew(c), newKeysReseal(c))
	return cmd
}

// keysDocument lists key files.
type keysDocument struct {
	control.Envelope
	StateDir string        `json:"state_dir"`
	Keys     []keyDocument `json:"keys"`
}

type keyDocument struct {
	Kind  string   `json:"kind"`
	File  string   `json:"file"`
	Seals []string `json:"sealed_to"` // passphrase, age, age-pq, or a plugin's word
	Key   string   `json:"key,omitempty"`
	Note  string   `json:"note,omitempty"`
}

func (*keysDocument) SchemaName() string { return "meshkey.keys/1" }

func newKeysLs(c *cli) *cobra.Command {
	k := keyFlags{}
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List this machine's key files and what they are sealed to",
		Example: `  meshkey keys ls`,
		Long:    `Files that open without asking show their public key. Nothing is asked for and nothing is changed.`,
		Args:    none(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := c.paths()
			if err != nil {
				return err
			}
			cfg, err := c.config()
			if err != nil {
				return err
			}
			o, err := c.keyOptions(cmd.Context(), cfg, k)
			if err != nil {
				return err
			}
			list, err := daemon.ListKeys(p.State, o)
			if err != nil {
				return keyFileError("the state directory", err)
			}
			d := &keysDocument{StateDir: p.State, Keys: []keyDocument{}}
			rows := [][]string{{"KIND", "SEALED TO", "FILE", "KEY"}}
			for _, f := range list {
				x := keyDocument{Kind: string(f.Kind), File: f.File, Seals: append([]string{}, f.Seals...), Note: f.Note}
				if !f.Key.IsZero() {
					x.Key = keys.NodeID(f.Key).Compact()
				}
				d.Keys = append(d.Keys, x)
				what := x.Key
				if what == "" {
					what = dash(x.Note)
				}
				rows = append(rows, []string{x.Kind, dash(strings.Join(x.Seals, ",")), filepath.Base(x.File), what})
			}
			return c.print(d, func() {
				if len(list) == 0 {
					c.say("no keys in %s: %s", p.State, firstSteps)
					return
				}
				table(c.out, rows)
			})
		},
	}
	k.add(cmd.Flags())
	return cmd
}
