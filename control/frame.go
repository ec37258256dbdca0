package control

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// A spliced connection carries frames in both directions, because a unix socket has no reset: with a plain byte stream a killed
// daemon would look like the end of a file.
//
//	frame = len u32 (big-endian, at most maxFrame) || len bytes;  len 0 is the end of its direction, nothing follows
//
// The end of the socket without that frame is an abort.

// Spliced is one end of such a connection. It is a forward.Local in the daemon and the stream itself for the client.
type Spliced struct {
	conn net.Conn // immutable

	// owned by the one reader
	r    *bufio.Reader
	left uint32 // of the frame being read
	done bool   // the end frame was read

	mu    sync.Mutex // one writer at a time
	ended bool
}

func newSpliced(c net.Conn, r *bufio.Reader) *Spliced { return &Spliced{conn: c, r: r} }

// Read returns io.EOF only after the other side has ended its direction.
func (s *Spliced) Read(p []byte) (int, error) {
	if s.done {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if s.left == 0 {
		var head [4]byte
		if _, err := io.ReadFull(s.r, head[:]); err != nil {
			return 0, torn(err)
		}
		s.left = binary.BigEndian.Uint32(head[:])
		if s.left > maxFrame {
			s.Abort()
			return 0, Errorf(Failed, "client and daemon may differ in version: meshkey version", "a frame of %d bytes from the daemon's socket", s.left)
		}
		if s.left == 0 {
			s.done = true
			return 0, io.EOF
		}
	}
	n, err := s.r.Read(p[:min(len(p), int(s.left))])
	s.left -= uint32(n)
	return n, torn(err)
}

// torn makes sure that the end of the socket is not taken for the end of the data.
func torn(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Write sends p in frames.
func (s *Spliced) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0, io.ErrClosedPipe
	}
	n := 0
	for len(p) > 0 {
		part := p[:min(len(p), maxFrame)]
		var head [4]byte
		binary.BigEndian.PutUint32(head[:], uint32(len(part)))
		if err := s.writeLocked(head[:], part); err != nil {
			return n, err
		}
		n += len(part)
		p = p[len(part):]
	}
	return n, nil
}

// writeLocked sends a frame in one system call where the connection is a socket itself.
func (s *Spliced) writeLocked(head, body []byte) error {
	c := s.conn
	if k, ok := c.(*knownConn); ok {
		c = k.Conn
	}
	b := net.Buffers{head, body}
	_, err := b.WriteTo(c)
	return err
}

// CloseWrite ends our direction.
func (s *Spliced) CloseWrite() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	s.ended = true
	_, err := s.conn.Write(make([]byte, 4))
	return err
}

// Abort closes at once; the other side sees an error unless both directions have ended.
func (s *Spliced) Abort() { s.conn.Close() }

// Close is an Abort: what was written is in the kernel already.
func (s *Spliced) Close() error                       { return s.conn.Close() }
func (s *Spliced) LocalAddr() net.Addr                { return s.conn.LocalAddr() }
func (s *Spliced) RemoteAddr() net.Addr               { return s.conn.RemoteAddr() }
func (s *Spliced) SetDeadline(t time.Time) error      { return s.conn.SetDeadline(t) }
func (s *Spliced) SetReadDeadline(t time.Time) error  { return s.conn.SetReadDeadline(t) }
func (s *Spliced) SetWriteDeadline(t time.Time) error { return s.conn.SetWriteDeadline(t) }
