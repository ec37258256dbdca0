package controltest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/forward"
	"github.com/sovereignmesh/meshkey/keys"
)

// Fake is every part of a control.Backend. Answers begin as those of a small home lab; Fail makes methods fail.
type Fake struct {
	// Fail holds the error of a method by its name ("Grant"). Set it before the server runs.
	Fail map[string]error
	// Denied holds targets that the peer refuses; LocallyDenied those that our own grants refuse.
	Denied, LocallyDenied map[string]control.Denial
	// Broken is the verification's report; nil for a log that verifies.
	Broken *control.AuditReport
	// Port is the port Resolve tells.
	Port uint16
	// Enrolled makes the one invite a used one.
	Enrolled bool
	// Asking has a machine in front of the question whether to join by it.
	Asking bool
	// NotReady keeps Ready waiting.
	NotReady bool
	// Granted are the answer of Grants in place of the one grant; Existing makes Grant find what it is asked for.
	Granted  []control.Grant
	Existing bool
	// State is that of Status; empty: up.
	State string
	// Already and Told are those of Leave, in place of Applied.
	Already, Told bool
	// Warnings are those of Status.
	Warnings []control.Warning
	// LockOut is that of PolicyFile.
	LockOut string
	// Expiring are the coming ends of Status.
	Expiring []control.Expiry
	// Unsure are the warnings of Resolve and of Expose, and what Grant knows of the service's offer.
	Unsure  []control.Warning
	Offered string
	// Torn makes streams abort after their first bytes.
	Torn bool

	mu    sync.Mutex
	calls []string
	stop  chan struct{}
}

// New returns a Fake without failures.
func New() *Fake { return &Fake{Port: 11434, stop: make(chan struct{})} }

// Backend returns the fake as the server takes it.
func (f *Fake) Backend() control.Backend {
	return control.Backend{View: f, Offer: f, Policy: f, Invites: inviter{f}, Audit: auditor{f}, Connect: f, Process: f, Roots: rooter{f}, Life: f}
}

// Calls returns what was called, one line each, with the caller's uid.
func (f *Fake) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.calls...)
}

// Stopped is closed by Shutdown.
func (f *Fake) Stopped() <-chan struct{} { return f.stop }

func (f *Fake) call(name string, by control.Caller, req any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, fmt.Sprintf("%s uid=%d %+v", name, by.UID, req))
	return f.Fail[name]
}

// The members of the fake mesh.
var (
	GPU1   = control.NodeRef{Name: "gpu1", ID: id("gpu1")}
	NAS    = control.NodeRef{Name: "nas", ID: id("nas")}
	Laptop = control.NodeRef{Name: "laptop", ID: id("laptop")}
)

// id is the same key for the same name every time.
func id(name string) string {
	seed := sha256.Sum256([]byte(name))
	return keys.NodeID(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)).Compact()
}

// Began is the moment all times of the fake count from.
var Began = time.Date(2026, 11, 1, 10, 0, 0, 0, time.UTC)

func (f *Fake) Status(context.Context) (*control.Status, error) {
	if err := f.call("Status", control.Caller{}, ""); err != nil {
		return nil, err
	}
	age := int64(12000)
	s := &control.Status{
		Node: GPU1, Mesh: control.MeshInfo{Name: "homelab", ID: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"}, Version: "0.1.0", State: "up",
		Started: Began, UptimeMS: (76 * time.Hour).Milliseconds(), Listen: []string{"192.168.1.20:7477"},
		Trust: control.TrustInfo{RootVersion: 1, Members: 3, Grants: 3, AgeMS: &age, HeadSigners: []string{"nas"}},
		Peers: f.peers(), Offering: offering(), Reachable: reachable(),
		Audit: control.AuditInfo{Entries: 18204, State: "ok", Unwitnessed: true, RefusedDay: 1}, Warnings: f.Warnings, Expiring: f.Expiring, ExpiringAll: len(f.Expiring),
	}
	if f.State != "" {
		s.State = f.State
	}
	return s, nil
}

func (f *Fake) peers() []control.Peer {
	age := int64(12000)
	return []control.Peer{
		{
			NodeRef: NAS, State: "up", Path: "direct lan", Address: "192.168.1.10:7477", RTTMicros: 400, BytesIn: 1288490188, BytesOut: 92274688, Session: "full", Since: Began,
			View: &control.PeerView{Same: true, At: Began, AgeMS: &age}, Health: &control.Health{At: Began, Version: "0.1.0", Load: 0.42, DiskFree: 12e9, Audit: "ok"},
		},
		{NodeRef: Laptop, State: "offline", Address: "192.168.1.77:7477", LastSeen: Began, Since: Began, Health: &control.Health{At: Began, Told: true, Load: 1.5, DiskFree: 9e8, Audit: "degraded"}},
	}
}

func offering() []control.Service {
	return []control.Service{{Name: "ollama", Target: "127.0.0.1:11434", State: "up", Grants: 3, Refused: 1}}
}

func reachable() []control.RemoteService {
	return []control.RemoteService{{Node: NAS, Name: "postgres", Proto: "tcp", State: "up", Grant: "g-09"}}
}

func (f *Fake) Peers(context.Context) (*control.Peers, error) {
	age := int64(12000)
	return &control.Peers{Peers: f.peers(), Trust: &control.TrustInfo{RootVersion: 1, Members: 3, AgeMS: &age, HeadSigners: []string{"nas"}}}, f.call("Peers", control.Caller{}, "")
}

func (f *Fake) Services(context.Context) (*control.Services, error) {
	return &control.Services{Offering: offering(), Reachable: reachable()}, f.call("Services", control.Caller{}, "")
}

func grant() control.Grant {
	return control.Grant{ID: "g-18", Who: "laptop", What: "gpu1/ollama", Issuer: "nas", NotBefore: Began, NotAfter: Began.Add(8 * time.Hour), State: "active"}
}

func (f *Fake) Grants(_ context.Context, q control.GrantsQuery) (*control.Grants, error) {
	if f.Granted != nil {
		return &control.Grants{Grants: f.Granted}, f.call("Grants", control.Caller{}, q)
	}
	return &control.Grants{Grants: []control.Grant{grant()}}, f.call("Grants", control.Caller{}, q)
}

// Decide lets laptop use what it is granted, and nothing else.
func (f *Fake) Decide(_ context.Context, r control.DecideRequest) (*control.Decision, error) {
	g := grant()
	d := &control.Decision{From: r.From, Target: r.Target, At: r.At}
	if r.From == g.Who && r.Target == g.What {
		d.Allowed, d.Reason, d.Grant, d.By = true, "granted", "g-18 laptop -> gpu1/ollama", &g
		return d, f.call("Decide", control.Caller{}, r)
	}
	d.Reason, d.Near, d.Why = "no grant matches", "g-09 tag:dba -> */postgres", "g-09 is for tag:dba; laptop has tag:dev"
	d.Nearest = &control.Grant{ID: "g-09", Who: "tag:dba", What: "*/postgres", State: "active"}
	d.Command = "meshkey grant " + r.From + " " + r.Target
	return d, f.call("Decide", control.Caller{}, r)
}

// Metrics has one figure, and a label that tries to be more than one.
func (f *Fake) Metrics(context.Context) (*control.Metrics, error) {
	return &control.Metrics{Families: []control.Family{{
		Name: "meshkey_certificate_not_after_timestamp_seconds", Help: "End of a member's certificate.", Type: "gauge",
		Samples: []control.Sample{{Labels: []control.Label{{Name: "node", Value: "nas\"} 1\nevil"}}, Value: 1.8e9}},
	}}}, f.call("Metrics", control.Caller{}, "")
}

func (f *Fake) Expose(_ context.Context, by control.Caller, r *control.ExposeRequest) (*control.ExposeResult, error) {
	res := &control.ExposeResult{Service: control.Service{Name: r.Name, Target: r.Target, HTTP: r.HTTP, State: "up"}, Warnings: f.Unsure}
	for _, a := range r.Allow {
		g := grant()
		g.Who, g.What = a, "gpu1/"+r.Name
		res.Granted = append(res.Granted, g)
		res.Service.Grants++
	}
	if len(r.Allow) == 0 {
		res.Next = "meshkey grant WHO gpu1/" + r.Name
	}
	return res, f.call("Expose", by, *r)
}

func (f *Fake) Unexpose(_ context.Context, by control.Caller, r *control.UnexposeRequest) (*control.UnexposeResult, error) {
	return &control.UnexposeResult{Service: control.Service{Name: r.Name, Target: "127.0.0.1:11434", State: "down"}, ClosedStreams: 2}, f.call("Unexpose", by, *r)
}

func spread() control.Spread {
	return control.Spread{
		Applied: []control.Applied{{Node: GPU1, AfterMS: 1, ClosedSessions: 1, ClosedStreams: 2}, {Node: NAS, AfterMS: 12}},
		Pending: []control.Pending{{Node: Laptop, Reason: "offline 3 d"}},
	}
}

func (f *Fake) Grant(_ context.Context, by control.Caller, r *control.GrantRequest) (*control.GrantResult, error) {
	g := grant()
	g.Who, g.What, g.Note, g.NotAfter = r.Who, r.What, r.Note, r.NotAfter
	return &control.GrantResult{Grant: g, Existing: f.Existing, Spread: spread(), Offered: f.Offered}, f.call("Grant", by, *r)
}

func (f *Fake) Ungrant(_ context.Context, by control.Caller, r *control.UngrantRequest) (*control.UngrantResult, error) {
	return &control.UngrantResult{Grant: grant(), Spread: spread()}, f.call("Ungrant", by, *r)
}

// PolicyFile takes a grant back, closes a stream, and asks for nothing.
func (f *Fake) PolicyFile(_ context.Context, by control.Caller, r *control.PolicyRequest) (*control.PolicyResult, error) {
	res := &control.PolicyResult{
		Policy: "main", Plan: "0102030405060708", Changed: true, Kept: 2, Removed: []control.PolicyGrant{{Grant: grant()}}, LostAll: 1,
		Lost: []control.Access{{From: "laptop", Target: "gpu1/ollama"}}, Closes: []control.Access{{From: "laptop", Target: "gpu1/ollama", Streams: 2}},
		LockOut: f.LockOut, Done: r.Mode == control.PolicyApply,
	}
	if res.Done {
		s := spread()
		res.Spread = &s
	}
	return res, f.call("PolicyFile", by, fmt.Sprintf("mode=%s plan=%s force=%v", r.Mode, r.Plan, r.Force))
}

// RotateGroup makes the third generation.
func (f *Fake) RotateGroup(_ context.Context, by control.Caller, r *control.RotateGroupRequest) (*control.RotateGroupResult, error) {
	return &control.RotateGroupResult{Generation: 3, Spread: spread()}, f.call("RotateGroup", by, *r)
}

// RotateNode gives gpu1 the key of laptop.
func (f *Fake) RotateNode(_ context.Context, by control.Caller, r *control.RotateNodeRequest) (*control.RotateNodeResult, error) {
	res := &control.RotateNodeResult{Old: GPU1, DryRun: r.DryRun, Sessions: 2, Streams: 3, Grants: []control.Grant{grant()}}
	if !r.DryRun && !r.Drop {
		res.New, res.Issuer, res.NotAfter = control.NodeRef{Name: "gpu1", ID: Laptop.ID}, NAS, Began.Add(90*24*time.Hour)
	}
	return res, f.call("RotateNode", by, *r)
}

// Leave leaves by nas.
func (f *Fake) Leave(_ context.Context, by control.Caller, r *control.LeaveRequest) (*control.LeaveResult, error) {
	res := &control.LeaveResult{
		Node: GPU1, Mesh: control.MeshInfo{Name: "homelab"}, DryRun: r.DryRun, Sessions: 2, Streams: 3, Services: []string{"ollama"}, Grants: []control.Grant{grant()},
		Kept: "/var/lib/meshkey/left-1",
	}
	if !r.DryRun {
		res.Applied, res.Already, res.Told, res.Issuer = !f.Told, f.Already, f.Told, NAS
	}
	return res, f.call("Leave", by, *r)
}

func (f *Fake) Revoke(_ context.Context, by control.Caller, r *control.RevokeRequest) (*control.RevokeResult, error) {
	return &control.RevokeResult{Node: Laptop, DryRun: r.DryRun, Grants: []control.Grant{grant()}, Spread: spread(), Invites: []control.Invite{{ID: "0102030405060708", Name: Laptop.Name, State: "open"}}}, f.call("Revoke", by, *r)
}

func (f *Fake) Version() *control.Version {
	return &control.Version{Version: "0.1.0", Go: "go1.26", Platform: "linux/amd64", Protocol: 1}
}

func (f *Fake) Ready(ctx context.Context) error {
	if f.NotReady {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.call("Ready", control.Caller{}, "")
}

func (f *Fake) Shutdown(by control.Caller) {
	if f.call("Shutdown", by, "") == nil {
		close(f.stop)
	}
}

func (f *Fake) Resolve(_ context.Context, target string) (*control.Endpoint, error) {
	if err := f.call("Resolve", control.Caller{}, target); err != nil {
		return nil, err
	}
	node, service, err := control.ParseServiceRef(target)
	if err != nil {
		return nil, err
	}
	e := &control.Endpoint{Node: control.NodeRef{Name: node, ID: id(node)}, Service: service, Port: f.Port, Warnings: f.Unsure}
	if d, ok := f.LocallyDenied[target]; ok {
		return e, control.Refuse(d)
	}
	return e, nil
}

// Open returns an echo: what is written comes back, and the end after it.
func (f *Fake) Open(_ context.Context, by control.Caller, target string, first func([]byte) int) (forward.Stream, error) {
	if err := f.call("Open", by, target); err != nil {
		return nil, err
	}
	if d, ok := f.Denied[target]; ok {
		return nil, control.Refuse(d)
	}
	e, err := newEcho(f.Torn)
	if err == nil && first != nil {
		p := make([]byte, 16)
		e.Write(p[:first(p)])
	}
	return e, err
}

// auditor has method names of its own.
type auditor struct{ f *Fake }

// auditSize is how long the fake's log is: more than one page.
const auditSize = 2500

func record(i uint64) control.AuditRecord {
	return control.AuditRecord{Index: i, Time: Began.Add(time.Duration(i) * time.Second), Code: "stream.open", Actor: "laptop", Target: "gpu1/ollama", Verdict: "allowed", Grant: "g-18"}
}

func (a auditor) Log(_ context.Context, q control.AuditQuery) (*control.AuditPage, error) {
	p := &control.AuditPage{Log: "meshkey/9f86d081/audit/gpu1", Size: auditSize, Records: []control.AuditRecord{}}
	from := q.From
	if q.Last {
		from = auditSize - min(auditSize, uint64(q.Limit))
	}
	for i := from; i < auditSize; i++ {
		if len(p.Records) == q.Limit {
			p.Next = i
			break
		}
		p.Records = append(p.Records, record(i))
	}
	return p, a.f.call("Log", control.Caller{}, q)
}

func (a auditor) Entry(_ context.Context, index uint64) (*control.AuditEntry, error) {
	if index >= auditSize {
		return nil, control.Errorf(control.NotFound, "meshkey audit log", "the log has %d entries, no %d", auditSize, index)
	}
	return &control.AuditEntry{Log: "meshkey/9f86d081/audit/gpu1", Record: record(index), Leaf: []byte{0xa1, 1, 1}, Hash: "00ff"}, a.f.call("Entry", control.Caller{}, index)
}

func (a auditor) Verify(context.Context) (*control.AuditReport, error) {
	if a.f.Broken != nil {
		r := *a.f.Broken
		return &r, a.f.call("Verify", control.Caller{}, "")
	}
	return &control.AuditReport{Log: "meshkey/9f86d081/audit/gpu1", OK: true, Size: auditSize, Signed: auditSize, Checkpoint: Began, Unwitnessed: true}, a.f.call("Verify", control.Caller{}, "")
}

// echo is a stream whose peer sends back what it gets.
type echo struct {
	*net.TCPConn
	done chan struct{}
	once sync.Once
}

func newEcho(torn bool) (*echo, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	peer, err := ln.Accept()
	if err != nil {
		c.Close()
		return nil, err
	}
	go func() {
		defer peer.Close()
		if torn {
			buf := make([]byte, 4)
			io.ReadFull(peer, buf)
			peer.Write(buf)
			forward.Abort(peer)
			return
		}
		io.Copy(peer, peer)
	}()
	return &echo{TCPConn: c.(*net.TCPConn), done: make(chan struct{})}, nil
}

func (e *echo) Abort() { e.once.Do(func() { close(e.done) }); forward.Abort(e.TCPConn) }

func (e *echo) Close() error { e.once.Do(func() { close(e.done) }); return e.TCPConn.Close() }

func (e *echo) Done() <-chan struct{} { return e.done }
