package forward

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

func fixedUID(uid uint32, err error) func(net.Conn) (uint32, error) {
	return func(net.Conn) (uint32, error) { return uid, err }
}

func TestOwnerOnlyRefusesAnotherUser(t *testing.T) {
	if err := OwnerOnly(fixedUID(1001, nil), 1000, 1002)(nil); !errors.Is(err, ErrWrongUser) {
		t.Fatalf("uid 1001 where 1000 and 1002 are served: %v", err)
	}
	if err := OwnerOnly(fixedUID(1000, nil), 1000)(nil); err != nil {
		t.Fatalf("the owner is refused: %v", err)
	}
	if err := OwnerOnly(fixedUID(0, nil), 1000)(nil); !errors.Is(err, ErrWrongUser) {
		t.Fatalf("uid 0 where 1000 is served: %v", err)
	}
}

func TestOwnerOnlyRefusesWhereTheUserIsUnknown(t *testing.T) {
	// The zero uid that comes with an error must not count as root.
	if err := OwnerOnly(fixedUID(0, ErrUnknownUser), 0)(nil); !errors.Is(err, ErrUnknownUser) {
		t.Fatalf("unknown user: %v", err)
	}
}

func TestSocketWithoutProcessHasNoUser(t *testing.T) {
	if _, err := (socket{uid: 0, inode: 0}).user(); !errors.Is(err, ErrUnknownUser) {
		t.Fatalf("orphaned socket: %v", err)
	}
}

func TestOverflowUIDIsNobody(t *testing.T) {
	if _, err := (socket{uid: overflowUID, inode: 7}).user(); !errors.Is(err, ErrUnknownUser) {
		t.Fatalf("overflow uid: %v", err)
	}
	if uid, err := (socket{uid: 1000, inode: 7}).user(); err != nil || uid != 1000 {
		t.Fatalf("plain socket: %d, %v", uid, err)
	}
}

type addrConn struct {
	net.Conn
	local, remote net.Addr
}

func (c addrConn) LocalAddr() net.Addr  { return c.local }
func (c addrConn) RemoteAddr() net.Addr { return c.remote }

func TestOnlyLoopbackHasAUser(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for _, c := range []addrConn{
		{local: tcp("127.0.0.1:80"), remote: tcp("192.0.2.1:999")},
		{local: tcp("192.0.2.1:80"), remote: tcp("192.0.2.1:999")},
		{local: tcp("[::1]:80"), remote: tcp("[fe80::1%1]:999")},
		{local: tcp("127.0.0.1:80"), remote: tcp("[::1]:999")},
		{local: &net.UnixAddr{Name: "/x"}, remote: &net.UnixAddr{}},
	} {
		if _, err := PeerUID(c); !errors.Is(err, ErrUnknownUser) {
			t.Errorf("%v -> %v: %v; want unknown user", c.remote, c.local, err)
		}
		// Not because there is no such socket: it is not even looked for.
		if _, _, err := loopbackPair(c); !errors.Is(err, ErrUnknownUser) {
			t.Errorf("%v -> %v: %v; want unknown user before any look-up", c.remote, c.local, err)
		}
	}
	pair := addrConn{local: tcp("[::ffff:127.77.0.3]:80"), remote: tcp("[::ffff:127.0.0.1]:999")}
	client, server, err := loopbackPair(pair)
	if err != nil || client.String() != "127.0.0.1:999" || server.String() != "127.77.0.3:80" {
		t.Fatalf("mapped addresses: %v, %v, %v", client, server, err)
	}
}

// accept listens on addr and returns the server's end of one connection made by dial.
func accept(t *testing.T, network, addr string, dial func(addr string)) net.Conn {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dial(ln.Addr().String())
	ln.(*net.TCPListener).SetDeadline(time.Now().Add(30 * time.Second))
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func me() uint32 { return uint32(os.Getuid()) }
