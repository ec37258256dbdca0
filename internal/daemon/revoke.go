package daemon

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/trust"
)

// removalRecord records a removal, which goes on without a record if there is no other way: a full disk must not keep a thief in.
func (d *Daemon) removalRecord(by control.Caller, e audit.Event) error {
	err := d.record(by, e)
	if err != nil {
		d.log.Error("a removal is not recorded in the audit log; the trust log keeps it", "err", err)
	}
	return nil
}

// Revoke implements control.Policy.
func (d *Daemon) Revoke(ctx context.Context, by control.Caller, r *control.RevokeRequest) (*control.RevokeResult, error) {
	if d.signer() == nil {
		return nil, errNotIssuer()
	}
	id, err := d.revocable(r.Node)
	if err != nil {
		return nil, err
	}
	res := &control.RevokeResult{Node: d.ref(id), DryRun: r.DryRun}
	res.Grants, res.Shared = d.grantsOf(id, d.trustNow())
	if id == d.key.NodeID() && !r.Force {
		return nil, control.Errorf(control.Denied, "revoke it from another issuer, or add --force",
			"%s is this node, the issuer itself: without it nobody could enrol, grant or revoke here", d.word(id))
	}
	invites := d.invitesFor(id)
	for _, v := range invites {
		res.Invites = append(res.Invites, d.inviteDoc(&v, d.trustNow()))
	}
	if r.DryRun {
		sessions, streams := d.node.Cut(id)
		res.Applied = []control.Applied{{Node: d.ref(d.key.NodeID()), ClosedSessions: sessions, ClosedStreams: streams}}
		return res, nil
	}
	if err := d.removalRecord(by, audit.Event{Code: audit.NodeRevoke, Target: id.Compact(), Reason: r.Reason, Before: res.Node.Name}); err != nil {
		return nil, err
	}
	res.Invites = d.takeBack(invites, res, func(e audit.Event) { _ = d.removalRecord(by, e) }, by.UID)
	c, err := d.revoke(trust.OpRevokeNode{Node: id}, r.Now, res, func(trust.Change) {})
	if err != nil {
		return nil, err
	}
	res.Spread = d.spread(ctx, c, r.WaitMS)
	return res, nil
}

// invitesFor are this issuer's invites by which another machine could be enrolled under the name of a node that is revoked. Where its admin made
// the enrolment the name passes on without a question, and these were not made for that.
func (d *Daemon) invitesFor(id keys.NodeID) []enroll.Invite {
	name, ok := d.store.Current().NameOf(id)
	if !ok {
		return nil
	}
	return d.book().ForName(name, d.trustNow())
}

// takeBack removes them, before the revocation, so that there is no moment in which they could be used: until then the name is taken. What
// cannot be removed does not keep the node from being revoked. If we crash in between, they are gone and the node is a member still.
func (d *Daemon) takeBack(invites []enroll.Invite, res *control.RevokeResult, record func(audit.Event), uid uint32) (gone []control.Invite) {
	now := d.trustNow()
	for _, v := range invites {
		record(audit.Event{Code: audit.InviteRemove, Target: v.Name, Session: v.ID.String(), Reason: "its machine is revoked"})
		if err := d.book().Remove(v.ID, uid, now); err != nil {
			d.log.Error("an invite for the name of a revoked machine is open still", "invite", v.ID, "name", v.Name, "err", err)
			res.Warnings = append(res.Warnings, control.Warning{
				Code: "invite-open", Text: fmt.Sprintf("invite %s for that name could not be taken back: %v", v.ID, err), Next: "meshkey invite rm " + v.ID.String(),
			})
			continue
		}
		v.Removed = now
		gone = append(gone, d.inviteDoc(&v, now))
	}
	return gone
}

// revoke writes the revocation, in one entry with a new group secret if this node makes those and the last one is not too young. What
// keeps a new secret from being made does not keep the node from being revoked. then runs when it is written, before it has an effect.
func (d *Daemon) revoke(op trust.OpRevokeNode, now bool, res *control.RevokeResult, then func(trust.Change)) (trust.Change, error) {
	d.issuing.Lock()
	defer d.issuing.Unlock()
	age := d.trustNow() - d.store.Current().GroupSince()
	switch {
	case !d.groupIssuer():
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "group-later", Text: "the group secret is changed by the machine that makes it, within a day; until then the revoked one can tell beacons of this mesh from noise",
		})
	case age < groupPause && !now:
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "group-later", Text: fmt.Sprintf("the group secret was changed %s ago and is changed again in %s; until then the revoked machine can tell beacons of this mesh from noise",
				time.Duration(age)*time.Second, time.Duration(groupPause-age)*time.Second),
			Next: "meshkey rotate --group --now",
		})
	default:
		c, gen, err := d.appendGroup(then, op)
		if err == nil {
			res.Generation = gen
			return c, nil
		}
		d.log.Error("the group secret was not changed with the revocation", "err", err)
		res.Warnings = append(res.Warnings, control.Warning{Code: "group-failed", Text: "the group secret was not changed: " + err.Error(), Next: "meshkey rotate --group --now"})
	}
	return d.appendThen(then, op)
}

// revocable finds the node to revoke, expired and conflicting ones included.
func (d *Daemon) revocable(who string) (keys.NodeID, error) {
	st := d.store.Current()
	var hit []keys.NodeID
	if id, err := keys.ParseNodeID(who); err == nil {
		hit = append(hit, id)
	} else {
		for m := range st.Members() {
			if m.Name == who {
				hit = append(hit, m.Node)
			}
		}
		if len(hit) > 1 {
			return keys.NodeID{}, control.Errorf(control.NotFound, "meshkey peers --full", "%q is the name of %d members; use the id", who, len(hit))
		}
		if p, err := keys.ParseNodePrefix(who); err == nil {
			named := len(hit) > 0 // then keys of the past that begin so take nothing from it
			for _, id := range st.ByPrefix(p) {
				if _, member := st.Member(id); (member || !named) && !slices.Contains(hit, id) {
					hit = append(hit, id)
				}
			}
		}
	}
	switch len(hit) {
	case 0:
		return keys.NodeID{}, control.Errorf(control.NotFound, "meshkey peers", "no member is named %q", who)
	case 1:
	default:
		return keys.NodeID{}, control.Errorf(control.NotFound, "meshkey peers --full --all", "%w: %q", mesh.ErrAmbiguousID, who)
	}
	if _, done := st.Revoked(hit[0]); done {
		return hit[0], control.Errorf(control.NotFound, "meshkey peers --all", "%s is revoked already", hit[0].Short())
	}
	if _, ok := st.Member(hit[0]); !ok {
		return hit[0], control.Errorf(control.NotFound, "meshkey peers", "no member has the id %s", hit[0].Short())
	}
	return hit[0], nil
}

// spread tells how far a change has got. This node has applied it. Others tell by the digests of their heartbeats and vectors; who
// has not been heard with the new view is listed as pending.
func (d *Daemon) spread(ctx context.Context, c trust.Change, waitMS int64) control.Spread {
	began := time.Now()
	s := control.Spread{Applied: []control.Applied{{Node: d.ref(d.key.NodeID())}}}
	wait := time.Duration(waitMS) * time.Millisecond
	have := d.node.AwaitApplied(ctx, c.Issuer, c.Seq, wait)
	for _, a := range have {
		if a.Node == d.key.NodeID() {
			s.Applied[0].ClosedSessions, s.Applied[0].ClosedStreams = a.Sessions, a.Streams
			continue
		}
		s.Applied = append(s.Applied, control.Applied{
			Node: d.ref(a.Node), AfterMS: max(0, a.At.Sub(began).Milliseconds()), ClosedSessions: a.Sessions, ClosedStreams: a.Streams, Signed: a.Signed,
		})
	}
	sort.Slice(s.Applied[1:], func(i, j int) bool {
		a, b := s.Applied[1+i], s.Applied[1+j]
		return a.AfterMS < b.AfterMS || a.AfterMS == b.AfterMS && a.Node.ID < b.Node.ID
	})
	for _, p := range d.node.Peers() {
		if _, ok := have[p.Node]; ok {
			continue
		}
		reason := "no acknowledgement yet"
		if p.Session == "" {
			reason = "offline"
			if !p.Seen.IsZero() {
				reason += ", last seen " + p.Seen.UTC().Format(time.RFC3339)
			}
		}
		s.Pending = append(s.Pending, control.Pending{Node: control.NodeRef{Name: p.Name, ID: p.Node.Compact()}, Reason: reason})
	}
	return s
}
