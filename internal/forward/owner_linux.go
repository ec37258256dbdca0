package forward

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// KnowsUsers reports whether PeerUID can work on this system.
func KnowsUsers() bool { return true }

// socketOwner finds the client's socket: its own address is the client's, its peer the server's. sock_diag answers for exactly
// this pair; /proc/net/tcp is the way where sock_diag is forbidden or not built in (its ENOENT means either).
func socketOwner(client, server netip.AddrPort) (socket, error) {
	s, err := diagOwner(client, server)
	if err == nil {
		return s, nil
	}
	s, procErr := procOwner(client, server)
	if procErr == nil {
		return s, nil
	}
	return socket{}, fmt.Errorf("sock_diag: %w; /proc/net: %w", err, procErr)
}

// The request (struct inet_diag_req_v2) and the answer (struct inet_diag_msg) of sock_diag(7), in host byte order but for ports
// and addresses:
//
//	nlmsghdr   len u32 · type u16 · flags u16 · seq u32 · pid u32
//	request    family u8 · protocol u8 · ext u8 · pad u8 · states u32 · id
//	answer     family u8 · state u8 · timer u8 · retrans u8 · id · expires u32 · rqueue u32 · wqueue u32 · uid u32 · inode u32
//	id         sport be16 · dport be16 · src 16 · dst 16 · if u32 · cookie 2 × u32 (all ones: any)
const (
	nlHeader    = unix.SizeofNlMsghdr
	diagID      = 48
	diagRequest = nlHeader + 8 + diagID
	diagAnswer  = nlHeader + 4 + diagID + 20
)

// diagOwner asks the kernel by netlink.
func diagOwner(client, server netip.AddrPort) (socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return socket{}, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(diagTimeout.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return socket{}, os.NewSyscallError("setsockopt", err)
	}
	req := diagQuestion(client, server)
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return socket{}, os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, diagReply)
	n, from, err := unix.Recvfrom(fd, buf, 0)
	if err != nil {
		return socket{}, os.NewSyscallError("recvfrom", err)
	}
	// Any process may send to our netlink address; only the kernel is port 0.
	if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
		return socket{}, errors.New("an answer that is not the kernel's")
	}
	return parseDiag(buf[:n], client, server)
}

func diagQuestion(client, server netip.AddrPort) []byte {
	ne := binary.NativeEndian
	b := make([]byte, diagRequest)
	ne.PutUint32(b[0:], diagRequest)
	ne.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	ne.PutUint32(b[8:], 1)
	b[16] = unix.AF_INET6
	if client.Addr().Is4() {
		b[16] = unix.AF_INET
	}
	b[17] = unix.IPPROTO_TCP
	ne.PutUint32(b[20:], ^uint32(0)) // any state
	putDiagID(b[24:], client, server)
	return b
}

func putDiagID(b []byte, client, server netip.AddrPort) {
	binary.BigEndian.PutUint16(b[0:], client.Port())
	binary.BigEndian.PutUint16(b[2:], server.Port())
	copy(b[4:20], client.Addr().AsSlice())
	copy(b[20:36], server.Addr().AsSlice())
	binary.NativeEndian.PutUint32(b[40:], ^uint32(0))
	binary.NativeEndian.PutUint32(b[44:], ^uint32(0))
}

// parseDiag reads the answer and makes sure that it is about the socket that was asked for.
func parseDiag(b []byte, client, server netip.AddrPort) (socket, error) {
	ne := binary.NativeEndian
	if len(b) < nlHeader || int(ne.Uint32(b)) > len(b) {
		return socket{}, errors.New("short answer")
	}
	switch ne.Uint16(b[4:]) {
	case unix.NLMSG_ERROR:
		if len(b) < nlHeader+4 {
			return socket{}, errors.New("short answer")
		}
		return socket{}, unix.Errno(-int32(ne.Uint32(b[nlHeader:])))
	case unix.SOCK_DIAG_BY_FAMILY:
	default:
		return socket{}, fmt.Errorf("answer of type %d", ne.Uint16(b[4:]))
	}
	if len(b) < diagAnswer {
		return socket{}, errors.New("short answer")
	}
	family, id := b[nlHeader], b[nlHeader+4:]
	if binary.BigEndian.Uint16(id) != client.Port() || binary.BigEndian.Uint16(id[2:]) != server.Port() ||
		diagAddr(family, id[4:20]) != client.Addr() || diagAddr(family, id[20:36]) != server.Addr() {
		return socket{}, errors.New("an answer about another socket")
	}
	tail := id[diagID:]
	return socket{uid: ne.Uint32(tail[12:]), inode: uint64(ne.Uint32(tail[16:]))}, nil
}

// diagAddr reads an address of an answer. A client may reach an IPv4 address through an IPv6 socket.
func diagAddr(family byte, b []byte) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b[:4]))
	}
	return netip.AddrFrom16([16]byte(b[:16])).Unmap()
}

// procOwner looks the socket up in the kernel's tables in text form.
func procOwner(client, server netip.AddrPort) (socket, error) {
	files := []string{"/proc/net/tcp6"}
	if client.Addr().Is4() {
		files = []string{"/proc/net/tcp", "/proc/net/tcp6"}
	}
	var last error
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			last = err
			continue
		}
		s, err := findProc(f, client, server)
		f.Close()
		if err == nil {
			return s, nil
		}
		last = err
	}
	return socket{}, last
}
