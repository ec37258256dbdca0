package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// addresses are those of the host's first interface.
func (h *host) addresses() map[netip.Addr]bool {
	h.t.Helper()
	out := map[netip.Addr]bool{}
	for line := range strings.Lines(h.Run("ip", "-o", "addr", "show", "dev", "eth0")) {
		if f := strings.Fields(line); len(f) > 3 {
			if p, err := netip.ParsePrefix(f[3]); err == nil {
				out[p.Addr()] = true
			}
		}
	}
	return out
}

// ticks reads lines from laptop's stream of gpu1's clock until the test ends; the counter goes on as long as the stream lives, and
// broken tells the error that ended it.
func ticks(t *testing.T, c *net.TCPConn) (count *atomic.Int64, broken func() error) {
	t.Helper()
	fmt.Fprintf(c, "GET /ticks HTTP/1.1\r\nHost: x\r\n\r\n")
	count = new(atomic.Int64)
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := bufio.NewReader(c)
		for {
			if _, err = r.ReadString('\n'); err != nil {
				return
			}
			count.Add(1)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
	eventually(t, "the stream ticks", time.Second, func() bool { return count.Load() > 10 })
	return count, func() error {
		select {
		case <-done:
			return err
		default:
			return nil
		}
	}
}

// nobodyPruned fails the test if any of the hosts has pruned a peer.
func nobodyPruned(t *testing.T, hosts ...*host) {
	t.Helper()
	for _, h := range hosts {
		if pruned := h.audit("peer.prune"); len(pruned) > 0 {
			t.Fatalf("%s pruned %+v", h.name, pruned)
		}
	}
}

// noUDP drops all UDP of a host, both ways.
func (h *host) noUDP() {
	h.NFT("table inet noudp { chain i { type filter hook input priority 0; iif != lo meta l4proto udp drop; };" +
		" chain o { type filter hook output priority 0; oif != lo meta l4proto udp drop; }; }")
}

// TestFrozenPeer stops a daemon as a hang would: its kernel still answers TCP, it says nothing.
//
//	nas ──┐
//	gpu1 ─┼─ br0     gpu1 is frozen; capture: gpu1's eth0
//	laptop┘
//
// Promise: unicast probes 15 and 17.5 s after its last sign of life, pruned at 20 to 21 s, its session closed; back when it runs again.
func TestFrozenPeer(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	slack := 300 * time.Millisecond // the core's timers are exact; this, and what stalls add, is the lateness of a loaded machine
	nas, gpu, laptop := mesh3(t)
	rest(t, 4*time.Second, func() {}) // the burst and its answers are over
	c := gpu.Capture("eth0", "udp or tcp port 7477")
	mine, theirs := gpu.addresses(), nas.addresses()
	eventually(t, "a sign of life of gpu1 in the capture", 5*time.Second, func() bool {
		for _, p := range packets(c) {
			if mine[p.src.Addr()] && !p.tcp {
				return true
			}
		}
		return false
	})
	gpu.signal(syscall.SIGSTOP)
	frozen, longest := time.Now(), testrun.LongestStall(t)
	for _, h := range []*host{nas, laptop} {
		eventually(t, h.name+" prunes gpu1", 21*time.Second, func() bool { return len(h.audit("peer.prune")) > 0 })
	}
	slack += longest()
	for _, h := range []*host{nas, laptop} {
		pruned := h.audit("peer.prune")
		if len(pruned) != 1 || pruned[0].DurationMS < 20000 || pruned[0].DurationMS > 20700+slack.Milliseconds() {
			t.Errorf("%s: pruned %+v, promised once at 20 to 21 s", h.name, pruned)
		}
		eventually(t, h.name+" has no session with gpu1", time.Second, func() bool {
			p, ok := h.peer("gpu1")
			return ok && p.State != "up" && p.Session == ""
		})
		// One of two sessions that were dialled at once may have closed before.
		eventually(t, h.name+" has recorded that it closed gpu1's", time.Second, func() bool {
			return slices.ContainsFunc(h.audit("session.close"), func(r control.AuditRecord) bool { return r.Actor == "gpu1" && r.Reason != "duplicate" })
		})
		t.Logf("%s: pruned after %d ms (promised 20 to 21 s; slack %v), %s", h.name, pruned[0].DurationMS, slack, pruned[0].Before)
	}

	// The last thing gpu1 said that nas could hear, and what nas asked it after that.
	var last time.Time
	var probes []time.Duration
	for _, p := range packets(c) {
		if mine[p.src.Addr()] && len(p.data) > 0 && (p.broadcast() || theirs[p.dst.Addr()]) && p.at.Before(frozen.Add(time.Second)) {
			last = p.at
		}
	}
	for _, p := range packets(c) {
		if !p.tcp && theirs[p.src.Addr()] && mine[p.dst.Addr()] && p.at.After(frozen) && p.at.Before(last.Add(20*time.Second)) {
			probes = append(probes, p.at.Sub(last))
		}
	}
	t.Logf("nas probed gpu1 at %v after its last sign of life (promised 15 and 17.5 s)", probes)
	for i, want := range []time.Duration{15 * time.Second, 17500 * time.Millisecond} {
		if len(probes) != 2 || probes[i] < want-20*time.Millisecond || probes[i] > want+slack {
			t.Errorf("probes at %v, promised 15 and 17.5 s", probes)
			break
		}
	}

	gpu.signal(syscall.SIGCONT)
	eventually(t, "gpu1 is back", 2*time.Second, func() bool {
		return nas.up("gpu1") && laptop.up("gpu1") && gpu.up("nas") && gpu.up("laptop")
	})
}

// TestBeaconsBlockedOnOneHost takes away what only hints: sessions say that everybody is there.
//
//	nas ──┐
//	gpu1 ─┼─ br0     gpu1: no UDP in or out; laptop reads a stream of gpu1
//	laptop┘
//
// Promise: for 45 s nobody is pruned anywhere, and the stream goes on.
func TestBeaconsBlockedOnOneHost(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	nas, gpu, laptop := mesh3(t)
	addr := allow(t, nas, gpu, laptop, "web", gpu.web())
	count, broken := ticks(t, laptop.dial(addr))
	gpu.noUDP()
	was, stalls := count.Load(), testrun.Stalls(t)
	rest(t, 45*time.Second, func() {
		nobodyPruned(t, nas, gpu, laptop)
		for _, h := range []*host{nas, laptop} {
			if !h.up("gpu1") {
				p, _ := h.peer("gpu1")
				t.Fatalf("%s: gpu1 is %+v", h.name, p)
			}
		}
		if err := broken(); err != nil {
			t.Fatalf("the stream broke: %v", err)
		}
	})
	if n, ran := count.Load()-was, 45*time.Second-stalls(); float64(n) < 25*ran.Seconds() {
		t.Errorf("only %d ticks in 45 s, of which this machine ran %v", n, ran)
	} else {
		t.Logf("45 s without UDP on gpu1: nobody pruned, %d ticks through the stream", n)
	}
}

// TestMute silences the beacons of a whole segment.
//
//	nas ──┐
//	gpu1 ─┼─ br0     no UDP anywhere
//	laptop┘
//
// Promise: after 15 s the interface is mute in status and in the audit log, and nobody is pruned.
func TestMute(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	nas, gpu, laptop := mesh3(t)
	all := []*host{nas, gpu, laptop}
	// An interface is mute when two that were heard on it fall silent: a mesh is whole before each has heard both others.
	c := nas.Capture("eth0", "udp")
	eventually(t, "a beacon of each on the segment", 5*time.Second, func() bool {
		sent := map[netip.Addr]bool{}
		for _, p := range packets(c) {
			if p.broadcast() && p.src.Addr().Is4() {
				sent[p.src.Addr()] = true
			}
		}
		return len(sent) == len(all)
	})
	rest(t, time.Second, func() { nobodyPruned(t, all...) }) // they have read it
	for _, h := range all {
		h.noUDP()
	}
	began := time.Now()
	mute := func(h *host) bool {
		st, err := h.client.Status(t.Context())
		if err != nil {
			return false
		}
		for _, i := range st.Interfaces {
			if i.Name == "eth0" {
				return i.State == "mute"
			}
		}
		return false
	}
	for _, h := range all {
		eventually(t, h.name+"'s interface is mute", 16*time.Second, func() bool {
			nobodyPruned(t, all...)
			return mute(h)
		})
		t.Logf("%s: mute %v after the rule", h.name, time.Since(began).Round(10*time.Millisecond))
		if got := h.audited("interface.mute", 1); len(got) != 1 || got[0].Target != "eth0" {
			t.Errorf("%s: audit has interface.mute %+v", h.name, got)
		}
	}
	rest(t, time.Until(began.Add(40*time.Second)), func() { nobodyPruned(t, all...) })
	for _, h := range all {
		h.NFT("delete table inet noudp")
	}
	eventually(t, "the interfaces are heard again", 5*time.Second, func() bool { return !mute(nas) && !mute(gpu) && !mute(laptop) })
	for _, h := range all {
		if got := h.audited("interface.unmute", 1); len(got) != 1 {
			t.Errorf("%s: audit has interface.unmute %+v", h.name, got)
		}
	}
	rest(t, 6*time.Second, func() { nobodyPruned(t, all...) })
}
