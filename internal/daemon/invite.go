package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
)

// CreateInvite implements control.Inviter.
func (d *Daemon) CreateInvite(_ context.Context, by control.Caller, r *control.InviteRequest) (*control.InviteResult, error) {
	if d.signer() == nil {
		return nil, errNotIssuer()
	}
	if err := identity.CheckName(r.Name); err != nil {
		return nil, control.Errorf(control.Usage, "", "machine name: %w", err)
	}
	tags := identity.NormalTags(r.Tags)
	if err := identity.CheckTags(tags); err != nil {
		return nil, control.Errorf(control.Usage, "", "%w", err)
	}
	if r.Uses > 1 {
		return nil, control.Errorf(control.Usage, "make one invite for each machine", "an invite is for one machine")
	}
	ttl := int64(enroll.DefaultInviteLife)
	if r.TTLMS != 0 {
		ttl = r.TTLMS / 1000
	}
	if err := d.own.Load().enroll.CheckName(r.Name, tags, enroll.DefaultCertificateLife); err != nil {
		code := control.Failed
		if errors.Is(err, enroll.ErrMayNot) {
			code = control.Denied
		}
		return nil, control.Errorf(code, "meshkey peers", "%w", err)
	}
	eps := d.node.Endpoints()
	if len(eps) == 0 {
		return nil, control.Errorf(control.Failed, "connect a network, or set mesh.endpoints in the configuration", "this node has no address a newcomer could reach")
	}
	now := d.trustNow()
	v := enroll.Invite{
		ID: identity.NewInviteID(), Name: r.Name, Tags: tags, Created: now, Expiry: now + ttl, Uses: 1,
		Life: enroll.DefaultCertificateLife, RenewUntil: enroll.RenewForever, UID: by.UID,
	}
	if err := d.record(by, audit.Event{Code: audit.InviteCreate, Target: r.Name, Session: v.ID.String()}); err != nil {
		return nil, err
	}
	if err := d.own.Load().book.Create(v, now); err != nil {
		return nil, control.Errorf(control.Failed, "meshkey invite ls", "%w", err)
	}
	text := d.inviteText(&v)
	res := &control.InviteResult{Invite: d.inviteDoc(&v, now), Text: text}
	for _, ep := range eps[:min(len(eps), identity.MaxEndpoints)] {
		res.Endpoints = append(res.Endpoints, ep.String())
	}
	return res, nil
}

// inviteText is the line a newcomer needs: how to reach this node, and how to know the mesh.
func (d *Daemon) inviteText(v *enroll.Invite) string {
	st := d.store.Current()
	inv := identity.Invite{
		Mesh: d.meshID, ID: v.ID, Secret: d.own.Load().enroll.Secret(v.ID), RootVersion: st.Root().Version, RootHash: st.Root().Hash(),
		IssuerNode: d.key.NodeID(), Expiry: v.Expiry, Name: v.Name,
	}
	for _, is := range st.Root().Issuers {
		if seq, hash, ok := st.Position(is.ID); ok && seq > 0 && len(inv.Heads) < identity.MaxInviteHeads {
			inv.Heads = append(inv.Heads, identity.IssuerHead{Issuer: is.ID, Seq: seq, Hash: hash})
		}
	}
	for _, ep := range d.node.Endpoints() {
		if len(inv.Endpoints) < identity.MaxEndpoints {
			inv.Endpoints = append(inv.Endpoints, identity.EndpointOf(ep))
		}
	}
	return inv.Encode()
}

func (d *Daemon) inviteDoc(v *enroll.Invite, now int64) control.Invite {
	c := control.Invite{
		ID: v.ID.String(), Name: v.Name, Tags: v.Tags, Created: time.Unix(v.Created, 0).UTC(), Expires: time.Unix(v.Expiry, 0).UTC(),
		Uses: int(v.Uses) - len(v.Spends), State: v.Status(now),
	}
	for _, s := range v.Spends {
		c.UsedBy = append(c.UsedBy, d.ref(s.Node))
	}
	return c
}

// Invites implements control.Inviter.
func (d *Daemon) Invites(context.Context) (*control.Invites, error) {
	if d.signer() == nil {
		return nil, errNotIssuer()
	}
	now := d.trustNow()
	out := &control.Invites{Invites: []control.Invite{}}
	for _, v := range d.own.Load().book.List(now) {
		out.Invites = append(out.Invites, d.inviteDoc(&v, now))
	}
	return out, nil
}

// RemoveInvite implements control.Inviter.
func (d *Daemon) RemoveInvite(_ context.Context, by control.Caller, id string) error {
	if d.signer() == nil {
		return errNotIssuer()
	}
	iid, err := identity.ParseInviteID(id)
	if err != nil {
		return control.Errorf(control.Usage, "meshkey invite ls", "%w", err)
	}
	if err := d.removalRecord(by, audit.Event{Code: audit.InviteRemove, Session: id}); err != nil {
		return err
	}
	err = d.own.Load().book.Remove(iid, by.UID, d.trustNow())
	switch {
	case errors.Is(err, enroll.ErrUnknown):
		return control.Errorf(control.NotFound, "meshkey invite ls", "no invite %s", id)
	case errors.Is(err, enroll.ErrUsed):
		return control.Errorf(control.Failed, fmt.Sprintf("meshkey revoke %s", "NODE"), "invite %s has been used; revoke the machine instead", id)
	}
	return err
}
