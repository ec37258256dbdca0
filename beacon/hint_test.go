package beacon

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
)

func TestKnownSaysWhetherEnrolled(t *testing.T) {
	r := newRig(t)
	if !r.wantHeard(r.beaconOf(1, 1), addr(1)).Known || r.wantHeard(r.beaconOf(2, 1), addr(2)).Known {
		t.Error("standing is not passed on")
	}
}

func TestCheckInterval(t *testing.T) {
	for ms, want := range map[uint64]time.Duration{
		0: MinInterval, 1: MinInterval, 5000: MinInterval, 17_000: 17 * time.Second, 60_000: MaxInterval, 60_001: MaxInterval,
		1<<64 - 1: MaxInterval,
	} {
		if got := (&Announcement{IntervalMS: ms}).Interval(); got != want {
			t.Errorf("%d ms is believed as %v, want %v", ms, got, want)
		}
	}
}

func TestCheckClockSkew(t *testing.T) {
	for _, c := range []struct {
		sent uint64
		want bool
	}{
		{uint64(testTime.UnixMilli()), false},
		{uint64(testTime.Add(-maxSkew).UnixMilli()), false},
		{uint64(testTime.Add(maxSkew).UnixMilli()), false},
		{uint64(testTime.Add(-maxSkew).UnixMilli()) - 1, true},
		{uint64(testTime.Add(maxSkew).UnixMilli()) + 1, true},
		{0, true},
		{1<<63 - 1, true},
		{1 << 63, true},
		{1<<64 - 1, true},
	} {
		r := newRig(t)
		a := announcement(1, 1, r.now)
		a.TimeMS = c.sent
		if h := r.wantHeard(sealed(t, a, signer(1)), peerAddr); h.ClockSkew != c.want {
			t.Errorf("sent at %d: skewed %v", c.sent, h.ClockSkew)
		}
		if c.want != (r.Counters().Skewed == 1) {
			t.Errorf("sent at %d: counted %d", c.sent, r.Counters().Skewed)
		}
	}
}

func TestCheckEndpoints(t *testing.T) {
	a := announcement(1, 1, testTime)
	a.Endpoints = nil
	for _, s := range []string{"10.0.0.1:1", "127.0.0.1:2", "[::1]:3", "[fe80::7]:4", "[2001:db8::7]:5"} {
		a.Endpoints = append(a.Endpoints, identity.EndpointOf(netip.MustParseAddrPort(s)))
	}
	for _, c := range []struct {
		from    string
		ifindex int
		want    []string
	}{
		{"192.0.2.7", 2, []string{"10.0.0.1:1", "[fe80::7%2]:4", "[2001:db8::7]:5"}},
		{"127.0.0.1", 1, []string{"10.0.0.1:1", "127.0.0.1:2", "[::1]:3", "[fe80::7%1]:4", "[2001:db8::7]:5"}},
		{"::ffff:127.0.0.1", 1, []string{"10.0.0.1:1", "127.0.0.1:2", "[::1]:3", "[fe80::7%1]:4", "[2001:db8::7]:5"}},
		{"192.0.2.7", 0, []string{"10.0.0.1:1", "[2001:db8::7]:5"}},
	} {
		var got []string
		for _, ap := range a.Addresses(netip.MustParseAddr(c.from), c.ifindex) {
			got = append(got, ap.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("from %s on %d: %v, want %v", c.from, c.ifindex, got, c.want)
		}
	}
	if got := a.Addresses(netip.Addr{}, 0); len(got) != 2 {
		t.Errorf("forwarded: %v", got)
	}
	r := newRig(t)
	h := r.wantHeard(sealed(t, a, signer(1)), netip.MustParseAddrPort("[fe80::7%eth0]:40000"))
	if len(h.Dialable()) != 3 || h.ReplyTo().String() != "[fe80::7%2]:40000" {
		t.Errorf("dialable %v, reply to %v", h.Dialable(), h.ReplyTo())
	}
}

// A wall clock set back is a pause for the budgets, not an error, and not a full refill.
func TestClockSetBack(t *testing.T) {
	r := newRig(t)
	d := make([]byte, Overhead+BlockSize)
	for range sourceBurst {
		r.wantDrop(DropSealed, d, peerAddr)
	}
	r.now = r.now.Add(-time.Hour)
	r.wantDrop(DropSource, d, peerAddr)
	r.wantHeard(r.beaconOf(1, 1), addr(1))
}

func TestDropsHaveNames(t *testing.T) {
	seen := make(map[string]bool)
	for name := range (Counters{}).Drops() {
		if name == "" || seen[name] {
			t.Errorf("name %q", name)
		}
		seen[name] = true
	}
	if len(seen) != int(drops) || drops.Error() == "" {
		t.Errorf("%d names for %d reasons", len(seen), drops)
	}
}
