//go:build unix

package beacon

import (
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// shareAddress lets several daemons on one machine bind the shared port. On Linux every one of them then gets a copy of each
// broadcast and multicast datagram; the BSDs want the second option for the same.
func shareAddress(_, _ string, c syscall.RawConn) error {
	var opt error
	err := c.Control(func(fd uintptr) {
		opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if opt == nil && runtime.GOOS != "linux" {
			opt = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
	})
	if err != nil {
		return err
	}
	return opt
}
