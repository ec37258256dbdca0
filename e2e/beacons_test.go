package e2e

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// rest waits until d has passed and checks at each tick that what holds goes on.
func rest(t *testing.T, d time.Duration, holds func()) {
	t.Helper()
	deadline := time.Now().Add(d)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		holds()
		<-tick.C
	}
}

// TestBeaconGaps measures the beat on the wire.
//
//	nas ──┐
//	gpu1 ─┼─ br0     capture: nas's eth0, where broadcasts of all three pass
//	laptop┘
//
// Promise: after the burst every gap is 4.0 to 5.0 s, and beacons go to the directed broadcast address and ff02::6d6b only.
func TestBeaconGaps(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	const (
		watch      = 66 * time.Second
		burst      = 4 * time.Second // three beacons within 2.25 s, and the stamp of the capture
		least      = 3950 * time.Millisecond
		most       = 5060 * time.Millisecond
		leastTotal = 12 // gaps of each source within the watch: 66 s / 5 s, and one to lose at the edge
	)
	nas, gpu, laptop := mesh3(t)
	// A newcomer's burst is over; a member that came up before may have said hello again when interfaces settled.
	quiet := time.Now().Add(burst)
	c := nas.Capture("eth0", "udp")
	longest := testrun.LongestStall(t)
	rest(t, watch, func() {})
	raw, err := c.Stop()
	stalled := longest()
	if err != nil {
		t.Fatal(err)
	}

	directed := netip.MustParseAddr("10.9.0.255")
	type key struct {
		src netip.Addr
		dst netip.Addr
	}
	last, gaps := map[key]time.Time{}, map[key]int{}
	var low, high time.Duration = time.Hour, 0
	for _, r := range raw {
		p, ok := parse(r)
		if !ok || p.at.Before(quiet) {
			continue
		}
		if to := p.dst.Addr(); to != directed && to != group {
			t.Errorf("a datagram of %d bytes from %s to %s: on a healthy segment beacons go to all or nobody", len(p.data), p.src, p.dst)
			continue
		}
		if p.dst.Port() != 7477 || (len(p.data)-40)%256 != 0 || len(p.data) < 40+256 {
			t.Errorf("%d bytes from %s to %s are no beacon", len(p.data), p.src, p.dst)
		}
		k := key{p.src.Addr(), p.dst.Addr()}
		if at, ok := last[k]; ok {
			gap := p.at.Sub(at)
			low, high = min(low, gap), max(high, gap)
			gaps[k]++
			if gap < least-stalled || gap > most+stalled {
				t.Errorf("%s to %s: a gap of %v, promised 4 to 5 s", k.src, k.dst, gap.Round(time.Millisecond))
			}
		}
		last[k] = p.at
	}
	if want := 2 * len([]*host{nas, gpu, laptop}); len(gaps) != want {
		t.Errorf("beacons of %d sources and destinations, want %d: %v", len(gaps), want, gaps)
	}
	total := 0
	for k, n := range gaps {
		total += n
		if n < leastTotal-1 {
			t.Errorf("%s to %s: only %d gaps in %v", k.src, k.dst, n, watch)
		}
	}
	t.Logf("%d gaps of %d sources in %v: %v to %v (promised 4 to 5 s; not run for %v at most)", total, len(gaps), watch-burst, low.Round(time.Millisecond), high.Round(time.Millisecond), stalled)
}
