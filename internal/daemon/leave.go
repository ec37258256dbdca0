package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// leaveAsk is how long a leave looks for an issuer if it is not said.
const leaveAsk = 15 * time.Second

// leaveShutOut is how long at most while issuers say that this node is revoked already: they are not dialled again for five seconds.
const leaveShutOut = 8 * time.Second

// Leave implements control.Lifer: the key is revoked by an issuer, or by the one on this host; then the daemon stops, and what made this host
// a member goes aside. If we crash before the stop the host is a member, revoked or not, and leave can be asked for again.
func (d *Daemon) Leave(ctx context.Context, by control.Caller, r *control.LeaveRequest) (*control.LeaveResult, error) {
	if !d.rotating.TryLock() {
		return nil, control.Errorf(control.InUse, "meshkey status", "a rotation of this node's key is under way")
	}
	defer d.rotating.Unlock()
	res := d.wouldLeave(r)
	if stranded := d.stranded(); stranded != "" {
		if !r.Force && !r.DryRun {
			return nil, control.Errorf(control.Denied, "make another issuer first: meshkey keys new issuer, on another machine; or add --force", "%s", stranded)
		}
		res.Warnings = append(res.Warnings, control.Warning{Code: "stranded", Text: stranded, Next: "make another issuer first: meshkey keys new issuer, on another machine"})
	}
	if r.DryRun {
		return res, nil
	}
	if err := d.removalRecord(by, audit.Event{Code: audit.NodeLeave, Target: d.key.NodeID().Compact()}); err != nil {
		return nil, err
	}
	wait := leaveAsk
	if r.WaitMS > 0 {
		wait = time.Duration(r.WaitMS) * time.Millisecond
	}
	if len(d.issuersShutOut()) > 0 {
		wait = min(wait, leaveShutOut)
	}
	lctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	revoker, done := d.revokedAlready()
	var err error
	if !done {
		var issuer keys.NodeID
		if issuer, err = d.revokeSelf(lctx); err == nil {
			revoker = d.ref(issuer)
		}
	}
	said := d.sayRevoked(err)
	switch {
	case err == nil:
		res.Applied, res.Issuer, res.Already = true, revoker, done
	case !r.Force && len(said) > 0:
		return nil, control.Errorf(control.Denied, "ask an admin: meshkey peers --all, on an issuer; if it is so: meshkey leave --force",
			"%s that this node's key is revoked already, and that cannot be checked from here: the log is shown to members only", d.sayers(said))
	case len(said) > 0:
		res.Told = true
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "revoked-told", Text: d.sayers(said) + " that this node's key is revoked already, which cannot be checked from here",
			Next: "make sure, on an issuer: meshkey peers --all; if it is not: meshkey revoke " + d.key.NodeID().Compact(),
		})
	case !r.Force:
		return nil, control.Errorf(control.Unreachable, "try again when an issuer's daemon runs; or leave with --force, and have an admin run: meshkey revoke "+d.cert.Name,
			"nobody could revoke this node's key, so nothing has changed: %w", err)
	default:
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "not-revoked", Text: "this node's key is not revoked, as far as is known here: " + err.Error(),
			Next: "on an issuer: meshkey revoke " + d.key.NodeID().Compact(),
		})
	}
	if d.dir.has(fileRoot) {
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "root-key", Text: "the mesh's root key goes aside with the rest: it still says who may issue", Next: "keep it safe, or hand it over: " + res.Kept + "/" + fileRoot,
		})
	}
	d.next.Store(nextLeave)
	d.stop()
	return res, nil
}

// sayRevoked are the issuers that say that this node's key is revoked, after none could be had to revoke it: it may be an answer that was
// lost, or a lie. Other members' word is none that a key may be left alive for.
func (d *Daemon) sayRevoked(err error) (ids []keys.NodeID) {
	if err == nil {
		return nil
	}
	ids = d.issuersShutOut()
	if r, ok := errors.AsType[*mesh.RefusedError](err); ok && r.Code == session.CodeRevoked && !slices.Contains(ids, r.By) {
		ids = append(ids, r.By)
	}
	return ids
}

// wouldLeave is what leaving ends.
func (d *Daemon) wouldLeave(r *control.LeaveRequest) *control.LeaveResult {
	st, now, self := d.store.Current(), d.trustNow(), d.key.NodeID()
	res := &control.LeaveResult{
		Node: control.NodeRef{Name: d.cert.Name, ID: self.Compact()}, Mesh: control.MeshInfo{Name: st.Root().Name, ID: d.meshID.String()}, DryRun: r.DryRun,
	}
	res.Sessions, res.Streams = d.node.Carried()
	for _, s := range d.node.Services() {
		res.Services = append(res.Services, s.Name)
	}
	res.Grants, res.Shared = d.grantsOf(self, now)
	if dir, err := d.dir.leftDir(); err == nil {
		res.Kept = d.dir.file(dir)
	}
	if signer := d.signer(); signer != nil && d.stranded() == "" {
		if is, ok := st.Root().Issuer(signer.Public()); ok && is.Works(now) {
			res.Warnings = append(res.Warnings, control.Warning{
				Code: "issuer-key", Text: "the issuer key of this node goes on to count; its entries stay",
				Next: "on another issuer, with the root key: meshkey root issuer cutoff " + is.Name,
			})
		}
	}
	return res
}

// stranded says what nobody could do any more without this node; empty: somebody can.
func (d *Daemon) stranded() string {
	signer := d.signer()
	st, now := d.store.Current(), d.trustNow()
	if signer == nil {
		return ""
	}
	mine, ok := st.Root().Issuer(signer.Public())
	if !ok || !mine.Works(now) || !mine.Caps.Has(trust.CapEnroll) {
		return ""
	}
	for _, is := range st.Root().Issuers {
		if is.ID != mine.ID && is.Works(now) && is.Caps.Has(trust.CapEnroll|trust.CapRevoke) {
			return ""
		}
	}
	text := fmt.Sprintf("this node is the last issuer of %s: without it nobody can enrol, renew, rotate, grant or revoke there", st.Root().Name)
	var others []trust.Member
	for m := range st.Members() {
		if m.Node != d.key.NodeID() && m.Live(now) {
			others = append(others, m)
		}
	}
	if len(others) == 0 {
		return text
	}
	sort.Slice(others, func(i, j int) bool { return others[i].NotAfter < others[j].NotAfter })
	return text + fmt.Sprintf(", and its %d other members end with their certificates, %s first, on %s", len(others), others[0].Name,
		time.Unix(others[0].NotAfter, 0).UTC().Format(time.DateOnly))
}

// revokeSelf has this node's key revoked and returns who did it. It is done when somebody else knows: an entry that only this disk has
// would revoke nothing.
func (d *Daemon) revokeSelf(ctx context.Context) (keys.NodeID, error) {
	if !d.issuesItself() {
		return d.node.AskLeave(ctx)
	}
	self, began := d.key.NodeID(), time.Now()
	alone := true
	for m := range d.store.Current().Members() {
		alone = alone && m.Node == self
	}
	if _, done := d.store.Current().Revoked(self); done {
		began = time.Time{} // in an earlier try: whoever has said so since knows
	} else {
		if _, err := d.revoke(trust.OpRevokeNode{Node: self, Reason: trust.RevokeLeft}, false, &control.RevokeResult{}, func(trust.Change) {}); err != nil {
			return self, err
		}
	}
	tick := time.NewTicker(leavePoll)
	defer tick.Stop()
	for !alone && len(d.node.RevokedBy(began)) == 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return self, fmt.Errorf("%w: the revocation is in this node's log, and nobody has it from here", mesh.ErrUnreachable)
		}
	}
	return self, nil
}

// leavePoll is how often it is looked whether a peer has applied this node's own revocation.
const leavePoll = 20 * time.Millisecond

// leaving implements mesh.Config.Leaving: a node asks to be revoked, as any admin could.
func (d *Daemon) leaving(id keys.NodeID, then func(entry []byte)) error {
	if d.signer() == nil {
		return errNotIssuer()
	}
	if _, ok := d.store.Current().Member(id); !ok {
		return errors.New("no member has that key")
	}
	e := audit.Event{Code: audit.NodeLeave, Actor: id.Compact(), Target: id.Compact(), Verdict: audit.Allowed}
	if _, err := d.audit.Append(e); err != nil {
		d.log.Error("a removal is not recorded in the audit log; the trust log keeps it", "err", err)
	}
	res := &control.RevokeResult{}
	d.takeBack(d.invitesFor(id), res, func(e audit.Event) {
		e.Actor, e.Verdict, e.Reason = id.Compact(), audit.Allowed, "its machine leaves"
		d.note(e)
	}, 0)
	_, err := d.revoke(trust.OpRevokeNode{Node: id, Reason: trust.RevokeLeft}, false, res, func(c trust.Change) {
		then(d.store.Entry(c.Issuer, c.Seq))
	})
	return err
}

// leftDir is the first free name for what a membership leaves.
func (d *stateDir) leftDir() (string, error) {
	for i := range maxLeftovers {
		name := fmt.Sprintf("left-%d", i+1)
		if !d.has(name) {
			return name, nil
		}
	}
	return "", fmt.Errorf("%s holds what is left of %d memberships: look at them and remove them", d.path, maxLeftovers)
}

func (d *stateDir) has(name string) bool {
	f, err := d.fs.OpenFile(name, 0, 0)
	if err == nil {
		f.Close()
	}
	return !errors.Is(err, fs.ErrNotExist)
}

// leave sets aside what made this host a member, in a folder that is a state directory itself, so that its audit log can still be
// verified. Group secrets are removed: they are others' as well. The member file goes first: without it no daemon starts, and what a crash
// leaves behind is moved out of the way by the next enrolment.
func (d *stateDir) leave() (string, error) {
	dir, err := d.leftDir()
	if err != nil {
		return "", err
	}
	if err := d.fs.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if err := d.fs.SyncDir("."); err != nil {
		return "", err
	}
	entries, err := d.fs.ReadDir(".")
	if err != nil {
		return "", err
	}
	names := []string{fileMember}
	var secrets []string
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, groupPrefix) && strings.HasSuffix(name, ".age"):
			secrets = append(secrets, name)
		case ofMembership(name):
			names = append(names, name)
		}
	}
	for i, name := range names {
		if err := d.fs.Rename(name, dir+"/"+name); err != nil {
			return "", err
		}
		if i > 0 && i < len(names)-1 {
			continue
		}
		if err := errors.Join(d.fs.SyncDir(dir), d.fs.SyncDir(".")); err != nil {
			return "", err
		}
		if i == 0 {
			if err := d.forget(secrets...); err != nil {
				return "", err
			}
		}
	}
	return d.file(dir), nil
}

// ofMembership names what belongs to one membership beside the member file and the group secrets.
func ofMembership(name string) bool {
	if _, ok := keyKind(name); ok {
		return true
	}
	return ours(name) || name == "services.d" || strings.HasPrefix(name, fileInvites) || slices.Contains(mesh.StateFiles(), name)
}
