package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/internal/policy"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// ParsePolicy reads a policy file and needs no daemon: what its names mean is asked later.
func ParsePolicy(name string, data []byte) (*config.Policy, error) {
	p, err := config.ParsePolicy(name, data, config.PolicyForms{
		Who:  func(s string) error { _, err := control.ParseSubject(s); return err },
		What: func(s string) error { _, err := control.ParseResource(s); return err },
	})
	if err != nil {
		return nil, control.Errorf(control.Usage, "correct the file", "%w", err)
	}
	return p, nil
}

// policyNames finds what a file names. Whoever applies it uses the names, so they are remembered then as at any first use; a question
// remembers nothing.
func (d *Daemon) policyNames(use bool) policy.Names {
	target := func(s control.Subject) (trust.Target, error) {
		if use || s.Node == "" {
			return d.target(s)
		}
		t, err := d.node.Lookup(s.Node + "/x")
		if err != nil {
			return trust.Target{}, nameError(err)
		}
		return trust.NodeTarget(t.Node), nil
	}
	return policy.Names{
		Who: func(word string) (trust.Target, error) {
			s, err := control.ParseSubject(word)
			if err != nil {
				return trust.Target{}, err
			}
			return target(s)
		},
		What: func(word string) (trust.What, error) {
			r, err := control.ParseResource(word)
			if err != nil {
				return trust.What{}, err
			}
			on, err := target(r.On)
			return trust.What{Target: on, Service: r.Service}, err
		},
	}
}

// policyError gives a mistake in the file the code of its cause: of a name that means nobody, what the look-up said.
func policyError(err error) error {
	code, next := control.Usage, "correct the file"
	if n, ok := errors.AsType[*policy.NameError](err); ok {
		if c := control.AsError(n.Cause); c.Code != control.Failed {
			code, next = c.Code, c.Next
		}
	} else if _, ok := errors.AsType[*config.Error](err); !ok {
		return err
	}
	return control.Errorf(code, next, "%w", err)
}

// PolicyFile implements control.Policy.
func (d *Daemon) PolicyFile(ctx context.Context, by control.Caller, r *control.PolicyRequest) (*control.PolicyResult, error) {
	f, err := ParsePolicy(r.File, []byte(r.Text))
	if err != nil {
		return nil, err
	}
	if r.Mode != control.PolicyApply {
		p, rules, over, err := d.policyPlan(f, d.policyNames(false))
		if err != nil {
			return nil, err
		}
		return d.policyResult(p, rules, over, d.policyNames(false), r.Mode == control.PolicyTest)
	}
	res, last, err := d.applyPolicy(ctx, by, r, f)
	if err != nil || !res.Done {
		return res, err
	}
	s := d.spread(ctx, last, r.WaitMS)
	res.Spread = &s
	return res, nil
}

// applyPolicy plans, judges and records while others may issue: a revocation waits for the writing of one entry at the most. What was asked
// is what is written: if anything else came to this issuer's chain since the plan, the rest is not.
func (d *Daemon) applyPolicy(ctx context.Context, by control.Caller, r *control.PolicyRequest, f *config.Policy) (res *control.PolicyResult, last trust.Change, err error) {
	if d.signer() == nil {
		return nil, last, errNotIssuer()
	}
	if !d.grants() {
		return nil, last, control.Errorf(control.Denied, "meshkey root show", "this host's issuer may not grant")
	}
	names := d.policyNames(false)
	own := d.signer().Public()
	position, _, _ := d.store.Current().Position(own)
	p, rules, over, err := d.policyPlan(f, names)
	if err != nil {
		return nil, last, err
	}
	if res, err = d.policyResult(p, rules, over, names, false); err != nil {
		return nil, last, err
	}
	switch {
	case res.FailedAll > 0:
		x := res.Failed[0]
		return nil, last, control.Errorf(control.Failed, "meshkey policy test", "nothing was changed: %d of the policy's tests would not hold, the first in line %d: %s", res.FailedAll, x.Line, x.Text)
	case r.Plan != "" && r.Plan != res.Plan:
		return nil, last, control.Errorf(control.Failed, "meshkey policy diff", "nothing was changed: the grants are others than when the change was shown")
	case res.LockOut != "" && !r.Force:
		return nil, last, control.Errorf(control.Denied, "if that is meant: --force", "nothing was changed: %s", res.LockOut)
	case !p.Changes():
		return res, last, nil
	}
	// Only now is it remembered whom the names mean.
	if p, _, _, err = d.policyPlan(f, d.policyNames(true)); err != nil {
		return nil, last, err
	}
	if p.ID() != res.Plan {
		return nil, last, control.Errorf(control.Failed, "apply the policy again", "another change was made meanwhile")
	}
	for i, ops := range p.Entries() {
		if err = ctx.Err(); err == nil {
			last, err = d.writePolicy(by, p, ops, position)
		}
		if err != nil {
			if i > 0 {
				err = control.Errorf(control.AsError(err).Code, "apply the policy again", "only a part of the change is made: %w", err)
			}
			return nil, last, err
		}
		position = last.Seq
	}
	res.Done = true
	st := d.store.Current()
	for i := range res.Added {
		// The rules stand in the order of their numbers.
		ref := trust.GrantRef{Issuer: d.signer().Public(), GID: p.First() + uint64(i)}
		if _, ok := st.Grant(ref); !ok {
			return nil, last, errors.New("the policy was written but does not count; look with: meshkey grants")
		}
		res.Added[i].ID = d.grantID(ref)
	}
	return res, last, nil
}

// writePolicy writes one entry behind position. What it does is in the audit log before; a removal goes on without, as everywhere.
func (d *Daemon) writePolicy(by control.Caller, p *policy.Plan, ops []trust.Op, position uint64) (trust.Change, error) {
	for _, o := range ops {
		switch o := o.(type) {
		case trust.OpGrant:
			id := d.grantID(trust.GrantRef{Issuer: d.signer().Public(), GID: o.GID})
			if err := d.record(by, audit.Event{Code: audit.GrantAdd, Grant: id, Target: d.what(o.What), After: d.text(o.Who), Reason: o.Note}); err != nil {
				return trust.Change{}, err
			}
		case trust.OpUngrant:
			g, _ := p.Before.Grant(trust.GrantRef{Issuer: o.Issuer, GID: o.GID})
			if err := d.removalRecord(by, audit.Event{Code: audit.GrantRemove, Grant: d.grantID(g.Ref), Target: d.what(g.What), Before: d.text(g.Who), Reason: policy.NoteOf(p.File.Name, "")}); err != nil {
				return trust.Change{}, err
			}
		}
	}
	d.issuing.Lock()
	defer d.issuing.Unlock()
	if at, _, _ := d.store.Current().Position(d.signer().Public()); at != position {
		return trust.Change{}, control.Errorf(control.Failed, "apply the policy again", "another change was made meanwhile")
	}
	return d.append(ops...)
}

// policyPlan compares the file with the log. A node without an issuer's key supposes that the first issuer who may grants.
func (d *Daemon) policyPlan(f *config.Policy, names policy.Names) (*policy.Plan, []policy.Rule, []config.Place, error) {
	st, now := d.store.Current(), d.trustNow()
	rules, over, err := policy.Compile(f, names, now)
	if err != nil {
		return nil, nil, nil, policyError(err)
	}
	var issuer keys.PublicKey
	if s := d.signer(); s != nil && d.grants() {
		issuer = s.Public()
	} else if i := slices.IndexFunc(st.Root().Issuers, func(is trust.Issuer) bool { return is.Works(now) && is.Caps.Has(trust.CapGrant) }); i >= 0 {
		issuer = st.Root().Issuers[i].ID
	} else {
		return nil, nil, nil, control.Errorf(control.Denied, "meshkey root show", "no issuer of the mesh may grant")
	}
	p, err := policy.Make(st, issuer, f, rules, now)
	return p, rules, over, err
}

// policyResult tells what a plan comes to.
func (d *Daemon) policyResult(p *policy.Plan, rules []policy.Rule, over []config.Place, names policy.Names, testsOnly bool) (*control.PolicyResult, error) {
	res := &control.PolicyResult{Policy: p.File.Name, Changed: p.Changes(), Kept: len(p.Keep)}
	report, err := p.Test(names)
	if err != nil {
		return nil, policyError(err)
	}
	res.Asked, res.FailedAll = report.Asked, len(report.Failed)
	for i := range report.Failed[:min(len(report.Failed), control.MaxPolicyList)] {
		f := &report.Failed[i]
		res.Failed = append(res.Failed, control.PolicyFailure{Line: f.At.Line, Column: f.At.Column, Text: d.failure(p, f)})
	}
	for _, f := range report.Vacuous[:min(len(report.Vacuous), control.MaxPolicyList)] {
		res.Warnings = append(res.Warnings, control.Warning{Code: "test-empty", Text: fmt.Sprintf("line %d: the test %s, %s is about no two machines, and so shows nothing", f.At.Line, f.Who, f.What)})
	}
	for _, at := range over {
		res.Warnings = append(res.Warnings, control.Warning{Code: "grant-over", Text: fmt.Sprintf("line %d: the grant is over and asks for nothing any more", at.Line), Next: "remove it from the file"})
	}
	nobody := p.Nobody(rules)
	for _, tag := range slices.Sorted(maps.Keys(nobody)) {
		res.Warnings = append(res.Warnings, control.Warning{Code: "tag-of-nobody", Text: fmt.Sprintf("line %d: no machine has tag:%s now", nobody[tag].Line, tag)})
	}
	if testsOnly {
		return res, nil
	}
	res.Plan = p.ID()
	for _, r := range p.Add {
		g := trust.Grant{Who: r.Who, What: r.What, NotBefore: r.NotBefore, NotAfter: r.NotAfter, Note: r.Note}
		doc := d.grantDoc(g, d.trustNow())
		doc.ID, doc.Issuer = "", ""
		res.Added = append(res.Added, control.PolicyGrant{Grant: doc, Line: r.At.Line})
	}
	for _, g := range p.Remove {
		res.Removed = append(res.Removed, control.PolicyGrant{Grant: d.grantDoc(g, d.trustNow())})
	}
	e := p.Effect()
	res.Partly, res.GainedAll, res.LostAll = e.More, len(e.Gained), len(e.Lost)
	res.Gained, res.Lost = d.accesses(e.Gained), d.accesses(e.Lost)
	res.Closes = d.closes(p)
	res.LockOut = d.lockedOut(p)
	return res, nil
}

func (d *Daemon) accesses(list []policy.Access) (out []control.Access) {
	for _, a := range list[:min(len(list), control.MaxPolicyList)] {
		out = append(out, control.Access{From: d.word(a.From), Target: d.word(a.At) + "/" + a.Service})
	}
	return out
}

// closes are the streams this machine is an end of that the grants would not allow any more.
func (d *Daemon) closes(p *policy.Plan) (out []control.Access) {
	self, now := d.key.NodeID(), d.trustNow()
	for _, s := range d.node.Streams() {
		from, at := s.Peer, self
		if !s.Inbound {
			from, at = at, from
		}
		if p.Before.Decide(from, at, s.Service, now).Allowed && !p.After.Decide(from, at, s.Service, now).Allowed {
			out = append(out, control.Access{From: d.word(from), Target: d.word(at) + "/" + s.Service, Streams: s.Count})
		}
	}
	return out
}

// lockedOut says whom the change would lock out. An issuer is on this machine if its key is here, else on the machine of its name.
func (d *Daemon) lockedOut(p *policy.Plan) string {
	now := d.trustNow()
	var hosts []keys.NodeID
	var words []string
	for i := range p.Before.Root().Issuers {
		is := &p.Before.Root().Issuers[i]
		if !is.Works(now) || !is.Caps.Has(trust.CapGrant) {
			continue
		}
		if s := d.signer(); s != nil && s.Public() == is.ID {
			hosts = append(hosts, d.key.NodeID())
		} else if ids := p.Before.ByName(is.Name, now); len(ids) == 1 {
			hosts = append(hosts, ids[0])
		}
	}
	for _, id := range hosts {
		words = append(words, d.word(id))
	}
	switch p.LockOut(hosts) {
	case policy.LocksAll:
		return "nobody could use any service of any machine after it"
	case policy.LocksIssuers:
		return "nobody could use any service of " + strings.Join(words, ", ") + " after it: no machine that can grant could be reached over the mesh"
	}
	return ""
}

// failure says in a sentence why a test does not hold.
func (d *Daemon) failure(p *policy.Plan, f *policy.Failure) string {
	if f.From.IsZero() {
		return fmt.Sprintf("%s -> %s must be allowed, and there are no two such machines to ask about", f.Who, f.What)
	}
	pair := fmt.Sprintf("%s -> %s/%s", d.word(f.From), d.word(f.On), f.Service)
	when := ""
	if f.Time != d.trustNow() {
		when = " at " + time.Unix(f.Time, 0).UTC().Format(time.RFC3339)
	}
	if !f.Allow {
		return fmt.Sprintf("%s must be denied%s, and is allowed by %s", pair, when, d.supposed(p, f.Decision.Grant))
	}
	why := reasonText(f.Decision.Reason)
	dec := p.After.Explain(f.From, f.On, f.Service, f.Time)
	if dec.Near != nil {
		why += "; nearest " + d.supposed(p, dec.Near.Grant.Ref) + missText(dec.Near.Why)
	}
	return fmt.Sprintf("%s must be allowed%s, and is denied: %s", pair, when, why)
}

// supposed names a grant of the state after a change.
func (d *Daemon) supposed(p *policy.Plan, ref trust.GrantRef) string {
	if r, ok := p.RuleOf(ref); ok {
		return fmt.Sprintf("the grant of line %d", r.At.Line)
	}
	g, _ := p.After.Grant(ref)
	return d.grantLine(g)
}
