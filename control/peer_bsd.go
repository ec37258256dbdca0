//go:build darwin || freebsd

package control

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// solLocal is SOL_LOCAL of sys/un.h, 0 on both systems.
const solLocal = 0

func peerCredentials(fd int) (Credentials, error) {
	x, err := unix.GetsockoptXucred(fd, solLocal, unix.LOCAL_PEERCRED)
	if err != nil {
		return Credentials{}, os.NewSyscallError("LOCAL_PEERCRED", err)
	}
	n := int(x.Ngroups)
	if n < 1 || n > len(x.Groups) {
		return Credentials{}, errors.New("LOCAL_PEERCRED: no group")
	}
	// The first group is the effective one.
	return Credentials{UID: x.Uid, GID: x.Groups[0], Groups: append([]uint32{}, x.Groups[1:n]...)}, nil
}
