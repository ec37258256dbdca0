package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/harden"
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
	Keys             KeyOptions
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
	_ = harden.Process()
	d, err := openState(o.StateDir)
	if err != nil {
		return nil, err
	}
	defer d.close()
	if d.ring, err = openRing(o.Keys); err != nil {
		return nil, err
	}
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
			return dialAnyLink(ctx, &dialer, to)
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

// linkTimeout bounds a connection to a neighbour on one link.
const linkTimeout = time.Second

// dialAnyLink connects to an address of an invite. A link-local one is tried on every link: the invite cannot know on which of this
// machine's links its issuer is. Whoever answers on a wrong one fails the handshake.
func dialAnyLink(ctx context.Context, d *net.Dialer, to netip.AddrPort) (net.Conn, error) {
	if !to.Addr().Is6() || !to.Addr().IsLinkLocalUnicast() || to.Addr().Zone() != "" {
		return d.DialContext(ctx, "tcp", to.String())
	}
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	last := fmt.Errorf("%s is an address of one link, and this machine has none that is up", to)
	for _, l := range links {
		if l.Flags&net.FlagUp == 0 || l.Flags&net.FlagLoopback != 0 {
			continue
		}
		lctx, cancel := context.WithTimeout(ctx, linkTimeout)
		c, err := d.DialContext(lctx, "tcp", netip.AddrPortFrom(to.Addr().WithZone(l.Name), to.Port()).String())
		cancel()
		if err == nil {
			return c, nil
		}
		last = err
	}
	return nil, last
}

// candidateKey makes this machine's key for the invite's mesh, or reads the one an earlier attempt with this mesh has made: the
// issuer recognises it and answers again. What else that attempt left is moved aside.
func (d *stateDir) candidateKey(o EnrollOptions) (*keys.SigningKey, keys.Recipient, error) {
	node, to, err := d.earlierKey(o)
	switch {
	case err == nil:
		return node, to, d.fresh(fileNode, fileIdentity)
	case errors.Is(err, keys.ErrPassphrase), errors.Is(err, keys.ErrLocked):
		// The key may be the one the invite was spent with: putting it aside for want of a passphrase would burn the invite.
		return nil, keys.Recipient{}, fmt.Errorf("an earlier attempt made a key: %w", d.keyError(fileNode, err))
	}
	// No key, a damaged one, or one for another mesh.
	if err := d.fresh(); err != nil {
		return nil, keys.Recipient{}, err
	}
	node = keys.NewSigningKey()
	if err := d.writeKeys(o.DaemonPassphrase, keyFile{fileNode, keys.SigningMaterial(keys.KindNode, o.Invite.Mesh, node)}); err != nil {
		return nil, keys.Recipient{}, err
	}
	to, err = d.recipient(o.DaemonPassphrase)
	return node, to, err
}

// earlierKey returns the key of an interrupted attempt to join the same mesh.
func (d *stateDir) earlierKey(o EnrollOptions) (*keys.SigningKey, keys.Recipient, error) {
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
