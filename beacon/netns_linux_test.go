package beacon

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netmon"
	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

//	 a ──┐         ┌── b          one or two segments, a host per daemon
//	     ├── lan ──┤
//	 c ──┘         └── …

// family is what a host's interfaces must have before the test goes on: carrier, and an address of these kinds.
type family struct{ v4, v6 bool }

var (
	v4   = family{v4: true}
	v6   = family{v6: true}
	both = family{true, true}
)

// listenOn waits for the host's interfaces, opens the usual daemon's sockets on it and runs them.
func listenOn(t *testing.T, h *netns.Host, f family) *station {
	t.Helper()
	if err := netns.Guard("0.0.0.0"); err != nil {
		t.Fatal(err)
	}
	interfaces := ready(t, h, f)
	var s *Sockets
	var err error
	h.Do(func() { s, err = Listen(Config{}) })
	if err != nil {
		t.Fatal(err)
	}
	return startSockets(t, s, interfaces)
}

// ready waits until every link of the host has its carrier and its addresses, which the kernel gives it some time after the
// command that asked for them.
func ready(t *testing.T, h *netns.Host, f family) netmon.Snapshot {
	t.Helper()
	links := strings.Count(h.Run("ip", "-o", "link"), ": eth")
	deadline := time.Now().Add(patience)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		s := interfacesOf(t, h)
		done := len(s) == links
		for _, i := range s {
			done = done && (!f.v4 || len(i.V4) > 0) && (!f.v6 || i.LinkLocal.IsValid())
		}
		if done {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d links, usable %+v", h.Name, links, s)
		}
	}
}

func interfacesOf(t *testing.T, h *netns.Host) netmon.Snapshot {
	t.Helper()
	var n netmon.Snapshot
	var err error
	h.Do(func() { n, err = netmon.List(netmon.Config{}) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// broadcast sends and requires that every interface took it.
func (s *station) broadcast(text string) {
	s.t.Helper()
	if err := s.Broadcast([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// tell broadcasts until the other hears it, and returns what it heard: a switch may drop what comes in the moment a port goes up, which is
// why daemons send bursts.
func (s *station) tell(text string, other *station) got {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		s.broadcast(text)
		for again := time.After(300 * time.Millisecond); again != nil; {
			select {
			case p := <-other.packets:
				if string(p.data) == text {
					return p
				}
			case <-again:
				again = nil
			}
		}
	}
	s.t.Fatalf("%q never arrived", text)
	return got{}
}

func index(t *testing.T, h *netns.Host, name string) int {
	t.Helper()
	for _, i := range interfacesOf(t, h) {
		if i.Name == name {
			return i.Index
		}
	}
	t.Fatalf("%s has no %s", h.Name, name)
	return 0
}

func TestNamespaceIPv4Only(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	for _, h := range []*netns.Host{a, b} {
		h.Sysctl("net.ipv6.conf.all.disable_ipv6", "1")
		h.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")
	}
	lan.Attach(a, "10.9.0.1/24")
	lan.Attach(b, "10.9.0.2/24")
	sa, sb, sc := listenOn(t, a, v4), listenOn(t, b, v4), listenOn(t, b, v4)
	want := netip.AddrPortFrom(netip.MustParseAddr("10.9.0.1"), sa.Port())
	for _, s := range []*station{sb, sc} { // two daemons of one host share the port
		if p := sa.tell("from a", s); p.From != want || p.Interface != index(t, b, "eth0") || p.Unicast {
			t.Errorf("heard as %+v", p.Packet)
		}
	}
	sb.tell("from b", sc) // from the same host, by way of its own interface
	p := sb.tell("from b", sa)
	if err := sa.Unicast(p.From, []byte("probe")); err != nil {
		t.Fatal(err)
	}
	if p := sb.wants("probe"); !p.Unicast || p.From != want || p.To.String() != "10.9.0.2" || p.Interface != index(t, b, "eth0") {
		t.Errorf("the probe arrived as %+v", p.Packet)
	}
}

func TestNamespaceIPv6Only(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Attach(a)
	lb := lan.Attach(b)
	sa, sb := listenOn(t, a, v6), listenOn(t, b, v6)
	p := sa.tell("from a", sb)
	if !p.From.Addr().IsLinkLocalUnicast() || p.From.Port() != sa.Port() || p.Interface != index(t, b, "eth0") || p.Unicast {
		t.Errorf("heard as %+v", p.Packet)
	}
	// Answered as the receiver says: the interface's number as zone.
	back := netip.AddrPortFrom(p.From.Addr().WithZone(fmt.Sprint(p.Interface)), p.From.Port())
	if err := sb.Unicast(back, []byte("reply")); err != nil {
		t.Fatal(err)
	}
	if p := sa.wants("reply"); !p.Unicast || p.To != back.Addr().WithZone("") || p.Interface != index(t, a, "eth0") {
		t.Errorf("the reply arrived as %+v", p.Packet)
	}
	// Off and on again: the group is joined anew.
	lb.Down()
	sb.Update(interfacesOf(t, b))
	lb.Up()
	sb.Update(ready(t, b, v6))
	sa.tell("again", sb)
	// And by the clock, without a change.
	sb.rejoin()
	sa.tell("once more", sb)
	if f := sb.Faults(); len(f) != 0 {
		t.Errorf("faults %v", f)
	}
}

// Membership is what makes IPv6 beacons arrive: a switch that snoops forwards to members only.
func TestNamespaceJoinsPerInterface(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	one, two := n.Bridge("one"), n.Bridge("two")
	a := n.Host("a")
	one.Attach(a)
	two.Attach(a)
	s := listenOn(t, a, v6)
	member := func() (out []string) {
		for _, line := range strings.Split(a.Run("cat", "/proc/net/igmp6"), "\n") {
			if w := strings.Fields(line); len(w) > 2 && w[2] == "ff020000000000000000000000006d6b" {
				out = append(out, w[1])
			}
		}
		return out
	}
	if got := member(); len(got) != 2 {
		t.Errorf("a member on %v", got)
	}
	s.Update(interfacesOf(t, a)[:1])
	if got := member(); len(got) != 1 || got[0] != "eth0" {
		t.Errorf("a member on %v after eth1 is not used any more", got)
	}
}

// Two segments: each beacon goes out on both, and says on which it came in.
func TestNamespaceTwoInterfaces(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	one, two := n.Bridge("one"), n.Bridge("two")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	one.Attach(a, "10.9.1.1/24")
	two.Attach(a, "10.9.2.1/24")
	one.Attach(b, "10.9.1.2/24")
	two.Attach(c, "10.9.2.2/24")
	sa, sb, sc := listenOn(t, a, v4), listenOn(t, b, v4), listenOn(t, c, v4)
	if p := sa.tell("from a", sb); p.From.Addr().String() != "10.9.1.1" {
		t.Errorf("b heard it from %v", p.From)
	}
	if p := sa.tell("from a", sc); p.From.Addr().String() != "10.9.2.1" {
		t.Errorf("c heard it from %v", p.From)
	}
	if p := sb.tell("from b", sa); p.Interface != index(t, a, "eth0") {
		t.Errorf("b is heard on interface %d", p.Interface)
	}
	if p := sc.tell("from c", sa); p.Interface != index(t, a, "eth1") {
		t.Errorf("c is heard on interface %d", p.Interface)
	}
	// One that refuses every send is named; the other goes on.
	a.NFT("table ip f { chain out { type filter hook output priority 0; oifname eth0 meta l4proto udp drop; }; }")
	err := sa.Broadcast([]byte("on one leg"))
	if err == nil || !strings.Contains(err.Error(), "IPv4 broadcast on eth0") || strings.Contains(err.Error(), "eth1") {
		t.Errorf("error %v", err)
	}
	sc.wants("on one leg")
	a.Run("nft", "delete", "table", "ip", "f")
	sa.tell("healed", sb)
	for _, f := range sa.Faults() {
		if f.Op == opSend4 {
			t.Errorf("fault %v", f)
		}
	}
}

// 255.255.255.255 is what is left where a prefix has no broadcast address, or sending to it fails.
func TestNamespaceLimitedBroadcast(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	lan := n.Bridge("lan")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	lan.Attach(a, "10.9.0.1/32")
	lan.Attach(b, "10.9.0.2/24")
	lan.Attach(c, "10.9.0.3/24")
	sa, sb, sc := listenOn(t, a, v4), listenOn(t, b, v4), listenOn(t, c, v4)
	if p := sa.tell("from a", sb); p.From.Addr().String() != "10.9.0.1" {
		t.Errorf("heard from %v", p.From)
	}
	c.NFT("table ip f { chain out { type filter hook output priority 0; ip daddr 10.9.0.255 drop; }; }")
	if p := sc.tell("from c", sb); p.From.Addr().String() != "10.9.0.3" {
		t.Errorf("heard from %v", p.From)
	}
}

// A daemon on an interface that is taken up and given an address while it runs is heard within 3 s of that, IPv6 within 3 s of the
// end of duplicate address detection: monitor, sockets, schedule and receiver together, on real time.
func TestNamespaceLateInterface(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Attach(b, "10.9.0.2/24")
	sb := listenOn(t, b, both)
	sa := listenOn(t, a, family{})

	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	changes := make(chan netmon.Snapshot, 16)
	go func() {
		defer close(done)
		a.Do(func() { netmon.New(netmon.Config{}).Run(ctx, func(s netmon.Snapshot) { changes <- s }) })
	}()
	defer func() {
		cancel()
		<-done
	}()
	if s := <-changes; len(s) != 0 {
		t.Fatalf("interfaces from the start: %v", s)
	}
	lan.Attach(a, "10.9.0.1/24")
	stalls, began := testrun.Stalls(t), time.Now()
	again := time.NewTicker(300 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(patience)
	for v4, v6 := false, false; !v4 || !v6; {
		select {
		case <-again.C:
			sa.Broadcast([]byte("late"))
		case s := <-changes:
			sa.Update(s)
			sa.Broadcast([]byte("late"))
		case p := <-sb.packets:
			if is4 := p.From.Addr().Is4(); is4 && !v4 {
				v4 = true
				t.Logf("heard by IPv4 %v after link-up", time.Since(began))
			} else if !is4 && !v6 {
				v6 = true
				t.Logf("heard by IPv6 %v after link-up", time.Since(began))
			}
		case <-deadline:
			t.Fatalf("heard by IPv4: %v, by IPv6: %v", v4, v6)
		}
	}
	if d := time.Since(began) - stalls(); d > 8*time.Second {
		t.Errorf("took %v", d)
	}
}

// The whole way: announced, broadcast over a switch, heard; a probe answered by exactly one reply; an outsider on the same switch
// sees neither ids nor addresses.
func TestNamespaceBeaconsAndProbe(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	lan := n.Bridge("lan")
	a, b := n.Host("a"), n.Host("b")
	lan.Attach(a, "10.9.0.1/24")
	lan.Attach(b, "10.9.0.2/24")
	capture := b.Capture("eth0", "udp")
	sa, sb := listenOn(t, a, both), listenOn(t, b, both)
	ra, rb := newRig(t), newRig(t)
	ra.Receiver.cfg.Self = signer(2).NodeID()
	an := func(n uint64) *Announcer {
		an, err := NewAnnouncer(AnnouncerConfig{Mesh: testMesh, Node: signer(n), Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		return an
	}
	aa, ab := an(2), an(1) // a is a stranger to b, b is known to a
	facts := func(h *netns.Host, s *station) Facts {
		return Facts{Endpoints: interfacesOf(t, h).Endpoints(7477), UnicastPort: s.Port(), Interval: DefaultInterval}
	}
	now := time.Now()
	announce := func(an *Announcer, h *netns.Host, s *station, flags Flags) []byte {
		d, _, err := an.Announce(facts(h, s), flags, ra.keys, now)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := announce(ab, b, sb, 0)
	p := sb.tell(string(d), sa)
	p.Data = p.data
	h, err := ra.Receive(p.Packet, now)
	if err != nil || !h.Known || h.ReplyTo().Port() != sb.Port() {
		t.Fatalf("%+v %v", h, err)
	}
	if dial := h.Dialable(); len(dial) != 2 || dial[0].String() != "10.9.0.2:7477" || dial[1].Addr().Zone() != fmt.Sprint(index(t, a, "eth0")) {
		t.Errorf("dialable %v", dial)
	}

	probe := announce(aa, a, sa, FlagProbe)
	if err := sa.Unicast(h.ReplyTo(), probe); err != nil {
		t.Fatal(err)
	}
	p = sb.wants(string(probe))
	p.Data = p.data
	asked, err := rb.Receive(p.Packet, now)
	if err != nil || asked.Kind != Probe || asked.Known || !rb.Answer(asked, now) {
		t.Fatalf("%+v %v", asked, err)
	}
	reply := announce(ab, b, sb, FlagReply)
	if err := sb.Unicast(asked.ReplyTo(), reply); err != nil {
		t.Fatal(err)
	}
	p = sa.wants(string(reply))
	p.Data = p.data
	if h, err := ra.Receive(p.Packet, now); err != nil || h.Kind != Reply || ra.Answer(h, now) {
		t.Errorf("%+v %v", h, err)
	}
	packets, err := capture.Stop()
	if err != nil || len(packets) == 0 {
		t.Fatalf("captured %d packets: %v", len(packets), err)
	}
	for _, secret := range [][]byte{h.Node[:], h.Envelope[:32], asked.Node[:]} {
		if capture.Contains(secret) {
			t.Errorf("%x… is in the capture", secret[:4])
		}
	}
}
