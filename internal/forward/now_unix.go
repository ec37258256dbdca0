//go:build unix

package forward

import (
	"net"
	"syscall"
)

// readNow reads what a connection holds, without waiting. It says nothing of an end or an error: the next read will.
func readNow(conn net.Conn, p []byte) (n int) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	raw.Read(func(fd uintptr) bool {
		n, err = syscall.Read(int(fd), p)
		return err != syscall.EINTR
	})
	return max(n, 0)
}
