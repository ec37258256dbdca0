package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/trust"
)

// CreateInvite implements control.Inviter.
func (d *Daemon) CreateInvite(ctx context.Context, by control.Caller, r *control.InviteRequest) (*control.InviteResult, error) {
	if d.inviter() == nil {
		return nil, errNotIssuer()
	}
	if err := identity.CheckName(r.Name); err != nil {
		return nil, control.Errorf(control.Usage, "", "machine name: %w", err)
	}
	tags := identity.NormalTags(r.Tags)
	if err := identity.CheckTags(tags); err != nil {
		return nil, control.Errorf(control.Usage, "", "%w", err)
	}
	allow, err := d.allowed(r.Allow)
	if err != nil {
		return nil, err
	}
	eps := d.endpoints(ctx)
	if len(eps) == 0 {
		return nil, control.Errorf(control.Failed, "connect a network, or set mesh.endpoints in the configuration", "this node has no address a newcomer could reach")
	}
	now := d.trustNow()
	v := enroll.Invite{
		ID: identity.NewInviteID(), Name: r.Name, Tags: tags, Created: now, Expiry: now + enroll.DefaultInviteLife, Uses: uint32(max(r.Uses, 1)),
		Life: enroll.DefaultCertificateLife, RenewUntil: enroll.RenewForever, UID: by.UID, Allow: allow, Approval: r.Approval,
	}
	switch {
	case r.TTLMS != 0:
		v.Expiry = now + r.TTLMS/1000
	case r.Approval:
		v.Expiry = now + enroll.ApprovalInviteLife
	}
	switch {
	case r.GuestMS != 0:
		v.Life, v.RenewUntil = r.GuestMS/1000, 0
	case !r.RenewUntil.IsZero():
		if v.RenewUntil = r.RenewUntil.Unix(); v.RenewUntil <= now {
			return nil, control.Errorf(control.Usage, "", "the membership would have ended before it begins")
		}
	}
	renews, err := d.inviter().Check(&v)
	if err != nil {
		return nil, enrolFailure(err)
	}
	if err := d.record(by, audit.Event{Code: audit.InviteCreate, Target: r.Name, Session: v.ID.String(), After: inviteTerms(&v)}); err != nil {
		return nil, err
	}
	if err := d.book().Create(v, now); err != nil {
		return nil, control.Errorf(control.Failed, "meshkey invite ls", "%w", err)
	}
	text := d.inviteText(&v)
	res := &control.InviteResult{Invite: d.inviteDoc(&v, now), Text: text}
	if !renews.IsZero() {
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "renews", Text: fmt.Sprintf("%s is a member already: this invite renews it, and works on no other machine", v.Name),
			Next: "meshkey revoke " + v.Name + ", if another machine shall have the name",
		})
	}
	for _, ep := range eps[:min(len(eps), identity.MaxEndpoints)] {
		res.Endpoints = append(res.Endpoints, ep.String())
	}
	return res, nil
}

// endpointsWait is how long an invite waits for this node's first address: a daemon that has just begun looks for its links.
const endpointsWait = 2 * time.Second

// endpoints are this node's addresses.
func (d *Daemon) endpoints(ctx context.Context) []netip.AddrPort {
	ctx, cancel := context.WithTimeout(ctx, endpointsWait)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		eps := d.node.Endpoints()
		if len(eps) > 0 {
			return eps
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// allowed reads what is allowed with an enrolment. Names become ids here, once.
func (d *Daemon) allowed(list []string) ([]trust.What, error) {
	var out []trust.What
	for _, text := range list {
		res, err := control.ParseResource(text)
		if err != nil {
			return nil, err
		}
		on, err := d.target(res.On)
		if err != nil {
			return nil, err
		}
		out = append(out, trust.What{Target: on, Service: res.Service})
	}
	return out, nil
}

// inviteTerms says for the audit log what an invite gives beyond a name.
func inviteTerms(v *enroll.Invite) string {
	terms := fmt.Sprintf("uses %d, tags %s", v.Uses, strings.Join(v.Tags, " "))
	if len(v.Allow) > 0 {
		terms += fmt.Sprintf(", %d services", len(v.Allow))
	}
	if v.RenewUntil != enroll.RenewForever {
		terms += fmt.Sprintf(", life %d s, renewed until %d", v.Life, v.RenewUntil)
	}
	if v.Approval {
		terms += ", by approval"
	}
	return terms
}

// enrolFailure gives an enrolment that cannot be done its exit code.
func enrolFailure(err error) error {
	switch {
	case errors.Is(err, enroll.ErrMayNot), errors.Is(err, enroll.ErrRevoked), errors.Is(err, enroll.ErrOtherName):
		return control.Errorf(control.Denied, "meshkey peers", "%w", err)
	case errors.Is(err, enroll.ErrWords), errors.Is(err, enroll.ErrFile):
		return control.Errorf(control.Unverified, "compare the words with the new machine's own screen", "%w", err)
	case errors.Is(err, enroll.ErrNoFile):
		return control.Errorf(control.Usage, "it is made with: meshkey enroll --mesh ID --request FILE", "%w", err)
	case errors.Is(err, enroll.ErrNoRequest), errors.Is(err, enroll.ErrExpired), errors.Is(err, enroll.ErrRemoved), errors.Is(err, enroll.ErrUsed):
		return control.Errorf(control.NotFound, "meshkey pending", "%w", err)
	case errors.Is(err, enroll.ErrOtherTags), errors.Is(err, enroll.ErrNameTaken):
		return control.Errorf(control.Failed, "meshkey peers", "%w", err)
	}
	return err
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
		Uses: int(v.Uses) - len(v.Spends), State: v.Status(now), Approval: v.Approval, Guest: v.RenewUntil == 0,
	}
	if v.RenewUntil != 0 && v.RenewUntil != enroll.RenewForever {
		c.RenewUntil = time.Unix(v.RenewUntil, 0).UTC()
	}
	for _, w := range v.Allow {
		c.Allow = append(c.Allow, d.what(w))
	}
	for _, s := range v.Spends {
		use := control.InviteUse{Node: d.ref(s.Node), Time: time.Unix(s.Time, 0).UTC()}
		if !s.Channel.IsZero() {
			words := identity.Words(s.Channel)
			use.Words = words[:]
		}
		c.UsedBy, c.Used = append(c.UsedBy, use.Node), append(c.Used, use)
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
	waiting := map[identity.InviteID][]string{}
	for _, r := range d.book().Waiting(now) {
		waiting[r.Invite] = append(waiting[r.Invite], r.ID.String())
	}
	asking := map[identity.InviteID][]control.InviteAsking{}
	for _, n := range d.node.Newcomers() {
		asking[n.Invite] = append(asking[n.Invite], control.InviteAsking{NodeText: n.Node.Short(), Address: n.From.Addr().Unmap().String(), Since: n.Since.UTC(), Words: n.Words[:]})
	}
	for _, v := range d.book().List(now) {
		c := d.inviteDoc(&v, now)
		c.Waiting, c.Asking = waiting[v.ID], asking[v.ID]
		out.Invites = append(out.Invites, c)
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
	err = d.book().Remove(iid, by.UID, d.trustNow())
	switch {
	case errors.Is(err, enroll.ErrUnknown):
		return control.Errorf(control.NotFound, "meshkey invite ls", "no invite %s", id)
	case errors.Is(err, enroll.ErrUsed):
		return control.Errorf(control.Failed, fmt.Sprintf("meshkey revoke %s", "NODE"), "invite %s has been used; revoke the machine instead", id)
	}
	return err
}
