package daemon_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
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
	eventually(t, "the others' views are told", 30*time.Second, func() bool {
		p, err := pi4.client.Peers(t.Context())
		return err == nil && p.Trust.AgeMS != nil && !slices.ContainsFunc(p.Peers, func(p control.Peer) bool {
			return p.View == nil || !p.View.Same || p.View.AgeMS == nil
		})
	})
	log, err := pi4.client.AuditLog(t.Context(), control.AuditQuery{Code: "entry.apply", Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range log.Records {
		if strings.Contains(e.Target, "head") {
			t.Fatal("heads fill the audit log")
		}
	}
	if _, err := nas.accept(root.sign(nas, func(r *trust.Root) error { r.Params.MaxStale, r.Params.StaleAction = 4, 1; return nil })); err != nil {
		t.Fatal(err)
	}
	eventually(t, "pi5 has the root", 30*time.Second, func() bool { return pi5.status().Trust.MaxStaleMS == 4000 })
	if s := pi5.status(); s.State != "up" || s.Trust.Stale || s.Trust.StaleAction != "restrict" {
		t.Fatalf("with a signer: %s %+v", s.State, s.Trust)
	}

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
	nas.start()
	eventually(t, "all is as before", 90*time.Second, func() bool {
		return pi4.peerState("pi5") == "up/full" && pi5.peerState("pi4") == "up/full" && pi4.peerState("nas") == "up/full"
	})
	if _, ok := pi4.warned("trust-stale"); ok || pi4.status().State != "up" {
		t.Fatal("still stale")
	}
}
