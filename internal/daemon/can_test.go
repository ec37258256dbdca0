package daemon_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

// joined enrols a machine that is not started.
func (h *host) joined(name string, tags ...string) {
	h.t.Helper()
	inv, _ := h.invite(control.InviteRequest{Name: name, Tags: tags})
	if _, err := daemon.Enroll(h.t.Context(), daemon.EnrollOptions{StateDir: newHost(h.t, name, h.port).dir, Invite: inv}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) granted(r control.GrantRequest) string {
	h.t.Helper()
	res, err := h.client.Grant(h.t.Context(), &r)
	if err != nil {
		h.t.Fatal(err)
	}
	return res.Grant.ID
}

// TestCan asks one question after the other about the same two machines, each with another grant that nearly allows.
func TestCan(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29870)
	nas.joined("laptop", "dev", "site:home")
	nas.joined("gpu1", "gpu")
	nas.joined("gpu2")
	now := time.Now().Truncate(time.Second)
	ask := func(r control.DecideRequest) *control.Decision {
		t.Helper()
		d, err := nas.client.Decide(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	pg := control.DecideRequest{From: "laptop", Target: "gpu1/postgres"}
	// wants asks at a time and takes the grant back after it, so that the next question meets its own alone.
	nearest := func(g control.GrantRequest, r control.DecideRequest, want string) {
		t.Helper()
		id := nas.granted(g)
		d := ask(r)
		if want = strings.ReplaceAll(want, "ID", id); d.Allowed || d.Why != want || d.Nearest == nil || d.Nearest.ID != id || d.Command != "meshkey grant laptop gpu1/postgres" || d.Reason != "no grant matches" {
			t.Errorf("%q, want %q: %+v", d.Why, want, d)
		}
		if _, err := nas.client.Ungrant(t.Context(), &control.UngrantRequest{ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	if d := ask(pg); d.Allowed || d.Near != "" || d.Why != "" || d.Command != "meshkey grant laptop gpu1/postgres" {
		t.Errorf("%+v", d)
	}
	nearest(control.GrantRequest{Who: "tag:ops", What: "gpu1/postgres"}, pg, "ID is for tag:ops; laptop has tag:dev, tag:site:home")
	nearest(control.GrantRequest{Who: "gpu2", What: "gpu1/postgres"}, pg, "ID is for gpu2; this is laptop")
	nearest(control.GrantRequest{Who: "tag:dev", What: "gpu2/postgres"}, pg, "ID allows gpu2/postgres, not gpu1/postgres")
	nearest(control.GrantRequest{Who: "any", What: "tag:db/postgres"}, pg, "ID allows tag:db/postgres; gpu1 has tag:gpu")
	nearest(control.GrantRequest{Who: "laptop", What: "gpu1/redis"}, pg, "ID allows gpu1/redis, not gpu1/postgres")
	nearest(control.GrantRequest{Who: "laptop", What: "gpu1/postgres", NotBefore: now.Add(50 * time.Hour)},
		control.DecideRequest{From: "laptop", Target: "gpu1/postgres", At: now.Add(2 * time.Hour)}, "ID would, but it begins in 2 d")
	nearest(control.GrantRequest{Who: "laptop", What: "gpu1/postgres", NotAfter: now.Add(time.Hour)},
		control.DecideRequest{From: "laptop", Target: "gpu1/postgres", At: now.Add(4 * time.Hour)}, "ID would, but it ended 3 h ago")
	// What was taken back is nearer than what was never meant.
	if d := ask(pg); !strings.HasSuffix(d.Why, "would, but nas took it back on "+time.Now().UTC().Format(time.DateOnly)) {
		t.Errorf("%+v", d)
	}

	id := nas.granted(control.GrantRequest{Who: "tag:dev", What: "tag:gpu/postgres", NotAfter: now.Add(time.Hour)})
	if d := ask(pg); !d.Allowed || d.By == nil || d.By.ID != id || d.Grant != id+" tag:dev -> tag:gpu/postgres" || d.Command != "" {
		t.Errorf("%+v", d)
	}
	if d := ask(control.DecideRequest{From: "laptop", Target: "gpu1/postgres", At: now.Add(time.Hour)}); d.Allowed || !d.At.Equal(now.Add(time.Hour)) {
		t.Errorf("at its end: %+v", d)
	}
	far := control.DecideRequest{From: "laptop", Target: "gpu1/postgres", At: now.AddDate(20, 0, 0)}
	if d := ask(far); d.Allowed || !strings.Contains(d.Reason, "the certificate of laptop ends") || !strings.Contains(d.Reason, "renews itself") {
		t.Errorf("%+v", d)
	}
	if _, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop"}); err != nil {
		t.Fatal(err)
	}
	if d := ask(pg); d.Allowed || !strings.Contains(d.Reason, "was revoked by nas") || d.Command != "meshkey invite laptop" {
		t.Errorf("%+v", d)
	}
	for target, want := range map[string]control.Code{"gpu9/x": control.NotFound, "gpu1": control.Usage, "gpu1/*": control.Usage, "gpu1/a/b": control.Usage, "tag:gpu/x": control.Usage} {
		if _, err := nas.client.Decide(t.Context(), control.DecideRequest{From: "gpu2", Target: target}); code(err) != want {
			t.Errorf("%s: %v", target, err)
		}
	}
	for from, want := range map[string]control.Code{"gpu9": control.NotFound, "tag:dev": control.Usage, "any": control.Usage, "laptоp": control.Usage, "a\x1b[2J": control.Usage, strings.Repeat("a", 300): control.Usage} {
		if _, err := nas.client.Decide(t.Context(), control.DecideRequest{From: from, Target: "gpu1/x"}); code(err) != want {
			t.Errorf("%q: %v", from, err)
		}
	}
	if _, err := nas.client.Decide(t.Context(), control.DecideRequest{Target: "gpu1/x", At: time.Unix(1<<40, 0)}); code(err) != control.Usage {
		t.Errorf("%v", err)
	}
	if _, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: "gpu1", What: "nas/x", NotAfter: now.Add(-time.Hour)}); code(err) != control.Usage {
		t.Errorf("a grant that is over: %v", err)
	}
}
