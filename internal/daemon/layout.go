package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

const (
	fileMember   = "member"
	fileIdentity = "identity.txt"
	fileNode     = "node.age"
	fileIssuer   = "issuer.age"
	fileRoot     = "root.age"
	fileEpoch    = "epoch"
	fileInvites  = "invites"
	fileWaiting  = "waiting"
	fileRequest  = "request"
	fileReqKey   = "request.age"
	dirTrust     = "trust"
	dirAudit     = "audit"
	groupPrefix  = "group-"
)

// fileGroup is the file of one generation of the group secret.
func fileGroup(generation uint64) string { return fmt.Sprintf("%s%d.age", groupPrefix, generation) }

// member is what a host knows of its own membership beyond its keys.
type member struct {
	Version     uint64      `cbor:"1,keyasint"`
	Mesh        keys.MeshID `cbor:"2,keyasint"`
	Certificate []byte      `cbor:"3,keyasint"`
	Peers       [][]byte    `cbor:"4,keyasint"` // beacon envelopes the issuer told: where to begin
	// Previous is the node id before the last rotation, whose audit log this node's follows; empty: none.
	Previous []byte `cbor:"5,keyasint,omitempty"`
}

// previous is Previous as an id.
func (m *member) previous() (id keys.NodeID) {
	copy(id[:], m.Previous)
	return id
}

type epochFile struct {
	Version uint64 `cbor:"1,keyasint"`
	Epoch   uint64 `cbor:"2,keyasint"`
}

const (
	memberVersion = 1
	epochVersion  = 1
	// maxMember bounds the member file: a certificate and at most 24 beacon envelopes.
	maxMember = 64 << 10
	maxEpoch  = 64
	// maxLeftovers bounds the directories that interrupted attempts may leave.
	maxLeftovers = 100
)

// Errors a caller branches on.
var (
	// ErrNotMember: the state directory holds no membership.
	ErrNotMember = errors.New("this machine is in no mesh yet; found one with: meshkey init, or join one with: meshkey enroll INVITE")
	// ErrMember: there is a membership already, and it is never overwritten.
	ErrMember = errors.New("this state directory is already a member of a mesh; use another one with --state")
)

// stateDir is an open, locked state directory.
type stateDir struct {
	path string
	fs   durable.FS
	lock *durable.Locked
	ring ring
	open []io.Closer
}

// openState makes the directory if it is missing, locks it and removes temporary files of a crash.
func openState(path string) (*stateDir, error) {
	if err := durable.MakeDir(path); err != nil {
		return nil, err
	}
	fsys, err := durable.OS(path)
	if err != nil {
		return nil, err
	}
	d := &stateDir{path: path, fs: fsys}
	d.keep(fsys)
	if d.lock, err = durable.Lock(path); err != nil {
		d.close()
		return nil, err
	}
	if err := durable.Sweep(fsys, "."); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *stateDir) keep(v any) {
	if c, ok := v.(io.Closer); ok {
		d.open = append(d.open, c)
	}
}

// again is the same directory for another run of the daemon under the same lock: what a run opens ends with it.
func (d *stateDir) again() *stateDir { return &stateDir{path: d.path, fs: d.fs, ring: d.ring} }

// close gives everything back, last opened first.
func (d *stateDir) close() {
	for i := len(d.open) - 1; i >= 0; i-- {
		_ = d.open[i].Close()
	}
	if d.lock != nil {
		_ = d.lock.Close()
	}
}

// sub opens a directory below the state directory, making it if it is missing.
func (d *stateDir) sub(name string) (durable.FS, error) {
	if err := durable.MkdirAll(d.fs, name); err != nil {
		return nil, err
	}
	fsys, err := durable.OS(filepath.Join(d.path, name))
	if err != nil {
		return nil, err
	}
	d.keep(fsys)
	return fsys, nil
}

// IsMember reports whether a state directory holds a membership, whole or damaged. What cannot be looked at counts as one.
func IsMember(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, fileMember))
	return !errors.Is(err, fs.ErrNotExist)
}

func (d *stateDir) readMember() (*member, *identity.SignedCertificate, error) {
	b, err := durable.ReadFile(d.fs, fileMember, maxMember)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, ErrNotMember
	}
	if err != nil {
		return nil, nil, err
	}
	var m member
	if err := wire.Unmarshal(b, &m); err != nil {
		return nil, nil, fmt.Errorf("the file %s is damaged (%w): restore it from a backup, or enrol again with another --state", d.file(fileMember), err)
	}
	if n := len(m.Previous); n != 0 && n != 32 {
		return nil, nil, fmt.Errorf("the file %s is damaged (a key of %d bytes): restore it from a backup", d.file(fileMember), n)
	}
	if m.Version != memberVersion {
		return nil, nil, fmt.Errorf("the file %s has format %d, this program reads %d: update meshkey", d.file(fileMember), m.Version, memberVersion)
	}
	cert, err := identity.ParseCertificate(m.Certificate, m.Mesh)
	if err != nil {
		return nil, nil, fmt.Errorf("the file %s: %w", d.file(fileMember), err)
	}
	return &m, cert, nil
}

// saveCertificate replaces the certificate in the member file.
func (d *Daemon) saveCertificate(c *identity.SignedCertificate) error {
	m, _, err := d.dir.readMember()
	if err != nil {
		return err
	}
	m.Certificate = c.Raw()
	return d.dir.writeMember(m)
}

func (d *stateDir) file(name string) string { return filepath.Join(d.path, name) }

// fresh makes sure that the directory holds no membership, and moves what an interrupted attempt left out of the way, all but the files
// to keep.
func (d *stateDir) fresh(keep ...string) error {
	entries, err := d.fs.ReadDir(".")
	if err != nil {
		return err
	}
	var left []string
	for _, e := range entries {
		if e.Name() == fileMember {
			return ErrMember // readable or not
		}
		if ours(e.Name()) && !slices.Contains(keep, e.Name()) {
			left = append(left, e.Name())
		}
	}
	if len(left) == 0 {
		return nil
	}
	dir := ""
	for i := range maxLeftovers {
		name := fmt.Sprintf("leftover-%d", i+1)
		if err := d.fs.Mkdir(name, 0o700); err == nil {
			dir = name
			break
		} else if !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if dir == "" {
		return fmt.Errorf("%s holds the leftovers of %d interrupted attempts: look at them and remove them", d.path, maxLeftovers)
	}
	for _, name := range left {
		if err := d.fs.Rename(name, dir+"/"+name); err != nil {
			return err
		}
	}
	return d.fs.SyncDir(".")
}

// ours names what init and enroll write before the member file.
func ours(name string) bool {
	switch name {
	case fileIdentity, fileNode, fileNext, fileRotation, fileIssuer, fileRoot, fileEpoch, fileWaiting, fileRequest, fileReqKey, dirTrust, dirAudit:
		return true
	}
	return strings.HasPrefix(name, groupPrefix) && strings.HasSuffix(name, ".age") || strings.HasPrefix(name, fileInvites+".")
}

// nextEpoch makes the beacon epoch of this start durable before it is used.
func (d *stateDir) nextEpoch(now time.Time) (uint64, error) {
	var last epochFile
	b, err := durable.ReadFile(d.fs, fileEpoch, maxEpoch)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return 0, err
	default:
		// A damaged counter costs nothing but this: the clock decides, and a peer that heard a later epoch believes again after
		// ten minutes of silence.
		if wire.Unmarshal(b, &last) != nil || last.Version != epochVersion {
			last = epochFile{}
		}
	}
	next := beacon.NextEpoch(last.Epoch, now)
	return next, durable.WriteFile(d.fs, fileEpoch, wire.MustMarshal(epochFile{Version: epochVersion, Epoch: next}))
}

// keyError says which key file cannot be used, and what to do about it.
func (d *stateDir) keyError(name string, err error) error {
	file := d.file(name)
	switch {
	case errors.Is(err, keys.ErrPassphrase):
		return fmt.Errorf("%s: %w; start again and type the one it was sealed with", file, keys.ErrPassphrase)
	case errors.Is(err, keys.ErrLocked):
		if _, ierr := keys.ReadIdentityFile(d.fs, fileIdentity); ierr != nil && !errors.Is(ierr, fs.ErrNotExist) {
			return fmt.Errorf("%s cannot be opened, because %s is damaged: restore that from a backup: %w", file, d.file(fileIdentity), err)
		}
		return fmt.Errorf("%s cannot be opened with %s or a passphrase: restore the two that belong together from a backup: %w", file, fileIdentity, err)
	case errors.Is(err, keys.ErrKeyFile):
		return fmt.Errorf("%s is damaged: restore it from a backup, or enrol again with another --state: %w", file, err)
	case errors.Is(err, keys.ErrOtherKey):
		return fmt.Errorf("%s belongs to another mesh or was put there by mistake: restore the right one from a backup: %w", file, err)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is missing: restore it from a backup, or enrol again with another --state: %w", file, err)
	}
	return fmt.Errorf("%s: %w", file, err)
}

// groupSecrets reads every generation of the group secret that is on disk.
func (d *stateDir) groupSecrets(mesh keys.MeshID, unlock keys.Unlock) ([]keys.GroupSecret, error) {
	entries, err := d.fs.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var out []keys.GroupSecret
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), groupPrefix) || !strings.HasSuffix(e.Name(), ".age") {
			continue
		}
		k, err := keys.ReadKeyFile(d.fs, e.Name(), keys.KindGroup, mesh, unlock)
		if err != nil {
			return nil, d.keyError(e.Name(), err)
		}
		s, err := k.GroupSecret()
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no group secret: restore %sN.age from a backup, or enrol again with another --state", d.path, groupPrefix)
	}
	return out, nil
}
