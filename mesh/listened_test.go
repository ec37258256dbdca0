package mesh

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/internal/netmon"
)

// links are a host's: loopback, and two networks.
func links() netmon.Snapshot {
	p := func(s ...string) (out []netip.Prefix) {
		for _, x := range s {
			out = append(out, netip.MustParsePrefix(x))
		}
		return out
	}
	return netmon.Snapshot{
		{Index: 1, Name: "lo", Loopback: true, V4: p("127.0.0.1/8"), V6: p("::1/128")},
		{Index: 2, Name: "eth0", V4: p("10.9.0.1/24", "10.9.0.7/24"), V6: p("fd00::1/64"), LinkLocal: netip.MustParseAddr("fe80::1")},
		{Index: 3, Name: "eth1", V4: p("10.8.0.1/24"), LinkLocal: netip.MustParseAddr("fe80::2")},
	}
}

func TestListened(t *testing.T) {
	for _, c := range []struct {
		at   []string
		want string
	}{
		{[]string{"[::]:7"}, "[10.9.0.1:7 10.8.0.1:7 10.9.0.7:7 127.0.0.1:7 [::1]:7 [fd00::1]:7 [fe80::1]:7 [fe80::2]:7]"},
		{[]string{"0.0.0.0:7"}, "[127.0.0.1:7 10.9.0.1:7 10.8.0.1:7 10.9.0.7:7]"},
		{[]string{"10.9.0.7:7"}, "[10.9.0.7:7]"},
		{[]string{"10.9.0.7:7", "[fd00::1]:7", "127.0.0.1:7"}, "[127.0.0.1:7 10.9.0.7:7 [fd00::1]:7]"},
		{[]string{"127.0.0.1:7"}, "[127.0.0.1:7]"},
		{[]string{"127.0.0.5:7"}, "[127.0.0.5:7]"}, // all of 127/8 is this host's
		{[]string{"[::1]:7"}, "[[::1]:7]"},
		{[]string{"[fe80::1%eth0]:7"}, "[[fe80::1]:7]"},
		{[]string{"[fe80::2%3]:7"}, "[[fe80::2]:7]"},
		{[]string{"[fe80::2%eth0]:7"}, "[]"},
		{[]string{"192.0.2.1:7"}, "[]"},
	} {
		h := &HostNetwork{}
		for _, s := range c.at {
			h.At = append(h.At, netip.MustParseAddrPort(s))
		}
		part, all := h.Listened(links())
		if all != (c.at[0] == "[::]:7") {
			t.Errorf("%v: all %v", c.at, all)
		}
		got := part.Endpoints(7)
		if all { // another order: only the set counts here
			if len(got) != 8 {
				t.Errorf("%v: %v", c.at, got)
			}
			continue
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%v: %v, want %s", c.at, got, c.want)
		}
	}
	if _, all := (&HostNetwork{At: []netip.AddrPort{{}}}).Listened(links()); !all {
		t.Error("no address is not every address")
	}
}

func TestListenOn(t *testing.T) {
	for a, want := range map[netip.Addr]string{
		{}: "tcp :7", netip.IPv6Unspecified(): "tcp :7", netip.IPv4Unspecified(): "tcp4 :7",
		netip.MustParseAddr("127.0.0.1"): "tcp 127.0.0.1:7", netip.MustParseAddr("fe80::1%eth0"): "tcp [fe80::1%eth0]:7",
	} {
		if network, addr := listenOn(a, 7); network+" "+addr != want {
			t.Errorf("%v: %s %s, want %s", a, network, addr, want)
		}
	}
}

// A node that listens on one of two networks uses beacons of that one alone, but hears what comes to its own port.
func TestBeaconsOfOtherNetworksDoNotCount(t *testing.T) {
	n := &Node{net: &HostNetwork{At: []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:7")}}}
	n.usable(nil)
	if !n.elsewhere(beacon.Packet{Interface: 2}) {
		t.Error("a beacon counts before the interfaces are known")
	}
	used, _ := n.usable(links())
	if len(used) != 1 || used[0].Name != "eth0" || len(used[0].V4) != 2 || !used[0].LinkLocal.IsValid() {
		t.Errorf("beacons go out on %v", used)
	}
	for _, c := range []struct {
		p    beacon.Packet
		want bool
	}{
		{beacon.Packet{Interface: 2}, false},
		{beacon.Packet{Interface: 3}, true},
		{beacon.Packet{Interface: 1}, true},
		{beacon.Packet{}, true},
		{beacon.Packet{Interface: 3, Unicast: true}, false},
	} {
		if got := n.elsewhere(c.p); got != c.want {
			t.Errorf("interface %d, own port %v: %v", c.p.Interface, c.p.Unicast, got)
		}
	}
	n.net = &HostNetwork{At: []netip.AddrPort{netip.MustParseAddrPort("[::]:7")}}
	if used, _ := n.usable(links()); len(used) != 3 || n.elsewhere(beacon.Packet{Interface: 3}) {
		t.Error("a node that listens everywhere does not hear everything")
	}
}

// What a running node announces is what it listens on: not the loopback interface's other address.
func TestAnnouncedIsListenedOn(t *testing.T) {
	w := newWorld(t)
	h := w.member("nas").run()
	eventually(t, "nas knows its addresses", 10*time.Second, func() bool { return len(h.Endpoints()) > 0 })
	for _, at := range h.Endpoints() {
		c, err := net.DialTimeout("tcp", at.String(), time.Second)
		if err != nil {
			t.Errorf("announced and not listened on: %v", err)
			continue
		}
		c.Close()
	}
}
