package session

import (
	"io"
	"net"
	"reflect"
	"syscall"
)

// gather reads as much as there is from a connection into one pooled buffer, and holds none while there is nothing. It belongs to
// one goroutine at a time.
//
//	buf.b[:start] used up | start … end read, not used | free
type gather struct {
	r          io.Reader
	raw        syscall.RawConn       // nil: r has no readiness reads
	try        func(fd uintptr) bool // g.attempt, bound once so that a read allocates nothing
	buf        *buffer
	lead       int // bytes left free in front of what is read
	want       int // records the next read makes room for: 1, 4 or 16, as earlier reads filled it
	n          int
	err        error
	tiny       [headerSize]byte
	start, end int
}

// rawConn returns the system's view of a connection of package net itself. Other types, even those that embed one, may do more in
// Read and Write than the socket knows, and have none.
func rawConn(v any) syscall.RawConn {
	if !haveReadiness {
		return nil
	}
	t := reflect.TypeOf(v)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	c, ok := v.(interface {
		syscall.Conn
		CloseRead() error // TCP and Unix streams have it, packet connections do not
	})
	if !ok || t.PkgPath() != reflect.TypeFor[net.TCPConn]().PkgPath() {
		return nil
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func (g *gather) init(r io.Reader, lead int) {
	g.r, g.raw, g.lead, g.want = r, rawConn(r), lead, 1
	if g.raw != nil {
		g.try = g.attempt
	}
}

// bytes returns what was read and not used yet.
func (g *gather) bytes() []byte {
	if g.buf == nil {
		return nil
	}
	return g.buf.b[g.start:g.end]
}

// read waits for at least one more byte. It returns the reader's error only when nothing came with it.
func (g *gather) read() error {
	if g.raw != nil {
		g.n, g.err = 0, nil
		if err := g.raw.Read(g.try); err != nil {
			g.rest()
			return err
		}
		return g.took(g.n, g.err)
	}
	if g.lead == 0 && g.buf == nil {
		// Wait with the few bytes of a record's header, not with a buffer.
		n, err := g.r.Read(g.tiny[:])
		if n > 0 {
			g.room()
			copy(g.buf.b, g.tiny[:n])
		}
		return g.took(n, err)
	}
	g.room()
	n, err := g.r.Read(g.buf.b[g.end:g.full()])
	return g.took(n, err)
}

// attempt is one readiness read: false means wait, and then no buffer is kept.
func (g *gather) attempt(fd uintptr) bool {
	g.room()
	n, again, err := readNow(fd, g.buf.b[g.end:g.full()])
	if again {
		g.rest()
		return false
	}
	g.n, g.err = n, err
	if n == 0 && err == nil {
		g.err = io.EOF
	}
	return true
}

// full is where reading into the buffer stops: at its end, or, for application data, at what whole records can carry, so that it
// becomes one write and not one and a bit.
func (g *gather) full() int {
	if g.lead == 0 {
		return len(g.buf.b)
	}
	return g.lead + len(g.buf.b)/streamFrame*MaxData
}

// took notes the outcome of a read and how large the next should be.
func (g *gather) took(n int, err error) error {
	if n == 0 {
		g.rest()
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	g.end += n
	switch {
	case g.end == g.full():
		g.want = min(4*g.want, maxGather)
	case g.end*8 < len(g.buf.b):
		g.want = max(g.want/4, 1)
	}
	return nil
}

// room makes sure that there is a buffer with space behind what was read: a whole record's at least.
func (g *gather) room() {
	size := gatherSize(g.want * streamFrame)
	if g.buf == nil {
		g.buf = getBuffer(size)
		g.start, g.end = g.lead, g.lead
		return
	}
	if len(g.buf.b) < size {
		g.move(size)
	} else if g.start > g.lead {
		g.end = g.lead + copy(g.buf.b[g.lead:], g.buf.b[g.start:g.end])
		g.start = g.lead
	}
}

// move takes what was read to a buffer of another size.
func (g *gather) move(size int) {
	b := getBuffer(size)
	n := copy(b.b[g.lead:], g.buf.b[g.start:g.end])
	putBuffer(g.buf)
	g.buf, g.start, g.end = b, g.lead, g.lead+n
}

// rest gives the buffer back, or, if the beginning of a record must be kept, all but one record's worth.
func (g *gather) rest() {
	switch {
	case g.buf == nil:
	case g.start == g.end:
		g.drop()
	case len(g.buf.b) > streamFrame && g.end-g.start < streamFrame:
		g.move(streamFrame)
	}
}

// drop forgets what was read.
func (g *gather) drop() {
	if g.buf != nil {
		putBuffer(g.buf)
		g.buf = nil
	}
}
