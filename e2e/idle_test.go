package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// pair is a mesh of two:
//
//	nas ──┬─ br0
//	gpu1 ─┘
func pair(t *testing.T) (nas, gpu *host) {
	t.Helper()
	n := netns.New(t)
	br := n.Bridge("br0")
	nas, gpu = newHost(t, n, "nas"), newHost(t, n, "gpu1")
	br.Attach(nas.Host, v4[0]...)
	br.Attach(gpu.Host, v4[1]...)
	nas.WaitDAD()
	gpu.WaitDAD()
	nas.found("homelab")
	nas.start()
	gpu.join(nas, "gpu1")
	gpu.start()
	full(t, 1500*time.Millisecond, nas, gpu)
	return nas, gpu
}

// meshTCP lists the host's established TCP connections of the mesh as "local remote inode".
func (h *host) meshTCP() []string {
	h.t.Helper()
	var out []string
	for line := range strings.Lines(h.Run("ss", "-Htne", "state", "established", "( sport = :7477 or dport = :7477 )")) {
		f := strings.Fields(line)
		if len(f) < 4 {
			h.t.Fatalf("ss said %q", line)
		}
		ino := ""
		for _, s := range f[4:] {
			if strings.HasPrefix(s, "ino:") {
				ino = s
			}
		}
		out = append(out, f[2]+" "+f[3]+" "+ino)
	}
	return out
}

// settled waits until the host has exactly n connections of the mesh and returns them.
func (h *host) settled(n int) (conns []string) {
	h.t.Helper()
	eventually(h.t, fmt.Sprintf("%s holds %d connections", h.name, n), time.Second, func() bool {
		conns = h.meshTCP()
		return len(conns) == n
	})
	return conns
}

// TestIdle leaves a session alone. Promise: one TCP session idle for 3 minutes makes 0 reconnects.
//
//	nas ──┬─ br0
//	gpu1 ─┘
func TestIdle(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	nas, gpu := pair(t)
	hosts := []*host{nas, gpu}
	var before [2][]string
	var opens [2]int
	for i, h := range hosts {
		before[i] = h.settled(1)
	}
	rest(t, 2*time.Second, func() {}) // what has happened so far is in the audit log
	for i, h := range hosts {
		opens[i] = len(h.audited("session.open", 1))
	}
	const idle = 3 * time.Minute
	looks := 0
	deadline := time.Now().Add(idle)
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		<-tick.C
		looks++
		for i, h := range hosts {
			if now := h.meshTCP(); len(now) != 1 || now[0] != before[i][0] {
				t.Fatalf("%s: the connection %s became %v", h.name, before[i][0], now)
			}
		}
	}
	for i, h := range hosts {
		if got := len(h.audit("session.open")); got != opens[i] {
			t.Errorf("%s: %d sessions opened while idle", h.name, got-opens[i])
		}
		if closed := h.audit("session.close"); len(closed) > opens[i]-1 {
			t.Errorf("%s: sessions closed: %+v", h.name, closed)
		}
	}
	if !nas.up("gpu1") || !gpu.up("nas") {
		t.Error("not up at the end")
	}
	t.Logf("idle for %v: the same connection at %d looks, 0 reconnects: %s", idle, looks, before[0][0])
}
