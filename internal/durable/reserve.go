package durable

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"sync"
)

// Reserve is disk space kept back in a file, so that when the disk is full a revocation can still be written: freeing
// is the one thing a full disk allows.
type Reserve struct {
	// immutable
	fsys FS
	name string
	size int64

	mu   sync.Mutex
	left int64 // guarded by mu; bytes still kept back
}

// OpenReserve keeps back size bytes (64 KiB to 64 MiB) in the file name, or as many as there is room for: a full disk
// is not an error here, because then it is what the reserve has left that is wanted.
func OpenReserve(fsys FS, name string, size int64) (*Reserve, error) {
	if size < reserveMin || size > reserveMax {
		return nil, fmt.Errorf("reserve %s: %d bytes, allowed are %d to %d", name, size, reserveMin, reserveMax)
	}
	r := &Reserve{fsys: fsys, name: name, size: size}
	if err := r.Refill(); err != nil && !IsNoSpace(err) {
		return nil, err
	}
	return r, nil
}

// Left returns how many bytes are kept back: less than the size after a rescue, until [Reserve.Refill].
func (r *Reserve) Left() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left
}

// Refill keeps back the full size again. It fails with [IsNoSpace] while there is no room, keeping what it got.
func (r *Reserve) Refill() (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := r.fsys.OpenFile(r.name, os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r.left = min(info.Size(), r.size)
	if info.Size() > r.size {
		if err := f.Truncate(r.size); err != nil {
			return err
		}
	}
	// Noise, because a file system that compresses or leaves holes would keep nothing back for zeros. It has to be
	// incompressible, not secret.
	noise := rand.NewChaCha8([32]byte{})
	buf := make([]byte, scanBuffer)
	for r.left < r.size {
		n := min(int64(len(buf)), r.size-r.left)
		_, _ = noise.Read(buf[:n]) // documented to never fail
		wrote, err := f.WriteAt(buf[:n], r.left)
		r.left += int64(wrote)
		if err != nil {
			return fmt.Errorf("reserve %s: %w", r.name, err)
		}
	}
	// Delayed allocation finds out here whether there is room. Nothing depends on the content.
	if err := f.Sync(); err != nil {
		return fmt.Errorf("reserve %s: %w", r.name, err)
	}
	return r.fsys.SyncDir(path.Dir(r.name))
}

// Do runs write, and while it fails for want of space ([IsNoSpace]) gives back a slice of the reserve and runs it
// again. write must be safe to repeat, as [WriteFile], [WriteNew], [OpenLog] and [Log.AppendSync] are.
//
// If a log in write has failed ([ErrFailed]: some file systems find no room only at the fsync) Do gives back one slice
// and returns the error, because running write again cannot help: the owner reopens the log, which now has the room, and
// comes back.
//
// Only what must be written on a full disk belongs here; everything else would eat the room of that.
func (r *Reserve) Do(write func() error) error {
	for {
		err := write()
		if err == nil || !IsNoSpace(err) {
			return err
		}
		freed, releaseErr := r.release()
		if releaseErr != nil {
			return errors.Join(err, releaseErr)
		}
		if !freed || errors.Is(err, ErrFailed) {
			return err
		}
	}
}

// release gives one slice back to the file system; false if there was none left.
func (r *Reserve) release() (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left <= 0 {
		return false, nil
	}
	f, err := r.fsys.OpenFile(r.name, os.O_RDWR, filePerm)
	if err != nil {
		// Somebody removed the file: then its space is free already.
		r.left = 0
		return false, err
	}
	defer f.Close()
	left := max(0, r.left-(r.size+reserveSlices-1)/reserveSlices)
	if err := f.Truncate(left); err != nil {
		return false, fmt.Errorf("reserve %s: %w", r.name, err)
	}
	r.left = left
	// Freed blocks can be used again once the change is in the journal.
	if err := f.Sync(); err != nil {
		return false, fmt.Errorf("reserve %s: %w", r.name, err)
	}
	return true, nil
}
