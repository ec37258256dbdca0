package main

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

type rootExportOptions struct {
	Out   string
	Chain bool
	Key   string
}

func newRootExport(c *cli) *cobra.Command {
	o := rootExportOptions{}
	cmd := &cobra.Command{
		Use:   "export --out FILE",
		Short: "Back up the sealed root key, or write the public chain of roots",
		Example: `  meshkey root export --out /media/stick/homelab-root.age     the sealed key; it opens with its passphrase
  meshkey root export --chain --out homelab.chain             public: to propose and compare on a machine off the network`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runRootExport(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Out, "out", "", "`file` to write; with --chain stdout if there is none")
	f.BoolVar(&o.Chain, "chain", false, "the public chain of roots instead of the key")
	f.StringVar(&o.Key, "key", "", "`file` of the root key (default: root.age in the state directory)")
	return cmd
}

// exportDocument tells where a key was copied to.
type exportDocument struct {
	control.Envelope
	From  string   `json:"from"`
	Path  string   `json:"path"`
	Seals []string `json:"sealed_to"`
}

func (*exportDocument) SchemaName() string { return "meshkey.root-export/1" }

func runRootExport(ctx context.Context, c *cli, o rootExportOptions) error {
	if o.Chain {
		st, err := c.chain(ctx, "")
		if err != nil {
			return err
		}
		text := st.EncodeChain()
		if o.Out == "" && !c.json() {
			_, err := c.out.Write(text)
			return err
		}
		if o.Out != "" {
			if err := writeFile(o.Out, text, 0o644, false); err != nil {
				return err
			}
		}
		return c.print(&control.RootChain{Text: string(text), Path: o.Out}, func() { c.say("Wrote the public chain of roots to %s.", o.Out) })
	}
	if o.Out == "" {
		return control.Errorf(control.Usage, "meshkey root export --out homelab-root.age", "a key goes into a file")
	}
	file, err := c.rootKeyFile(rootKeyFlags{File: o.Key})
	if err != nil {
		return err
	}
	fsys, err := durable.View(filepath.Dir(file))
	if err != nil {
		return keyFileError("the root key "+file, err)
	}
	seals, err := keys.Seals(fsys, filepath.Base(file))
	if closer, ok := fsys.(io.Closer); ok {
		_ = closer.Close()
	}
	if err != nil {
		return keyFileError("the root key "+file, err)
	}
	sealed, err := os.ReadFile(file)
	if err != nil {
		return keyFileError("the root key "+file, err)
	}
	if err := writeFile(o.Out, sealed, 0o600, false); err != nil {
		return err
	}
	return c.print(&exportDocument{From: file, Path: o.Out, Seals: seals}, func() {
		c.say("Copied the sealed root key to %s. It opens with what %s opens with, and with nothing else: keep both, apart.", o.Out, file)
		c.say("The original stays. To keep the key off this machine, try the copy (meshkey root sign --key), then remove %s.", file)
	})
}
