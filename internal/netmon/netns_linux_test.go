package netmon

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

func TestMain(m *testing.M) {
	os.Exit(netns.Main(testrun.Leaks{Tests: m, Of: []string{"netmon.(*Monitor)", "netmon.notices"}}))
}

// patience is how long a test waits for the kernel, debounce and poll included.
const patience = 60 * time.Second

// monitorHost runs a monitor on a host of the test's network and returns its reports.
func monitorHost(t *testing.T, h *netns.Host) <-chan Snapshot {
	t.Helper()
	reports := make(chan Snapshot, 64)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.Do(func() { New(Config{}).Run(ctx, func(s Snapshot) { reports <- s }) })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return reports
}

// until waits for a report that satisfies f and returns how long it took, without the time in which this machine did not run.
func until(t *testing.T, reports <-chan Snapshot, what string, f func(Snapshot) bool) time.Duration {
	t.Helper()
	stalls, began := testrun.Stalls(t), time.Now()
	deadline := time.After(patience)
	for {
		select {
		case s := <-reports:
			if f(s) {
				return time.Since(began) - stalls()
			}
		case <-deadline:
			t.Fatalf("never reported: %s", what)
		}
	}
}

func holds(s Snapshot, name, prefix string) bool {
	for _, i := range s {
		for _, p := range append(append([]netip.Prefix{}, i.V4...), i.V6...) {
			if i.Name == name && p.String() == prefix {
				return true
			}
		}
	}
	return false
}

// An interface appears, its link-local address is reported once detection has finished and not before, addresses come and go, the
// cable is pulled: each within debounce and kernel time, far below the poll.
func TestNamespaceChanges(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	h := n.Host("a")
	reports := monitorHost(t, h)
	until(t, reports, "a host without interfaces", func(s Snapshot) bool { return len(s) == 0 })

	l := n.Bridge("lan").Attach(h, "10.9.0.1/24")
	if d := until(t, reports, "new interface", func(s Snapshot) bool { return holds(s, "eth0", "10.9.0.1/24") }); d > 5*time.Second {
		t.Errorf("new interface after %v", d)
	}
	until(t, reports, "link-local address", func(s Snapshot) bool {
		if len(s) != 1 || !s[0].LinkLocal.IsValid() {
			return false
		}
		if out := h.Run("ip", "-6", "-o", "addr", "show", "tentative"); out != "" {
			t.Errorf("reported while tentative: %s", out)
		}
		return true
	})
	l.AddAddr("192.168.77.1/24")
	if d := until(t, reports, "second address", func(s Snapshot) bool { return holds(s, "eth0", "192.168.77.1/24") }); d > 5*time.Second {
		t.Errorf("second address after %v", d)
	}
	l.DelAddr("10.9.0.1/24")
	until(t, reports, "address gone", func(s Snapshot) bool { return len(s) == 1 && !holds(s, "eth0", "10.9.0.1/24") })
	l.Unplug()
	if d := until(t, reports, "cable pulled", func(s Snapshot) bool { return len(s) == 0 }); d > 5*time.Second {
		t.Errorf("pulled cable after %v", d)
	}
	l.Plug()
	until(t, reports, "cable back", func(s Snapshot) bool { return holds(s, "eth0", "192.168.77.1/24") })
}

func TestNamespaceIgnoresContainerInterfaces(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	h := n.Host("a")
	n.Bridge("lan").Attach(h, "10.9.0.1/24")
	for _, args := range [][]string{
		{"link", "add", "docker0", "type", "bridge"},
		{"addr", "add", "172.17.0.1/16", "dev", "docker0"},
		{"link", "set", "docker0", "up"},
		{"link", "add", "veth1", "type", "veth", "peer", "name", "veth2"},
		{"addr", "add", "172.18.0.1/16", "dev", "veth1"},
		{"link", "set", "veth1", "up"},
		{"link", "set", "veth2", "master", "docker0", "up"},
	} {
		h.Run("ip", args...)
	}
	everything := func(s Snapshot) bool { return len(s) == 3 }
	wait(t, h, Config{Ignore: []string{}}, everything)
	if s := wait(t, h, Config{}, func(s Snapshot) bool { return true }); len(s) != 1 || s[0].Name != "eth0" {
		t.Errorf("got %+v", s)
	}
}

// wait lists until f is satisfied: the kernel gives a link its carrier some time after the command that took it up.
func wait(t *testing.T, h *netns.Host, c Config, f func(Snapshot) bool) Snapshot {
	t.Helper()
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		var s Snapshot
		var err error
		h.Do(func() { s, err = List(c) })
		if err != nil {
			t.Fatal(err)
		}
		if f(s) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("only %+v", s)
		}
	}
}

// Two hosts with one address: the second one's detection fails, and it must not be announced.
func TestNamespaceDuplicateAddressIsLeftOut(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Attach(a, "2001:db8::7/64")
	a.WaitDAD()
	reports := monitorHost(t, b)
	lan.Attach(b, "2001:db8::7/64")
	until(t, reports, "link-local address", func(s Snapshot) bool {
		if holds(s, "eth0", "2001:db8::7/64") {
			t.Error("a duplicate address is reported")
		}
		return len(s) == 1 && s[0].LinkLocal.IsValid()
	})
}

func TestParseAddressRefusesGarbage(t *testing.T) {
	for name, data := range map[string][]byte{
		"empty":           nil,
		"short header":    make([]byte, 7),
		"no address":      {syscall.AF_INET, 24, 0, 0, 2, 0, 0, 0},
		"wrong family":    {syscall.AF_INET6, 24, 0, 0, 2, 0, 0, 0, 8, 0, syscall.IFA_LOCAL, 0, 10, 0, 0, 1},
		"prefix too long": {syscall.AF_INET, 99, 0, 0, 2, 0, 0, 0, 8, 0, syscall.IFA_LOCAL, 0, 10, 0, 0, 1},
		"cut attribute":   {syscall.AF_INET, 24, 0, 0, 2, 0, 0, 0, 99, 0, syscall.IFA_LOCAL, 0, 10, 0, 0, 1},
	} {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: syscall.RTM_NEWADDR}, Data: data}
		if a, ok := parseAddress(m); ok {
			t.Errorf("%s: %+v", name, a)
		}
	}
}

// The kernel's flags, as the 32-bit attribute that replaces the eight bits of the header.
func TestParseAddressFlags(t *testing.T) {
	for _, c := range []struct {
		family            byte
		flags             uint32
		tentative, fading bool
	}{
		{syscall.AF_INET6, unix.IFA_F_PERMANENT, false, false},
		{syscall.AF_INET6, unix.IFA_F_TENTATIVE, true, false},
		{syscall.AF_INET6, unix.IFA_F_TENTATIVE | unix.IFA_F_OPTIMISTIC, false, false},
		{syscall.AF_INET6, unix.IFA_F_DADFAILED, true, false},
		{syscall.AF_INET6, unix.IFA_F_DEPRECATED, false, true},
		{syscall.AF_INET6, unix.IFA_F_TEMPORARY, false, true},
		{syscall.AF_INET6, unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE, false, false},
		{syscall.AF_INET, unix.IFA_F_SECONDARY, false, false},
	} {
		ip := netip.MustParseAddr("2001:db8::7")
		if c.family == syscall.AF_INET {
			ip = netip.MustParseAddr("192.0.2.7")
		}
		data := binary.NativeEndian.AppendUint32([]byte{c.family, 24, 0xff, 0}, 5)
		for _, at := range []struct {
			kind  uint16
			value []byte
		}{{unix.IFA_ADDRESS, ip.AsSlice()}, {unix.IFA_FLAGS, binary.NativeEndian.AppendUint32(nil, c.flags)}} {
			data = binary.NativeEndian.AppendUint16(data, uint16(4+len(at.value)))
			data = append(binary.NativeEndian.AppendUint16(data, at.kind), at.value...)
		}
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: syscall.RTM_NEWADDR}, Data: data}
		a, ok := parseAddress(m)
		if !ok || a.index != 5 || a.prefix != netip.PrefixFrom(ip, 24) || a.tentative != c.tentative || a.fading != c.fading {
			t.Errorf("flags %#x: %+v %v", c.flags, a, ok)
		}
	}
}
