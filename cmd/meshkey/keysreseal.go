package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

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
