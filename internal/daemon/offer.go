package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/internal/forward"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// startServices offers what is in services.d. A file that does not parse is reported and left alone.
func (d *Daemon) startServices(ctx context.Context) {
	d.serviceCtx = ctx
	list, bad, err := config.LoadServices(d.dir.fs)
	if err != nil {
		d.log.Error("services are not offered", "err", err)
	}
	for _, err := range bad {
		d.log.Error("a service is not offered", "err", err)
	}
	for _, s := range list {
		e := &exposed{name: s.Name, target: s.Target, http: s.HTTP}
		if err := d.offer(ctx, e); err != nil {
			d.log.Error("a service is not offered", "service", s.Name, "err", err)
			continue
		}
		d.svcMu.Lock()
		d.services[s.Name] = e
		d.svcMu.Unlock()
	}
}

// Expose implements control.Offerer.
func (d *Daemon) Expose(ctx context.Context, by control.Caller, r *control.ExposeRequest) (*control.ExposeResult, error) {
	if err := identity.CheckName(r.Name); err != nil {
		return nil, control.Errorf(control.Usage, "", "service name: %w", err)
	}
	t, err := forward.ParseTarget(r.Target)
	if err != nil {
		return nil, control.Errorf(control.Usage, "", "%w", err)
	}
	if err := d.notItself(t); err != nil {
		return nil, err
	}
	d.exposing.Lock()
	defer d.exposing.Unlock()
	d.svcMu.Lock()
	old := d.services[r.Name]
	d.svcMu.Unlock()
	e := old
	same := old != nil && old.target == t && old.http == r.HTTP
	if old != nil && !same && !r.Replace {
		return nil, control.Errorf(control.Failed, fmt.Sprintf("meshkey unexpose %s, or add --replace", r.Name), "%s is already exposed, at %s", r.Name, old.target)
	}
	if !same {
		if err := d.record(by, audit.Event{Code: audit.ServiceExpose, Target: r.Name, After: t.String()}); err != nil {
			return nil, err
		}
		if err := config.SaveService(d.dir.fs, config.Service{Name: r.Name, Target: t, HTTP: r.HTTP, Allow: r.Allow}); err != nil {
			return nil, err
		}
		if old != nil {
			d.withdraw(old)
		}
		e = &exposed{name: r.Name, target: t, http: r.HTTP}
		if err := d.offer(d.serviceCtx, e); err != nil {
			return nil, err
		}
		d.svcMu.Lock()
		d.services[r.Name] = e
		d.svcMu.Unlock()
	}
	res := &control.ExposeResult{Warnings: d.checkNow(ctx, e)}
	if err := d.allow(by, r, res); err != nil {
		return nil, err
	}
	for _, s := range d.node.Services() {
		if s.Name == r.Name {
			res.Service = d.serviceDoc(s)
		}
	}
	if len(res.Service.AllowedTo) == 0 && res.Next == "" {
		res.Next = fmt.Sprintf("meshkey grant NODE %s/%s", d.word(d.key.NodeID()), r.Name)
	}
	if wide, known := forward.ListensWide(t.Port()); known && wide {
		res.Warnings = append(res.Warnings, control.Warning{
			Code: "listens-wide", Text: fmt.Sprintf("port %d also listens beyond this machine, so it can be reached without the mesh", t.Port()),
			Next: "make the service listen on 127.0.0.1 only",
		})
	}
	return res, nil
}

// allow makes a grant for each subject that has none yet.
func (d *Daemon) allow(by control.Caller, r *control.ExposeRequest, res *control.ExposeResult) error {
	for _, a := range r.Allow {
		sub, err := control.ParseSubject(a)
		if err != nil {
			return err
		}
		who, err := d.target(sub)
		if err != nil {
			return err
		}
		what := trust.What{Target: trust.NodeTarget(d.key.NodeID()), Service: r.Name}
		if g, _ := d.standing(who, what, 0); g != nil {
			res.Granted = append(res.Granted, d.grantDoc(*g, d.trustNow()))
			continue
		}
		if d.signer() == nil {
			res.Next = fmt.Sprintf("meshkey grant %s %s/%s    (on an issuer)", a, d.word(d.key.NodeID()), r.Name)
			res.Warnings = append(res.Warnings, control.Warning{
				Code: "not-issuer", Text: "this node is no issuer, so it cannot allow " + a, Next: res.Next,
			})
			continue
		}
		g, _, err := d.grant(by, who, what, 0, 0, "")
		if err != nil {
			return err
		}
		res.Granted = append(res.Granted, d.grantDoc(g, d.trustNow()))
	}
	return nil
}

// notItself refuses a target that is the mesh's own port: a loop.
func (d *Daemon) notItself(t forward.Target) error {
	if t.Port() != 0 && t.Port() == d.node.Port() {
		return control.Errorf(control.Usage, "", "port %d is this daemon's own; exposing the mesh through the mesh would be a loop", t.Port())
	}
	return nil
}

func (d *Daemon) withdraw(e *exposed) {
	e.cancel()
	e.remove()
}

// Unexpose implements control.Offerer.
func (d *Daemon) Unexpose(_ context.Context, by control.Caller, r *control.UnexposeRequest) (*control.UnexposeResult, error) {
	d.exposing.Lock()
	defer d.exposing.Unlock()
	d.svcMu.Lock()
	e := d.services[r.Name]
	d.svcMu.Unlock()
	if e == nil {
		return nil, control.Errorf(control.NotFound, "meshkey services", "no service %q is exposed here", r.Name)
	}
	res := &control.UnexposeResult{}
	for _, s := range d.node.Services() {
		if s.Name == r.Name {
			res.Service, res.ClosedStreams = d.serviceDoc(s), s.Streams
		}
	}
	if err := d.removalRecord(by, audit.Event{Code: audit.ServiceUnexpose, Target: r.Name, Before: e.target.String()}); err != nil {
		return nil, err
	}
	if err := config.RemoveService(d.dir.fs, r.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	d.svcMu.Lock()
	delete(d.services, r.Name)
	d.svcMu.Unlock()
	d.withdraw(e)
	return res, nil
}

// Resolve implements control.Connector.
func (d *Daemon) Resolve(ctx context.Context, target string) (*control.Endpoint, error) {
	t, err := d.node.Resolve(target)
	if err != nil {
		return nil, d.dialError(target, err)
	}
	if t.Node == d.key.NodeID() {
		return nil, control.Errorf(control.Usage, "connect to its own address directly", "%s is a service of this very node", target)
	}
	if err := d.takesUs(ctx, t); err != nil {
		return nil, err
	}
	if dec := d.decision(d.key.NodeID(), t, d.trustNow()); !dec.Allowed {
		if err := d.refuse(ctx, t, dec); err != nil {
			return nil, err
		}
	}
	http, warnings, err := d.lookAt(ctx, t)
	if err != nil {
		return nil, err
	}
	return &control.Endpoint{Node: d.ref(t.Node), Service: t.Service, HTTP: http, Warnings: warnings}, nil
}

// askTime bounds asking a peer for the number of its own record of a refusal.
const askTime = 3 * time.Second

// refuse makes the error of a denial that the grants held here foresee, or none if the peer knows a newer one. The peer is asked all the same: its word counts, its log
// keeps the attempt, and the number of that record helps whoever is asked for a grant.
func (d *Daemon) refuse(ctx context.Context, t mesh.Target, dec *control.Decision) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	c, err := d.node.DialTarget(ctx, t)
	if err == nil {
		c.Abort()
		return nil // the peer has a newer view that allows it
	}
	den := control.Denial{From: dec.From, Target: dec.Target, Reason: dec.Reason, Near: dec.Near, Command: dec.Command}
	var re *session.RefusedError
	if errors.As(err, &re) && re.AuditIndex != 0 {
		den.Audit = fmt.Sprintf("%s#%d", d.word(t.Node), re.AuditIndex)
	}
	return control.Refuse(den)
}

// Open implements control.Connector.
func (d *Daemon) Open(ctx context.Context, _ control.Caller, target string, first func([]byte) int) (forward.Stream, error) {
	t, err := d.node.Resolve(target)
	if err != nil {
		return nil, d.dialError(target, err)
	}
	if err := d.takesUs(ctx, t); err != nil {
		return nil, err
	}
	c, err := d.node.DialEarly(ctx, t, first)
	if err != nil {
		return nil, d.openError(t, err)
	}
	return c, nil
}

// openError says why a stream did not open, with what this node knows about it.
func (d *Daemon) openError(t mesh.Target, err error) error {
	var re *session.RefusedError
	name := d.word(t.Node) + "/" + t.Service
	if !errors.As(err, &re) {
		return d.dialError(name, err)
	}
	switch re.Code {
	case session.CodeNotAdmitted:
		dec := d.decision(d.key.NodeID(), t, d.trustNow())
		if p := d.peerInfo(t.Node); dec.Allowed && p.View == "same" {
			if _, found, known := told(&p, t.Service); known && !found {
				return d.notOffered(&p, t.Service)
			}
		}
		den := control.Denial{From: dec.From, Target: name, Reason: dec.Reason, Near: dec.Near, Command: dec.Command}
		if dec.Allowed {
			den.Reason, den.Command = "the service is not offered there, or the peer has a newer view of the grants", "meshkey services"
		}
		if re.AuditIndex != 0 {
			den.Audit = fmt.Sprintf("%s#%d", d.word(t.Node), re.AuditIndex)
		}
		return control.Refuse(den)
	case session.CodeUnreachable:
		return control.Errorf(control.Unreachable, "start the service on "+d.word(t.Node), "%s is offered, but nothing answers at its target", name)
	case session.CodeDegraded:
		return control.Errorf(control.Unreachable, "", "%s takes no new streams: it cannot write its audit log", d.word(t.Node))
	case session.CodeLimit:
		return control.Errorf(control.Unreachable, "try again", "%s has too many streams of this node", d.word(t.Node))
	}
	return control.Errorf(control.Unreachable, "", "%s: %w", name, err)
}

func (d *Daemon) dialError(target string, err error) error {
	switch {
	case errors.Is(err, mesh.ErrUnknownNode), errors.Is(err, mesh.ErrNameConflict), errors.Is(err, mesh.ErrAmbiguousID), errors.Is(err, mesh.ErrPinChanged):
		return nameError(err)
	case errors.Is(err, mesh.ErrNotAdmitted):
		return control.Errorf(control.Denied, "ask an admin; look here with: meshkey status", "%s: %w", target, err)
	case errors.Is(err, identity.ErrName):
		return control.Errorf(control.Usage, "", "%w", err)
	case errors.Is(err, mesh.ErrStaleView):
		return control.Errorf(control.Degraded, "meshkey status", "%s: %w", target, mesh.ErrStaleView)
	case errors.Is(err, mesh.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return control.Errorf(control.Unreachable, "meshkey peers", "%s: %w", target, err)
	}
	return control.Errorf(control.Failed, "", "%s: %w", target, err)
}
