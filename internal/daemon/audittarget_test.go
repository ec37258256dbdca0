package daemon_test

import (
	"slices"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
)

// codes are the events a filter for a target finds, each once, in order.
func (h *host) codes(target string) []string {
	h.t.Helper()
	p, err := h.client.AuditLog(h.t.Context(), control.AuditQuery{Limit: control.MaxAuditPage, Target: target})
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for _, r := range p.Records {
		if !slices.Contains(out, r.Code) {
			out = append(out, r.Code)
		}
	}
	slices.Sort(out)
	return out
}

// checkTargets asks the three logs of a service's story for it by one name: gpu1 offers echo, laptop has used it, nas has granted it.
func checkTargets(t *testing.T, nas, gpu, laptop *host) {
	t.Helper()
	for _, c := range []struct {
		h      *host
		target string
		want   []string
	}{
		{gpu, "gpu1/echo", []string{"service.expose", "stream.close", "stream.deny", "stream.open"}},
		{gpu, "echo", []string{"service.expose", "stream.close", "stream.deny", "stream.open"}},
		{gpu, "gpu1/*", []string{"service.expose", "stream.close", "stream.deny", "stream.open"}},
		{gpu, "nas/echo", nil},
		{gpu, "gpu1/ech", nil},
		{laptop, "gpu1/echo", []string{"stream.close"}},
		{laptop, "gpu1/*", []string{"stream.close"}},
		{laptop, "laptop/echo", nil},
		{nas, "gpu1/echo", []string{"grant.add"}},
	} {
		var got []string
		eventually(t, c.h.name+" has recorded the stream's end", patience, func() bool {
			got = c.h.codes(c.target)
			return slices.Equal(got, c.want)
		})
	}
	// By its id, too.
	s, err := gpu.client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := gpu.codes(s.Node.ID + "/echo"); len(got) != 4 {
		t.Errorf("by id: %v", got)
	}
}
