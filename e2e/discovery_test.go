package e2e

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netns"
)

// lan is three hosts on one switch:
//
//	nas ──┐
//	gpu1 ─┼─ br0
//	laptop┘
func lan(t *testing.T, prefixes [3][]string) (nas, gpu, laptop *host) {
	t.Helper()
	n := netns.New(t)
	br := n.Bridge("br0")
	nas, gpu, laptop = newHost(t, n, "nas"), newHost(t, n, "gpu1"), newHost(t, n, "laptop")
	for i, h := range []*host{nas, gpu, laptop} {
		br.Attach(h.Host, prefixes[i]...)
	}
	for _, h := range []*host{nas, gpu, laptop} {
		h.WaitDAD()
	}
	return nas, gpu, laptop
}

var v4 = [3][]string{{"10.9.0.1/24"}, {"10.9.0.2/24"}, {"10.9.0.3/24"}}

// mesh3 is a running mesh of three on the LAN.
func mesh3(t *testing.T) (nas, gpu, laptop *host) {
	t.Helper()
	nas, gpu, laptop = lan(t, v4)
	nas.found("homelab")
	nas.start()
	for _, h := range []*host{gpu, laptop} {
		h.join(nas, h.name)
		h.start()
	}
	full(t, 2*time.Second, nas, gpu, laptop)
	return nas, gpu, laptop
}

func discovery(t *testing.T, prefixes [3][]string) {
	t.Parallel()
	nas, gpu, laptop := lan(t, prefixes)
	nas.found("homelab")
	nas.start()
	gpu.join(nas, "gpu1")
	gpu.start()
	eventually(t, "gpu1 discovered", 1500*time.Millisecond, func() bool { return nas.up("gpu1") && gpu.up("nas") })
	laptop.join(nas, "laptop")
	laptop.start()
	eventually(t, "laptop discovered by both", 1500*time.Millisecond, func() bool { return nas.up("laptop") && gpu.up("laptop") })
}

func TestDiscoveryIPv4(t *testing.T) { discovery(t, v4) }

// TestDiscoveryIPv6 (T-05) has nothing but link-local addresses.
func TestDiscoveryIPv6(t *testing.T) { discovery(t, [3][]string{}) }
