package daemon

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/policy"
	"github.com/sovereignmesh/meshkey/trust"
)

func itoa(n int) string { return strconv.Itoa(n) }

func errNotIssuer() error {
	return control.Errorf(control.Denied, "run it on an issuer, such as the machine that ran: meshkey init", "this node is no issuer of the mesh")
}

// target turns a subject into the log's form: names become ids here, once.
func (d *Daemon) target(s control.Subject) (trust.Target, error) {
	switch {
	case s.Any:
		return trust.AnyNode(), nil
	case s.Tag != "":
		return trust.TagTarget(s.Tag), nil
	}
	id, err := d.resolve(s.Node)
	if err != nil {
		return trust.Target{}, err
	}
	return trust.NodeTarget(id), nil
}

// grantID is a grant's short name: g-18, and g-18.<issuer> where several issuers grant.
func (d *Daemon) grantID(r trust.GrantRef) string {
	issuers := 0
	for _, is := range d.store.Current().Root().Issuers {
		if is.Caps.Has(trust.CapGrant) {
			issuers++
		}
	}
	if issuers <= 1 {
		return r.String()
	}
	return r.String() + "." + r.Issuer.String()[:8]
}

// Grant implements control.Policy.
func (d *Daemon) Grant(ctx context.Context, by control.Caller, r *control.GrantRequest) (*control.GrantResult, error) {
	sub, err := control.ParseSubject(r.Who)
	if err != nil {
		return nil, err
	}
	res, err := control.ParseResource(r.What)
	if err != nil {
		return nil, err
	}
	who, err := d.target(sub)
	if err != nil {
		return nil, err
	}
	on, err := d.target(res.On)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(r.Note, policy.Mark) {
		return nil, control.Errorf(control.Usage, "say the reason in other words", "a reason that begins with %q marks the grants of a policy file, which takes them back", policy.Mark)
	}
	var notBefore, notAfter int64
	if !r.NotBefore.IsZero() {
		notBefore = r.NotBefore.Unix()
	}
	if !r.NotAfter.IsZero() {
		// A clock that was set back may stand before the end of what is over by the mesh's time.
		if notAfter = r.NotAfter.Unix(); notAfter <= d.trustNow() {
			return nil, control.Errorf(control.Usage, "", "the grant would be over at once: it would end %s", r.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	what := trust.What{Target: on, Service: res.Service}
	same, longest := d.standing(who, what, notAfter)
	if same != nil && notBefore <= d.trustNow() && d.grants() {
		return &control.GrantResult{Grant: d.grantDoc(*same, d.trustNow()), Existing: true, Spread: control.Spread{Applied: []control.Applied{{Node: d.ref(d.key.NodeID())}}}}, nil
	}
	g, change, err := d.grant(by, who, what, notBefore, notAfter, r.Note)
	if err != nil {
		return nil, err
	}
	out := &control.GrantResult{Grant: d.grantDoc(g, d.trustNow()), Spread: d.spread(ctx, change, r.WaitMS), Warnings: d.outlived(longest, notAfter)}
	offered, warnings := d.lookForOffer(ctx, what, time.Duration(r.WaitMS)*time.Millisecond)
	out.Offered, out.Warnings = offered, append(out.Warnings, warnings...)
	return out, nil
}

// grant writes one grant. The admin's action is in the audit log before the entry is on disk.
func (d *Daemon) grant(by control.Caller, who trust.Target, what trust.What, notBefore, notAfter int64, note string) (trust.Grant, trust.Change, error) {
	if d.signer() == nil {
		return trust.Grant{}, trust.Change{}, errNotIssuer()
	}
	d.issuing.Lock()
	defer d.issuing.Unlock()
	st, ok := d.store.Current().IssuerStatus(d.signer().Public())
	if !ok {
		return trust.Grant{}, trust.Change{}, errNotIssuer()
	}
	op := trust.OpGrant{GID: st.NextGID, Who: who, What: what, NotBefore: notBefore, NotAfter: notAfter, Note: note}
	ref := trust.GrantRef{Issuer: d.signer().Public(), GID: op.GID}
	if err := d.record(by, audit.Event{Code: audit.GrantAdd, Grant: d.grantID(ref), Target: d.what(what), After: d.text(who)}); err != nil {
		return trust.Grant{}, trust.Change{}, err
	}
	c, err := d.append(op)
	if err != nil {
		return trust.Grant{}, trust.Change{}, err
	}
	g, ok := d.store.Current().Grant(ref)
	if !ok {
		return trust.Grant{}, c, errors.New("the grant was written but does not count; look with: meshkey grants")
	}
	return g, c, nil
}

// record writes an admin's action durably, before its effect.
func (d *Daemon) record(by control.Caller, e audit.Event) error {
	e.Actor, e.Verdict = uidName(by.UID), audit.Allowed
	if _, err := d.audit.Append(e); err != nil {
		return control.Errorf(control.Degraded, "make room or repair the disk, then try again", "not done, because it could not be recorded: %w", err)
	}
	return nil
}

// findGrant reads g-18 or g-18.<issuer>.
func (d *Daemon) findGrant(id string) (trust.Grant, error) {
	var hit []trust.Grant
	for g := range d.store.Current().Grants() {
		if g.Removed == nil && (d.grantID(g.Ref) == id || g.Ref.String() == id) {
			hit = append(hit, g)
		}
	}
	switch len(hit) {
	case 0:
		return trust.Grant{}, control.Errorf(control.NotFound, "meshkey grants", "no grant %q", id)
	case 1:
		return hit[0], nil
	}
	return trust.Grant{}, control.Errorf(control.NotFound, "meshkey grants", "%q is a grant of several issuers; use the longer id", id)
}

// Ungrant implements control.Policy.
func (d *Daemon) Ungrant(ctx context.Context, by control.Caller, r *control.UngrantRequest) (*control.UngrantResult, error) {
	if d.signer() == nil {
		return nil, errNotIssuer()
	}
	g, err := d.findGrant(r.ID)
	if err != nil {
		return nil, err
	}
	doc := d.grantDoc(g, d.trustNow())
	if err := d.removalRecord(by, audit.Event{Code: audit.GrantRemove, Grant: doc.ID, Target: doc.What, Before: doc.Who}); err != nil {
		return nil, err
	}
	c, err := d.append(trust.OpUngrant{Issuer: g.Ref.Issuer, GID: g.Ref.GID})
	if err != nil {
		return nil, err
	}
	res := &control.UngrantResult{Grant: doc, Spread: d.spread(ctx, c, r.WaitMS)}
	if name := policy.OwnerOf(g.Note); name != "" {
		res.Warnings = append(res.Warnings, control.Warning{Code: "policy-owned", Text: fmt.Sprintf("it is of the policy %q: the next apply of that file makes it again", name), Next: "remove it from the file as well"})
	}
	return res, nil
}
