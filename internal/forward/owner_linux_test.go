package forward

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestPeerUIDOfOwnConnections(t *testing.T) {
	for _, c := range []struct{ name, network, listen, dial string }{
		{"IPv4", "tcp4", "127.0.0.1:0", ""},
		{"IPv4 elsewhere in 127/8", "tcp4", "127.77.3.4:0", ""},
		{"IPv6", "tcp6", "[::1]:0", ""},
		{"IPv4 client of an IPv6 listener", "tcp", "[::]:0", "127.0.0.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := accept(t, c.network, c.listen, func(addr string) {
				if c.dial != "" {
					_, port, _ := net.SplitHostPort(addr)
					addr = net.JoinHostPort(c.dial, port)
				}
				cl, err := net.Dial("tcp", addr)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { cl.Close() })
			})
			if uid, err := PeerUID(conn); err != nil || uid != me() {
				t.Fatalf("PeerUID = %d, %v; want %d", uid, err, me())
			}
		})
	}
}

// mappedClient connects to an IPv4 address through an IPv6 socket, as Java and others do.
func mappedClient(t *testing.T, addr string) {
	ap := netip.MustParseAddrPort(addr)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Connect(fd, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}); err != nil {
		t.Fatal(err)
	}
}

func TestPeerUIDOfAnIPv6SocketToIPv4(t *testing.T) {
	conn := accept(t, "tcp4", "127.0.0.1:0", func(addr string) { mappedClient(t, addr) })
	if uid, err := PeerUID(conn); err != nil || uid != me() {
		t.Fatalf("PeerUID = %d, %v; want %d", uid, err, me())
	}
	client, server, err := loopbackPair(conn)
	if err != nil {
		t.Fatal(err)
	}
	s, err := procOwner(client, server)
	if err != nil || s.uid != me() || s.inode == 0 {
		t.Fatalf("/proc/net: %+v, %v", s, err)
	}
}

func TestBothSourcesAgree(t *testing.T) {
	conn := accept(t, "tcp4", "127.0.0.1:0", func(addr string) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	})
	client, server, err := loopbackPair(conn)
	if err != nil {
		t.Fatal(err)
	}
	diag, err := diagOwner(client, server)
	if err != nil {
		t.Fatal(err)
	}
	proc, err := procOwner(client, server)
	if err != nil {
		t.Fatal(err)
	}
	if diag != proc || diag.uid != me() || diag.inode == 0 {
		t.Fatalf("sock_diag %+v, /proc/net %+v", diag, proc)
	}
	// The other way round is the server's own socket: another inode.
	other, err := diagOwner(server, client)
	if err != nil || other.inode == diag.inode {
		t.Fatalf("the server's socket %+v, %v", other, err)
	}
}

// A client that writes and closes at once leaves a socket that the kernel reports as root's. A daemon of root must not take it
// for its owner's.
func TestPeerUIDRefusesAClosedClient(t *testing.T) {
	conn := accept(t, "tcp4", "127.0.0.1:0", func(addr string) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("DELETE / HTTP/1.1\r\n\r\n"))
		c.Close()
	})
	// The socket is orphaned now; poll, because close returns before the kernel has finished.
	deadline := time.Now().Add(30 * time.Second)
	for {
		uid, err := PeerUID(conn)
		if errors.Is(err, ErrUnknownUser) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a closed client passed as uid %d, %v", uid, err)
		}
	}
	if err := OwnerOnly(PeerUID, 0)(conn); !errors.Is(err, ErrUnknownUser) {
		t.Fatalf("a closed client is let in as root: %v", err)
	}
}

// A user namespace can give us a second uid only as root; the same check runs with an injected source in owner_test.go.
func TestPeerUIDOfAnotherUser(t *testing.T) {
	const other = 4321
	uid := me()
	attr := &syscall.SysProcAttr{}
	if uid == 0 {
		uid = other
		attr.Credential = &syscall.Credential{Uid: other, Gid: other}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if uid == other {
		// The test binary lies in a directory only its builder can enter.
		exe = copyForAll(t, exe)
	}
	conn := accept(t, "tcp4", "127.0.0.1:0", func(addr string) {
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), dialHelper+"="+addr)
		cmd.SysProcAttr = attr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close(); cmd.Wait() })
	})
	got, err := PeerUID(conn)
	if err != nil || got != uid {
		t.Fatalf("PeerUID = %d, %v; want %d", got, err, uid)
	}
	if uid == other {
		if err := OwnerOnly(PeerUID, me())(conn); !errors.Is(err, ErrWrongUser) {
			t.Fatalf("another user is let in: %v", err)
		}
	}
}

func copyForAll(t *testing.T, exe string) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "forward-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	data, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	name := dir + "/client"
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(name, data, 0o755)); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDiagAnswerIsChecked(t *testing.T) {
	client, server := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:80")
	good := diagReplyFor(client, server, 100, 99)
	s, err := parseDiag(good, client, server)
	if err != nil || s.uid != 100 || s.inode != 99 {
		t.Fatalf("%+v, %v", s, err)
	}
	for n := range good {
		if _, err := parseDiag(good[:n], client, server); err == nil {
			t.Fatalf("an answer cut to %d bytes was accepted", n)
		}
		if n < 4 {
			continue
		}
		short := append([]byte{}, good[:n]...)
		binary.NativeEndian.PutUint32(short, uint32(n))
		if _, err := parseDiag(short, client, server); err == nil {
			t.Fatalf("an answer of %d bytes was accepted", n)
		}
	}
	for _, other := range []string{"127.0.0.1:1001", "127.0.0.2:1000"} {
		if _, err := parseDiag(good, netip.MustParseAddrPort(other), server); err == nil {
			t.Errorf("an answer about another client than %s was accepted", other)
		}
		if _, err := parseDiag(diagReplyFor(server, client, 1, 1), server, netip.MustParseAddrPort(other)); err == nil {
			t.Errorf("an answer about another server than %s was accepted", other)
		}
	}
}

func diagReplyFor(client, server netip.AddrPort, uid, inode byte) []byte {
	b := append(diagQuestion(client, server)[:nlHeader], make([]byte, diagAnswer-nlHeader)...)
	b[0] = diagAnswer
	b[nlHeader] = unix.AF_INET
	putDiagID(b[nlHeader+4:], client, server)
	b[nlHeader+4+diagID+12] = uid
	b[nlHeader+4+diagID+16] = inode
	return b
}

func TestProcLookup(t *testing.T) {
	table := `
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5555 1 0000000000000000 100 0 0 10 0
   1: 0100007F:03E8 03004D7F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 7777 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:03E9 03004D7F:0050 06 00000000:00000000 03:00000000 00000000     0        0 0 3 0000000000000000
`
	find := func(client string) (socket, error) {
		return findProc(strings.NewReader(table), netip.MustParseAddrPort(client), netip.MustParseAddrPort("127.77.0.3:80"))
	}
	if s, err := find("127.0.0.1:1000"); err != nil || s != (socket{1000, 7777}) {
		t.Errorf("established: %+v, %v", s, err)
	}
	if s, err := find("127.0.0.1:1001"); err != nil || s.inode != 0 {
		t.Errorf("time-wait: %+v, %v; want inode 0", s, err)
	}
	if _, err := find("127.0.0.1:1002"); !errors.Is(err, errNoSocket) {
		t.Errorf("absent: %v", err)
	}
	if w, err := wide(strings.NewReader(table), 8080); err != nil || !w {
		t.Errorf("port 8080 listens on all addresses: %v, %v", w, err)
	}
	if w, _ := wide(strings.NewReader(table), 1000); w {
		t.Error("port 1000 is no listener")
	}
	if err := eachProc(strings.NewReader(strings.Repeat("x", maxProcLine+1)), func(procLine) bool { return true }); err == nil {
		t.Error("a line without end was accepted")
	}
}

func TestListensWide(t *testing.T) {
	// Port of a loopback listener: not wide. The wide case comes from a table above: tests open nothing beyond loopback.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	found, known := ListensWide(uint16(ln.Addr().(*net.TCPAddr).Port))
	if found || !known {
		t.Fatalf("found %v, known %v", found, known)
	}
}

func FuzzProcLine(f *testing.F) {
	f.Add("   1: 0100007F:03E8 03004D7F:0050 01 00000000:00000000 00:00000000 00000000  1000        0 7777 1")
	f.Add("   1: 0000000000000000FFFF00000100007F:03E8 0000000000000000FFFF00000100007F:0050 01 0:0 0:0 0  1000        0 7777 1")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := parseProcLine(s)
		if !ok && p != (procLine{}) {
			t.Fatal("a refused line left something behind")
		}
		if ok && (!p.local.IsValid() || !p.remote.IsValid()) {
			t.Fatalf("accepted %q with addresses %v, %v", s, p.local, p.remote)
		}
	})
}

func FuzzDiag(f *testing.F) {
	client, server := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:80")
	f.Add(diagReplyFor(client, server, 1, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseDiag(b, client, server); err != nil && s != (socket{}) {
			t.Fatal("an error and a socket")
		}
	})
}
