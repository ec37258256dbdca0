package harden

import (
	"os"

	"golang.org/x/sys/unix"
)

// noCore forbids core files for this process and those it starts.
func noCore() error {
	return os.NewSyscallError("setrlimit RLIMIT_CORE", unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}))
}
