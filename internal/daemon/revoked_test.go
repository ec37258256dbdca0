package daemon_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// A machine that was revoked says so everywhere, as what it knows: the peers' word. It leaves the issuer alone, whose log says how often it came.
func TestRevokedMachineSaysSo(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1", "laptop")
	gpu, laptop := others[0], others[1]
	if _, err := gpu.client.Expose(t.Context(), &control.ExposeRequest{Name: "echo", Target: echoAt(t)}); err != nil {
		t.Fatal(err)
	}
	if _, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: "laptop", What: "gpu1/echo", WaitMS: 20_000}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "laptop uses gpu1", patience, func() bool { return laptop.reaches("gpu1/echo") })
	id := laptop.id()
	began := time.Now()
	if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop", WaitMS: 20_000}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "laptop knows that it is shut out", patience, func() bool { return laptop.status().State == "shut-out" })
	s := laptop.status()
	w, ok := laptop.warned("revoked-told")
	if !ok || !strings.Contains(w.Text, "say") || !strings.Contains(w.Text, "cannot be checked here") || !strings.Contains(w.Next, "meshkey leave --force; then meshkey invite laptop") {
		t.Fatalf("%+v", w)
	}
	if s.Node.Name != "laptop" {
		t.Fatalf("%+v", s.Node)
	}
	x, err := laptop.client.Doctor(t.Context())
	if err != nil || x.Checks[0].Name != "membership" || x.Checks[0].OK || x.Checks[0].Code != "revoked-told" {
		t.Fatalf("%+v, %v", x, err)
	}
	if x, err := gpu.client.Doctor(t.Context()); err != nil || !x.Checks[0].OK {
		t.Fatalf("%+v, %v", x, err)
	}
	err = laptop.client.Connect(t.Context(), &control.ConnectRequest{Target: "gpu1/echo"}, func(*control.ConnectEvent) error { return nil })
	if code(err) != control.Denied || !strings.Contains(err.Error(), "key is revoked") {
		t.Fatal("connect serves:", err)
	}
	if _, err := laptop.client.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/echo"}); code(err) != control.Denied {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"rotate": second(laptop.client.RotateNode(t.Context(), &control.RotateNodeRequest{})), "a dry run": second(laptop.client.RotateNode(t.Context(), &control.RotateNodeRequest{DryRun: true})),
		"leave": second(laptop.client.Leave(t.Context(), &control.LeaveRequest{})),
	} {
		if code(err) != control.Denied || !strings.Contains(err.Error(), "key is revoked") {
			t.Fatal(name, err)
		}
	}
	if took := time.Since(began); took > 60*time.Second {
		t.Fatal("it waited for the network:", took)
	}
	eventually(t, "the issuer has it in its log", patience, func() bool {
		return len(refusals(t, nas, id)) > 0
	})
	var n uint64
	for _, r := range refusals(t, nas, id) {
		n += max(1, r.Count)
	}
	if most := uint64(time.Since(began).Seconds()/2) + 6; n > most {
		t.Fatalf("%d tries in %v", n, time.Since(began))
	}
	res, err := laptop.client.Leave(t.Context(), &control.LeaveRequest{Force: true})
	if err != nil || res.Applied || !res.Told || len(res.Warnings) != 1 || res.Warnings[0].Code != "revoked-told" {
		t.Fatalf("%+v, %v", res, err)
	}
	laptop.ended()
}

// One member's lie keeps a machine from nothing but that member: it dials the others, and asks an issuer when it leaves.
func TestOneMembersLieEndsNothing(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "liar", "laptop")
	liar, laptop := others[0], others[1]
	if _, err := nas.client.Expose(t.Context(), &control.ExposeRequest{Name: "echo", Target: echoAt(t)}); err != nil {
		t.Fatal(err)
	}
	if _, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: "laptop", What: "nas/echo", WaitMS: 20_000}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "laptop uses nas", patience, func() bool { return laptop.reaches("nas/echo") })
	// The liar has a log in which laptop is revoked, which nobody else has: it refuses laptop as any member could.
	liar.stop()
	laptop.stop()
	nas.stop()
	trust := func(h *host) string { return filepath.Join(h.dir, "trust") }
	kept := filepath.Join(t.TempDir(), "trust")
	replace(t, kept, trust(nas))
	nas.start()
	if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop"}); err != nil {
		t.Fatal(err)
	}
	nas.stop()
	replace(t, trust(liar), trust(nas))
	replace(t, trust(nas), kept)
	liar.start()
	laptop.start()
	eventually(t, "laptop is told that it is revoked", patience, func() bool { return laptop.status().State == "shut-out" })
	liar.stop()

	// Nobody else runs, so nothing can be reached; but it is tried.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := laptop.client.Stream(ctx, &control.ConnectRequest{Target: "nas/echo"}); code(err) == control.Denied {
		t.Fatal("not tried:", err)
	}
	if err := second(laptop.client.RotateNode(t.Context(), &control.RotateNodeRequest{DryRun: true})); err != nil {
		t.Fatal(err)
	}
	if _, err := laptop.client.Leave(t.Context(), &control.LeaveRequest{WaitMS: 200}); code(err) != control.Unreachable {
		t.Fatal("believed:", err)
	}
	if s := laptop.status().State; s != "shut-out" {
		t.Fatal("the test is of something else:", s)
	}
	// The issuer comes up, and it is not laptop that is asked first whether it is a member.
	nas.start()
	res, err := laptop.client.Leave(t.Context(), &control.LeaveRequest{Force: true, WaitMS: 30_000})
	if err != nil || !res.Applied || res.Issuer.Name != "nas" || res.Told {
		t.Fatalf("%+v, %v", res, err)
	}
	laptop.ended()
}

// replace puts a copy of a directory in another one's place.
func replace(t *testing.T, dir, from string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
}

// refusals are the sessions refused to a node, by a host's log.
func refusals(t *testing.T, at *host, id string) []control.AuditRecord {
	t.Helper()
	page, err := at.client.AuditLog(t.Context(), control.AuditQuery{Code: "session.refuse", Actor: id, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return page.Records
}

// One whose own log holds the entry knows it, and leaves without asking anybody.
func TestRevokedByItsOwnLog(t *testing.T) {
	t.Parallel()
	nas, root := foundWithRoot(t, beaconPort())
	pi := nas.enrolled("pi4", nas)
	pi.start()
	k, err := pi.client.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "pi4"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nas.accept(root.sign(nas, addIssuer(k))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pi4 has the root", patience, func() bool { return pi.root().Version == 2 && nas.peerState("pi4") == "up/full" })
	// Its own issuer revokes it: the one revocation a node has in its log for certain.
	if _, err := pi.client.Revoke(t.Context(), &control.RevokeRequest{Node: "pi4", Force: true, WaitMS: 20_000}); err != nil {
		t.Fatal(err)
	}
	if s := pi.status(); s.State != "revoked" || s.Node.Name != "pi4" {
		t.Fatal(s.State, s.Node)
	}
	if w, ok := pi.warned("revoked"); !ok || !strings.Contains(w.Text, "revoked by pi4 on 20") || strings.Contains(w.Next, "--force") {
		t.Fatalf("%+v", w)
	}
	if _, err := pi.client.RotateNode(t.Context(), &control.RotateNodeRequest{}); code(err) != control.Denied {
		t.Fatal(err)
	}
	res, err := pi.client.Leave(t.Context(), &control.LeaveRequest{})
	if err != nil || !res.Applied {
		t.Fatalf("%+v, %v", res, err)
	}
	pi.ended()

	// One that was revoked by somebody else, and has got the log all the same, needs nobody to leave.
	laptop := nas.enrolled("laptop", nas)
	if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop"}); err != nil {
		t.Fatal(err)
	}
	nas.stop()
	replace(t, filepath.Join(laptop.dir, "trust"), filepath.Join(nas.dir, "trust"))
	laptop.start()
	if err := second(laptop.client.RotateNode(t.Context(), &control.RotateNodeRequest{})); code(err) != control.Denied || !strings.Contains(err.Error(), "revoked by nas on 20") {
		t.Fatal(err)
	}
	res, err = laptop.client.Leave(t.Context(), &control.LeaveRequest{WaitMS: 60_000})
	if err != nil || !res.Already || res.Issuer.Name != "nas" {
		t.Fatalf("%+v, %v", res, err)
	}
	laptop.ended()
}
