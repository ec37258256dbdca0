package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/keys"
)

func newKeysNew(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make an issuer's key or a root key, and print the line that names it",
		Example: `  meshkey keys new issuer > pi4.key        then, where a root key is: meshkey root issuer add pi4.key
  meshkey keys new root --name safe --out /media/stick/safe.age --chain homelab.chain > safe.key`,
		Long: `The line is public. Whoever puts it into the root should compare the key with what stands here: a line that was changed on its
way names somebody else's key.`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return groupHelp(cmd, args) },
	}
	cmd.AddCommand(newKeysNewIssuer(c), newKeysNewRoot(c))
	return cmd
}

func newKeysNewIssuer(c *cli) *cobra.Command {
	name := ""
	cmd := &cobra.Command{
		Use:     "issuer",
		Short:   "Make this machine's issuer key; its daemon uses it as soon as the root names it",
		Example: `  meshkey keys new issuer > pi4.key`,
		Args:    none(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if name == "" {
				s, err := client.Status(cmd.Context())
				if err != nil {
					return err
				}
				name = s.Node.Name
			}
			if err := checkName("issuer", name); err != nil {
				return err
			}
			d, err := client.NewIssuerKey(cmd.Context(), &control.NewIssuerKeyRequest{Name: name})
			if err != nil {
				return err
			}
			return c.printKey(d, "meshkey root issuer add FILE")
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "`name` of the issuer (default: this machine's)")
	return cmd
}

// printKey prints the line as data, and what to do with it as words.
func (c *cli) printKey(d *control.PublicKey, next string) error {
	return c.print(d, func() {
		fmt.Fprintln(c.out, d.Line)
		if d.Existed {
			c.say("This key was made before and waits for the root to name it.")
		}
		id, err := keys.ParseNodeID(d.Key)
		if err == nil {
			c.say("%s key %s, sealed in %s.", d.Kind, id.Short(), d.File)
		}
		c.say("Put the line into a file, and where a root key is: %s", next)
	})
}

type newRootKeyOptions struct {
	Name, Out, Chain, Mesh string
	To                     []string
	Secret                 secretSource
	Plugins                []string
}

func newKeysNewRoot(c *cli) *cobra.Command {
	o := newRootKeyOptions{}
	cmd := &cobra.Command{
		Use:   "root --name NAME",
		Short: "Make a root key, on any machine, without a network",
		Example: `  meshkey keys new root --name safe --chain homelab.chain > safe.key
  meshkey keys new root --name safe --to age1pq1… > safe.key      where the daemon runs, it knows the mesh`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runKeysNewRoot(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "`name` of the key in the root")
	f.StringVar(&o.Out, "out", "", "`file` for the sealed key (default: root.age in the state directory)")
	f.StringVar(&o.Chain, "chain", "", "take the mesh from the root chain in this `file` instead of asking the daemon")
	f.StringVar(&o.Mesh, "mesh", "", "the mesh's `id`, as meshkey root show prints it, instead")
	f.StringSliceVar(&o.To, "to", nil, "seal it to this age `recipient` instead of a passphrase, may be repeated")
	f.StringSliceVar(&o.Plugins, "plugin", nil, "allow the age plugin of this `name` (keys.plugins), may be repeated")
	secretFlags(f, &o.Secret)
	return cmd
}

func runKeysNewRoot(ctx context.Context, c *cli, o newRootKeyOptions) error {
	if o.Name == "" {
		return control.Errorf(control.Usage, "meshkey keys new root --name safe", "the key needs a name")
	}
	if err := checkName("root key", o.Name); err != nil {
		return err
	}
	var mesh keys.MeshID
	if o.Mesh != "" {
		b, err := hex.DecodeString(o.Mesh)
		if err != nil || len(b) != len(mesh) || keys.MeshID(b).IsZero() {
			return control.Errorf(control.Usage, "meshkey root show", "%q is no id of a mesh: it has 64 hexadecimal digits", clipArg(o.Mesh))
		}
		mesh = keys.MeshID(b)
	} else {
		st, err := c.chain(ctx, o.Chain)
		if err != nil {
			return err
		}
		mesh = st.Mesh()
	}
	file, err := c.rootKeyFile(rootKeyFlags{File: o.Out})
	if err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	ko, err := c.keyOptions(ctx, cfg, keyFlags{Plugins: o.Plugins})
	if err != nil {
		return err
	}
	ko.Recipients = o.To // those of the configuration are for the daemon's keys
	d, err := daemon.NewRootKey(daemon.RootKeyOptions{
		File: file, Mesh: mesh, Name: o.Name, Keys: ko,
		Passphrase: func() (string, error) {
			b, err := c.passphrase(o.Secret, "a passphrase for the root key", true)
			return string(b), err
		},
	})
	if err != nil {
		return keyFileError("the root key", err)
	}
	return c.printKey(d, "meshkey root add-key FILE --out next.root")
}
