package netmon

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
)

const running = net.FlagUp | net.FlagRunning | net.FlagBroadcast | net.FlagMulticast

func link(index int, name string) net.Interface {
	return net.Interface{Index: index, Name: name, Flags: running}
}

func at(index int, prefix string) address {
	return address{index: index, prefix: netip.MustParsePrefix(prefix)}
}

func prefixes(s ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func defaults() filter { return Config{}.filter() }

func TestIgnoredInterfaces(t *testing.T) {
	for _, name := range []string{
		"veth12ab", "docker0", "docker_gwbridge", "br-1f2e", "cni0", "virbr0", "virbr0-nic", "tun0", "tap3", "wg0", "wgmesh",
		"tailscale0", "zt7nnig34", "utun3", "awdl0",
	} {
		if defaults().wants(link(2, name)) {
			t.Errorf("%s is used", name)
		}
	}
	for _, name := range []string{"eth0", "enp3s0", "wlan0", "wlp2s0", "br0", "bond0", "en0", "eth0.20"} {
		if !defaults().wants(link(2, name)) {
			t.Errorf("%s is not used", name)
		}
	}
}

func TestIgnoreListIsTheOperators(t *testing.T) {
	f := Config{Ignore: []string{"eth1", "wlan*"}, Include: []string{"wlan9"}}.filter()
	for name, want := range map[string]bool{"eth1": false, "eth10": true, "wlan0": false, "wlan9": true, "docker0": true} {
		if f.wants(link(2, name)) != want {
			t.Errorf("%s used: %v", name, !want)
		}
	}
	none := Config{Ignore: []string{}}.filter()
	if !none.wants(link(2, "veth0")) {
		t.Error("an empty list is not the default one")
	}
}

func TestOnlyUsableInterfaces(t *testing.T) {
	down, idle, lo := link(2, "eth0"), link(2, "eth0"), link(1, "lo")
	down.Flags &^= net.FlagUp
	idle.Flags &^= net.FlagRunning
	lo.Flags |= net.FlagLoopback
	if defaults().wants(down) || defaults().wants(idle) {
		t.Error("an interface without link is used")
	}
	for mode, want := range map[LoopbackMode][2]bool{
		WithoutLoopback: {false, true}, WithLoopback: {true, true}, OnlyLoopback: {true, false},
	} {
		f := Config{Loopback: mode}.filter()
		if got := [2]bool{f.wants(lo), f.wants(link(2, "eth0"))}; got != want {
			t.Errorf("mode %d: loopback and eth0 used: %v, want %v", mode, got, want)
		}
	}
}

func TestUnfinishedAddressesAreLeftOut(t *testing.T) {
	tentative, fading := at(2, "fe80::1/64"), at(2, "2001:db8::2/64")
	tentative.tentative, fading.fading = true, true
	s := build(defaults(), []net.Interface{link(2, "eth0")}, []address{
		tentative, fading, at(2, "2001:db8::3/64"), at(2, "192.0.2.7/24"), at(3, "192.0.2.8/24"),
	})
	want := Snapshot{{
		Index: 2, Name: "eth0", Broadcast: true, Multicast: true,
		V4: prefixes("192.0.2.7/24"), V6: prefixes("2001:db8::3/64"),
	}}
	if !s.Equal(want) {
		t.Errorf("got %+v", s)
	}
	tentative.tentative = false
	s = build(defaults(), []net.Interface{link(2, "eth0")}, []address{tentative})
	if len(s) != 1 || s[0].LinkLocal != netip.MustParseAddr("fe80::1") {
		t.Errorf("finished link-local address: %+v", s)
	}
}

func TestInterfaceWithoutAddressIsLeftOut(t *testing.T) {
	unspecified := at(2, "0.0.0.0/0")
	if s := build(defaults(), []net.Interface{link(2, "eth0")}, []address{unspecified}); len(s) != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestSnapshotIsBounded(t *testing.T) {
	var links []net.Interface
	var addresses []address
	for i := 1; i <= MaxInterfaces+10; i++ {
		links = append(links, link(i, fmt.Sprintf("eth%d", i)))
		for j := range MaxPrefixes + 4 {
			addresses = append(addresses, at(i, fmt.Sprintf("10.%d.%d.1/24", i, j)), at(i, fmt.Sprintf("2001:db8:%x:%x::1/64", i, j)))
		}
	}
	slices.Reverse(links)
	s := build(defaults(), links, addresses)
	if len(s) != MaxInterfaces || len(s[0].V4) != MaxPrefixes || len(s[0].V6) != MaxPrefixes {
		t.Fatalf("%d interfaces, %d and %d prefixes", len(s), len(s[0].V4), len(s[0].V6))
	}
	if !slices.IsSortedFunc(s, func(a, b Interface) int { return a.Index - b.Index }) {
		t.Error("not sorted by index")
	}
}

func TestEqualSeesEveryField(t *testing.T) {
	base := Interface{
		Index: 2, Name: "eth0", Broadcast: true, Multicast: true, V4: prefixes("192.0.2.7/24"),
		V6: prefixes("2001:db8::3/64"), LinkLocal: netip.MustParseAddr("fe80::1"),
	}
	for name, change := range map[string]func(*Interface){
		"index":     func(i *Interface) { i.Index++ },
		"name":      func(i *Interface) { i.Name = "eth1" },
		"loopback":  func(i *Interface) { i.Loopback = true },
		"broadcast": func(i *Interface) { i.Broadcast = false },
		"multicast": func(i *Interface) { i.Multicast = false },
		"v4":        func(i *Interface) { i.V4 = prefixes("192.0.2.7/25") },
		"v6":        func(i *Interface) { i.V6 = nil },
		"linklocal": func(i *Interface) { i.LinkLocal = netip.Addr{} },
	} {
		other := base
		change(&other)
		if (Snapshot{base}).Equal(Snapshot{other}) {
			t.Errorf("%s: a change is not seen", name)
		}
	}
	if !(Snapshot{base}).Equal(Snapshot{base}) || (Snapshot{base}).Equal(nil) {
		t.Error("equality of equal or of different length")
	}
}

func TestEndpointsTakeTurnsInOrderOfUse(t *testing.T) {
	s := Snapshot{
		{
			Index: 2, V4: prefixes("169.254.7.7/16", "10.0.0.2/8", "10.1.0.2/16", "10.2.0.2/16"),
			V6: prefixes("fd00::2/64", "2001:db8::2/64"), LinkLocal: netip.MustParseAddr("fe80::2"),
		},
		{Index: 3, V4: prefixes("192.168.1.3/24"), LinkLocal: netip.MustParseAddr("fe80::3")},
	}
	want := []string{
		"10.0.0.2:9", "192.168.1.3:9", "10.1.0.2:9", "10.2.0.2:9", "[fd00::2]:9", "[2001:db8::2]:9", "169.254.7.7:9", "[fe80::2]:9",
	}
	var got []string
	for _, e := range s.Endpoints(9) {
		got = append(got, e.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if got := (Snapshot{{Index: 5, LinkLocal: netip.MustParseAddr("fe80::5")}}).Endpoints(9); len(got) != 1 {
		t.Errorf("a host with nothing but a link-local address lists %v", got)
	}
}

func TestHolding(t *testing.T) {
	s := Snapshot{
		{Index: 2, V4: prefixes("192.0.2.7/24")},
		{Index: 3, V4: prefixes("198.51.100.1/25"), V6: prefixes("2001:db8::3/64")},
	}
	for addr, want := range map[string]int{
		"192.0.2.200": 2, "::ffff:192.0.2.200": 2, "198.51.100.9": 3, "198.51.100.200": 0, "2001:db8::77": 3, "fe80::1%eth0": 0,
	} {
		if got := s.Holding(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: interface %d, want %d", addr, got, want)
		}
	}
	if _, ok := s.ByIndex(3); !ok {
		t.Error("interface 3 not found")
	}
	if _, ok := s.ByIndex(4); ok {
		t.Error("interface 4 found")
	}
}
