package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/internal/harden"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
)

// EnrollOptions says which mesh to join.
type EnrollOptions struct {
	StateDir string
	Invite   *identity.Invite
	// Confirm is shown what the newcomer has authenticated and says whether to go on. Nil: whoever has the invite has confirmed.
	Confirm          func(mesh.Offer) bool
	DaemonPassphrase string
	Keys             KeyOptions
	// Name and Tags are wishes for who approves, where the invite requires that. Empty Name: the invite's.
	Name string
	Tags []string
	// Wait is how long to wait for an approval; 0: not at all. Waiting, which may be nil, is told once that it is waited for.
	Wait    time.Duration
	Waiting func(mesh.Offer)
	// Poll is how often the answer is looked for; 0: every 5 s.
	Poll time.Duration
}

// EnrollResult tells what this machine is a member of now.
type EnrollResult struct {
	Mesh     keys.MeshID
	MeshName string
	Node     keys.NodeID
	Name     string
	Tags     []string
	NotAfter time.Time
	Issuer   string // empty if the answer came in a file
	Words    [3]string
	Members  int  // this one included
	Renewed  bool // it was a member before
}

// defaultPoll is how often a waiting newcomer looks for its answer: a handshake each, within an issuer's budget for one source.
const defaultPoll = 5 * time.Second

// Enroll joins the mesh of an invite over the network, or renews a membership in it. Nothing of a failed attempt is kept but the node's
// key, and what it waits for: trying again with the same invite is the same request, so a lost answer burns nothing.
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
	c, err := d.candidate(o.Invite.Mesh, o.DaemonPassphrase)
	if err != nil {
		return nil, err
	}
	m, err := d.join(ctx, o, c)
	if err != nil {
		return nil, err
	}
	adm := &enroll.Admission{
		Certificate: m.Certificate, Secret: m.Secret, Genesis: m.Genesis, Frames: m.Frames, Peers: m.Peers, MeshName: m.MeshName, Members: m.Members,
	}
	how := audit.Event{Actor: m.Offer.IssuerID.Compact(), Session: o.Invite.ID.String()}
	if err := d.take(c, adm, o.Invite.Heads, how, m.Offer.Words); err != nil {
		return nil, err
	}
	if err := d.forget(fileWaiting); err != nil {
		return nil, err
	}
	r := c.result(adm, m.Offer.Words)
	r.Issuer = m.Offer.Issuer
	return r, nil
}

// waiting is what a newcomer keeps until its request is decided. The issuer shows the words of the channel.
type waiting struct {
	Version uint64            `cbor:"1,keyasint"`
	Mesh    keys.MeshID       `cbor:"2,keyasint"`
	Invite  identity.InviteID `cbor:"3,keyasint"`
	Channel keys.Hash         `cbor:"4,keyasint"`
}

// readWaiting returns the channel of a request by this invite that waits, or nil.
func (d *stateDir) readWaiting(inv *identity.Invite) (*keys.Hash, error) {
	b, err := durable.ReadFile(d.fs, fileWaiting, maxWaiting)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var w waiting
	if wire.Unmarshal(b, &w) != nil || w.Version != waitingVersion || w.Mesh != inv.Mesh || w.Invite != inv.ID {
		return nil, nil // damaged, or another invite's: asking anew costs nothing but other words
	}
	return &w.Channel, nil
}

// join asks, and where a person decides waits as long as it may.
func (d *stateDir) join(ctx context.Context, o EnrollOptions, c *candidate) (*mesh.Membership, error) {
	channel, err := d.readWaiting(o.Invite)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{}
	dialer.SetMultipathTCP(false)
	cfg := mesh.JoinConfig{
		Key: c.node, Invite: o.Invite, Confirm: o.Confirm, Now: time.Now, Name: o.Name, Tags: o.Tags, Again: c.again, Waiting: channel,
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return dialAnyLink(ctx, &dialer, to)
		},
	}
	rand.Read(cfg.Boot[:])
	poll := o.Poll
	if poll == 0 {
		poll = defaultPoll
	}
	until := time.Now().Add(o.Wait)
	var wait *mesh.WaitingError
	for {
		m, err := mesh.Join(ctx, cfg)
		switch w, waits := errors.AsType[*mesh.WaitingError](err); {
		case err == nil:
			return m, nil
		case waits:
			if cfg.Waiting == nil {
				// Written before anybody reads the words: from here on the same ones are shown until the answer comes.
				b := wire.MustMarshal(waiting{Version: waitingVersion, Mesh: o.Invite.Mesh, Invite: o.Invite.ID, Channel: w.Channel})
				if err := durable.WriteFile(d.fs, fileWaiting, b); err != nil {
					return nil, err
				}
				cfg.Waiting = &w.Channel
			}
			if wait == nil && o.Waiting != nil {
				o.Waiting(w.Offer)
			}
			wait = w
		case errors.Is(err, mesh.ErrRequestDenied):
			return nil, errors.Join(err, d.forget(fileWaiting))
		case cfg.Waiting == nil || !errors.Is(err, mesh.ErrUnreachable):
			return nil, err // but an issuer that restarts while it is waited for is waited for too, and so is one that was asked before
		}
		if !time.Now().Add(poll).Before(until) {
			if wait == nil {
				return nil, err
			}
			return nil, wait
		}
		select {
		case <-time.After(poll):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
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

// candidate is this machine before it is a member, or before its membership is renewed.
type candidate struct {
	mesh   keys.MeshID
	node   *keys.SigningKey
	to     keys.Recipient // of its key files
	unlock keys.Unlock    // what opens them
	again  bool           // the key was there: an earlier attempt made it
	member *member        // the membership to be renewed
	cert   *identity.SignedCertificate
}

// candidate makes this machine's key for a mesh, or reads the one that is there: of a member, or of an earlier attempt, which the issuer
// recognises and answers again. What else an attempt left is moved aside.
func (d *stateDir) candidate(id keys.MeshID, passphrase string) (*candidate, error) {
	c := &candidate{mesh: id, unlock: d.unlock(func() (string, error) { return passphrase, nil })}
	if err := d.finishRotation(); err != nil {
		return nil, err
	}
	m, cert, err := d.readMember()
	switch {
	case err == nil:
		if m.Mesh != id {
			return nil, ErrMember
		}
		c.member, c.cert, c.again = m, cert, true
		if c.node, c.to, err = d.earlierKey(id, passphrase); err != nil {
			return nil, d.keyError(fileNode, err)
		}
		if c.node.NodeID() != cert.Node {
			return nil, fmt.Errorf("%s is not the key of this node's certificate: restore it from a backup", d.file(fileNode))
		}
		return c, nil
	case !errors.Is(err, ErrNotMember):
		return nil, err
	}
	c.node, c.to, err = d.earlierKey(id, passphrase)
	switch {
	case err == nil:
		c.again = true
		return c, d.fresh(fileNode, fileIdentity, fileWaiting, fileRequest, fileReqKey)
	case errors.Is(err, keys.ErrPassphrase), errors.Is(err, keys.ErrLocked):
		// The key may be the one the invite was spent with: putting it aside for want of a passphrase would burn the invite.
		return nil, fmt.Errorf("an earlier attempt made a key: %w", d.keyError(fileNode, err))
	}
	// No key, a damaged one, or one for another mesh.
	if passphrase != "" {
		if err := keys.CheckNewPassphrase(passphrase); err != nil {
			return nil, err
		}
	}
	if err := d.fresh(); err != nil {
		return nil, err
	}
	c.node = keys.NewSigningKey()
	if err := d.writeKeys(passphrase, keyFile{fileNode, keys.SigningMaterial(keys.KindNode, id, c.node)}); err != nil {
		return nil, err
	}
	c.to, err = d.recipient(passphrase)
	return c, err
}

// earlierKey returns the node key that is there for the mesh.
func (d *stateDir) earlierKey(id keys.MeshID, passphrase string) (*keys.SigningKey, keys.Recipient, error) {
	k, err := keys.ReadKeyFile(d.fs, fileNode, keys.KindNode, id, d.unlock(func() (string, error) { return passphrase, nil }))
	if err != nil {
		return nil, keys.Recipient{}, err
	}
	node, err := k.SigningKey()
	if err != nil {
		return nil, keys.Recipient{}, err
	}
	to, err := d.recipient(passphrase)
	return node, to, err
}
