package beacon

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netmon"
	"github.com/sovereignmesh/meshkey/internal/netns"
)

// patience is how long a datagram on this machine may take.
const patience = 30 * time.Second

// freePort finds a UDP port that nobody uses now.
func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return portOf(c)
}

// got is a datagram that arrived, with its own copy of the data.
type got struct {
	Packet
	data []byte
}

// station is one daemon's sockets, running.
type station struct {
	*Sockets
	t       *testing.T
	packets chan got
}

func startSockets(t *testing.T, s *Sockets, interfaces netmon.Snapshot) *station {
	t.Helper()
	st := &station{Sockets: s, t: t, packets: make(chan got, 1024)}
	s.Update(interfaces)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- s.Run(ctx, func(p Packet) { st.packets <- got{p, bytes.Clone(p.Data)} })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) && !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
	return st
}

// wants waits for a datagram with this content.
func (s *station) wants(data string) got {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case p := <-s.packets:
			if string(p.data) == data {
				return p
			}
		case <-deadline:
			s.t.Fatalf("%q never arrived", data)
		}
	}
}

// wantsNone drains what has arrived, up to a marker sent after it, and fails if this content is among it.
func (s *station) wantsNone(data, marker string) {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case p := <-s.packets:
			switch string(p.data) {
			case data:
				s.t.Errorf("%q arrived", data)
			case marker:
				return
			}
		case <-deadline:
			s.t.Fatalf("%q never arrived", marker)
		}
	}
}

func loopback(t *testing.T) netmon.Snapshot {
	t.Helper()
	s, err := netmon.List(netmon.Config{Loopback: netmon.OnlyLoopback})
	if err != nil || len(s) == 0 {
		t.Fatalf("no loopback interface: %v", err)
	}
	return s
}

func loopbackStation(t *testing.T, port uint16) *station {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("loopback has a broadcast address on Linux only")
	}
	s, err := Listen(Config{Port: port, LoopbackOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	return startSockets(t, s, loopback(t))
}

// Three daemons of one machine share the port: each hears each, itself included, and a unicast reaches only the one it is for.
func TestDaemonsOfOneMachineHearEachOther(t *testing.T) {
	port := freePort(t)
	var all []*station
	for range 3 {
		all = append(all, loopbackStation(t, port))
	}
	lo := loopback(t)[0].Index
	for i, s := range all {
		text := string(rune('a' + i))
		if err := s.Broadcast([]byte(text)); err != nil {
			t.Fatal(err)
		}
		for j, other := range all {
			p := other.wants(text)
			if p.Unicast || p.Interface != lo || p.From != netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Port()) {
				t.Errorf("%d heard %d as %+v", j, i, p.Packet)
			}
		}
	}
	if err := all[0].Unicast(netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), all[1].Port()), []byte("probe")); err != nil {
		t.Fatal(err)
	}
	if p := all[1].wants("probe"); !p.Unicast || p.Interface != lo || p.To != netip.MustParseAddr("127.0.0.1") || p.From.Port() != all[0].Port() {
		t.Errorf("the probe arrived as %+v", p.Packet)
	}
	if err := all[0].Broadcast([]byte("marker")); err != nil {
		t.Fatal(err)
	}
	all[0].wantsNone("probe", "marker")
	all[2].wantsNone("probe", "marker")
}

// A real beacon from the announcer through real sockets and all the checks, at the largest size a payload can have.
func TestLargestBeaconOverSockets(t *testing.T) {
	port := freePort(t)
	a, b := loopbackStation(t, port), loopbackStation(t, port)
	r := newRig(t)
	r.keys = generationKeys(testMesh, 1<<64-1)
	envelope, err := largest(1).Sign(testMesh, signer(1))
	if err != nil {
		t.Fatal(err)
	}
	for blocks := AskingBlocks; blocks <= MaxBlocks; blocks++ {
		d, err := r.keys.Seal(Nonce{byte(blocks)}, envelope, blocks)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Broadcast(d); err != nil {
			t.Fatal(err)
		}
		p := b.wants(string(d))
		p.Data = p.data
		h, err := r.Receive(p.Packet, r.now)
		if blocks == AskingBlocks && (err != nil || h.From.Port() != a.Port()) {
			t.Fatalf("%+v %v", h, err)
		}
	}
}

// A datagram longer than any beacon is not cut to one that is.
func TestLongDatagramIsSeenAsLong(t *testing.T) {
	a := loopbackStation(t, freePort(t))
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port())))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(make([]byte, MaxDatagram+200)); err != nil {
		t.Fatal(err)
	}
	p := <-a.packets
	if validSize(len(p.data)) {
		t.Errorf("it arrived with a valid length, %d", len(p.data))
	}
}

func TestLoopbackOnlySendsNothingElsewhere(t *testing.T) {
	port := freePort(t)
	s := loopbackStation(t, port)
	s.Update(append(loopback(t), netmon.Interface{
		Index: 2, Name: "eth0", Broadcast: true, Multicast: true, LinkLocal: netip.MustParseAddr("fe80::1"),
		V4: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
	}, netmon.Interface{
		Index: 3, Name: "odd", Loopback: true, V4: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")},
	}))
	for _, target := range s.targets {
		if !target.to.Addr().IsLoopback() || target.fallback.IsValid() {
			t.Errorf("sends to %v and %v", target.to, target.fallback)
		}
	}
	if len(s.targets) != 1 {
		t.Errorf("%d targets", len(s.targets))
	}
	for _, to := range []string{"192.0.2.1:9", "[2001:db8::1]:9", "255.255.255.255:9", "[::ffff:192.0.2.1]:9"} {
		if s.Unicast(netip.MustParseAddrPort(to), []byte{1}) == nil {
			t.Errorf("sent to %s", to)
		}
	}
}

// An interface that fails is reported by name, the others go on, and it is forgotten when it is gone.
func TestOneInterfaceFails(t *testing.T) {
	s := loopbackStation(t, freePort(t))
	ghost := netmon.Interface{Index: 9999, Name: "ghost", Loopback: true, V4: []netip.Prefix{netip.MustParsePrefix("127.9.0.1/16")}}
	s.Update(append(netmon.Snapshot{ghost}, loopback(t)...))
	err := s.Broadcast([]byte("still sent"))
	var ie *InterfaceError
	if !errors.As(err, &ie) || ie.Index != 9999 || ie.Name != "ghost" || !strings.Contains(err.Error(), "IPv4 broadcast on ghost") {
		t.Errorf("error %v", err)
	}
	s.wants("still sent")
	if f := s.Faults(); len(f) != 1 || f[0].Index != 9999 {
		t.Errorf("faults %v", f)
	}
	s.Update(loopback(t))
	if err := s.Broadcast([]byte("again")); err != nil {
		t.Error(err)
	}
	if f := s.Faults(); len(f) != 0 {
		t.Errorf("faults %v", f)
	}
}

func TestNoInterfaceIsNoError(t *testing.T) {
	s := loopbackStation(t, freePort(t))
	s.Update(nil)
	if err := s.Broadcast([]byte("into the void")); err != nil {
		t.Error(err)
	}
}

// Somebody who does not share has the port: one clear error, and nothing stays open.
func TestSharedPortTaken(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("loopback has a broadcast address on Linux only")
	}
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 255, 255, 255)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := Listen(Config{Port: portOf(c), LoopbackOnly: true})
	if s != nil || err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%v %v", s, err)
	}
}

func TestUnicastPortIsKept(t *testing.T) {
	port := freePort(t)
	s, err := Listen(Config{Port: freePort(t), UnicastPort: port, LoopbackOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Port() != port {
		t.Errorf("port %d, want %d", s.Port(), port)
	}
	if second, err := Listen(Config{Port: freePort(t), UnicastPort: port, LoopbackOnly: true}); second != nil || err == nil {
		t.Error("two daemons have one unicast port")
	}
}

func TestGroupMustBeLinkLocal(t *testing.T) {
	for _, g := range []string{"224.0.0.1", "ff05::1", "fe80::1", "::1"} {
		if s, err := Listen(Config{Group: netip.MustParseAddr(g), LoopbackOnly: true}); s != nil || err == nil {
			t.Errorf("group %s accepted", g)
		}
	}
}

func TestCloseAndRun(t *testing.T) {
	listen := func() *Sockets {
		s, err := Listen(Config{Port: freePort(t), LoopbackOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("closed before", func(t *testing.T) {
		s := listen()
		s.Close()
		s.Close()
		if err := s.Run(context.Background(), nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
		if err := s.Unicast(netip.MustParseAddrPort("127.0.0.1:9"), []byte{1}); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Unicast: %v", err)
		}
	})
	t.Run("closed while running", func(t *testing.T) {
		s := listen()
		done := make(chan error, 1)
		go func() { done <- s.Run(context.Background(), func(Packet) {}) }()
		go s.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Run("close waits for the handler", func(t *testing.T) {
		s := listen()
		s.Update(loopback(t))
		began, end := make(chan struct{}), make(chan struct{})
		var ended atomic.Bool
		go s.Run(context.Background(), func(Packet) {
			close(began)
			<-end
			ended.Store(true)
		})
		if err := s.Unicast(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Port()), []byte{1}); err != nil {
			t.Fatal(err)
		}
		<-began
		closed := make(chan bool)
		go func() {
			s.Close()
			closed <- ended.Load()
		}()
		<-s.closed // Close has begun, and must not return before the handler has
		close(end)
		if !<-closed {
			t.Error("closed while the handler ran")
		}
	})
	t.Run("run twice", func(t *testing.T) {
		s := listen()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, func(Packet) {}) }()
		second := make(chan error, 1)
		go func() { second <- s.Run(ctx, func(Packet) {}) }()
		var err error
		select { // one of the two is refused at once
		case err = <-done:
			done = second
		case err = <-second:
		}
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("the second Run: %v", err)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the first Run: %v", err)
		}
	})
}

func TestDirectedBroadcast(t *testing.T) {
	for prefix, want := range map[string]string{
		"192.0.2.7/24": "192.0.2.255", "10.1.2.3/8": "10.255.255.255", "192.0.2.5/30": "192.0.2.7", "127.0.0.1/8": "127.255.255.255",
		"172.16.9.1/12": "172.31.255.255", "192.0.2.7/31": "", "192.0.2.7/32": "", "192.0.2.7/0": "", "2001:db8::1/64": "",
	} {
		got, ok := directedBroadcast(netip.MustParsePrefix(prefix))
		if ok != (want != "") || ok && got.String() != want {
			t.Errorf("%s: %v", prefix, got)
		}
	}
}

// The tests of this file stay on loopback; the guard would say so if an address changed.
func TestGuardAllowsTheLoopbackSockets(t *testing.T) {
	for _, a := range []string{loopbackBroadcast().String(), "127.0.0.1"} {
		if err := netns.Guard(a); err != nil {
			t.Error(err)
		}
	}
}
