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
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	// rotateAsk bounds how long a rotation looks for an issuer, rotateEnrol how long the new key tries to enrol before the person is told
	// that it goes on by itself.
	rotateAsk   = 15 * time.Second
	rotateEnrol = 30 * time.Second
	// resumeFirst, doubled up to resumeCap, is the pause between two tries to finish a rotation: until then this node may be nobody.
	resumeFirst = time.Second
	resumeCap   = time.Minute
)

// RotateNode implements control.Policy.
func (d *Daemon) RotateNode(ctx context.Context, by control.Caller, r *control.RotateNodeRequest) (*control.RotateNodeResult, error) {
	if !d.rotating.TryLock() {
		return nil, control.Errorf(control.InUse, "meshkey status", "a rotation of this node's key is under way")
	}
	defer d.rotating.Unlock()
	pending, err := d.dir.readRotation()
	if err != nil {
		return nil, err
	}
	if !r.Drop {
		if err := d.notRevoked(); err != nil {
			return nil, err
		}
	}
	res := &control.RotateNodeResult{Old: d.ref(d.key.NodeID()), DryRun: r.DryRun, Pending: pending != nil}
	res.Sessions, res.Streams = d.node.Carried()
	res.Grants, _ = d.grantsOf(d.key.NodeID(), d.trustNow())
	switch said := d.issuersShutOut(); {
	case r.DryRun && len(said) > 0:
		return nil, control.Errorf(control.Denied, d.comeBack(standingTold), "%s that this machine's key is revoked: no issuer would rotate it", d.sayers(said))
	case r.DryRun:
		return res, nil
	case r.Drop:
		return res, d.giveUpRotation(by, pending)
	case pending == nil:
		if pending, err = d.beginRotation(ctx, by); err != nil {
			return nil, err
		}
	}
	ectx, cancel := context.WithTimeout(ctx, rotateEnrol)
	defer cancel()
	cert, err := d.tryRotation(ectx, pending)
	if err != nil {
		select {
		case d.resume <- struct{}{}:
		default:
		}
		return nil, d.rotateFailure(err)
	}
	res.New = control.NodeRef{Name: cert.Name, ID: cert.Node.Compact()}
	res.NotAfter = time.Unix(cert.NotAfter, 0).UTC()
	res.Issuer = d.issuerOf(pending)
	d.startAgain()
	return res, nil
}

// beginRotation makes the new key and has an issuer note the hand-over: steps 1 and 2. Nothing has happened to the old key.
func (d *Daemon) beginRotation(ctx context.Context, by control.Caller) (*rotation, error) {
	if _, ok := d.store.Current().LiveMember(d.key.NodeID(), d.trustNow()); !ok {
		return nil, control.Errorf(control.Denied, "meshkey status", "this node's certificate is not in force: renew it first, or enrol it again")
	}
	to, err := d.sealTo()
	if err != nil {
		return nil, err
	}
	next, err := d.dir.nextKey(d.meshID, to, d.unlock)
	if err != nil {
		return nil, err
	}
	if err := d.record(by, audit.Event{Code: audit.NodeRotate, Target: next.NodeID().Compact(), Before: d.key.NodeID().Compact()}); err != nil {
		return nil, err
	}
	r := &rotation{Mesh: d.meshID, Old: d.key.NodeID(), New: next.NodeID()}
	if !d.issuesItself() {
		actx, cancel := context.WithTimeout(ctx, rotateAsk)
		defer cancel()
		inv, err := d.node.AskRotation(actx, next)
		if err != nil {
			return nil, d.rotateFailure(err)
		}
		r.Invite = inv.Encode()
	}
	return r, d.dir.writeRotation(r)
}

// issuesItself reports whether this host's issuer can rotate this node's key.
func (d *Daemon) issuesItself() bool {
	signer := d.signer()
	if signer == nil {
		return false
	}
	is, ok := d.store.Current().Root().Issuer(signer.Public())
	return ok && enroll.Issues(d.store.Current(), signer.Public(), d.trustNow()) && is.Caps.Has(trust.CapRevoke)
}

// tryRotation finishes a rotation as far as the certificate of the new key: step 3. A no that is final ends it; the old key goes on.
func (d *Daemon) tryRotation(ctx context.Context, r *rotation) (*identity.SignedCertificate, error) {
	next, err := d.dir.readNext(d.meshID, d.unlock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(errRotationGone, d.dir.forget(fileRotation))
	}
	if err != nil {
		return nil, d.dir.keyError(fileNext, err)
	}
	// The new key's log commits to this one's newest checkpoint: the rotation itself is to be below it.
	if _, err := d.audit.Checkpoint(); err != nil {
		return nil, control.Errorf(control.Degraded, "make room or repair the disk, then try again", "not done, because it could not be recorded: %w", err)
	}
	err = d.dir.carryOut(r, next, func(next *keys.SigningKey, r *rotation) (*identity.SignedCertificate, error) {
		if r.Invite == "" {
			return d.rotateSelf(next)
		}
		return enrolNext(ctx, next, r, d.node.Addresses)
	})
	if refused(err) && !d.handedOver(r) {
		if derr := d.dir.dropRotation(); derr != nil {
			return nil, errors.Join(err, derr)
		}
		d.note(audit.Event{Code: audit.NodeRotate, Target: r.New.Compact(), Verdict: audit.Failed, Reason: err.Error()})
	}
	if err != nil {
		return nil, err
	}
	return identity.ParseCertificate(r.Certificate, d.meshID)
}

var errRotationGone = errors.New("the rotation was given up; this node's key is the one it had")

// refused reports a no after which the same invite is never answered otherwise.
func refused(err error) bool {
	return errors.Is(err, mesh.ErrInviteRefused) || errors.Is(err, mesh.ErrInviteRevoked) || errors.Is(err, mesh.ErrInviteName) ||
		errors.Is(err, mesh.ErrInviteExpired) || errors.Is(err, enroll.ErrRevoked) || errors.Is(err, enroll.ErrTooOften) ||
		errors.Is(err, enroll.ErrKnownKey) || errors.Is(err, enroll.ErrNameTaken)
}

// enrolNext enrols the new key by the invite of the rotation. The issuer may have another address since it made that, and nobody else can
// tell whether it has carried the rotation out.
func enrolNext(ctx context.Context, next *keys.SigningKey, r *rotation, known func(keys.NodeID) []netip.AddrPort) (*identity.SignedCertificate, error) {
	inv, err := identity.ParseInvite(r.Invite)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{}
	dialer.SetMultipathTCP(false)
	cfg := mesh.JoinConfig{
		Key: next, Invite: inv, Now: time.Now, Again: true, Resumes: true, Also: known(inv.IssuerNode),
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) { return dialAnyLink(ctx, &dialer, to) },
	}
	rand.Read(cfg.Boot[:])
	m, err := mesh.Join(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return m.Certificate, nil
}

// rotateSelf is the issuer's part on the node that is one itself. Its book makes the second time the same as the first.
func (d *Daemon) rotateSelf(next *keys.SigningKey) (*identity.SignedCertificate, error) {
	o := d.own.Load()
	if o == nil {
		return nil, errNotIssuer()
	}
	return rotateSelf(o.enroll, d.meshID, d.key, next, d.cert.Name)
}

func rotateSelf(issuer *enroll.Issuer, mesh keys.MeshID, old, next *keys.SigningKey, name string) (*identity.SignedCertificate, error) {
	csr, err := identity.SignCSR(identity.CSR{Mesh: mesh, Node: next.NodeID(), Name: name}, next)
	if err != nil {
		return nil, err
	}
	v, err := issuer.Rotate(old.NodeID(), csr, trust.RotateSignature(mesh, old, next.NodeID()), nil)
	if err != nil {
		return nil, err
	}
	g, err := issuer.Spend(v.ID, csr, nil)
	if err != nil {
		return nil, err
	}
	return g.Certificate, nil
}

// handedOver reports whether the log has the new key in the place of the old one: then nothing but the new key is this node's.
func (d *Daemon) handedOver(r *rotation) bool {
	_, is := d.store.Current().Member(r.New)
	return is
}

// giveUpRotation drops a rotation whose issuer is gone for good.
func (d *Daemon) giveUpRotation(by control.Caller, r *rotation) error {
	if r == nil {
		return control.Errorf(control.NotFound, "meshkey status", "no rotation is under way")
	}
	if len(r.Certificate) > 0 || d.handedOver(r) {
		return control.Errorf(control.Failed, "meshkey status", "the new key is the member already and cannot be given up; the rotation goes on by itself")
	}
	if err := d.record(by, audit.Event{Code: audit.NodeRotate, Target: r.New.Compact(), Reason: "given up"}); err != nil {
		return err
	}
	return d.dir.dropRotation()
}

// resumeRotation goes on with a rotation that the last run, or a request, has left unfinished.
func (d *Daemon) resumeRotation(ctx context.Context) {
	pause := resumeFirst
	for {
		late := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			late.Stop()
			return
		case <-d.resume:
			pause = resumeFirst
		case <-late.C:
			pause = min(2*pause, resumeCap)
		}
		late.Stop()
		if r, err := d.dir.readRotation(); r == nil && err == nil {
			continue // and without the lock, which a person who rotates or leaves at this moment would find taken
		}
		if !d.rotating.TryLock() {
			continue
		}
		r, err := d.dir.readRotation()
		if err == nil && r != nil {
			if _, err = d.tryRotation(ctx, r); err == nil {
				d.log.Info("the rotation of this node's key is finished", "node", r.New.Short())
				d.startAgain()
			}
		}
		d.rotating.Unlock()
		switch {
		case err != nil && ctx.Err() == nil:
			d.log.Warn("a rotation of this node's key is under way and not finished", "err", err)
		case r != nil && err == nil:
			return
		}
	}
}

// startAgain ends this run of the daemon and lets the next one begin at once, with what is on disk then.
func (d *Daemon) startAgain() {
	d.next.Store(nextAgain)
	d.stop()
}

func (d *Daemon) issuerOf(r *rotation) control.NodeRef {
	if inv, err := identity.ParseInvite(r.Invite); err == nil {
		return d.ref(inv.IssuerNode)
	}
	return d.ref(d.key.NodeID())
}

// rotateFailure gives a rotation that was not finished its exit code.
func (d *Daemon) rotateFailure(err error) error {
	if r, ok := errors.AsType[*mesh.RefusedError](err); ok && r.Code == session.CodeRevoked {
		return control.Errorf(control.Denied, d.comeBack(standingTold), "%s says that %w; nothing has changed", d.word(r.By), err)
	} else if ok {
		return control.Errorf(control.Denied, "meshkey audit log on "+d.word(r.By), "%s refuses: %w", d.word(r.By), err)
	}
	switch {
	case errors.Is(err, mesh.ErrNoIssuer):
		return control.Errorf(control.Unreachable, "meshkey peers; an issuer's daemon has to run", "%w; nothing has changed", err)
	case errors.Is(err, mesh.ErrWrongMesh):
		return control.Errorf(control.Unverified, "meshkey rotate --drop, then again", "%w", err)
	case refused(err):
		return control.Errorf(control.Denied, "meshkey status", "not rotated: %w; this node's key is the one it had", err)
	case errors.Is(err, mesh.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return control.Errorf(control.Unreachable, "meshkey status; or give up with: meshkey rotate --drop",
			"the issuer has noted the rotation and does not answer now; it goes on by itself: %w", err)
	}
	return err
}

// note records what nobody has to wait for.
func (d *Daemon) note(e audit.Event) {
	if err := d.audit.Later(e); err != nil {
		d.log.Error("not recorded in the audit log", "code", e.Code, "err", err)
	}
}

// raceWindow is how long it is told that a key was revoked while another issuer rotated it, in seconds: an admin who was away a while sees it.
const raceWindow = 30 * day

// racedWarnings tell of members whose key before was revoked by somebody else than their rotation: the new key is a member, and whoever revoked
// the old one may have meant the machine.
func racedWarnings(st *trust.State, now int64) (out []control.Warning) {
	for m := range st.Members() {
		for _, old := range st.Predecessors(m.Node)[1:] {
			r, ok := st.RevokedApart(old)
			if !ok || now-r.Time > raceWindow || len(out) == maxRaced {
				continue
			}
			by := "another issuer"
			if is, ok := st.Root().Issuer(r.Issuer); ok {
				by = "issuer " + is.Name
			}
			out = append(out, control.Warning{
				Code: "revoked-and-rotated", Text: fmt.Sprintf("%s revoked a key of %s while that was given a new one, which is a member still", by, m.Name),
				Next: "if the machine was meant: meshkey revoke " + m.Name,
			})
		}
	}
	return out
}

// maxRaced bounds these lines.
const maxRaced = 16

// rotationWarning is what status says of a rotation under way.
func (d *Daemon) rotationWarning() (control.Warning, bool) {
	r, err := d.dir.readRotation()
	if err != nil || r == nil {
		return control.Warning{}, false
	}
	return control.Warning{
		Code: "rotation-pending", Text: fmt.Sprintf("a rotation of this node's key is not finished; its issuer %s has to be reached", d.issuerOf(r).Name),
		Next: "meshkey rotate, or give up with: meshkey rotate --drop",
	}, true
}
