package daemon_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/trust"
)

func (h *host) status() *control.Status {
	h.t.Helper()
	s, err := h.client.Status(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *host) warned(code string) (control.Warning, bool) {
	h.t.Helper()
	list := h.status().Warnings
	if i := slices.IndexFunc(list, func(w control.Warning) bool { return w.Code == code }); i >= 0 {
		return list[i], true
	}
	return control.Warning{}, false
}

// The one machine that signs heads is cut off: the others see the age of their view grow, are restricted when the root says so, and
// say why and what to do; when the signer is back all is as before.
func TestStaleViewEndToEnd(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	nas, root := foundWithRoot(t, 27161)
	nas.stop()
	nas.heads = time.Second
	nas.start()
	pi4, pi5 := nas.enrolled("pi4", nas), nas.enrolled("pi5", nas)
	pi4.start()
	pi5.start()
	eventually(t, "a whole mesh that knows the age of its view", 60*time.Second, func() bool {
		for _, h := range []*host{nas, pi4, pi5} {
			s := h.status()
			if s.Trust.AgeMS == nil || *s.Trust.AgeMS > 5000 || !slices.Equal(s.Trust.HeadSigners, []string{"nas"}) {
				return false
			}
		}
		return pi4.peerState("pi5") == "up/full" && pi4.peerState("nas") == "up/full"
	})
	eventually(t, "the others' views are told", patience, func() bool {
		p, err := pi4.client.Peers(t.Context())
		return err == nil && p.Trust.AgeMS != nil && !slices.ContainsFunc(p.Peers, func(p control.Peer) bool {
			return p.View == nil || !p.View.Same || p.View.AgeMS == nil
		})
	})
	if _, err := nas.accept(root.sign(nas, func(r *trust.Root) error { r.Params.MaxStale, r.Params.StaleAction = 4, 1; return nil })); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pi5 has the root", patience, func() bool { return pi5.status().Trust.MaxStaleMS == 4000 })
	// A machine that stands still for four seconds is stale for a moment.
	eventually(t, "pi5 is not stale with a signer", patience, func() bool {
		s := pi5.status()
		return s.State == "up" && !s.Trust.Stale && s.Trust.StaleAction == "restrict"
	})

	nas.stop()
	eventually(t, "pi4 and pi5 are restricted", 60*time.Second, func() bool {
		return strings.HasSuffix(pi4.peerState("pi5"), "/restricted") && strings.HasSuffix(pi5.peerState("pi4"), "/restricted")
	})
	s := pi4.status()
	if s.State != "degraded" || !s.Trust.Stale || *s.Trust.AgeMS < 4000 {
		t.Fatalf("stale: %s %+v", s.State, s.Trust)
	}
	if w, ok := pi4.warned("trust-stale"); !ok || !strings.Contains(w.Text, "older than the root allows (4 s)") || !strings.Contains(w.Text, "no streams") || !strings.Contains(w.Next, "nas") {
		t.Fatalf("warned: %+v", s.Warnings)
	}

	// A machine can be enrolled while the view of everybody is stale: the invite vouches for the issuer, and the log for the rest.
	nas.heads = time.Hour
	nas.start()
	eventually(t, "nas is stale too", patience, func() bool { return nas.status().Trust.Stale })
	pi6 := nas.enrolled("pi6", nas)
	nas.stop()
	nas.heads = time.Second
	nas.start()
	pi6.start()
	eventually(t, "the newcomer is let in", 90*time.Second, func() bool { return pi6.peerState("nas") == "up/full" })
	eventually(t, "all is as before", 90*time.Second, func() bool {
		return pi4.peerState("pi5") == "up/full" && pi5.peerState("pi4") == "up/full" && pi4.peerState("nas") == "up/full"
	})
	eventually(t, "pi4 is stale no more", patience, func() bool {
		_, ok := pi4.warned("trust-stale")
		return !ok && pi4.status().State == "up"
	})
	log, err := pi4.client.AuditLog(t.Context(), control.AuditQuery{Code: "entry.apply", Limit: 100})
	if err != nil || len(log.Records) == 0 {
		t.Fatal(err)
	}
	for _, e := range log.Records {
		if strings.Contains(e.Target, "head") {
			t.Fatal("heads fill the audit log")
		}
	}
}

// The time floor that a wild clock left is found with its fix, and set back on the owner's word, recorded; then the peers are members
// again.
func TestDoctorAndTheTimeFloor(t *testing.T) {
	t.Parallel()
	nas, _ := foundWithRoot(t, 27171)
	pi4 := nas.enrolled("pi4", nas)
	pi4.start()
	eventually(t, "both meet", 60*time.Second, func() bool { return nas.peerState("pi4") == "up/full" })
	if res, err := nas.client.ResetTimeFloor(t.Context(), &control.ResetTimeFloorRequest{}); err != nil || res.Changed {
		t.Fatalf("a floor that is right was changed: %v %+v", err, res)
	}
	nas.stop()
	future := time.Now().Add(200 * 24 * time.Hour)
	floor := wire.MustMarshal([]uint64{1, uint64(future.Unix())})
	if err := os.WriteFile(filepath.Join(nas.dir, "trust", "floor"), floor, 0o600); err != nil {
		t.Fatal(err)
	}
	nas.start()
	doctor := func() map[string]control.Check {
		t.Helper()
		d, err := nas.client.Doctor(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]control.Check{}
		for _, c := range d.Checks {
			if c.Text == "" || !c.OK && c.Fix == "" {
				t.Errorf("%+v", c)
			}
			out[c.Name] = c
		}
		for _, w := range nas.status().Warnings {
			found := false
			for _, c := range d.Checks {
				found = found || c.Code == w.Code
			}
			if !found {
				t.Errorf("status warns of %s, doctor does not", w.Code)
			}
		}
		return out
	}
	if c := doctor(); c["time floor"].OK || c["certificate"].OK || !c["clock"].OK || !c["audit log"].OK || !strings.Contains(c["time floor"].Fix, "--reset-time-floor") {
		t.Fatalf("%+v", c)
	}
	if res, err := nas.client.ResetTimeFloor(t.Context(), &control.ResetTimeFloorRequest{DryRun: true}); err != nil || !res.Changed || res.Before.Unix() != future.Unix() {
		t.Fatalf("a dry run: %v %+v", err, res)
	}
	if doctor()["time floor"].OK {
		t.Fatal("a dry run changed it")
	}
	if _, err := nas.client.ResetTimeFloor(t.Context(), &control.ResetTimeFloorRequest{}); err != nil {
		t.Fatal(err)
	}
	if c := doctor(); !c["time floor"].OK || !c["certificate"].OK {
		t.Fatalf("afterwards: %+v", c)
	}
	log, err := nas.client.AuditLog(t.Context(), control.AuditQuery{Code: "clock.reset", Limit: 10})
	if err != nil || len(log.Records) != 1 || log.Records[0].Before != future.UTC().Format(time.RFC3339) || !strings.HasPrefix(log.Records[0].Actor, "uid:") {
		t.Fatalf("recorded: %v %+v", err, log)
	}
	eventually(t, "pi4 is a member again", 90*time.Second, func() bool { return nas.peerState("pi4") == "up/full" })
}
