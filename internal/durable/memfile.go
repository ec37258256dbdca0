package durable

import (
	"io"
	"io/fs"
	"os"
	"syscall"
)

// memFile is a handle on a file of a [Mem].
type memFile struct {
	// immutable
	fsys *Mem
	node *memNode
	name string
	flag int
	life int

	// guarded by fsys.mu
	pos    int64
	closed bool
}

// usableLocked is the first check of every operation on a handle.
func (f *memFile) usableLocked(op Op) error {
	switch {
	case f.closed:
		return fs.ErrClosed
	case f.life != f.fsys.life:
		return ErrPowerCut
	case op == OpRead && f.flag&os.O_WRONLY != 0, op != OpRead && op != OpSync && !writable(f.flag):
		return syscall.EBADF
	}
	return nil
}

// do is the frame of the operations on handles. If the operation meets a fault without effect, miss is called instead.
func (f *memFile) do(op Op, verb string, change func() error, miss func()) error {
	f.fsys.mu.Lock()
	defer f.fsys.mu.Unlock()
	err := f.usableLocked(op)
	if err == nil {
		dark := f.fsys.down
		var do bool
		do, err = f.fsys.stepLocked(op, f.name)
		if do {
			if changeErr := change(); err == nil {
				err = changeErr
			}
		} else if !dark && miss != nil {
			miss()
		}
	}
	if err == nil || err == io.EOF {
		return err
	}
	return &fs.PathError{Op: verb, Path: f.name, Err: err}
}

func (f *memFile) Read(p []byte) (n int, err error) {
	err = f.do(OpRead, "read", func() error {
		if n, err = f.node.read(p, f.pos); n > 0 && err == io.EOF {
			err = nil
		}
		f.pos += int64(n)
		return err
	}, nil)
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (n int, err error) {
	err = f.do(OpRead, "read", func() error {
		n, err = f.node.read(p, off)
		return err
	}, nil)
	return n, err
}

func (f *memFile) Write(p []byte) (int, error) {
	at := func() int64 {
		if f.flag&os.O_APPEND != 0 {
			return int64(len(f.node.data))
		}
		return f.pos
	}
	return f.write(p, at, func(end int64) { f.pos = end })
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	if f.flag&os.O_APPEND != 0 {
		return 0, &fs.PathError{Op: "write", Path: f.name, Err: fs.ErrInvalid}
	}
	return f.write(p, func() int64 { return off }, func(int64) {})
}

func (f *memFile) write(p []byte, at func() int64, moved func(end int64)) (n int, err error) {
	put := func(b []byte) {
		off := at()
		f.node.write(b, off)
		n = len(b)
		moved(off + int64(n))
	}
	err = f.do(OpWrite, "write", func() error {
		fits := f.fsys.roomLocked(f.node, at(), int64(len(p)))
		put(p[:fits])
		if fits < int64(len(p)) {
			return syscall.ENOSPC
		}
		return nil
	}, func() { put(p[:len(p)/2]) })
	return n, err
}

func (f *memFile) Sync() error {
	return f.do(OpSync, "sync", func() error {
		f.node.settle(func(int64) bool { return true }, true)
		return nil
	}, func() {
		// As on Linux: the error is reported once, the pages count as clean, and only a new write makes them dirty
		// again. The size is metadata and stays to be written.
		f.node.dirty = nil
	})
}

func (f *memFile) Truncate(size int64) error {
	return f.do(OpTruncate, "truncate", func() error {
		if grow := size - int64(len(f.node.data)); f.fsys.roomLocked(f.node, size-max(0, grow), max(0, grow)) < grow {
			return syscall.ENOSPC
		}
		f.node.truncate(size)
		return nil
	}, nil)
}

func (f *memFile) Stat() (info fs.FileInfo, err error) {
	f.fsys.mu.Lock()
	defer f.fsys.mu.Unlock()
	if f.closed {
		return nil, &fs.PathError{Op: "stat", Path: f.name, Err: fs.ErrClosed}
	}
	return f.node.info(f.name), nil
}

// Close closes the handle; it changes nothing, so no fault hits it.
func (f *memFile) Close() error {
	f.fsys.mu.Lock()
	defer f.fsys.mu.Unlock()
	if f.closed {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.closed = true
	return nil
}

// roomLocked returns how many of n bytes at off fit under the limit.
func (m *Mem) roomLocked(node *memNode, off, n int64) int64 {
	if !m.limited {
		return n
	}
	free := max(0, m.space-m.usedLocked())
	return min(n, max(0, int64(len(node.data))+free-off))
}

func (n *memNode) read(p []byte, off int64) (int, error) {
	if off >= int64(len(n.data)) {
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	k := copy(p, n.data[off:])
	if k < len(p) {
		return k, io.EOF
	}
	return k, nil
}

func (n *memNode) write(p []byte, off int64) {
	if len(p) == 0 {
		return
	}
	end := off + int64(len(p))
	if end > int64(len(n.data)) {
		n.startResize()
		n.data = growTo(n.data, end)
	}
	copy(n.data[off:end], p)
	if n.dirty == nil {
		n.dirty = map[int64]bool{}
	}
	for i := off / sectorSize; i*sectorSize < end; i++ {
		n.dirty[i] = true
	}
}

func (n *memNode) truncate(size int64) {
	n.startResize()
	n.shrunk = min(n.shrunk, size)
	if size <= int64(len(n.data)) {
		n.data = n.data[:size:size] // capped, so that growing again meets zeros
		return
	}
	n.data = growTo(n.data, size)
}

func (n *memNode) startResize() {
	if !n.resize {
		n.resize, n.shrunk = true, int64(len(n.data))
	}
}
