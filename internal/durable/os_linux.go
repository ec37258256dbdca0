package durable

import (
	"os"
	"syscall"
)

// datasync is fdatasync(2): content, size and block map, without the time stamps. Inside the zero-filled part of a log
// this saves the journal commit of every flush.
func datasync(f *os.File) error {
	c, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var syncErr error
	err = c.Control(func(fd uintptr) {
		for {
			// EINTR comes before anything was tried; every other error is final for this descriptor.
			if syncErr = syscall.Fdatasync(int(fd)); syncErr != syscall.EINTR {
				return
			}
		}
	})
	if err != nil {
		// Control itself fails only on a closed file, with an error of the runtime's own.
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: os.ErrClosed}
	}
	if syncErr != nil {
		return &os.PathError{Op: "fdatasync", Path: f.Name(), Err: syncErr}
	}
	return nil
}
