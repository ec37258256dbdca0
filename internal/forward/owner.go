package forward

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// ErrUnknownUser is returned where the user at the other end of a connection cannot be known, so nobody must be served.
var ErrUnknownUser = errors.New("the local user of this connection cannot be known")

// ErrWrongUser is returned for a connection of another user.
var ErrWrongUser = errors.New("this entrance serves another user")

// overflowUID stands for "a user who has no number here": unmapped users of other user namespaces all look like it.
const overflowUID = 65534

// OwnerOnly returns a check for [Entrance.Allow] that lets in only connections of the given users. lookup is [PeerUID], or
// another source in a test.
func OwnerOnly(lookup func(net.Conn) (uint32, error), uids ...uint32) func(net.Conn) error {
	uids = slices.Clone(uids)
	return func(c net.Conn) error {
		uid, err := lookup(c)
		if err != nil {
			return err
		}
		if !slices.Contains(uids, uid) {
			return fmt.Errorf("%w (uid %d)", ErrWrongUser, uid)
		}
		return nil
	}
}

// PeerUID returns the user who holds the client's socket of a TCP connection accepted on a loopback address. The connection must
// have been accepted in this process's network namespace. See the package comment for what it refuses.
func PeerUID(conn net.Conn) (uint32, error) {
	client, server, err := loopbackPair(conn)
	if err != nil {
		return 0, err
	}
	owner, err := socketOwner(client, server)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrUnknownUser, err)
	}
	return owner.user()
}

// socket is what the kernel tells of a socket.
type socket struct {
	uid   uint32
	inode uint64
}

// user returns the uid of a socket that a process still holds.
func (s socket) user() (uint32, error) {
	if s.inode == 0 {
		// Closed by its process, alive in the kernel, and reported as uid 0 whoever opened it.
		return 0, fmt.Errorf("%w: already closed", ErrUnknownUser)
	}
	if s.uid == overflowUID {
		return 0, fmt.Errorf("%w: uid %d stands for many", ErrUnknownUser, s.uid)
	}
	return s.uid, nil
}

// loopbackPair returns the client's and the server's address of an accepted connection. IPv4 in IPv6 form becomes IPv4.
func loopbackPair(conn net.Conn) (client, server netip.AddrPort, err error) {
	r, ok1 := conn.RemoteAddr().(*net.TCPAddr)
	l, ok2 := conn.LocalAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return client, server, fmt.Errorf("%w: no TCP connection", ErrUnknownUser)
	}
	client, server = r.AddrPort(), l.AddrPort()
	client = netip.AddrPortFrom(client.Addr().Unmap().WithZone(""), client.Port())
	server = netip.AddrPortFrom(server.Addr().Unmap().WithZone(""), server.Port())
	if !client.Addr().IsLoopback() || !server.Addr().IsLoopback() || client.Addr().Is4() != server.Addr().Is4() {
		return client, server, fmt.Errorf("%w: %s to %s is not within this machine", ErrUnknownUser, client, server)
	}
	return client, server, nil
}
