package beacon

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// udpSockets lists the local addresses of all UDP sockets this process has open, as the kernel tells them. The network is that of this
// thread: the first one, which /proc/self means, may have been left on a host of a namespace test.
func udpSockets(t *testing.T) []netip.AddrPort {
	t.Helper()
	mine := make(map[string]bool)
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil {
			if inode, ok := strings.CutPrefix(link, "socket:["); ok {
				mine[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	var out []netip.AddrPort
	for _, name := range []string{"/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"} {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Scan() // the heading
		for lines.Scan() {
			if w := strings.Fields(lines.Text()); mine[w[9]] {
				out = append(out, kernelAddress(t, w[1]))
			}
		}
	}
	return out
}

// kernelAddress reads "0100007F:1D35": the address as little-endian 32-bit words, the port as a number.
func kernelAddress(t *testing.T, s string) netip.AddrPort {
	t.Helper()
	words, portText, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(words)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+4 <= len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	ip, ok := netip.AddrFromSlice(b)
	var port uint16
	if _, err := fmt.Sscanf(portText, "%X", &port); err != nil || !ok {
		t.Fatalf("%q: %v", s, err)
	}
	return netip.AddrPortFrom(ip, port)
}

// With LoopbackOnly the process has two UDP sockets, 127.255.255.255 and 127.0.0.1, also after beacons went out.
func TestLoopbackOnlyOpensNothingElse(t *testing.T) {
	before := udpSockets(t)
	port := freePort(t)
	s := loopbackStation(t, port)
	if err := s.Broadcast([]byte("heard")); err != nil {
		t.Fatal(err)
	}
	s.wants("heard")
	s.rejoin()
	var opened []netip.AddrPort
	for _, a := range udpSockets(t) {
		if !slices.Contains(before, a) {
			opened = append(opened, a)
		}
	}
	want := []netip.AddrPort{
		netip.AddrPortFrom(netip.MustParseAddr("127.255.255.255"), port),
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.Port()),
	}
	slices.SortFunc(opened, netip.AddrPort.Compare)
	slices.SortFunc(want, netip.AddrPort.Compare)
	if !slices.Equal(opened, want) {
		t.Errorf("open: %v, want %v", opened, want)
	}
	for _, a := range opened {
		if !a.Addr().IsLoopback() {
			t.Errorf("%v is not loopback", a)
		}
	}
}
