package control

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is the daemon's listening socket with its lock.
type Socket struct {
	*net.UnixListener
	path string
	self os.FileInfo // the socket file we made
	lock *os.File
}

// Listen makes the socket, mode 0600, or 0660 with that group if group is not nil. Its directory must exist.
//
// The order, and what a crash leaves: the lock beside the socket is taken first and kept, so that two daemons cannot both find
// the old socket stale; then a socket that nobody answers is removed; then the new one is bound, with its mode already set
// where the system allows that. A crash anywhere leaves at most a stale socket, which the next start removes.
func Listen(path string, group *uint32) (*Socket, error) {
	if len(path) > maxSocketPath {
		return nil, Errorf(Usage, "choose a shorter one: --socket /run/meshkey/meshkey.sock",
			"the socket path %s has %d characters, the system allows %d", path, len(path), maxSocketPath)
	}
	lock, err := lockSocket(path + ".lock")
	if err != nil {
		return nil, err
	}
	s, err := listenLocked(path, group)
	if err != nil {
		lock.Close()
		return nil, err
	}
	s.lock = lock
	return s, nil
}

func lockSocket(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, Errorf(Failed, "mkdir -m 700 "+filepath.Dir(name), "the directory of the control socket does not exist: %w", err)
		}
		return nil, Errorf(Failed, "", "the lock of the control socket: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, inUse(name)
		}
		return nil, Errorf(Failed, "", "the lock of the control socket: %w", os.NewSyscallError("flock", err))
	}
	return f, nil
}

func inUse(path string) *Error {
	return Errorf(InUse, "meshkey status", "another daemon already serves %s", path)
}

// listenLocked runs with the lock held.
func listenLocked(path string, group *uint32) (*Socket, error) {
	if err := clearStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		// On Linux the mode of the descriptor becomes the file's, so there is no moment at which others could connect. Elsewhere
		// this fails and the chmod below does it; what slips in between meets the check of its credentials.
		return c.Control(func(fd uintptr) { unix.Fchmod(int(fd), 0o600) })
	}}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, Errorf(Failed, "", "the control socket: %w", err)
	}
	u := ln.(*net.UnixListener)
	u.SetUnlinkOnClose(false) // by name, whoever's it is by then
	fail := func(err error) (*Socket, error) {
		u.Close()
		os.Remove(path)
		return nil, Errorf(Failed, "", "the control socket: %w", err)
	}
	mode := fs.FileMode(0o600)
	if group != nil {
		if err := os.Lchown(path, -1, int(*group)); err != nil {
			return fail(err)
		}
		mode = 0o660
	}
	if err := os.Chmod(path, mode); err != nil {
		return fail(err)
	}
	self, err := os.Lstat(path)
	if err != nil {
		return fail(err)
	}
	return &Socket{UnixListener: u, path: path, self: self}, nil
}

// clearStale removes a socket nobody listens on. Anything else at that name is left alone and is an error.
func clearStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return Errorf(Failed, "", "the control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return Errorf(Failed, "move it away, or choose another with --socket", "%s exists and is no socket", path)
	}
	c, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case err == nil:
		c.Close()
		return inUse(path)
	case errors.Is(err, syscall.ECONNREFUSED):
	default:
		// A full backlog (EAGAIN), a timeout, or no permission: somebody may well be there.
		return Errorf(InUse, "meshkey status", "the socket %s is there and does not refuse: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return Errorf(Failed, "", "a stale control socket: %w", err)
	}
	return nil
}

// Close stops listening and removes the socket, if it is still the one made by Listen.
func (s *Socket) Close() error {
	err := s.UnixListener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	if now, statErr := os.Lstat(s.path); statErr == nil && os.SameFile(now, s.self) {
		err = errors.Join(err, os.Remove(s.path))
	}
	// The lock file stays: removing it would let two daemons lock two files of one name.
	return errors.Join(err, s.lock.Close())
}
