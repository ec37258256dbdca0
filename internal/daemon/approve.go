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
	"github.com/sovereignmesh/meshkey/trust"
)

func waiterDoc(r *enroll.Request) control.Waiter {
	words := r.Words()
	return control.Waiter{
		ID: r.ID.String(), Node: r.Node.Compact(), NodeText: r.Node.Short(), Name: r.Name, Tags: r.Tags, Words: words[:],
		Since: time.Unix(r.Asked, 0).UTC(), Address: r.Address, Invite: r.Invite.String(), InviteName: r.InviteName, InviteTags: r.InviteTags,
	}
}

// Pending implements control.Inviter.
func (d *Daemon) Pending(context.Context) (*control.Pendings, error) {
	if d.book() == nil {
		return nil, errNotIssuer()
	}
	out := &control.Pendings{Waiting: []control.Waiter{}}
	for _, r := range d.book().Waiting(d.trustNow()) {
		out.Waiting = append(out.Waiting, waiterDoc(&r))
	}
	return out, nil
}

// Approve implements control.Inviter.
func (d *Daemon) Approve(_ context.Context, by control.Caller, r *control.ApproveRequest) (*control.ApproveResult, error) {
	if d.inviter() == nil {
		return nil, errNotIssuer()
	}
	allow, err := d.allowed(r.Allow)
	if err != nil {
		return nil, err
	}
	a := enroll.Approval{
		Name: r.Name, Tags: r.Tags, NoTags: r.NoTags, Allow: allow, UID: by.UID, Life: enroll.DefaultCertificateLife, RenewUntil: enroll.RenewForever,
	}
	if len(r.Words) == 3 {
		a.Words = &[3]string{r.Words[0], r.Words[1], r.Words[2]}
	}
	if len(r.File) > 0 {
		return d.approveFile(by, r.File, a)
	}
	id, err := enroll.ParseRequestID(r.ID)
	if err != nil {
		return nil, control.Errorf(control.Usage, "meshkey pending", "%w", err)
	}
	g, err := d.inviter().Approve(id, a, d.recordApproval(by, r.ID))
	if err != nil {
		return nil, enrolFailure(err)
	}
	return d.approved(g, identity.Words(g.Channel)), nil
}

// recordApproval records who let a machine in before it is a member.
func (d *Daemon) recordApproval(by control.Caller, request string) enroll.Record {
	return func(c *identity.SignedCertificate, again bool) error {
		e := audit.Event{Code: audit.RequestApprove, Target: c.Node.Compact(), Session: request, After: fmt.Sprintf("serial %d, name %s", c.Serial, c.Name)}
		if again {
			e.Reason = "approved before"
		}
		return d.record(by, e)
	}
}

func (d *Daemon) approved(g *enroll.Grant, words [3]string) *control.ApproveResult {
	c := g.Certificate
	d.log.Info("approved", "node", c.Name, "id", c.Node.Short(), "words", words, "again", g.Again)
	return &control.ApproveResult{
		Node: control.NodeRef{Name: c.Name, ID: c.Node.Compact()}, Tags: c.Tags, NotAfter: time.Unix(c.NotAfter, 0).UTC(), Words: words[:], Again: g.Again,
	}
}

// approveFile enrols the machine of a request file and seals everything it needs to that file's key.
func (d *Daemon) approveFile(by control.Caller, file []byte, a enroll.Approval) (*control.ApproveResult, error) {
	q, err := enroll.ParseRequest(file, d.meshID)
	if err != nil {
		return nil, enrolFailure(err)
	}
	// Whether there can be an answer is asked first: a member that never learns of it would be worse than none.
	if _, err := d.admission(nil); err != nil {
		return nil, err
	}
	g, err := d.inviter().ApproveFile(q, a, d.recordApproval(by, "file "+q.CSR.ID.String()[:16]))
	if err != nil {
		return nil, enrolFailure(err)
	}
	adm, err := d.admission(g.Certificate)
	if err != nil {
		return nil, err
	}
	res, err := enroll.Respond(q, adm)
	if err != nil {
		return nil, tooLong(err)
	}
	out := d.approved(g, q.CSR.Words())
	out.Response = res.Encode()
	return out, nil
}

// admission is everything a newcomer needs. Nobody changes the group secret between the log and the secret of an answer.
func (d *Daemon) admission(c *identity.SignedCertificate) (*enroll.Admission, error) {
	d.issuing.Lock()
	defer d.issuing.Unlock()
	secret, peers := d.node.Introduction()
	if gen, commit := d.store.Current().GroupCommit(); gen != secret.Generation || commit != secret.Commitment(d.meshID) {
		return nil, control.Errorf(control.Failed, "try again in a minute", "this node has not learnt the newest group secret yet")
	}
	genesis, frames, err := d.store.History(enroll.MaxHistory)
	if err != nil {
		return nil, tooLong(err)
	}
	return &enroll.Admission{Certificate: c, Secret: secret, Genesis: genesis, Frames: frames, Peers: peers[:min(len(peers), enroll.MaxPeers)]}, nil
}

func tooLong(err error) error {
	if errors.Is(err, trust.ErrTooLong) {
		return control.Errorf(control.Failed, "meshkey invite NAME", "the mesh's trust log is too long for a file; enrol that machine over the network: %w", err)
	}
	return err
}

// Deny implements control.Inviter.
func (d *Daemon) Deny(_ context.Context, by control.Caller, r *control.DenyRequest) (*control.DenyResult, error) {
	if d.book() == nil {
		return nil, errNotIssuer()
	}
	id, err := enroll.ParseRequestID(r.ID)
	if err != nil {
		return nil, control.Errorf(control.Usage, "meshkey pending", "%w", err)
	}
	q, err := d.book().Deny(id, by.UID, d.trustNow(), func(q enroll.Request) error {
		return d.removalRecord(by, audit.Event{Code: audit.RequestDeny, Target: q.Node.Compact(), Session: q.Invite.String(), Reason: r.Reason, Before: q.Name})
	})
	if err != nil {
		return nil, enrolFailure(err)
	}
	return &control.DenyResult{Waiter: waiterDoc(q)}, nil
}
