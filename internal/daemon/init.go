package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/internal/harden"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// issuerLife is how long the first issuer may issue, and issuerTTL the longest certificate it may give, in seconds.
const (
	issuerLife = 365 * 24 * 3600
	issuerTTL  = 365 * 24 * 3600
)

// InitOptions says what to found.
type InitOptions struct {
	StateDir string
	Mesh     string // the mesh's name
	Name     string // this machine's name
	Tags     []string
	// RootPassphrase seals the root key, or RootRecipients do.
	RootPassphrase string
	RootRecipients []string
	// DaemonPassphrase, if set, seals the daemon's keys too; then it must be given at each start.
	DaemonPassphrase string
	Keys             KeyOptions
}

// InitResult tells what was founded.
type InitResult struct {
	Mesh     keys.MeshID
	MeshName string
	Node     keys.NodeID
	Name     string
	RootFile string
	NotAfter time.Time
}

// Init founds a mesh with this machine as its first member and issuer. The daemon never needs the root key.
func Init(_ context.Context, o InitOptions) (*InitResult, error) {
	if err := identity.CheckName(o.Mesh); err != nil {
		return nil, fmt.Errorf("mesh name: %w", err)
	}
	if err := identity.CheckName(o.Name); err != nil {
		return nil, fmt.Errorf("machine name: %w", err)
	}
	rootRing, err := openRing(KeyOptions{Recipients: o.RootRecipients, Plugins: o.Keys.Plugins, UI: o.Keys.UI})
	if err != nil {
		return nil, err
	}
	if o.RootPassphrase == "" && len(o.RootRecipients) == 0 {
		return nil, errors.New("the root key needs a passphrase or an age recipient")
	}
	for what, pass := range map[string]string{"the root key": o.RootPassphrase, "this machine's keys": o.DaemonPassphrase} {
		if pass == "" {
			continue
		}
		if err := keys.CheckNewPassphrase(pass); err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
	}
	_ = harden.Process() // keys are in memory from here on; a system that refuses loses a precaution, not the mesh
	d, err := openState(o.StateDir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if d.ring, err = openRing(o.Keys); err != nil {
		return nil, err
	}
	if err := d.fresh(); err != nil {
		return nil, err
	}
	now := time.Now()
	root, issuer, node := keys.NewSigningKey(), keys.NewSigningKey(), keys.NewSigningKey()
	genesis, mesh, err := trust.NewGenesis(trust.GenesisConfig{
		Name: o.Mesh, Issued: now.Unix(), Keys: []trust.RootKey{{Pub: root.Public(), Name: o.Name}},
		Issuers: []trust.Issuer{{
			ID: issuer.Public(), Caps: trust.CapEnroll | trust.CapRevoke | trust.CapHead | trust.CapGrant, Tags: []string{"*"},
			MaxTTL: issuerTTL, NotAfter: now.Unix() + issuerLife, Name: o.Name,
		}},
		Params: trust.Params{GroupMaxAge: 90 * 24 * 3600}, GroupIssuer: issuer.Public(),
	}, root)
	if err != nil {
		return nil, err
	}
	cert, err := identity.IssueCertificate(identity.Certificate{
		Mesh: mesh, Node: node.NodeID(), Serial: 1, Issuer: issuer.Public(), NotBefore: now.Unix(),
		NotAfter: now.Unix() + enroll.DefaultCertificateLife, Tags: identity.NormalTags(o.Tags), Name: o.Name, RenewUntil: enroll.RenewForever,
	}, issuer)
	if err != nil {
		return nil, err
	}
	secret := keys.NewGroupSecret(1)
	rootTo := rootRing.to
	if !rootRing.sealed {
		if rootTo, err = keys.PassphraseRecipient(o.RootPassphrase); err != nil {
			return nil, err
		}
	}
	if err := d.writeKeys(o.DaemonPassphrase,
		keyFile{fileNode, keys.SigningMaterial(keys.KindNode, mesh, node)},
		keyFile{fileIssuer, keys.SigningMaterial(keys.KindIssuer, mesh, issuer)},
		keyFile{fileGroup(1), keys.GroupMaterial(mesh, secret)},
	); err != nil {
		return nil, err
	}
	if err := keys.WriteKeyFile(d.fs, fileRoot, rootTo, keys.SigningMaterial(keys.KindRoot, mesh, root)); err != nil {
		return nil, err
	}
	if err := d.foundTrust(genesis, mesh, issuer, cert, secret, now); err != nil {
		return nil, err
	}
	if err := d.firstAudit(node, mesh,
		audit.Event{Code: audit.NodeInit, Target: node.NodeID().Compact()},
		audit.Event{Code: audit.MeshCreate, Target: mesh.String(), After: o.Mesh},
		audit.Event{Code: audit.NodeEnroll, Target: node.NodeID().Compact(), After: fmt.Sprintf("serial 1, name %s", o.Name)},
	); err != nil {
		return nil, err
	}
	if err := d.writeMember(&member{Version: memberVersion, Mesh: mesh, Certificate: cert.Raw()}); err != nil {
		return nil, err
	}
	return &InitResult{
		Mesh: mesh, MeshName: o.Mesh, Node: node.NodeID(), Name: o.Name, RootFile: d.file(fileRoot), NotAfter: time.Unix(cert.NotAfter, 0),
	}, nil
}

// foundTrust writes the log of a new mesh: its genesis, this node's enrolment and the commitment to the first group secret.
func (d *stateDir) foundTrust(genesis []byte, mesh keys.MeshID, issuer *keys.SigningKey, cert *identity.SignedCertificate,
	secret keys.GroupSecret, now time.Time,
) error {
	fsys, err := d.sub(dirTrust)
	if err != nil {
		return err
	}
	if err := trust.Create(fsys, genesis, nil, nil); err != nil {
		return err
	}
	st, err := trust.Open(fsys, mesh)
	if err != nil {
		return err
	}
	_, err = st.AppendOwn(issuer, now.Unix(), trust.EnrollOp(cert), trust.OpGroup{Generation: 1, Commit: secret.Commitment(mesh)})
	return errors.Join(err, st.Close())
}

// firstAudit opens the node's audit log and writes its beginning.
func (d *stateDir) firstAudit(node *keys.SigningKey, mesh keys.MeshID, events ...audit.Event) error {
	fsys, err := d.sub(dirAudit)
	if err != nil {
		return err
	}
	log, err := audit.Open(fsys, node, mesh, audit.Options{})
	if err != nil {
		return err
	}
	for _, e := range events {
		if _, err := log.Append(e); err != nil {
			return errors.Join(err, log.Close())
		}
	}
	_, err = log.Checkpoint()
	return errors.Join(err, log.Close())
}

func (d *stateDir) writeMember(m *member) error {
	return durable.WriteFile(d.fs, fileMember, wire.MustMarshal(m))
}
