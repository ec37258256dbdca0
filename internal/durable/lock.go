package durable

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/gofrs/flock"
)

// ErrLocked says that another process uses the state directory; the error it is in names the process if it is known.
var ErrLocked = errors.New("in use by another process")

// lockName is the file in the state directory that the lock is on. It is never removed: a second process could lock
// the removed file while a third makes and locks a new one.
const lockName = "lock"

// Locked is a state directory that is ours until Close.
type Locked struct {
	lock *flock.Flock // immutable
	path string       // immutable
}

// Lock takes the state directory for this process, without waiting. It fails with [ErrLocked] if somebody else, also
// in this process, has it. The kernel frees the lock when the process ends, however it ends.
func Lock(dir string) (*Locked, error) {
	path := filepath.Join(dir, lockName)
	// Read-write because NFS emulates flock by record locks, which need it.
	lock := flock.New(path, flock.SetFlag(os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW), flock.SetPermissions(filePerm))
	ok, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("locking state directory %s: %w", dir, err)
	}
	if !ok {
		if pid := readPid(path); pid > 0 {
			return nil, fmt.Errorf("state directory %s is %w (pid %d): stop that one, or use another directory", dir, ErrLocked, pid)
		}
		return nil, fmt.Errorf("state directory %s is %w: stop that one, or use another directory", dir, ErrLocked)
	}
	l := &Locked{lock: lock, path: path}
	// The number is a service to whoever comes second; the lock does not depend on it.
	_ = l.writePid(strconv.Itoa(os.Getpid()) + "\n")
	return l, nil
}

// Close gives the directory free.
func (l *Locked) Close() error {
	_ = l.writePid("")
	return l.lock.Close()
}

func (l *Locked) writePid(text string) error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_TRUNC|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// readPid returns the process number in a lock file, or 0 if there is none, or only a part of one.
func readPid(path string) int {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, lockReadMax))
	if err != nil {
		return 0
	}
	digits, ok := strings.CutSuffix(string(b), "\n")
	if !ok || !isDigits(digits) {
		return 0
	}
	pid, err := strconv.Atoi(digits)
	if err != nil {
		return 0
	}
	return pid
}
