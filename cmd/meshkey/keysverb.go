package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
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
			return c.print(d, func() { table(c.out, rows) })
		},
	}
	k.add(cmd.Flags())
	return cmd
}

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

type resealOptions struct {
	Key       string
	To        []string
	NewSecret string
	Secret    secretSource
	Keys      keyFlags
}

func newKeysReseal(c *cli) *cobra.Command {
	o := resealOptions{}
	cmd := &cobra.Command{
		Use:   "reseal KEY --to RECIPIENT | --new-passphrase-file FILE",
		Short: "Seal a key file to something else",
		Example: `  meshkey keys reseal root --to age1pq1… --identity /media/stick/age.txt
  meshkey keys reseal root --new-passphrase-file new.pass
  meshkey keys reseal node --to age1yubikey1…         the daemon has to be stopped`,
		Long: `KEY is root, node, issuer, group, or the path of a root key file. The new file has to open here before the old one goes: give an
identity of one of the recipients. For the daemon's own keys (node, issuer, group) that is the one it will start with: keys.identity
in meshkey.toml, or the systemd credential ` + identityCredential + `; set keys.recipients too, for the secrets to come. Old copies of
the file still open with what they were sealed to.`,
		Args: exactly("KEY"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Key = args[0]
			return runKeysReseal(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.To, "to", nil, "age `recipient` to seal to, may be repeated")
	f.StringVar(&o.NewSecret, "new-passphrase-file", "", "seal to the passphrase in this `file`")
	secretFlags(f, &o.Secret)
	o.Keys.add(f)
	return cmd
}

// resealDocument tells what was sealed anew.
type resealDocument struct {
	control.Envelope
	Files []string `json:"files"`
}

func (*resealDocument) SchemaName() string { return "meshkey.reseal/1" }

func runKeysReseal(ctx context.Context, c *cli, o resealOptions) error {
	if len(o.To) > 0 && o.NewSecret != "" {
		return control.Errorf(control.Usage, "", "--to and --new-passphrase-file exclude each other")
	}
	if len(o.To) == 0 && o.NewSecret == "" && !c.inTerm {
		return control.Errorf(control.Usage, "give --to RECIPIENT or --new-passphrase-file FILE", "what shall it be sealed to?")
	}
	key := o.Key
	switch key {
	case "root", "node", "issuer", "group":
	default:
		abs, err := filepath.Abs(key)
		if err != nil {
			return err
		}
		key = abs
	}
	p, err := c.paths()
	if err != nil {
		return err
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	flags := o.Keys
	if key == "node" || key == "issuer" || key == "group" {
		flags.Identities = nil // the daemon starts without them
		if len(o.Keys.Identities) > 0 {
			return control.Errorf(control.Usage, "name it by keys.identity in meshkey.toml", "the daemon has to open this key at its start, without --identity")
		}
	}
	ko, err := c.keyOptions(ctx, cfg, flags)
	if err != nil {
		return err
	}
	files, err := daemon.Reseal(daemon.ResealOptions{
		StateDir: p.State, Key: key, To: o.To, Keys: ko,
		NewPassphrase: func() (string, error) {
			if o.NewSecret != "" {
				b, err := secretFile(o.NewSecret)
				return string(b), err
			}
			b, err := c.passphrase(secretSource{FD: -1}, "a new passphrase", true)
			return string(b), err
		},
		Passphrase: func() (string, error) {
			b, err := c.passphrase(o.Secret, "the passphrase it is sealed to now", false)
			return string(b), err
		},
	})
	if len(files) > 0 && err != nil {
		err = errors.Join(fmt.Errorf("%d files were sealed anew before", len(files)), err)
	}
	if err != nil {
		return keyFileError("the key", err)
	}
	return c.print(&resealDocument{Files: files}, func() {
		for _, f := range files {
			c.say("Sealed anew, and opened once: %s", f)
		}
		c.say("Copies made before still open with what they were sealed to: replace your backups.")
	})
}
