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

// A node that listens on one of two networks uses beacons of that one alone, and what was sent to its addresses there.
func TestBeaconsOfOtherNetworksDoNotCount(t *testing.T) {
	ip := netip.MustParseAddr
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
		{beacon.Packet{Interface: 2, Unicast: true}, false}, // where the system does not tell the address
		{beacon.Packet{Interface: 3, Unicast: true}, true},
		{beacon.Packet{Interface: 2, Unicast: true, To: ip("10.9.0.1")}, false},
		{beacon.Packet{Interface: 3, Unicast: true, To: ip("10.9.0.1")}, false}, // as in TCP
		{beacon.Packet{Interface: 1, Unicast: true, To: ip("10.9.0.1")}, false}, // from this host
		{beacon.Packet{Interface: 2, Unicast: true, To: ip("10.9.0.7")}, false}, // a source of its own beacons
		{beacon.Packet{Interface: 1, Unicast: true, To: ip("10.9.0.7")}, false},
		{beacon.Packet{Interface: 3, Unicast: true, To: ip("10.9.0.7")}, true},
		{beacon.Packet{Interface: 2, Unicast: true, To: ip("fe80::1")}, false},
		{beacon.Packet{Interface: 2, Unicast: true, To: ip("fe80::2")}, true},
		{beacon.Packet{Interface: 3, Unicast: true, To: ip("fe80::1")}, true},
		{beacon.Packet{Interface: 3, Unicast: true, To: ip("10.8.0.1")}, true},
		{beacon.Packet{Interface: 2, Unicast: true, To: ip("10.8.0.1")}, true}, // by the wrong way
		{beacon.Packet{Interface: 1, Unicast: true, To: ip("127.0.0.1")}, true},
		{beacon.Packet{Interface: 2, Unicast: true, To: ip("ff02::6d6b")}, true},
		{beacon.Packet{Interface: 2, Unicast: true, To: ip("10.9.0.255")}, true},
	} {
		if got := n.elsewhere(c.p); got != c.want {
			t.Errorf("interface %d to %v, own port %v: %v", c.p.Interface, c.p.To, c.p.Unicast, got)
		}
	}
	n.net = &HostNetwork{At: []netip.AddrPort{netip.MustParseAddrPort("[::]:7")}}
	if used, _ := n.usable(links()); len(used) != 3 || n.elsewhere(beacon.Packet{Interface: 3}) {
		t.Error("a node that listens everywhere does not hear everything")
	}
}

// answers counts what a node sends to one address.
type answers struct {
	noPackets
	n int
}

func (a *answers) Unicast(netip.AddrPort, []byte) error { a.n++; return nil }

// A member's probe that comes to an address this node does not listen on has no answer and is no sign of life. The answer to a probe of its own is
// one, on whatever way it comes.
func TestProbesOfOtherNetworksAreNotAnswered(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	t.Cleanup(a.closeStores)
	sent := &answers{}
	a.packets = sent
	a.net = &HostNetwork{At: []netip.AddrPort{netip.MustParseAddrPort("10.9.0.1:7")}}
	a.usable(links())
	s := b.speaker(t)
	hears := func(flags beacon.Flags, iface int, to string) (answered, heard int) {
		t.Helper()
		n, e := sent.n, len(a.events)
		a.datagram(beacon.Packet{
			Data: s.asks(flags), From: netip.MustParseAddrPort("10.9.0.2:7"), To: netip.MustParseAddr(to), Interface: iface, Unicast: true,
		})
		return sent.n - n, len(a.events) - e
	}
	for _, c := range []struct {
		flags           beacon.Flags
		iface           int
		to              string
		answered, heard int
	}{
		{beacon.FlagProbe, 3, "10.8.0.1", 0, 0},
		{beacon.FlagProbe, 2, "10.8.0.1", 0, 0},
		{0, 3, "10.8.0.1", 0, 0},
		{beacon.FlagReply, 3, "10.8.0.1", 0, 1},
		{beacon.FlagProbe, 2, "10.9.0.1", 1, 1},
	} {
		if answered, heard := hears(c.flags, c.iface, c.to); answered != c.answered || heard != c.heard {
			t.Errorf("flags %v to %s: %d answers, heard %d times", c.flags, c.to, answered, heard)
		}
	}
	if n := a.Counters()["beacon.drop.elsewhere"]; n != 3 {
		t.Errorf("%d counted", n)
	}
}

// What a running node announces is what it listens on: not the loopback interface's other address.
func TestAnnouncedIsListenedOn(t *testing.T) {
	w := newWorld(t)
	h := w.member("nas").run()
	eventually(t, "nas knows its addresses", patience, func() bool { return len(h.Endpoints()) > 0 })
	for _, at := range h.Endpoints() {
		c, err := net.DialTimeout("tcp", at.String(), time.Second)
		if err != nil {
			t.Errorf("announced and not listened on: %v", err)
			continue
		}
		c.Close()
	}
}
