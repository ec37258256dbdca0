package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// KeyOptions says what seals and opens this host's key files besides the identity file in the state directory and a passphrase. The
// zero value adds nothing.
type KeyOptions struct {
	// Recipients are who new key files are sealed to. Whoever starts the daemon needs an identity of one of them.
	Recipients []string
	// Identities are files of age identities to open with. A missing one is an error.
	Identities []string
	// Credential is a file of age identities the service manager may have put there; a missing one is none. Key files are sealed to it
	// if there are no Recipients.
	Credential string
	// Plugins are the age plugins that may be run, and UI how they speak with a person.
	Plugins []string
	UI      keys.PluginUI
}

// ring is KeyOptions, opened.
type ring struct {
	plugins  keys.Plugins
	identity *keys.FileIdentity // nil: none
	to       keys.Recipient
	sealed   bool // to is set
}

func openRing(o KeyOptions) (ring, error) {
	var r ring
	var err error
	if r.plugins, err = keys.NewPlugins(o.Plugins, o.UI); err != nil {
		return ring{}, err
	}
	var ids []*keys.FileIdentity
	credential, err := r.read(o.Credential)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return ring{}, fmt.Errorf("the credential: %w", err)
	}
	ids = append(ids, credential)
	for _, name := range o.Identities {
		id, err := r.read(name)
		if err != nil {
			return ring{}, fmt.Errorf("the identity file: %w", err)
		}
		ids = append(ids, id)
	}
	r.identity = keys.JoinIdentities(ids...)
	switch {
	case len(o.Recipients) > 0:
		if r.to, err = r.plugins.ParseRecipients(o.Recipients...); err != nil {
			return ring{}, err
		}
		r.sealed = true
	case credential != nil:
		r.to, r.sealed = credential.Recipient(), true
	}
	return r, nil
}

// read reads a file of identities anywhere; it must be closed to other users.
func (r ring) read(name string) (*keys.FileIdentity, error) {
	if name == "" {
		return nil, nil
	}
	fsys, err := durable.View(filepath.Dir(name))
	if err != nil {
		return nil, err
	}
	defer closeFS(fsys)
	return r.plugins.ReadIdentityFile(fsys, filepath.Base(name))
}

type keyFile struct {
	name string
	key  keys.KeyMaterial
}

// writeKeys seals the daemon's keys: to what the options say, to a passphrase, or to a new identity file, so that it starts unattended.
func (d *stateDir) writeKeys(passphrase string, files ...keyFile) error {
	if !d.ring.sealed && passphrase == "" {
		if _, err := keys.NewIdentityFile(d.fs, fileIdentity); err != nil {
			return err
		}
	}
	to, err := d.recipient(passphrase)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := keys.WriteKeyFile(d.fs, f.name, to, f.key); err != nil {
			return err
		}
		if !d.ring.sealed {
			continue
		}
		// Before anything depends on it: a daemon whose keys are sealed to somebody else starts never.
		if _, err := keys.ReadKeyFile(d.fs, f.name, f.key.Kind, f.key.Mesh, d.unlock(nil)); err != nil {
			return fmt.Errorf("what is sealed to these recipients does not open here; name an identity of one of them by keys.identity in meshkey.toml: %w", err)
		}
	}
	return nil
}

// recipient is who the daemon's key files are sealed to.
func (d *stateDir) recipient(passphrase string) (keys.Recipient, error) {
	switch {
	case d.ring.sealed:
		return d.ring.to, nil
	case passphrase != "":
		return keys.PassphraseRecipient(passphrase)
	}
	id, err := d.ring.plugins.ReadIdentityFile(d.fs, fileIdentity)
	switch {
	case err == nil:
		return id.Recipient(), nil
	case d.ring.identity != nil && errors.Is(err, fs.ErrNotExist):
		return d.ring.identity.Recipient(), nil
	}
	return keys.Recipient{}, err
}

// unlock is what opens the daemon's key files: the identities given, the identity file if there is one, else a passphrase.
func (d *stateDir) unlock(ask func() (string, error)) keys.Unlock {
	u := keys.Unlock{Passphrase: ask, Identity: d.ring.identity}
	if id, err := d.ring.plugins.ReadIdentityFile(d.fs, fileIdentity); err == nil {
		u.Identity = keys.JoinIdentities(d.ring.identity, id)
	}
	return u
}

// sealTo is who a running daemon seals a new key file to: as the ones it has.
func (d *Daemon) sealTo() (keys.Recipient, error) {
	pass := ""
	if !d.dir.ring.sealed && d.dir.unlock(nil).Identity == nil && d.opts.Passphrase != nil {
		var err error
		if pass, err = d.opts.Passphrase(); err != nil {
			return keys.Recipient{}, err
		}
	}
	return d.dir.recipient(pass)
}
