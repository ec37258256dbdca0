package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// identityCredential is the name of an age identity in systemd's $CREDENTIALS_DIRECTORY: it opens key files, and the daemon's are sealed
// to it.
const identityCredential = "meshkey.identity"

// keyFlags are the ways to open a key file that is sealed to an age identity, beyond the [keys] table of meshkey.toml.
type keyFlags struct {
	Identities []string
	Plugins    []string
}

func (k *keyFlags) add(f *pflag.FlagSet) {
	f.StringSliceVar(&k.Identities, "identity", nil, "`file` of an age identity that opens the key, may be repeated")
	f.StringSliceVar(&k.Plugins, "plugin", nil, "allow the age plugin of this `name` (keys.plugins), may be repeated")
}

// keyOptions are those of the configuration, the service manager and the flags together.
func (c *cli) keyOptions(ctx context.Context, cfg *config.Config, k keyFlags) (daemon.KeyOptions, error) {
	o := daemon.KeyOptions{
		Recipients: cfg.Keys.Recipients, Identities: append([]string{}, k.Identities...), Plugins: append(append([]string{}, cfg.Keys.Plugins...), k.Plugins...),
		UI: keys.PluginUI{
			Say: func(text string) { c.say("%s", clean(text)) },
			Ask: func(prompt string, secret bool) (string, error) {
				if !secret {
					return c.ask(ctx, clean(prompt)+": ", "")
				}
				if !c.inTerm {
					return "", errors.New("no terminal")
				}
				fmt.Fprintf(c.err, "%s: ", clean(prompt))
				b, err := c.typed()
				return string(b), err
			},
			Confirm: func(prompt, yes, no string) (bool, error) {
				answer, err := c.ask(ctx, fmt.Sprintf("%s [%s/%s] ", clean(prompt), clean(yes), clean(no)), "")
				return answer == yes, err
			},
		},
	}
	if cfg.Keys.Identity != "" {
		o.Identities = append(o.Identities, cfg.Keys.Identity)
	}
	if dir := c.getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		o.Credential = filepath.Join(dir, identityCredential)
	}
	for i, name := range o.Identities {
		abs, err := filepath.Abs(name)
		if err != nil {
			return o, err
		}
		o.Identities[i] = abs
	}
	return o, nil
}

// config reads meshkey.toml, and what the environment says in its place.
func (c *cli) config() (*config.Config, error) {
	p, err := c.paths()
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(p.Config)
	if err != nil {
		return nil, control.Errorf(control.Usage, "correct the file, or give another with --config", "%w", err)
	}
	if err := cfg.Environment(c.getenv); err != nil {
		return nil, control.Errorf(control.Usage, "correct or unset the variable", "%w", err)
	}
	return cfg, nil
}

// ownKeyOptions is keyOptions without flags.
func (c *cli) ownKeyOptions(ctx context.Context) (daemon.KeyOptions, error) {
	cfg, err := c.config()
	if err != nil {
		return daemon.KeyOptions{}, err
	}
	return c.keyOptions(ctx, cfg, keyFlags{})
}

// keyFileError gives what is wrong with a key file its exit code.
func keyFileError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*control.Error)):
		return err
	case errors.Is(err, keys.ErrWeakPassphrase):
		return control.Errorf(control.Usage, weakHelp, "%w", err)
	case errors.Is(err, keys.ErrPassphrase):
		return control.Errorf(control.Failed, "try again; nobody can open it without its passphrase", "%w", err)
	case errors.Is(err, keys.ErrPlugin), errors.Is(err, keys.ErrPluginName), errors.Is(err, keys.ErrRecipient):
		return control.Errorf(control.Usage, "", "%w", err)
	case errors.Is(err, keys.ErrLocked):
		return control.Errorf(control.Failed, "give what it is sealed to: --identity FILE, or a passphrase", "%w", err)
	case errors.Is(err, keys.ErrOtherKey):
		return control.Errorf(control.Unverified, "give the file of the right key", "%w", err)
	case errors.Is(err, keys.ErrKeyFile):
		return control.Errorf(control.Unverified, "restore the file from a backup", "%w", err)
	case errors.Is(err, durable.ErrLocked):
		return control.Errorf(control.InUse, "stop the daemon first: it holds these keys", "%w", err)
	case errors.Is(err, fs.ErrNotExist):
		return control.Errorf(control.NotFound, "meshkey keys ls", "%s: %w", what, err)
	case errors.Is(err, fs.ErrExist):
		return control.Errorf(control.Failed, "", "%w", err)
	case errors.Is(err, fs.ErrPermission):
		return control.Errorf(control.Failed, "run it as the owner of the file and its directory, or choose another place", "%s: %w", what, err)
	}
	return control.Errorf(control.Failed, "", "%s: %w", what, err)
}

// maxCarried bounds a file that is read whole: a proposal at its largest.
const maxCarried = 4<<20 + 1

// readCarried reads a file that came from another machine, or stdin for "-".
func (c *cli) readCarried(name string) ([]byte, error) {
	if name == "-" {
		return readAll(c.in, "stdin")
	}
	f, err := os.Open(name)
	if err != nil {
		code := control.Failed
		if errors.Is(err, fs.ErrNotExist) {
			code = control.NotFound
		}
		return nil, control.Errorf(code, "name the file as it was given to you", "%w", err)
	}
	defer f.Close()
	return readAll(f, name)
}
