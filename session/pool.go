package session

import (
	"sync"
	"sync/atomic"
)

// buffer is a pooled block of one of four classes. The struct travels with its slice, so that putting it back allocates nothing.
type buffer struct {
	b     []byte // always the whole class
	class int
}

// classes are the sizes of pooled buffers: a control message; one, four and sixteen full stream records; the longest control
// record fits the third.
var classes = [...]int{1024, streamFrame, 4 * streamFrame, maxGather * streamFrame}

// pool is the process-wide set of free buffers: a cache, not state. out is how many bytes are in use.
var pool struct {
	free [len(classes)]sync.Pool
	out  atomic.Int64
}

// getBuffer returns a buffer of at least n bytes, n at most the largest class.
func getBuffer(n int) *buffer {
	class := 0
	for classes[class] < n {
		class++
	}
	pool.out.Add(int64(classes[class]))
	if b, ok := pool.free[class].Get().(*buffer); ok {
		return b
	}
	return &buffer{b: make([]byte, classes[class]), class: class}
}

// putBuffer takes a buffer back. The caller has no reference left.
func putBuffer(b *buffer) {
	pool.out.Add(-int64(classes[b.class]))
	pool.free[b.class].Put(b)
}

// gatherSize returns how many bytes a read or write may gather now, at most want: less when many buffers are out, so that a
// thousand slow streams cannot pin the memory a few fast ones use well. One record is always allowed, or nothing would move.
func gatherSize(want int) int {
	out := pool.out.Load()
	limit := classes[3]
	switch {
	case out >= poolTight:
		limit = classes[1]
	case out >= poolEasy:
		limit = classes[2]
	}
	return min(want, limit)
}

// Buffered returns the bytes of all buffers in use, for metrics and tests.
func Buffered() int64 { return pool.out.Load() }
