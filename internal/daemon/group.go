package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// groupPause is the least time between two generations of the group secret made without being asked for: each one has to reach
// everybody, and what a revoked node can do with an old one is little.
const groupPause = 24 * 3600

// saveGroup makes a generation of the group secret durable. One that is there already must be the same.
func (d *Daemon) saveGroup(s keys.GroupSecret) error {
	to, err := d.sealTo()
	if err != nil {
		return err
	}
	err = keys.WriteKeyFile(d.dir.fs, fileGroup(s.Generation), to, keys.GroupMaterial(d.meshID, s))
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	had, err := d.readGroup(s.Generation)
	if err != nil {
		return err
	}
	if had.Commitment(d.meshID) != s.Commitment(d.meshID) {
		return fmt.Errorf("%s holds another secret than the mesh commits to: move it away", d.dir.file(fileGroup(s.Generation)))
	}
	return nil
}

// committed leaves out a generation that is not in the log: its maker stopped before the entry was written, and nobody else knows it.
func (d *Daemon) committed(held []keys.GroupSecret) ([]keys.GroupSecret, error) {
	gen, _ := d.store.Current().GroupCommit()
	out := slices.DeleteFunc(held, func(s keys.GroupSecret) bool { return s.Generation > gen })
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no group secret that the trust log knows: restore it from a backup, or enrol again with another --state", d.dir.path)
	}
	return out, nil
}

func (d *Daemon) readGroup(generation uint64) (keys.GroupSecret, error) {
	k, err := keys.ReadKeyFile(d.dir.fs, fileGroup(generation), keys.KindGroup, d.meshID, d.unlock)
	if err != nil {
		return keys.GroupSecret{}, err
	}
	return k.GroupSecret()
}

// groupIssuer reports whether this node makes the mesh's group secrets.
func (d *Daemon) groupIssuer() bool {
	signer := d.signer()
	return signer != nil && d.store.Current().Root().GroupIssuer == signer.Public()
}

// groupDue says why a new group secret is due by itself; empty: it is not.
func (d *Daemon) groupDue(now int64) string {
	st := d.store.Current()
	since := st.GroupSince()
	switch age := now - since; {
	case age < groupPause:
		return ""
	case st.LastRevocation() > since:
		return "a node was revoked"
	case st.Root().Params.GroupMaxAge > 0 && age >= st.Root().Params.GroupMaxAge:
		return "it is old"
	}
	return ""
}

// nextGroup makes the next generation. Its secret is on disk before anybody can read the commitment: if we crash after it, nothing has
// changed, and the same secret is taken the next time. issuing is held.
func (d *Daemon) nextGroup() (keys.GroupSecret, trust.OpGroup, error) {
	gen, _ := d.store.Current().GroupCommit()
	s, err := d.readGroup(gen + 1)
	if errors.Is(err, fs.ErrNotExist) {
		s = keys.NewGroupSecret(gen + 1)
		err = d.saveGroup(s)
	}
	if err != nil {
		return keys.GroupSecret{}, trust.OpGroup{}, fmt.Errorf("no new group secret: %w", err)
	}
	return s, trust.OpGroup{Generation: s.Generation, Commit: s.Commitment(d.meshID)}, nil
}

// appendGroup writes ops together with a new generation of the group secret, which is in use here before anybody can ask for it. then runs
// before they are spread.
func (d *Daemon) appendGroup(then func(trust.Change), ops ...trust.Op) (trust.Change, uint64, error) {
	s, op, err := d.nextGroup()
	if err != nil {
		return trust.Change{}, 0, err
	}
	c, err := d.appendThen(func(c trust.Change) {
		if err := d.secrets.Add(d.store.Current(), s); err != nil {
			d.log.Error("the new group secret is not in use here", "generation", s.Generation, "err", err)
		}
		then(c)
	}, append(ops, op)...)
	if err != nil {
		return trust.Change{}, 0, err
	}
	d.node.GroupSecretLearnt(s.Generation)
	return c, s.Generation, nil
}

// rotateGroup makes a new group secret alone.
func (d *Daemon) rotateGroup(actor, why string) (trust.Change, uint64, error) {
	d.issuing.Lock()
	defer d.issuing.Unlock()
	e := audit.Event{Code: audit.GroupRotate, Actor: actor, Reason: why, Verdict: audit.Allowed}
	if _, err := d.audit.Append(e); err != nil {
		return trust.Change{}, 0, control.Errorf(control.Degraded, "make room or repair the disk, then try again", "not done, because it could not be recorded: %w", err)
	}
	return d.appendGroup(func(trust.Change) {})
}

// RotateGroup implements control.Policy.
func (d *Daemon) RotateGroup(ctx context.Context, by control.Caller, r *control.RotateGroupRequest) (*control.RotateGroupResult, error) {
	if !d.groupIssuer() {
		return nil, control.Errorf(control.Denied, "run it on the machine that ran: meshkey init", "this node does not make the mesh's group secrets")
	}
	since := d.store.Current().GroupSince()
	if age := d.trustNow() - since; age < groupPause && !r.Now {
		return nil, control.Errorf(control.Failed, "meshkey rotate --group --now, if the secret is known to somebody who must not have it",
			"the group secret is only %s old", time.Duration(age)*time.Second)
	}
	c, gen, err := d.rotateGroup(uidName(by.UID), "asked for")
	if err != nil {
		return nil, err
	}
	return &control.RotateGroupResult{Generation: gen, Spread: d.spread(ctx, c, r.WaitMS)}, nil
}

// keepGroupFresh makes a new group secret when one is due by itself.
func (d *Daemon) keepGroupFresh() {
	if !d.groupIssuer() {
		return
	}
	why := d.groupDue(d.trustNow())
	if why == "" {
		return
	}
	if _, gen, err := d.rotateGroup("", why); err != nil {
		d.log.Error("the group secret is due and was not changed", "why", why, "err", err)
	} else {
		d.log.Info("new group secret", "generation", gen, "why", why)
	}
}
