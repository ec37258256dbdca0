package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// TestTwoNICs (T-05) has a machine on two segments that know nothing of each other.
//
//	nas ─── br0 ─── dual ─── br1 ─── laptop
func TestTwoNICs(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	left, right := n.Bridge("br0"), n.Bridge("br1")
	nas, dual, laptop := newHost(t, n, "nas"), newHost(t, n, "dual"), newHost(t, n, "laptop")
	left.Attach(nas.Host, "10.9.0.1/24")
	left.Attach(dual.Host, "10.9.0.2/24")
	right.Attach(dual.Host, "10.8.0.2/24")
	away := left.Attach(laptop.Host, "10.9.0.3/24") // to enrol
	for _, h := range []*host{nas, dual, laptop} {
		h.WaitDAD()
	}
	nas.found("homelab")
	nas.start()
	dual.join(nas, "dual")
	laptop.join(nas, "laptop")
	away.Down()
	right.Attach(laptop.Host, "10.8.0.3/24")
	laptop.WaitDAD()
	dual.start()
	eventually(t, "dual and nas", 1500*time.Millisecond, func() bool { return dual.up("nas") && nas.up("dual") })
	laptop.start()
	eventually(t, "dual and laptop, by its other interface", 1500*time.Millisecond, func() bool { return dual.up("laptop") && laptop.up("dual") })
	if nas.up("laptop") {
		t.Error("nas has a session with a machine it has no way to")
	}
	dual.kill()
	dual.extra = "[network]\nlisten = [\"10.9.0.2:7477\"]\n"
	dual.start()
	eventually(t, "dual and nas, where it listens", 1500*time.Millisecond, func() bool { return dual.up("nas") && nas.up("dual") })
	var s control.Status
	dual.document(&s, "status")
	if !slices.Equal(s.Listen, []string{"10.9.0.2:7477"}) || len(s.Interfaces) != 1 {
		t.Errorf("dual says that it listens on %v, and uses %+v", s.Listen, s.Interfaces)
	}
	eventually(t, "laptop's beacons come to where dual does not listen", 5*time.Second, func() bool {
		return strings.Contains(dual.must("metrics"), `reason="elsewhere"`)
	})
}

// TestDiscoveryIPv4Only (T-05) has machines without IPv6 at all.
func TestDiscoveryIPv4Only(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	br := n.Bridge("br0")
	var all []*host
	for i, name := range []string{"nas", "gpu1", "laptop"} {
		h := newHost(t, n, name)
		h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
		h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
		br.Attach(h.Host, v4[i]...)
		all = append(all, h)
	}
	all[0].found("homelab")
	all[0].start()
	for i, h := range all[1:] {
		h.join(all[0], h.name)
		h.start()
		full(t, 1500*time.Millisecond, all[:i+2]...)
	}
	if out := all[2].Run("ip", "-6", "addr"); out != "" {
		t.Fatalf("it was to have no IPv6: %s", out)
	}
}

// roamer is a mesh of three; link is the cable of the third.
func roamer(t *testing.T) (br *netns.Bridge, nas, gpu, laptop *host, link *netns.Link) {
	t.Helper()
	n := netns.New(t)
	br = n.Bridge("br0")
	nas, gpu, laptop = newHost(t, n, "nas"), newHost(t, n, "gpu1"), newHost(t, n, "laptop")
	br.Attach(nas.Host, v4[0]...)
	br.Attach(gpu.Host, v4[1]...)
	link = br.Attach(laptop.Host, v4[2]...)
	for _, h := range []*host{nas, gpu, laptop} {
		h.WaitDAD()
	}
	nas.found("homelab")
	nas.start()
	gpu.join(nas, "gpu1")
	gpu.start()
	laptop.join(nas, "laptop")
	return br, nas, gpu, laptop, link
}

// met waits until a host has sessions with two others.
func met(t *testing.T, what string, promised time.Duration, h, a, b *host) {
	t.Helper()
	eventually(t, what, promised, func() bool { return h.up(a.name) && h.up(b.name) && a.up(h.name) && b.up(h.name) })
}

// TestLateNIC (T-07) starts a daemon on a machine that has no network yet, and gives it one while it runs, in each family.
//
// Promise: full sessions 3 s after the link; duplicate address detection is part of the link coming up.
func TestLateNIC(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	br, nas, gpu, laptop, link := roamer(t)
	link.Down()
	laptop.start()
	rest(t, 2*time.Second, func() {
		if laptop.up("nas") {
			t.Fatal("a session without a network")
		}
	})
	late := br.Attach(laptop.Host, "10.9.0.33/24")
	met(t, "an interface that appears, IPv4", 3*time.Second, laptop, nas, gpu)
	// And one without any IPv4 address: link-local IPv6 alone.
	late.Down()
	eventually(t, "gone again", 25*time.Second, func() bool { return !nas.up("laptop") && !laptop.up("nas") && !gpu.up("laptop") })
	br.Attach(laptop.Host)
	laptop.WaitDAD()
	met(t, "an interface that appears, IPv6", 3*time.Second, laptop, nas, gpu)
}

// TestAddressChange (T-13, with real binaries) renumbers a machine whose sessions stand: the old addresses are gone without a word to the peers.
//
// Promise: sessions on the new address within 5 s.
func TestAddressChange(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	_, nas, gpu, laptop, link := roamer(t)
	for _, h := range []*host{nas, gpu, laptop} {
		h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1") // else sessions may run over link-local addresses and not notice
	}
	laptop.start()
	full(t, 2*time.Second, nas, gpu, laptop)
	var took []time.Duration
	stalls := testrun.Stalls(t)
	old := "10.9.0.3/24"
	for i := range rounds {
		link.DelAddr(old)
		began, before := time.Now(), stalls()
		want := fmt.Sprintf("10.9.0.4%d", i)
		old = want + "/24"
		link.AddAddr(old)
		await(t, "sessions on the new address", func() bool {
			return laptop.up("nas") && laptop.up("gpu1") && nas.sees(want) && gpu.sees(want)
		})
		took = append(took, time.Since(began)-(stalls()-before))
	}
	promised(t, "address changed to sessions on the new one", 5*time.Second, took)
}

// sees reports whether the host has a connection of the mesh with this address.
func (h *host) sees(addr string) bool {
	for _, c := range h.meshTCP() {
		if strings.Contains(c, addr) {
			return true
		}
	}
	return false
}
