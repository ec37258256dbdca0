package control

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// machine is a system on which some addresses cannot be listened on.
type machine struct {
	fail  map[string]error
	asked []string
}

type memListener struct {
	net.Listener
	addr netip.AddrPort
}

func (m *machine) listen(_ context.Context, at netip.AddrPort) (net.Listener, error) {
	m.asked = append(m.asked, at.String())
	for prefix, err := range m.fail {
		if strings.Contains(at.String(), prefix) {
			return nil, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", err)}
		}
	}
	return memListener{addr: at}, nil
}

func at(t *testing.T, ln net.Listener, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return ln.(memListener).addr.String()
}

var ollama = &Endpoint{Node: NodeRef{Name: "gpu1", ID: "ID1"}, Service: "ollama", Port: 11434}

func TestServiceAddressIsStable(t *testing.T) {
	m := &machine{}
	ln, note, err := listenFor(t.Context(), m.listen, true, "", ollama)
	// Fixed here so that a change of the hash, which would move everybody's services, does not go unseen.
	if got := at(t, ln, err); got != "127.77.7.203:11434" || note != "" {
		t.Fatalf("listens on %s (%s)", got, note)
	}
	other := *ollama
	other.Node.ID = "ID2"
	ln, _, err = listenFor(t.Context(), m.listen, true, "", &other)
	if got := at(t, ln, err); got == "127.77.7.203:11434" {
		t.Fatal("two nodes' services share an address")
	}
}

func TestTakenAddressGoesToTheNext(t *testing.T) {
	m := &machine{fail: map[string]error{"127.77.7.203:": syscall.EADDRINUSE}}
	ln, _, err := listenFor(t.Context(), m.listen, true, "", ollama)
	if got := at(t, ln, err); got != "127.77.7.204:11434" {
		t.Fatalf("listens on %s", got)
	}
	m = &machine{fail: map[string]error{"127.77": syscall.EADDRINUSE}}
	if _, _, err := listenFor(t.Context(), m.listen, true, "", ollama); err == nil || len(m.asked) != maxProbes {
		t.Fatalf("%d probes, %v", len(m.asked), err)
	}
}

func TestPrivilegedPortMovesAloud(t *testing.T) {
	m := &machine{fail: map[string]error{":80": syscall.EACCES}}
	e := *ollama
	e.Port = 80
	ln, note, err := listenFor(t.Context(), m.listen, true, "", &e)
	if got := at(t, ln, err); !strings.HasSuffix(got, ":10080") || note == "" {
		t.Fatalf("listens on %s (%s)", got, note)
	}
	if !strings.HasPrefix(m.asked[0], "127.77.7.203:80") {
		t.Fatalf("asked for %v", m.asked)
	}
	// Not even the other one: an error, no endless search.
	m = &machine{fail: map[string]error{"127": syscall.EACCES}}
	if _, _, err := listenFor(t.Context(), m.listen, true, "", &e); err == nil || len(m.asked) != 2 {
		t.Fatalf("asked for %v, %v", m.asked, err)
	}
}

func TestUnknownPortIsStable(t *testing.T) {
	e := *ollama
	e.Port = 0
	m := &machine{}
	var got []string
	for range 2 {
		ln, _, err := listenFor(t.Context(), m.listen, true, "", &e)
		got = append(got, at(t, ln, err))
	}
	p := netip.MustParseAddrPort(got[0]).Port()
	if got[0] != got[1] || p < portBase || p >= portBase+portRange {
		t.Fatalf("listens on %v", got)
	}
}

func TestWithoutAliasesItIs127001(t *testing.T) {
	m := &machine{fail: map[string]error{":11434": syscall.EADDRINUSE, ":21434": syscall.EADDRINUSE}}
	ln, note, err := listenFor(t.Context(), m.listen, false, "", ollama)
	if got := at(t, ln, err); got != "127.0.0.1:0" || note == "" {
		t.Fatalf("listens on %s (%s)", got, note)
	}
	if want := []string{"127.0.0.1:11434", "127.0.0.1:21434", "127.0.0.1:0"}; !slices.Equal(m.asked, want) {
		t.Fatalf("asked for %v", m.asked)
	}
}

func TestAliasAddressesStayInTheirNet(t *testing.T) {
	net77 := netip.MustParsePrefix("127.77.0.0/16")
	for _, h := range []uint32{0, 1, 65532, 65533, 65534, 65535, 65536, 1<<32 - 1} {
		for i := range maxProbes {
			a := aliasAddr(h, i)
			if !net77.Contains(a) || a == netip.MustParseAddr("127.77.0.0") || a == netip.MustParseAddr("127.77.255.255") {
				t.Fatalf("hash %d, probe %d: %v", h, i, a)
			}
		}
	}
}

func FuzzParseListen(f *testing.F) {
	for _, s := range []string{"8080", "127.0.0.1:80", "[::1]:80", "localhost:1", "127.1.2.3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseListen(s)
		if err != nil && a.IsValid() {
			t.Fatal("an error and an address")
		}
		if err == nil && !a.Addr().IsLoopback() {
			t.Fatalf("%q is accepted as %v", s, a)
		}
	})
}
