package daemon

import (
	"context"
	"encoding/hex"
	"os"
	"runtime"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// expiryWarning is how long before its end an issuer's key is warned about.
const expiryWarning = 30 * 24 * time.Hour

// Version implements control.Process.
func (d *Daemon) Version() *control.Version {
	v := d.opts.Version
	v.PID = os.Getpid()
	v.OwnerUID = int64(os.Getuid())
	v.Go = runtime.Version()
	v.Platform = runtime.GOOS + "/" + runtime.GOARCH
	return &v
}

// Ready implements control.Process.
func (d *Daemon) Ready(ctx context.Context) error {
	select {
	case <-d.node.Ready():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shutdown implements control.Process.
func (d *Daemon) Shutdown(by control.Caller) {
	d.log.Info("asked to stop", "by", uidName(by.UID))
	d.stop()
}

// Status implements control.Viewer.
func (d *Daemon) Status(ctx context.Context) (*control.Status, error) {
	st, now := d.store.Current(), d.trustNow()
	peers, err := d.Peers(ctx)
	if err != nil {
		return nil, err
	}
	svcs, err := d.Services(ctx)
	if err != nil {
		return nil, err
	}
	s := &control.Status{
		Node: d.selfRef(st, now), Mesh: control.MeshInfo{Name: st.Root().Name, ID: d.meshID.String()},
		Version: d.opts.Version.Version, State: "up", Started: d.started, UptimeMS: time.Since(d.started).Milliseconds(),
		Issuer: d.signer() != nil, NotAfter: d.node.CertificateNotAfter(), Peers: peers.Peers, Offering: svcs.Offering,
		Reachable: svcs.Reachable, Trust: d.trustInfo(st, now), Audit: d.auditInfo(),
	}
	if m, ok := st.LiveMember(d.key.NodeID(), now); ok {
		s.Tags = m.Tags
	}
	for _, ep := range d.node.Endpoints() {
		s.Listen = append(s.Listen, ep.String())
	}
	for _, i := range d.node.Interfaces() {
		state := "up"
		if i.Mute {
			state = "mute"
		}
		s.Interfaces = append(s.Interfaces, control.Interface{Name: i.Name, Addresses: i.Addresses, State: state})
	}
	s.Expiring, s.ExpiringAll = expiring(st, now, d.key.NodeID())
	s.Warnings = d.warnings(peers.Peers, s.Expiring)
	if s.Audit.State != "ok" || s.Trust.Stale && s.Trust.StaleAction == "restrict" {
		s.State = "degraded"
	}
	switch own, _ := d.ownStanding(); own {
	case standingRevoked:
		s.State = "revoked"
	case standingShutOut:
		s.State = "shut-out"
	}
	return s, nil
}

func (d *Daemon) trustInfo(st *trust.State, now int64) control.TrustInfo {
	digest := st.Digest()
	t := control.TrustInfo{RootVersion: st.Root().Version, Digest: hex.EncodeToString(digest[:])}
	for range st.Members() {
		t.Members++
	}
	for range st.RevokedNodes() {
		t.Revoked++
	}
	for g := range st.Grants() {
		if g.InForce(now) && voidWhy(st, &g, now) == "" {
			t.Grants++
		}
	}
	for _, is := range st.Root().Issuers {
		if s, ok := st.IssuerStatus(is.ID); ok && s.Upgrade {
			t.Upgrade = true
		}
	}
	freshness(&t, st.View(now))
	return t
}

func (d *Daemon) auditInfo() control.AuditInfo {
	s := d.audit.Status()
	a := control.AuditInfo{Entries: s.Size, State: "ok", Checkpoint: s.Checkpoint.Time, Unwitnessed: true}
	if s.Degraded != nil {
		a.State, a.Reason = "degraded", s.Degraded.Error()
	}
	for _, svc := range d.node.Services() {
		a.RefusedDay += svc.Refused
	}
	return a
}

// warnings are what works but needs attention, each with its next step.
func (d *Daemon) warnings(peers []control.Peer, ends []control.Expiry) []control.Warning {
	var out []control.Warning
	warn := func(code, text, next string) { out = append(out, control.Warning{Code: code, Text: text, Next: next}) }
	out = append(out, d.revokedWarnings()...)
	if a := d.audit.Status(); a.Degraded != nil {
		warn("audit-degraded", "the audit log cannot be written, so no new streams are accepted: "+a.Degraded.Error(), "make room or repair the disk; it recovers by itself")
	}
	if err := d.store.Err(); err != nil {
		warn("trust-unwritten", "the trust log cannot be written: "+err.Error(), "make room or repair the disk; it recovers by itself")
	}
	out = append(out, d.floorWarning(time.Now())...)
	out = append(out, expiryWarnings(ends)...)
	if w, ok := d.rotationWarning(); ok {
		out = append(out, w)
	}
	out = append(out, racedWarnings(d.store.Current(), d.trustNow())...)
	st, now := d.store.Current(), d.trustNow()
	out = append(out, d.rootWarnings(st, now)...)
	out = append(out, staleWarnings(st.View(now))...)
	out = append(out, d.pinWarnings(st, now)...)
	for _, p := range peers {
		name := p.Name
		if name == "" {
			name = p.ID
		}
		if slices.Contains(p.Flags, "name_conflict") {
			warn("name-conflict", name+" is a name of two live members and resolves to neither", "revoke one of them by its id")
		}
	}
	return append(out, clockWarnings(peers)...)
}

func days(d time.Duration) string {
	if d < 48*time.Hour {
		return d.Round(time.Minute).String()
	}
	return itoa(int(d.Hours()/24+0.5)) + " days"
}

// Peers implements control.Viewer.
func (d *Daemon) Peers(context.Context) (*control.Peers, error) {
	out := &control.Peers{Peers: []control.Peer{}}
	st, now := d.store.Current(), d.trustNow()
	info := d.trustInfo(st, now)
	out.Trust = &info
	for _, p := range d.node.Peers() {
		c := control.Peer{
			NodeRef: control.NodeRef{Name: p.Name, ID: p.Node.Compact()}, State: p.State, Tags: p.Tags, Since: p.Since, LastSeen: p.Seen,
			NotAfter: p.NotAfter, Session: p.Session, RTTMicros: p.RTT.Microseconds(), BytesIn: p.BytesIn, BytesOut: p.BytesOut,
			Streams: p.Streams, Reason: p.LastDial,
		}
		if p.Address.IsValid() {
			c.Address = p.Address.String()
		}
		if p.Session != "" {
			c.Path = "direct"
			if a := p.Address.Addr(); a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() {
				c.Path = "direct lan"
			}
			c.Reason = ""
		}
		if p.Health != nil {
			c.Version, c.Health = p.Health.Version, healthDoc(&p)
		}
		c.View = peerView(&p, now)
		if p.Conflict {
			c.Flags = append(c.Flags, "name_conflict")
		}
		if p.Skewed {
			c.Flags = append(c.Flags, "clock_skew")
		}
		out.Peers = append(out.Peers, c)
	}
	for id, r := range st.RevokedNodes() {
		p := control.Peer{NodeRef: control.NodeRef{ID: id.Compact()}, State: "revoked", Since: time.Unix(r.Time, 0).UTC(), Reason: revokedText(st, id, r, now)}
		if name, ok := st.NameOf(id); ok {
			p.Was = name
		}
		out.Peers = append(out.Peers, p)
	}
	return out, nil
}

// Services implements control.Viewer.
func (d *Daemon) Services(context.Context) (*control.Services, error) {
	out := &control.Services{Offering: []control.Service{}, Reachable: []control.RemoteService{}}
	for _, s := range d.node.Services() {
		out.Offering = append(out.Offering, d.serviceDoc(s))
	}
	for _, p := range d.node.Peers() {
		for _, s := range p.Services {
			state := "up"
			switch s.State {
			case session.ServiceDown:
				state = "down"
			case session.ServiceDraining:
				state = "draining"
			}
			r := control.RemoteService{
				Node: control.NodeRef{Name: p.Name, ID: p.Node.Compact()}, Name: s.Name, Proto: s.Proto, State: state,
				Reason: s.Reason,
			}
			if s.Since != 0 {
				r.Since = time.Unix(int64(s.Since), 0).UTC()
			}
			if dec := d.store.Current().Decide(d.key.NodeID(), p.Node, s.Name, d.trustNow()); dec.Allowed {
				r.Grant = dec.Grant.String()
			}
			out.Reachable = append(out.Reachable, r)
		}
	}
	return out, nil
}

func (d *Daemon) serviceDoc(s mesh.ServiceInfo) control.Service {
	c := control.Service{Name: s.Name, State: "up", Since: s.State.Since.UTC(), Reason: s.State.Reason, Refused: s.Refused, Streams: s.Streams}
	if !s.State.Up {
		c.State = "down"
	}
	d.svcMu.Lock()
	if e := d.services[s.Name]; e != nil {
		c.Target, c.HTTP = e.target.String(), e.http
	}
	d.svcMu.Unlock()
	grants := map[string]bool{}
	st, now := d.store.Current(), d.trustNow()
	for m := range st.Members() {
		if m.Node == d.key.NodeID() {
			continue
		}
		if dec := st.Decide(m.Node, d.key.NodeID(), s.Name, now); dec.Allowed {
			c.AllowedTo = append(c.AllowedTo, d.ref(m.Node))
			grants[dec.Grant.String()] = true
		}
	}
	c.Grants = len(grants)
	return c
}

// ref names a node for a document.
func (d *Daemon) ref(id keys.NodeID) control.NodeRef {
	r := control.NodeRef{ID: id.Compact()}
	st, now := d.store.Current(), d.trustNow()
	if m, ok := st.LiveMember(id, now); ok && !st.NameConflict(m.Name, now) {
		r.Name = m.Name
	}
	return r
}

// word is a node for a sentence.
func (d *Daemon) word(id keys.NodeID) string {
	if r := d.ref(id); r.Name != "" {
		return r.Name
	}
	return id.Compact()
}
