package daemon

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// EnrollOptions says which mesh to join.
type EnrollOptions struct {
	StateDir string
	Invite   *identity.Invite
	// Confirm is shown what the newcomer has authenticated and says whether to go on. Nil: whoever has the invite has confirmed.
	Confirm          func(mesh.Offer) bool
	DaemonPassphrase string
}

// EnrollResult tells what this machine is a member of now.
type EnrollResult struct {
	Mesh     keys.MeshID
	MeshName string
	Node     keys.NodeID
	Name     string
	Tags     []string
	NotAfter time.Time
	Issuer   string
	Words    [3]string
	Members  int
}

// Enroll joins the mesh of an invite over the network. Nothing of a failed attempt is kept but the node's key: trying again with the
// same invite is the same request, so a lost answer burns nothing.
func Enroll(ctx context.Context, o EnrollOptions) (*EnrollResult, error) {
	d, err := openState(o.StateDir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	node, unlock, err := d.candidateKey(o)
	if err != nil {
		return nil, err
	}
	var boot identity.BootID
	rand.Read(boot[:])
	dialer := net.Dialer{}
	dialer.SetMultipathTCP(false)
	m, err := mesh.Join(ctx, mesh.JoinConfig{
		Key: node, Invite: o.Invite, Boot: boot, Confirm: o.Confirm, Now: time.Now,
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", to.String())
		},
	})
	if err != nil {
		return nil, err
	}
	if err := keys.WriteKeyFile(d.fs, fileGroup(m.Secret.Generation), unlock, keys.GroupMaterial(o.Invite.Mesh, m.Secret)); err != nil {
		return nil, err
	}
	tfs, err := d.sub(dirTrust)
	if err != nil {
		return nil, err
	}
	if err := trust.Create(tfs, m.Genesis, o.Invite.Heads, m.Frames); err != nil {
		return nil, err
	}
	if err := d.firstAudit(node, o.Invite.Mesh,
		audit.Event{Code: audit.NodeInit, Target: node.NodeID().Compact()},
		audit.Event{
			Code: audit.NodeEnroll, Actor: m.Offer.IssuerID.Compact(), Target: node.NodeID().Compact(), Verdict: audit.Allowed,
			Session: o.Invite.ID.String(),
			After:   fmt.Sprintf("serial %d, name %s, words %s %s %s", m.Certificate.Serial, m.Certificate.Name, m.Offer.Words[0], m.Offer.Words[1], m.Offer.Words[2]),
		},
	); err != nil {
		return nil, err
	}
	if err := d.writeMember(&member{Version: memberVersion, Mesh: o.Invite.Mesh, Certificate: m.Certificate.Raw(), Peers: m.Peers}); err != nil {
		return nil, err
	}
	return &EnrollResult{
		Mesh: o.Invite.Mesh, MeshName: m.MeshName, Node: node.NodeID(), Name: m.Certificate.Name, Tags: m.Certificate.Tags,
		NotAfter: time.Unix(m.Certificate.NotAfter, 0), Issuer: m.Offer.Issuer, Words: m.Offer.Words, Members: m.Offer.Members,
	}, nil
}

// candidateKey makes this machine's key for the invite's mesh, or reads the one an earlier attempt with this mesh has made: the
// issuer recognises it and answers again.
func (d *stateDir) candidateKey(o EnrollOptions) (*keys.SigningKey, keys.Recipient, error) {
	if node, to, err := d.earlierKey(o); err == nil {
		return node, to, nil
	}
	if err := d.fresh(); err != nil {
		return nil, keys.Recipient{}, err
	}
	node := keys.NewSigningKey()
	if err := d.writeKeys(o.DaemonPassphrase, keyFile{fileNode, keys.SigningMaterial(keys.KindNode, o.Invite.Mesh, node)}); err != nil {
		return nil, keys.Recipient{}, err
	}
	to, err := d.recipient(o.DaemonPassphrase)
	return node, to, err
}

// earlierKey returns the key of an interrupted attempt to join the same mesh, if nothing but the key is there.
func (d *stateDir) earlierKey(o EnrollOptions) (*keys.SigningKey, keys.Recipient, error) {
	entries, err := d.fs.ReadDir(".")
	if err != nil {
		return nil, keys.Recipient{}, err
	}
	for _, e := range entries {
		if ours(e.Name()) && e.Name() != fileNode && e.Name() != fileIdentity || e.Name() == fileMember {
			return nil, keys.Recipient{}, ErrMember
		}
	}
	k, err := keys.ReadKeyFile(d.fs, fileNode, keys.KindNode, o.Invite.Mesh, d.unlock(func() (string, error) { return o.DaemonPassphrase, nil }))
	if err != nil {
		return nil, keys.Recipient{}, err
	}
	node, err := k.SigningKey()
	if err != nil {
		return nil, keys.Recipient{}, err
	}
	to, err := d.recipient(o.DaemonPassphrase)
	return node, to, err
}

// recipient is who the daemon's key files are sealed to.
func (d *stateDir) recipient(passphrase string) (keys.Recipient, error) {
	if passphrase != "" {
		return keys.PassphraseRecipient(passphrase)
	}
	id, err := keys.ReadIdentityFile(d.fs, fileIdentity)
	if err != nil {
		return keys.Recipient{}, err
	}
	return id.Recipient(), nil
}

// unlock is what opens the daemon's key files: the identity file if there is one, else a passphrase.
func (d *stateDir) unlock(ask func() (string, error)) keys.Unlock {
	u := keys.Unlock{Passphrase: ask}
	if id, err := keys.ReadIdentityFile(d.fs, fileIdentity); err == nil {
		u.Identity = id
	}
	return u
}
