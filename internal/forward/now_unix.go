//go:build unix

package forward

import (
	"net"
	"os"
	"syscall"
)

// readNow reads what a connection holds, without waiting. It says nothing of an end: the next read will. Of an error it tells, for the
// kernel does so once.
func readNow(conn net.Conn, p []byte) (n int, err error) {
	c, ok := conn.(syscall.Conn)
	if !ok {
		return 0, nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	if closed := raw.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), p); err != syscall.EINTR {
				return true
			}
		}
	}); closed != nil {
		return 0, closed
	}
	if err == syscall.EAGAIN {
		return 0, nil
	}
	return max(n, 0), os.NewSyscallError("read", err)
}
