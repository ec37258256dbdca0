package main

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
)

type initOptions struct {
	Mesh         string
	Name         string
	Tags         []string
	Root         secretSource
	RootTo       []string
	Plugins      []string
	DaemonSecret string // file
	Start        bool
}

func newInit(c *cli) *cobra.Command {
	o := initOptions{}
	cmd := &cobra.Command{
		Use:   "init --mesh NAME [--name NAME]",
		Short: "Found a mesh with this machine as its first member and issuer",
		Example: `  meshkey init --mesh homelab --name nas
  meshkey init --mesh homelab --start          and run it
  meshkey init --mesh homelab --passphrase-file /root/mesh.pass
  meshkey init --mesh homelab --root-recipient age1pq1…`,
		Long: `The root key is sealed to a passphrase. Keep both safe and apart: the daemon never needs them, but a lost issuer or a
stolen one can only be replaced with them. The passphrase is asked for, or read from a file; it is never an argument.
With --root-recipient the key is sealed to age recipients instead, whose identities can stay on another machine or a token. This
machine's own keys follow the [keys] table of meshkey.toml and the systemd credential ` + identityCredential + `.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runInit(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.Mesh, "mesh", "", "`name` of the mesh")
	f.StringVar(&o.Name, "name", "", "`name` of this machine in it (default: the host's name)")
	f.StringSliceVar(&o.Tags, "tag", nil, "a `tag` of this machine, may be repeated")
	secretFlags(f, &o.Root)
	f.StringSliceVar(&o.RootTo, "root-recipient", nil, "seal the root key to this age `recipient` instead of a passphrase, may be repeated")
	f.StringSliceVar(&o.Plugins, "plugin", nil, "allow the age plugin of this `name` (keys.plugins), may be repeated")
	f.BoolVar(&o.Start, "start", false, "start the daemon in the background, too (asked on a terminal)")
	f.StringVar(&o.DaemonSecret, "daemon-passphrase-file", "", "seal this machine's own keys to the passphrase in `file`: the daemon then needs it at each start")
	return cmd
}

func runInit(ctx context.Context, c *cli, o initOptions) error {
	if o.Mesh == "" {
		return control.Errorf(control.Usage, "meshkey init --mesh homelab", "the mesh needs a name")
	}
	if err := checkName("mesh", o.Mesh); err != nil {
		return err
	}
	name, err := c.machineName(o.Name)
	if err != nil {
		return err
	}
	tags := identity.NormalTags(o.Tags)
	if err := identity.CheckTags(tags); err != nil {
		return control.Errorf(control.Usage, "", "%w", err)
	}
	p, err := c.paths()
	if err != nil {
		return err
	}
	r := initRequest{StateDir: p.State, Mesh: o.Mesh, Name: name, Tags: tags, RootRecipients: o.RootTo}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if r.Keys, err = c.keyOptions(ctx, cfg, keyFlags{Plugins: o.Plugins}); err != nil {
		return err
	}
	if r.DaemonPassphrase, err = optionalSecret(o.DaemonSecret); err != nil {
		return err
	}
	if len(o.RootTo) == 0 {
		if r.RootPassphrase, err = c.passphrase(o.Root, "a passphrase for the root key", true); err != nil {
			return err
		}
	}
	d, err := c.system.Init(ctx, r)
	if err != nil {
		return err
	}
	d.StateDir = p.State
	return c.begun(ctx, d, &d.Daemon, func() {
		c.say("Created mesh %q with this machine as its first member and issuer.", d.Mesh.Name)
		table(c.out, [][]string{{"node", d.Node.Name, d.NodeText}, {"mesh", d.Mesh.Name, d.Mesh.ID}, {"root key", d.RootFile}})
		to := "your passphrase"
		if len(o.RootTo) > 0 {
			to = "the recipients you gave"
		}
		c.say("The root key is sealed to %s: copy it to a safe place off this machine: meshkey root export --out %s-root.age", to, d.Mesh.Name)
	}, o.Start, o.DaemonSecret, "meshkey invite NAME, for another machine")
}

// machineName returns the name given or, if there is none, the host's in the alphabet of names.
func (c *cli) machineName(given string) (string, error) {
	if given != "" {
		return given, checkName("machine", given)
	}
	host, err := c.hostname()
	if err == nil {
		host, _, _ = strings.Cut(strings.ToLower(host), ".")
		host = strings.Trim(strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, host), "-")
		err = identity.CheckName(host)
	}
	if err != nil {
		return "", control.Errorf(control.Usage, "give --name NAME", "this host's name cannot be a machine's name in a mesh: %w", err)
	}
	return host, nil
}

func checkName(what, s string) error {
	if err := identity.CheckName(s); err != nil {
		return control.Errorf(control.Usage, "", "the %s's name: %w", what, err)
	}
	return nil
}

// optionalSecret reads a passphrase from a file if one is named.
func optionalSecret(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	return secretFile(filepath.Clean(name))
}
