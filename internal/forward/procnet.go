package forward

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

var errNoSocket = errors.New("no such socket")

// procLine is one socket of /proc/net/tcp or tcp6.
type procLine struct {
	local, remote netip.AddrPort
	state         uint8
	socket        socket
}

// listening is TCP_LISTEN as the kernel prints it.
const listening = 0x0A

// findProc looks for the socket with this pair of addresses.
func findProc(r io.Reader, local, remote netip.AddrPort) (socket, error) {
	var found *socket
	err := eachProc(r, func(p procLine) bool {
		if p.local == local && p.remote == remote {
			found = &p.socket
		}
		return found == nil
	})
	if err != nil {
		return socket{}, err
	}
	if found == nil {
		return socket{}, errNoSocket
	}
	return *found, nil
}

// eachProc calls fn for each line that is a socket until it returns false. Lines in another form are skipped: the header, and
// what later kernels may add.
func eachProc(r io.Reader, fn func(procLine) bool) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, maxProcLine), maxProcLine)
	for n := 0; sc.Scan(); n++ {
		if n == maxProcLines {
			return errors.New("more sockets than expected")
		}
		if p, ok := parseProcLine(sc.Text()); ok && !fn(p) {
			return nil
		}
	}
	return sc.Err()
}

// parseProcLine reads "sl: local remote st queues timer retransmits uid timeout inode …", with addresses as
// HEX:PORT in words of host byte order.
func parseProcLine(s string) (procLine, bool) {
	f := strings.Fields(s)
	if len(f) < 10 || !strings.HasSuffix(f[0], ":") {
		return procLine{}, false
	}
	local, ok1 := parseProcAddr(f[1])
	remote, ok2 := parseProcAddr(f[2])
	state, err1 := strconv.ParseUint(f[3], 16, 8)
	uid, err2 := strconv.ParseUint(f[7], 10, 32)
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	if !ok1 || !ok2 || err1 != nil || err2 != nil || err3 != nil {
		return procLine{}, false
	}
	return procLine{local, remote, uint8(state), socket{uint32(uid), inode}}, true
}

func parseProcAddr(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || len(port) != 4 {
		return netip.AddrPort{}, false
	}
	b, err := hex.DecodeString(host)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		// Printed is the word as a number; in memory it was in network order.
		binary.NativeEndian.PutUint32(b[i:], binary.BigEndian.Uint32(b[i:]))
	}
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(p)), true
}

// wide reports whether a table of sockets has a listener for port on all addresses.
func wide(r io.Reader, port uint16) (found bool, err error) {
	err = eachProc(r, func(p procLine) bool {
		found = p.state == listening && p.local.Port() == port && p.local.Addr().IsUnspecified()
		return !found
	})
	return found, err
}
