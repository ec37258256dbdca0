package daemon

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// A rotation changes the node's key on this host in five writes, and at an issuer in two (package enroll):
//
//  1. node-next.age    the new key
//  2. rotation         which key follows which, and the invite by which it enrols
//     the issuer        spends the invite; revokes the old key and enrols the new one, in one entry
//  3. rotation         now with the new certificate
//  4. node-next.age    takes the place of node.age, which is kept as node-old-N.age
//  5. member           with the new certificate; then the file rotation goes
//
// Killed before 2 has ended, the old key is this node's, and nobody knows another. Between 2 and 3 only the issuer knows which of the two it
// is, and the next start asks it: the invite gives the new key the same answer however often and late it is asked, and until the entry is
// written the old key works. From 3 on the new identity is whole on this disk, and the next start does what is left of 4 and 5 before
// it reads any key.
const (
	fileRotation = "rotation"
	fileNext     = "node-next.age"
	// oldNode is what a rotated key is kept as: a root's cutoff can void the entry that revoked it. unusedNode is a new key that never took
	// its place.
	oldNode    = "node-old-%d.age"
	unusedNode = "node-unused-%d.age"

	rotationVersion = 1
	// maxRotation bounds the file: two ids, an invite and a certificate.
	maxRotation = 4096
)

// rotation is the file of a rotation under way.
type rotation struct {
	Version uint64      `cbor:"1,keyasint"`
	Mesh    keys.MeshID `cbor:"2,keyasint"`
	Old     keys.NodeID `cbor:"3,keyasint"`
	New     keys.NodeID `cbor:"4,keyasint"`
	// Invite is its text; empty if the issuer is on this host.
	Invite string `cbor:"5,keyasint,omitempty"`
	// Certificate is the new one, once there is one.
	Certificate []byte `cbor:"6,keyasint,omitempty"`
}

// readRotation returns the rotation under way, or nil.
func (d *stateDir) readRotation() (*rotation, error) {
	b, err := durable.ReadFile(d.fs, fileRotation, maxRotation)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r rotation
	if err := wire.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("the file %s is damaged (%w): restore it from a backup, or enrol again with another --state", d.file(fileRotation), err)
	}
	if r.Version != rotationVersion {
		return nil, fmt.Errorf("the file %s has format %d, this program reads %d: update meshkey", d.file(fileRotation), r.Version, rotationVersion)
	}
	return &r, nil
}

func (d *stateDir) writeRotation(r *rotation) error {
	r.Version = rotationVersion
	return durable.WriteFile(d.fs, fileRotation, wire.MustMarshal(r))
}

// nextKey makes the key that shall follow, or takes the one an earlier attempt has made. It is opened once as the next start will open it:
// a key that does not open must not be anybody's.
func (d *stateDir) nextKey(mesh keys.MeshID, to keys.Recipient, unlock keys.Unlock) (*keys.SigningKey, error) {
	k, err := d.readNext(mesh, unlock)
	switch {
	case err == nil:
		return k, nil
	case !errors.Is(err, fs.ErrNotExist):
		if err := d.putAside(fileNext, unusedNode); err != nil {
			return nil, err
		}
	}
	k = keys.NewSigningKey()
	if err := keys.WriteKeyFile(d.fs, fileNext, to, keys.SigningMaterial(keys.KindNode, mesh, k)); err != nil {
		return nil, err
	}
	back, err := d.readNext(mesh, unlock)
	if err != nil {
		return nil, d.keyError(fileNext, err)
	}
	return back, nil
}

func (d *stateDir) readNext(mesh keys.MeshID, unlock keys.Unlock) (*keys.SigningKey, error) {
	k, err := keys.ReadKeyFile(d.fs, fileNext, keys.KindNode, mesh, unlock)
	if err != nil {
		return nil, err
	}
	return k.SigningKey()
}

// finishRotation does what is left of a rotation whose certificate is here: steps 4 and 5. Every start begins with it.
func (d *stateDir) finishRotation() error {
	r, err := d.readRotation()
	if err != nil || r == nil || len(r.Certificate) == 0 {
		return err
	}
	cert, err := identity.ParseCertificate(r.Certificate, r.Mesh)
	if err != nil {
		return fmt.Errorf("the file %s: %w", d.file(fileRotation), err)
	}
	m, had, err := d.readMember()
	if err != nil {
		return err
	}
	if m.Mesh != r.Mesh || cert.Node != r.New || had.Node != r.Old && had.Node != r.New {
		return fmt.Errorf("the file %s is of another membership: move it away", d.file(fileRotation))
	}
	// While node-next.age is there node.age is the old key, or is aside already; when it is gone it has become node.age.
	switch f, err := d.fs.OpenFile(fileNext, 0, 0); {
	case err == nil:
		f.Close()
		if err := d.putAside(fileNode, oldNode); err != nil {
			return err
		}
		if err := d.fs.Rename(fileNext, fileNode); err != nil {
			return err
		}
		if err := d.fs.SyncDir("."); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	m.Certificate, m.Previous = r.Certificate, r.Old[:]
	if err := d.writeMember(m); err != nil {
		return err
	}
	return d.forget(fileRotation)
}

// dropRotation gives up a rotation that has not been carried out. The key goes aside first: it may be known to the log, and is not
// taken for another attempt.
func (d *stateDir) dropRotation() error {
	if err := d.putAside(fileNext, unusedNode); err != nil {
		return err
	}
	return d.forget(fileRotation)
}

// carryOut lets an issuer do its part, and keeps the answer: step 3. enrol asks the issuer; asked again it gives the same answer.
func (d *stateDir) carryOut(r *rotation, next *keys.SigningKey, enrol func(*keys.SigningKey, *rotation) (*identity.SignedCertificate, error)) error {
	if next.NodeID() != r.New {
		return fmt.Errorf("%s is not the key of the rotation under way: restore it from a backup, or give up with: meshkey rotate --drop", d.file(fileNext))
	}
	cert, err := enrol(next, r)
	if err != nil {
		return err
	}
	if cert.Node != r.New {
		return errors.New("the issuer's answer is a certificate for another key")
	}
	r.Certificate = cert.Raw()
	return d.writeRotation(r)
}
