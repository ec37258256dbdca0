package daemon_test

import (
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
)

// A machine that left comes back under its name with a new key. Who has used the name is told so, refuses it with the command that ends
// that, and goes on after it; the issuer that enrolled it asks nobody; and ids, whole or their beginnings, need no such thing.
func TestNameComesBack(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1", "laptop")
	gpu, laptop := others[0], others[1]
	serve := func(h *host, who string) {
		t.Helper()
		if _, err := h.client.Expose(t.Context(), &control.ExposeRequest{Name: "echo", Target: echoAt(t)}); err != nil {
			t.Fatal(err)
		}
		if _, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: "laptop", What: who + "/echo", WaitMS: 20_000}); err != nil {
			t.Fatal(err)
		}
	}
	serve(gpu, "gpu1")
	eventually(t, "laptop uses gpu1", patience, func() bool { return laptop.reaches("gpu1/echo") })
	old := gpu.id()
	if _, err := gpu.client.Leave(t.Context(), &control.LeaveRequest{}); err != nil {
		t.Fatal(err)
	}
	gpu.ended()
	again := nas.enrolled("gpu1", nas)
	again.start()
	id := again.id()
	for _, h := range []*host{nas, laptop} {
		eventually(t, "the new gpu1 up at "+h.name, patience, func() bool { return h.peerState("gpu1") == "up/full" })
	}
	serve(again, "gpu1") // nas has pinned the old one, and enrolled the new one itself

	_, err := laptop.client.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/echo"})
	if code(err) != control.Unverified || !strings.HasSuffix(control.AsError(err).Next, "meshkey repin gpu1") {
		t.Fatal(err, control.AsError(err).Next)
	}
	for h, want := range map[*host]bool{laptop: true, nas: false} {
		w, ok := h.warned("name-changed")
		if ok != want || ok && (!strings.HasSuffix(w.Next, "meshkey repin gpu1") || !strings.Contains(w.Text, "revoked by nas on 20") || ok && !strings.Contains(w.Text, "; the issuer says that it left")) {
			t.Fatalf("%s: %+v", h.name, w)
		}
	}
	for _, short := range []string{id, id[:33], strings.ToLower(id[:11])} {
		eventually(t, "laptop reaches "+short, patience, func() bool { return laptop.reaches(short + "/echo") })
	}

	would, err := laptop.client.Repin(t.Context(), &control.RepinRequest{Name: "gpu1", DryRun: true})
	if err != nil || !would.Changed || would.Was.ID != old || would.Is.ID != id || would.Living || would.Issuer != "nas" || would.Since.IsZero() {
		t.Fatalf("%+v, %v", would, err)
	}
	if _, ok := laptop.warned("name-changed"); !ok {
		t.Fatal("a dry run accepted it")
	}
	if _, err := laptop.client.Repin(t.Context(), &control.RepinRequest{Name: "gpu1", Was: old, Is: nas.id()}); code(err) != control.Failed {
		t.Fatal("accepted for another key than the one shown:", err)
	}
	if _, err := laptop.client.Repin(t.Context(), &control.RepinRequest{Name: "gpu1", Was: old, Is: id}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "laptop reaches gpu1 by its name again", patience, func() bool { return laptop.reaches("gpu1/echo") })
	if !laptop.audited(t, "name.pin") {
		t.Fatal("not recorded")
	}
	if _, ok := laptop.warned("name-changed"); ok {
		t.Fatal("warned of still")
	}
	if res, err := laptop.client.Repin(t.Context(), &control.RepinRequest{Name: "gpu1", DryRun: true}); err != nil || res.Changed {
		t.Fatalf("%+v, %v", res, err)
	}
	if _, err := laptop.client.Repin(t.Context(), &control.RepinRequest{Name: "nobody", DryRun: true}); code(err) != control.NotFound {
		t.Fatal(err)
	}

	// The verbs that change take an id's beginning as well, and name nobody by that of a key that is gone.
	if g, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: id[:11], What: laptop.id()[:11] + "/ssh"}); err != nil || g.Grant.Who != "gpu1" || g.Grant.What != "laptop/ssh" {
		t.Fatalf("%+v, %v", g, err)
	}
	if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: old[:11]}); code(err) != control.NotFound || !strings.Contains(err.Error(), "revoked already") {
		t.Fatal(err)
	}
	if res, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: id[:11]}); err != nil || res.Node.ID != id {
		t.Fatalf("%+v, %v", res, err)
	}
}
