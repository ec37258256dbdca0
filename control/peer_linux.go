package control

import (
	"encoding/binary"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

func peerCredentials(fd int) (Credentials, error) {
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Credentials{}, os.NewSyscallError("SO_PEERCRED", err)
	}
	groups, err := peerGroups(fd)
	if err != nil {
		return Credentials{}, os.NewSyscallError("SO_PEERGROUPS", err)
	}
	return Credentials{UID: u.Uid, GID: u.Gid, PID: u.Pid, Groups: groups}, nil
}

// peerGroups reads SO_PEERGROUPS (Linux 4.13), for which x/sys has no function: an array of 32-bit gids. Without the option
// only the primary group counts.
func peerGroups(fd int) ([]uint32, error) {
	for size := uint32(4 * 32); ; {
		buf := make([]byte, size)
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case e == unix.ENOPROTOOPT:
			return nil, nil
		case e == unix.ERANGE && int(size) > len(buf) && size <= 4*maxGroups:
			continue // size is what it takes
		case e != 0:
			return nil, e
		}
		groups := make([]uint32, 0, size/4)
		for b := buf[:size]; len(b) >= 4; b = b[4:] {
			groups = append(groups, binary.NativeEndian.Uint32(b))
		}
		return groups, nil
	}
}
