package daemon_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh"
)

// founded is a running issuer.
func founded(t *testing.T, port uint16) *host {
	t.Helper()
	nas := newHost(t, "nas", port)
	if _, err := daemon.Init(t.Context(), initOptions(nas.dir)); err != nil {
		t.Fatal(err)
	}
	nas.start()
	return nas
}

func (h *host) invite(r control.InviteRequest) (*identity.Invite, *control.InviteResult) {
	h.t.Helper()
	res, err := h.client.CreateInvite(h.t.Context(), &r)
	if err != nil {
		h.t.Fatal(err)
	}
	inv, err := identity.ParseInvite(res.Text)
	if err != nil {
		h.t.Fatal(err)
	}
	return inv, res
}

func (h *host) waiting() []control.Waiter {
	h.t.Helper()
	p, err := h.client.Pending(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return p.Waiting
}

func code(err error) control.Code {
	if e := control.AsError(err); e != nil {
		return e.Code
	}
	return control.Done
}

func (h *host) audited(t *testing.T, want string) bool {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	// What needs not be durable before its effect is written within a second.
	for late := time.Now().Add(patience); time.Now().Before(late); <-tick.C {
		p, err := h.client.AuditLog(t.Context(), control.AuditQuery{Code: want})
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Records) > 0 {
			return true
		}
	}
	return false
}

// A machine asks, waits, is approved while the issuer has been restarted in between, and is a member with what the invite allows.
func TestEnrollWithApproval(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29890)
	inv, res := nas.invite(control.InviteRequest{Name: "gpu1", Tags: []string{"gpu"}, Approval: true, Allow: []string{"nas/web"}})
	if !res.Invite.Approval || res.Invite.Expires.Sub(res.Invite.Created) != 24*time.Hour || !slices.Equal(res.Invite.Allow, []string{"nas/web"}) {
		t.Fatalf("%+v", res.Invite)
	}
	o := daemon.EnrollOptions{StateDir: filepath.Join(t.TempDir(), "gpu1"), Invite: inv, Poll: 20 * time.Millisecond, Tags: []string{"wished"}}
	shown := 0
	var words [3]string
	o.Confirm = func(of mesh.Offer) bool { shown++; words = of.Words; return true }
	if _, err := daemon.Enroll(t.Context(), o); !errors.Is(err, mesh.ErrWaiting) {
		t.Fatal(err)
	}
	w := nas.waiting()
	if len(w) != 1 || !slices.Equal(w[0].Words, words[:]) || w[0].InviteName != "gpu1" || !slices.Equal(w[0].Tags, []string{"wished"}) || w[0].Address != "127.0.0.1" {
		t.Fatalf("%+v", w)
	}
	if l, err := nas.client.Invites(t.Context()); err != nil || !slices.Equal(l.Invites[0].Waiting, []string{w[0].ID}) {
		t.Fatalf("%+v %v", l, err)
	}
	nas.stop()
	nas.start()
	inv.Endpoints[0] = endpointOf(t, nas)
	// Again, waiting this time: nobody is asked again, and the words stay.
	again := make(chan [3]string, 1)
	o.Wait, o.Waiting = time.Minute, func(of mesh.Offer) { again <- of.Words }
	type outcome struct {
		r   *daemon.EnrollResult
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		r, err := daemon.Enroll(t.Context(), o)
		done <- outcome{r, err}
	}()
	select {
	case got := <-again:
		if got != words || shown != 1 {
			t.Fatal(got, shown)
		}
	case out := <-done:
		t.Fatal(out.err)
	}
	if w := nas.waiting(); !slices.Equal(w[0].Words, words[:]) {
		t.Fatal("other words after a look")
	}
	if _, err := nas.client.Approve(t.Context(), &control.ApproveRequest{ID: w[0].ID, Words: []string{"not", "the", "words"}}); code(err) != control.Unverified {
		t.Fatal(err)
	}
	if _, err := nas.client.Approve(t.Context(), &control.ApproveRequest{ID: "0000000000000000"}); code(err) != control.NotFound {
		t.Fatal(err)
	}
	if _, err := nas.client.Approve(t.Context(), &control.ApproveRequest{ID: w[0].ID, Words: words[:]}); err != nil {
		t.Fatal(err)
	}
	out := <-done
	if out.err != nil || out.r.Name != "gpu1" || !slices.Equal(out.r.Tags, []string{"gpu"}) || out.r.Words != words {
		t.Fatalf("%+v %v", out.r, out.err)
	}
	if _, err := os.Stat(filepath.Join(o.StateDir, "waiting")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it still waits", err)
	}
	d, err := nas.client.Decide(t.Context(), control.DecideRequest{From: "gpu1", Target: "nas/web"})
	if err != nil || !d.Allowed {
		t.Fatalf("%+v %v", d, err)
	}
	l, err := nas.client.Invites(t.Context())
	i := slices.IndexFunc(l.Invites, func(v control.Invite) bool { return v.ID == res.Invite.ID })
	if err != nil || len(l.Invites[i].Used) != 1 || !slices.Equal(l.Invites[i].Used[0].Words, words[:]) {
		t.Fatalf("%+v %v", l, err)
	}
	for _, c := range []string{"request.add", "request.approve"} {
		if !nas.audited(t, c) {
			t.Error(c, "is not recorded")
		}
	}
}

// endpointOf is where a host listens now.
func endpointOf(t *testing.T, h *host) identity.Endpoint {
	t.Helper()
	inv, res := h.invite(control.InviteRequest{Name: "nobody"})
	if err := h.client.RemoveInvite(t.Context(), res.Invite.ID); err != nil {
		t.Fatal(err)
	}
	return inv.Endpoints[0]
}

// away, stored in what counted returns, closes the next connection at once.
const away = -1

// counted is a way to a host that counts who takes it.
func counted(t *testing.T, to identity.Endpoint) (identity.Endpoint, *atomic.Int32) {
	t.Helper()
	addr, err := to.AddrPort()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n.Add(1) <= 0 {
				c.Close()
				continue
			}
			up, err := net.Dial("tcp", addr.String())
			if err != nil {
				c.Close()
				continue
			}
			wg.Go(func() { io.Copy(up, c); up.Close() })
			wg.Go(func() { io.Copy(c, up); c.Close() })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return identity.EndpointOf(ln.Addr().(*net.TCPAddr).AddrPort()), &n
}

// A machine that waits from the beginning asks once, and then only looks: the words stay, and nobody is asked again.
func TestEnrollWaits(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29889)
	inv, _ := nas.invite(control.InviteRequest{Name: "gpu1", Approval: true})
	way, looks := counted(t, inv.Endpoints[0])
	inv.Endpoints = []identity.Endpoint{way}
	var asked atomic.Int32
	o := daemon.EnrollOptions{StateDir: filepath.Join(t.TempDir(), "gpu1"), Invite: inv, Poll: 10 * time.Millisecond, Wait: time.Minute}
	o.Confirm = func(mesh.Offer) bool { asked.Add(1); return true }
	done := make(chan error, 1)
	go func() {
		_, err := daemon.Enroll(t.Context(), o)
		done <- err
	}()
	eventually(t, "it looks again", patience, func() bool { return looks.Load() >= 1 && len(nas.waiting()) == 1 })
	first := nas.waiting()[0]
	eventually(t, "it looks three more times", patience, func() bool { return looks.Load() >= 4 })
	if w := nas.waiting()[0]; !slices.Equal(w.Words, first.Words) || asked.Load() != 1 {
		t.Errorf("asked %d times, words %v, then %v", asked.Load(), first.Words, w.Words)
	}
	if _, err := nas.client.Approve(t.Context(), &control.ApproveRequest{ID: first.ID, Words: first.Words}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// An issuer that has been asked before is waited for, also if it does not answer at first: it may be busy, or start again.
func TestEnrollWaitsForAnIssuerThatIsAway(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29886)
	inv, _ := nas.invite(control.InviteRequest{Name: "gpu1", Approval: true})
	way, looks := counted(t, inv.Endpoints[0])
	inv.Endpoints = []identity.Endpoint{way}
	o := daemon.EnrollOptions{StateDir: filepath.Join(t.TempDir(), "gpu1"), Invite: inv, Poll: 10 * time.Millisecond}
	if _, err := daemon.Enroll(t.Context(), o); !errors.Is(err, mesh.ErrWaiting) {
		t.Fatal(err)
	}
	w := nas.waiting()[0]
	if _, err := nas.client.Approve(t.Context(), &control.ApproveRequest{ID: w.ID, Words: w.Words}); err != nil {
		t.Fatal(err)
	}
	looks.Store(away)
	if _, err := daemon.Enroll(t.Context(), o); !errors.Is(err, mesh.ErrUnreachable) {
		t.Fatal("not waited for, and yet:", err)
	}
	looks.Store(away)
	o.Wait = time.Minute
	if _, err := daemon.Enroll(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func TestEnrollDenied(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29891)
	inv, _ := nas.invite(control.InviteRequest{Name: "gpu1", Approval: true})
	o := daemon.EnrollOptions{StateDir: filepath.Join(t.TempDir(), "gpu1"), Invite: inv}
	if _, err := daemon.Enroll(t.Context(), o); !errors.Is(err, mesh.ErrWaiting) {
		t.Fatal(err)
	}
	w := nas.waiting()
	if r, err := nas.client.Deny(t.Context(), &control.DenyRequest{ID: w[0].ID, Reason: "who is it?"}); err != nil || r.Waiter.Node != w[0].Node {
		t.Fatal(err)
	}
	if _, err := nas.client.Deny(t.Context(), &control.DenyRequest{ID: w[0].ID}); code(err) != control.NotFound {
		t.Fatal(err)
	}
	if _, err := daemon.Enroll(t.Context(), o); !errors.Is(err, mesh.ErrRequestDenied) {
		t.Fatal(err)
	}
	if _, err := daemon.Enroll(t.Context(), o); !errors.Is(err, mesh.ErrInviteRefused) {
		t.Fatal(err)
	}
	if len(nas.waiting()) != 0 || !nas.audited(t, "request.deny") {
		t.Error("it still waits, or the denial is not recorded")
	}
}

// A member renews itself with an invite of its own name: same name, tags and grants, and the daemon starts with the result.
func TestEnrollRenews(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29892)
	inv, res := nas.invite(control.InviteRequest{Name: "gpu1", Tags: []string{"gpu"}, GuestMS: time.Hour.Milliseconds(), Allow: []string{"nas/web"}})
	if !res.Invite.Guest {
		t.Fatalf("%+v", res.Invite)
	}
	gpu := newHost(t, "gpu1", 29892)
	first, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: gpu.dir, Invite: inv})
	if err != nil || time.Until(first.NotAfter) > time.Hour {
		t.Fatal(first, err)
	}
	if _, err := nas.client.CreateInvite(t.Context(), &control.InviteRequest{Name: "gpu1", Tags: []string{"other"}}); code(err) != control.Failed {
		t.Fatal(err)
	}
	inv, res = nas.invite(control.InviteRequest{Name: "gpu1"})
	if len(res.Warnings) != 1 || res.Warnings[0].Code != "renews" {
		t.Fatalf("%+v", res.Warnings)
	}
	// Not for another machine.
	if _, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: filepath.Join(t.TempDir(), "x"), Invite: inv}); !errors.Is(err, mesh.ErrInviteName) {
		t.Fatal(err)
	}
	gpu.start()
	if _, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: gpu.dir, Invite: inv}); err == nil {
		t.Fatal("under a running daemon")
	}
	gpu.stop()
	again, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: gpu.dir, Invite: inv})
	if err != nil || !again.Renewed || again.Node != first.Node || !slices.Equal(again.Tags, []string{"gpu"}) || !again.NotAfter.After(first.NotAfter) {
		t.Fatalf("%+v %v", again, err)
	}
	gpu.start()
	eventually(t, "gpu1 up", patience, func() bool { return nas.peerState("gpu1") == "up/full" })
	d, err := nas.client.Decide(t.Context(), control.DecideRequest{From: "gpu1", Target: "nas/web"})
	if err != nil || !d.Allowed {
		t.Fatalf("%+v %v", d, err)
	}
	gpu.stop()
	// A revoked machine is not renewed.
	if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "gpu1"}); err != nil {
		t.Fatal(err)
	}
	inv, _ = nas.invite(control.InviteRequest{Name: "gpu1"})
	if _, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: gpu.dir, Invite: inv}); !errors.Is(err, mesh.ErrInviteRevoked) {
		t.Fatal(err)
	}
}

// A machine without a network: two files, and it is a member that the others let in.
func TestEnrollByFiles(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29893)
	st, err := nas.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.ParseMeshID(st.Mesh.ID)
	if err != nil {
		t.Fatal(err)
	}
	gpu := newHost(t, "gpu1", 29893)
	o := daemon.RequestOptions{StateDir: gpu.dir, Mesh: id, Name: "gpu1", Tags: []string{"gpu"}}
	q, err := daemon.MakeRequest(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := daemon.MakeRequest(t.Context(), o); err != nil || string(again.File) != string(q.File) {
		t.Fatal("another request", err)
	}
	approve := func(r control.ApproveRequest) (*control.ApproveResult, error) {
		r.File = q.File
		if r.Words == nil {
			r.Words = q.Words[:]
		}
		return nas.client.Approve(t.Context(), &r)
	}
	if _, err := approve(control.ApproveRequest{Words: []string{"not", "the", "words"}}); code(err) != control.Unverified {
		t.Fatal(err)
	}
	tampered := q.File
	q.File = append([]byte(nil), q.File...)
	q.File[100] ^= 1
	if _, err := approve(control.ApproveRequest{}); code(err) != control.Unverified {
		t.Fatal(err)
	}
	q.File = tampered
	res, err := approve(control.ApproveRequest{Allow: []string{"nas/web"}, NoTags: true})
	if err != nil || res.Node.Name != "gpu1" || len(res.Tags) != 0 || len(res.Response) == 0 {
		t.Fatalf("%+v %v", res, err)
	}
	twice, err := approve(control.ApproveRequest{})
	if err != nil || !twice.Again || !twice.NotAfter.Equal(res.NotAfter) {
		t.Fatalf("%+v %v", twice, err)
	}
	take := func(dir string, b []byte) (*daemon.EnrollResult, error) {
		return daemon.TakeResponse(t.Context(), daemon.ResponseOptions{StateDir: dir, Response: b})
	}
	bad := append([]byte(nil), res.Response...)
	bad[len(bad)-1] ^= 1
	if _, err := take(gpu.dir, bad); !errors.Is(err, enroll.ErrFile) {
		t.Fatal(err)
	}
	if _, err := take(gpu.dir, []byte("hello")); !errors.Is(err, enroll.ErrNoFile) {
		t.Fatal(err)
	}
	if _, err := take(filepath.Join(t.TempDir(), "x"), res.Response); !errors.Is(err, daemon.ErrNoRequest) {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "y")
	o.StateDir = other
	if _, err := daemon.MakeRequest(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := take(other, res.Response); !errors.Is(err, enroll.ErrFile) {
		t.Fatal("the answer to another request:", err)
	}
	first, err := take(gpu.dir, res.Response)
	if err != nil || first.Name != "gpu1" || first.Words != q.Words || first.Renewed {
		t.Fatalf("%+v %v", first, err)
	}
	for _, name := range []string{"request", "request.age"} {
		if _, err := os.Stat(filepath.Join(gpu.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
	if _, err := take(gpu.dir, twice.Response); !errors.Is(err, daemon.ErrNoRequest) {
		t.Fatal(err)
	}
	gpu.start()
	eventually(t, "gpu1 up", patience, func() bool { return nas.peerState("gpu1") == "up/full" })
	d, err := nas.client.Decide(t.Context(), control.DecideRequest{From: "gpu1", Target: "nas/web"})
	if err != nil || !d.Allowed {
		t.Fatalf("%+v %v", d, err)
	}
	gpu.stop()
	// The same way renews it, name and all.
	o.StateDir, o.Name, o.Tags = gpu.dir, "", nil
	if q, err = daemon.MakeRequest(t.Context(), o); err != nil || q.Name != "gpu1" {
		t.Fatal(q, err)
	}
	gpu.start() // a request that is out stays out
	gpu.stop()
	if res, err = approve(control.ApproveRequest{}); err != nil {
		t.Fatal(err)
	}
	if r, err := take(gpu.dir, res.Response); err != nil || !r.Renewed || r.Node != first.Node {
		t.Fatalf("%+v %v", r, err)
	}
	gpu.start()
	eventually(t, "gpu1 up again", patience, func() bool { return nas.peerState("gpu1") == "up/full" })
}

// A machine that died while it took its answer takes it again, and the key for it goes in the end.
func TestTakeResponseInterrupted(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29894)
	st, err := nas.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.ParseMeshID(st.Mesh.ID)
	if err != nil {
		t.Fatal(err)
	}
	gpu := newHost(t, "gpu1", 29894)
	q, err := daemon.MakeRequest(t.Context(), daemon.RequestOptions{StateDir: gpu.dir, Mesh: id, Name: "gpu1"})
	if err != nil {
		t.Fatal(err)
	}
	// Everything as it was before the answer, to be put back.
	saved := map[string][]byte{}
	for _, name := range []string{"request", "request.age"} {
		if saved[name], err = os.ReadFile(filepath.Join(gpu.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	restore := func() {
		for name, b := range saved {
			if err := os.WriteFile(filepath.Join(gpu.dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	res, err := nas.client.Approve(t.Context(), &control.ApproveRequest{File: q.File, Words: q.Words[:]})
	if err != nil {
		t.Fatal(err)
	}
	var last *daemon.EnrollResult
	for _, gone := range []string{"", "member", "audit", "trust", "group-1.age"} {
		if gone != "" {
			restore()
			for _, name := range []string{"member", gone} {
				if err := os.RemoveAll(filepath.Join(gpu.dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		r, err := daemon.TakeResponse(t.Context(), daemon.ResponseOptions{StateDir: gpu.dir, Response: res.Response})
		if err != nil {
			t.Fatalf("without %q: %v", gone, err)
		}
		if last != nil && (r.Node != last.Node || r.NotAfter != last.NotAfter) {
			t.Fatal("another node or certificate")
		}
		last = r
	}
	// It died between the last two writes: the daemon's next start removes what is left.
	restore()
	gpu.start()
	gpu.stop()
	for name := range saved {
		if _, err := os.Stat(filepath.Join(gpu.dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", name, err)
		}
	}
}

// What an admin may not ask for.
func TestInviteRefusals(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29895)
	for name, tc := range map[string]struct {
		r    control.InviteRequest
		want control.Code
	}{
		"ended":           {control.InviteRequest{Name: "a", RenewUntil: time.Now().Add(-time.Hour)}, control.Usage},
		"no such node":    {control.InviteRequest{Name: "a", Allow: []string{"gpu9/web"}}, control.NotFound},
		"too long a name": {control.InviteRequest{Name: strings.Repeat("a", 63), Uses: 2}, control.Failed},
	} {
		if _, err := nas.client.CreateInvite(t.Context(), &tc.r); code(err) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Several uses and an end.
	inv, res := nas.invite(control.InviteRequest{Name: "rack", Uses: 2, RenewUntil: time.Now().Add(time.Hour)})
	if res.Invite.Uses != 2 || res.Invite.RenewUntil.IsZero() {
		t.Fatalf("%+v", res.Invite)
	}
	r, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: filepath.Join(t.TempDir(), "r"), Invite: inv})
	if err != nil || r.Name != "rack-1" || time.Until(r.NotAfter) > time.Hour {
		t.Fatalf("%+v %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := daemon.Enroll(ctx, daemon.EnrollOptions{StateDir: filepath.Join(t.TempDir(), "s"), Invite: inv}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
