package load

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Serve answers the connections of the listener until it is closed.
func Serve(ln net.Listener) error {
	var s server
	s.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			s.serve(c.(*net.TCPConn))
		}()
	}
}

type server struct{ buffers sync.Pool }

// serve ends with its connection: what went wrong is seen at the other end, which fails for it.
func (s *server) serve(c *net.TCPConn) {
	var kind [1]byte
	if _, err := io.ReadFull(c, kind[:]); err != nil {
		return // a daemon that looks whether its target is there
	}
	switch kind[0] {
	case kindSink:
		s.sink(c)
	case kindPing:
		_ = blocking(c, pong)
	case kindEcho:
		if _, err := io.ReadFull(c, kind[:]); err == nil {
			_, _ = c.Write(kind[:])
			_, _ = c.Read(kind[:])
		}
	case kindSlow:
		tick := time.NewTicker(slowEvery)
		defer tick.Stop()
		b := make([]byte, slowChunk)
		for {
			if _, err := c.Read(b); err != nil {
				return
			}
			<-tick.C
		}
	}
}

func (s *server) sink(c *net.TCPConn) {
	b := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(b)
	var in blocks
	for !in.done {
		n, err := c.Read(*b)
		in.add((*b)[:n])
		if err != nil {
			break
		}
	}
	_, _ = c.Write(binary.BigEndian.AppendUint64(nil, in.total))
}

// blocks finds the end in a stream of blocks, in whatever pieces it comes.
type blocks struct {
	total  uint64
	header []byte // of the length that is being read
	rest   uint32 // of the block
	done   bool
}

func (s *blocks) add(b []byte) {
	s.total += uint64(len(b))
	for len(b) > 0 && !s.done {
		if s.rest > 0 {
			n := min(uint32(len(b)), s.rest)
			s.rest, b = s.rest-n, b[n:]
			continue
		}
		n := min(len(b), 4-len(s.header))
		s.header, b = append(s.header, b[:n]...), b[n:]
		if len(s.header) == 4 {
			s.rest = binary.BigEndian.Uint32(s.header)
			s.header = s.header[:0]
			s.done = s.rest == 0
		}
	}
}

// pong answers bytes until the end.
func pong(fd int) error {
	var b [1]byte
	for {
		if err := readByte(fd, &b); err != nil {
			return err
		}
		if err := writeByte(fd, &b); err != nil {
			return err
		}
	}
}

// blocking calls f with a descriptor of the connection whose reads and writes block the calling thread: what is measured then is the
// path between the ends, without the wake-ups of the ends' own scheduler.
func blocking(c *net.TCPConn, f func(fd int) error) error {
	file, err := c.File()
	if err != nil {
		return err
	}
	defer file.Close()
	return f(int(file.Fd())) // Fd makes it blocking
}

func readByte(fd int, b *[1]byte) error {
	for {
		n, err := syscall.Read(fd, b[:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case n == 0:
			return io.EOF
		default:
			return nil
		}
	}
}

func writeByte(fd int, b *[1]byte) error {
	for {
		_, err := syscall.Write(fd, b[:])
		if err != syscall.EINTR {
			return err
		}
	}
}
