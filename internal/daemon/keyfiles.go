package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/harden"
	"github.com/sovereignmesh/meshkey/keys"
)

// oldIssuer is the name an issuer's key that is cut off or ended gives its own name up for: key files are never deleted.
const oldIssuer = "issuer-old-%d.age"

func publicDoc(l keys.PublicLine, mesh, file string) *control.PublicKey {
	return &control.PublicKey{
		Kind: string(l.Kind), Mesh: control.MeshInfo{Name: mesh, ID: l.Mesh.String()}, Name: l.Name, Key: keyText(l.Key), Line: l.String(), File: file,
	}
}

// NewIssuerKey implements control.Rooter: the key is sealed as the node's own are, and used as soon as the root names it. Asked again
// before that, the same line is told again.
func (d *Daemon) NewIssuerKey(_ context.Context, by control.Caller, r *control.NewIssuerKeyRequest) (*control.PublicKey, error) {
	d.issuing.Lock()
	defer d.issuing.Unlock()
	st := d.store.Current()
	line := keys.PublicLine{Kind: keys.KindIssuer, Mesh: d.meshID, Name: r.Name}
	file := d.dir.file(fileIssuer)
	if own := d.signer(); own != nil {
		is, listed := st.Root().Issuer(own.Public())
		switch {
		case !listed:
			line.Key = own.Public()
			doc := publicDoc(line, st.Root().Name, file)
			doc.Existed = true
			return doc, nil
		case is.Works(d.trustNow()):
			return nil, control.Errorf(control.Failed, "meshkey root show; to go on longer: meshkey root issuer extend "+is.Name,
				"this machine is issuer %s already", is.Name)
		}
	}
	to, err := d.sealTo()
	if err != nil {
		return nil, err
	}
	key := keys.NewSigningKey()
	if err := d.record(by, audit.Event{Code: audit.IssuerInit, Target: r.Name, After: keyText(key.Public())}); err != nil {
		return nil, err
	}
	if err := d.dir.putAside(fileIssuer, oldIssuer); err != nil {
		return nil, err
	}
	if err := keys.WriteKeyFile(d.dir.fs, fileIssuer, to, keys.SigningMaterial(keys.KindIssuer, d.meshID, key)); err != nil {
		return nil, err
	}
	if err := d.setIssuer(key); err != nil {
		return nil, err
	}
	line.Key = key.Public()
	return publicDoc(line, st.Root().Name, file), nil
}

// putAside gives a file the first free name of a pattern. If we crash behind it the file is there under that name.
func (d *stateDir) putAside(name, pattern string) error {
	for i := range maxLeftovers {
		to := fmt.Sprintf(pattern, i+1)
		f, err := d.fs.OpenFile(to, 0, 0)
		if err == nil {
			f.Close()
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := d.fs.Rename(name, to); errors.Is(err, fs.ErrNotExist) {
			return nil // there was none
		} else if err != nil {
			return err
		}
		return d.fs.SyncDir(".")
	}
	return fmt.Errorf("%s holds %d old keys already: move them away", d.path, maxLeftovers)
}

// RootKeyOptions says where a root key is or shall be, and how it is sealed and opened.
type RootKeyOptions struct {
	File       string
	Mesh       keys.MeshID // of a new key
	Name       string      // of a new key
	Passphrase func() (string, error)
	Keys       KeyOptions
}

// NewRootKey makes a root key in a new file. It needs no daemon and no network.
func NewRootKey(o RootKeyOptions) (*control.PublicKey, error) {
	_ = harden.Process()
	if err := identity.CheckName(o.Name); err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	r, err := openRing(KeyOptions{Recipients: o.Keys.Recipients, Plugins: o.Keys.Plugins, UI: o.Keys.UI})
	if err != nil {
		return nil, err
	}
	if err := durable.MakeDir(filepath.Dir(o.File)); err != nil {
		return nil, err
	}
	fsys, err := durable.OS(filepath.Dir(o.File))
	if err != nil {
		return nil, err
	}
	defer closeFS(fsys)
	if !r.sealed {
		pass, err := o.Passphrase()
		if err != nil {
			return nil, err
		}
		if err := keys.CheckNewPassphrase(pass); err != nil {
			return nil, err
		}
		if r.to, err = keys.PassphraseRecipient(pass); err != nil {
			return nil, err
		}
	}
	key := keys.NewSigningKey()
	if err := keys.WriteKeyFile(fsys, filepath.Base(o.File), r.to, keys.SigningMaterial(keys.KindRoot, o.Mesh, key)); err != nil {
		return nil, err
	}
	return publicDoc(keys.PublicLine{Kind: keys.KindRoot, Mesh: o.Mesh, Name: o.Name, Key: key.Public()}, "", o.File), nil
}

// OpenRootKey opens the root key of a mesh.
func OpenRootKey(o RootKeyOptions) (*keys.SigningKey, error) {
	_ = harden.Process()
	r, err := openRing(o.Keys)
	if err != nil {
		return nil, err
	}
	fsys, err := durable.View(filepath.Dir(o.File))
	if err != nil {
		return nil, err
	}
	defer closeFS(fsys)
	k, err := keys.ReadKeyFile(fsys, filepath.Base(o.File), keys.KindRoot, o.Mesh, keys.Unlock{Identity: r.identity, Passphrase: o.Passphrase})
	if err != nil {
		return nil, err
	}
	return k.SigningKey()
}

// KeyFile is one key file of a state directory.
type KeyFile struct {
	File  string
	Kind  keys.KeyKind
	Seals []string
	Key   keys.PublicKey // zero for group secrets, and for what needs a passphrase or does not open
	Note  string         // why it cannot be used, if so
}

// ListKeys tells what keys are in a state directory. Nothing is asked for and nothing is changed: a file sealed to a passphrase stays
// shut.
func ListKeys(dir string, o KeyOptions) ([]KeyFile, error) {
	_ = harden.Process()
	fsys, err := durable.View(dir)
	if err != nil {
		return nil, err
	}
	defer closeFS(fsys)
	d := &stateDir{path: dir, fs: fsys}
	if d.ring, err = openRing(o); err != nil {
		return nil, err
	}
	entries, err := fsys.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var out []KeyFile
	for _, e := range entries {
		kind, ok := keyKind(e.Name())
		if !ok {
			continue
		}
		f := KeyFile{File: d.file(e.Name()), Kind: kind}
		if f.Seals, err = keys.Seals(fsys, e.Name()); err != nil {
			f.Note = err.Error()
		} else if k, err := keys.ReadKeyFile(fsys, e.Name(), kind, keys.MeshID{}, d.unlock(nil)); err != nil {
			f.Note = "not opened"
		} else if s, err := k.SigningKey(); err == nil {
			f.Key = s.Public()
		}
		out = append(out, f)
	}
	return out, nil
}

// keyKind is the kind of key a file of this name holds.
func keyKind(name string) (keys.KeyKind, bool) {
	switch {
	case name == fileRoot:
		return keys.KindRoot, true
	case name == fileNode, name == fileNext, strings.HasPrefix(name, "node-old-") && strings.HasSuffix(name, ".age"),
		strings.HasPrefix(name, "node-unused-") && strings.HasSuffix(name, ".age"):
		return keys.KindNode, true
	case name == fileIssuer, strings.HasPrefix(name, "issuer-old-") && strings.HasSuffix(name, ".age"):
		return keys.KindIssuer, true
	case strings.HasPrefix(name, groupPrefix) && strings.HasSuffix(name, ".age"):
		return keys.KindGroup, true
	}
	return "", false
}

// ResealOptions says which key to seal anew, and to what.
type ResealOptions struct {
	StateDir string
	// Key is root, node, issuer or group in the state directory, or the path of a root key file.
	Key string
	// To are age recipients; none means NewPassphrase.
	To            []string
	NewPassphrase func() (string, error)
	// Passphrase opens what is sealed to one now.
	Passphrase func() (string, error)
	// Keys opens what is sealed to an identity. For the daemon's own keys it has to hold what the daemon will have at its start: the
	// new file is opened with it before it takes the old one's place.
	Keys KeyOptions
}

// Reseal seals a key anew and returns the files it has changed.
func Reseal(o ResealOptions) ([]string, error) {
	_ = harden.Process()
	r, err := openRing(o.Keys)
	if err != nil {
		return nil, err
	}
	var to keys.Recipient
	var pass string
	if len(o.To) > 0 {
		to, err = r.plugins.ParseRecipients(o.To...)
	} else if pass, err = o.NewPassphrase(); err == nil {
		if err = keys.CheckNewPassphrase(pass); err == nil {
			to, err = keys.PassphraseRecipient(pass)
		}
	}
	if err != nil {
		return nil, err
	}
	if o.Key == "root" || strings.ContainsRune(o.Key, filepath.Separator) {
		file := o.Key
		if file == "root" {
			file = filepath.Join(o.StateDir, fileRoot)
		}
		// No daemon reads it, so none has to stop.
		fsys, err := durable.OS(filepath.Dir(file))
		if err != nil {
			return nil, err
		}
		defer closeFS(fsys)
		with := keys.Unlock{Identity: r.identity, Passphrase: o.Passphrase}
		return reseal(&stateDir{path: filepath.Dir(file), fs: fsys}, with, to, pass, []string{filepath.Base(file)}, keys.KindRoot)
	}
	d, err := openState(o.StateDir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	d.ring = r
	kind := keys.KeyKind(o.Key)
	var names []string
	switch kind {
	case keys.KindNode, keys.KindIssuer, keys.KindGroup:
		entries, err := d.fs.ReadDir(".")
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if k, ok := keyKind(e.Name()); ok && k == kind {
				names = append(names, e.Name())
			}
		}
	default:
		return nil, fmt.Errorf("%w: %q", errNoKey, o.Key)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s holds no %s key: %w", d.path, kind, fs.ErrNotExist)
	}
	return reseal(d, d.unlock(o.Passphrase), to, pass, names, kind)
}

var errNoKey = errors.New("write root, node, issuer, group, or the path of a root key file")

// reseal works file by file; each is whole at any moment, and a second run goes on where the first has ended.
func reseal(d *stateDir, with keys.Unlock, to keys.Recipient, pass string, names []string, kind keys.KeyKind) ([]string, error) {
	again := keys.Unlock{Identity: with.Identity}
	if pass != "" {
		again = keys.Unlock{Passphrase: func() (string, error) { return pass, nil }}
	}
	var done []string
	for _, name := range names {
		if err := keys.Reseal(d.fs, name, kind, keys.MeshID{}, with, to, again); err != nil {
			return done, err
		}
		done = append(done, d.file(name))
	}
	return done, nil
}
