package daemon_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

// What was granted to a machine, and what it did, is found by its name after it has changed its key, and after it was revoked; what that
// ended is said to be void.
func TestNamesReachThroughRotationAndRevocation(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1")
	gpu := others[0]
	inv, err := nas.client.CreateInvite(t.Context(), &control.InviteRequest{Name: "laptop", Tags: []string{"dev"}})
	if err != nil {
		t.Fatal(err)
	}
	laptop := gpu.enrolledBy("laptop", inv)
	laptop.start()
	eventually(t, "laptop at gpu1", patience, func() bool { return gpu.peerState("laptop") == "up/full" })
	if _, err := gpu.client.Expose(t.Context(), &control.ExposeRequest{Name: "echo", Target: echoAt(t)}); err != nil {
		t.Fatal(err)
	}
	grant := func(who, what string, until time.Duration) *control.GrantResult {
		t.Helper()
		r := &control.GrantRequest{Who: who, What: what, WaitMS: 20_000}
		if until > 0 {
			r.NotAfter = time.Now().Add(until)
		}
		g, err := nas.client.Grant(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := grant("laptop", "gpu1/echo", 0)
	tagged := grant("tag:dev", "nas/wiki", 0)
	grant("any", "nas/news", 0)
	grant("gpu1", "laptop/ssh", 0)
	if first.Existing {
		t.Fatal("the first one existed")
	}
	eventually(t, "laptop uses gpu1", patience, func() bool { return laptop.reaches("gpu1/echo") })
	old := laptop.id()
	if _, err := laptop.client.RotateNode(t.Context(), &control.RotateNodeRequest{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "laptop with its new key", patience, func() bool { return laptop.id() != old && gpu.peerState("laptop") == "up/full" })
	eventually(t, "laptop uses gpu1 with it", patience, func() bool { return laptop.reaches("gpu1/echo") })
	id := laptop.id()

	list := func(q control.GrantsQuery) (out []string) {
		t.Helper()
		g, err := nas.client.Grants(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range g.Grants {
			out = append(out, x.Who+" "+x.What+" "+x.State)
		}
		return out
	}
	want := func(when string, q control.GrantsQuery, all ...string) {
		t.Helper()
		if got := list(q); strings.Join(got, "\n") != strings.Join(all, "\n") {
			t.Fatalf("%s, %+v: %q", when, q, got)
		}
	}
	for _, who := range []string{"laptop", id, id[:11], old, old[:11]} {
		want("rotated", control.GrantsQuery{Who: who}, "laptop gpu1/echo active")
	}
	want("rotated", control.GrantsQuery{What: "laptop/ssh"}, "gpu1 laptop/ssh active")
	want("rotated", control.GrantsQuery{What: "ssh"}, "gpu1 laptop/ssh active")
	want("rotated", control.GrantsQuery{What: "echo", Who: "laptop"}, "laptop gpu1/echo active")
	want("rotated", control.GrantsQuery{Who: "tag:dev"}, "tag:dev nas/wiki active")
	want("rotated", control.GrantsQuery{Who: "any", What: "nas/news"}, "any nas/news active")
	want("rotated", control.GrantsQuery{Who: "gpu1", What: "nas/wiki"})

	// The same again is not written again, whichever key the first one named; one that would end is, with a word about the other.
	if g := grant("laptop", "gpu1/echo", 0); !g.Existing || g.Grant.ID != first.Grant.ID {
		t.Fatalf("%+v", g)
	}
	short := grant("laptop", "gpu1/echo", time.Hour)
	if short.Existing || len(short.Warnings) != 1 || !strings.HasSuffix(short.Warnings[0].Next, "meshkey ungrant "+first.Grant.ID) {
		t.Fatalf("%+v", short)
	}

	would, err := laptop.client.Leave(t.Context(), &control.LeaveRequest{DryRun: true})
	if err != nil || len(would.Grants) != 3 || len(would.Shared) != 2 || would.Shared[0].ID != tagged.Grant.ID {
		t.Fatalf("%+v, %v", would, err)
	}
	if r, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop", DryRun: true}); err != nil || len(r.Grants) != 3 || len(r.Shared) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r, err := laptop.client.RotateNode(t.Context(), &control.RotateNodeRequest{DryRun: true}); err != nil || len(r.Grants) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}

	before := nas.status().Trust.Grants
	if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop", WaitMS: 20_000}); err != nil {
		t.Fatal(err)
	}
	short9, _, _ := strings.Cut(id, ".")
	gone := "laptop (" + short9 + ")"
	want("revoked", control.GrantsQuery{Who: "laptop"}, gone+" gpu1/echo void", gone+" gpu1/echo void")
	want("revoked", control.GrantsQuery{What: "laptop/ssh"}, "gpu1 "+gone+"/ssh void")
	g, err := nas.client.Grants(t.Context(), control.GrantsQuery{Who: "laptop"})
	if err != nil || !strings.Contains(g.Grants[0].Why, "revoked by nas on 20") {
		t.Fatalf("%+v, %v", g, err)
	}
	if after := nas.status().Trust.Grants; after != before-3 {
		t.Fatalf("%d grants are counted as in force, before it was revoked %d", after, before)
	}
	for _, who := range []string{"laptop", old[:11], id} {
		eventually(t, "gpu1's log by "+who, patience, func() bool {
			page, err := gpu.client.AuditLog(t.Context(), control.AuditQuery{Code: "stream.open", Actor: who, Limit: 100})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case who == "laptop":
				return len(page.Records) >= 2 && strings.HasPrefix(page.Records[0].Actor, "laptop (") && page.Records[0].Target == "echo"
			default:
				return len(page.Records) >= 1
			}
		})
	}
	// Of what this machine opened elsewhere the target is a name and a service.
	eventually(t, "laptop's log by what it used", patience, func() bool {
		page, err := laptop.client.AuditLog(t.Context(), control.AuditQuery{Code: "stream", Target: "gpu1/echo", Limit: 100})
		return err == nil && len(page.Records) > 0
	})
	for _, who := range []string{"nobody", "uid:4711", "nas"} {
		if page, err := gpu.client.AuditLog(t.Context(), control.AuditQuery{Code: "stream.open", Actor: who, Limit: 100}); err != nil || len(page.Records) != 0 {
			t.Fatalf("%s: %+v, %v", who, page, err)
		}
	}

	// Without a daemon as well, of each of its keys; and without the trust log beside it by ids.
	laptop.stop()
	read := func(q control.AuditQuery) (*control.AuditPage, error) {
		t.Helper()
		l, err := daemon.OpenLogs(laptop.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Log(t.Context(), q)
	}
	page, err := read(control.AuditQuery{Log: "1", Code: "stream", Target: "gpu1/echo", Limit: 100})
	if err != nil || len(page.Records) == 0 || !strings.HasSuffix(page.Log, old) || page.Records[0].Target != "gpu1/echo" {
		t.Fatalf("%+v, %v", page, err)
	}
	if page, err = read(control.AuditQuery{Last: true, Limit: 1}); err != nil || len(page.Records) != 1 || page.Records[0].Code != "daemon.stop" || !strings.HasSuffix(page.Log, id) {
		t.Fatalf("%+v, %v", page, err)
	}
	if _, err := read(control.AuditQuery{Log: "2"}); code(err) != control.NotFound {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(laptop.dir, "trust")); err != nil {
		t.Fatal(err)
	}
	if page, err = read(control.AuditQuery{Log: old[:11], Code: "stream", Target: gpu.id() + "/echo", Limit: 100}); err != nil || len(page.Records) == 0 {
		t.Fatalf("%+v, %v", page, err)
	}
}
