package session

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Stream is one accepted request: a connection of its own, sealed with keys of a session. It is a [net.Conn] with half-close. Its
// reads end in [io.EOF] only if the peer ended its direction with EOF; a connection that ends otherwise is [ErrTruncated], or a
// [*ResetError] if the peer said why.
//
// Each direction is one goroutine's at a time; Close, Reset and the deadlines may be used by any.
type Stream struct {
	// immutable
	conn       net.Conn
	ring       *Keyring
	generation uint64 // of the keys it began with
	counter    uint64
	dialled    bool // this side sent S1
	done       chan struct{}

	path path // of CheckPath's goroutine

	// guarded by readMu: the receiving half
	readMu   sync.Mutex
	in       half
	inGen    uint64
	src      gather  // ciphertext
	plain    *buffer // opened, not yet read: plain.b[from:to]
	from, to int
	readErr  error // final

	// guarded by writeMu: the sending half
	writeMu  sync.Mutex
	started  bool // record 0 is through: more may follow
	out      half
	outGen   uint64
	unsent   *buffer // sealed when a deadline passed: unsent.b[sent:size] goes first
	sent     int
	size     int
	eof      bool  // EOF is sealed
	halfDone bool  // and written
	writeErr error // final

	// guarded by keyMu: keys of generations ahead
	keyMu    sync.Mutex
	chain    []chainKey // for receiving, each generation after inGen
	lastIn   chainKey   // the newest for receiving, or the current
	lastOut  chainKey   // the newest for sending, or the current
	outAhead atomic.Bool

	// atomic
	request       atomic.Pointer[Request]
	ended         atomic.Pointer[error] // why this side ended the stream; the first wins
	orphan        atomic.Bool
	lingering     atomic.Bool  // closed in order; the peer has not taken all
	released      atomic.Bool  // the application is done with it: buffers go back
	writeDeadline atomic.Int64 // unix nanoseconds, 0 none
	read, written atomic.Uint64
	keyedRead     atomic.Uint64 // of read, when the present key came into use
	keyedWritten  atomic.Uint64 // of written
	ignored       atomic.Uint64
}

// newStream makes both halves. out and in are the keys of this side's directions, their counters 0.
func newStream(conn net.Conn, ring *Keyring, generation, counter uint64, out, in keys.TrafficKey, dialled bool) *Stream {
	s := &Stream{
		conn: conn, ring: ring, generation: generation, counter: counter, dialled: dialled, done: make(chan struct{}),
		in: newHalf(ring.suite, in), inGen: generation, out: newHalf(ring.suite, out), outGen: generation,
		lastIn: chainKey{generation, in}, lastOut: chainKey{generation, out},
	}
	s.src.init(conn, 0)
	return s
}

// Request returns what the stream was opened for.
func (s *Stream) Request() Request {
	if r := s.request.Load(); r != nil {
		return *r
	}
	return Request{}
}

// Moved returns the application bytes read from and written to the stream so far.
func (s *Stream) Moved() (read, written uint64) { return s.read.Load(), s.written.Load() }

// Ignored returns how many records of unknown types ≥ 128 were passed over.
func (s *Stream) Ignored() uint64 { return s.ignored.Load() }

// Done is closed when this side has closed the connection, whoever was the cause.
func (s *Stream) Done() <-chan struct{} { return s.done }

// Cause returns why, once Done is closed: [net.ErrClosed] after Close, else a [*ResetError] of the peer or a local error.
func (s *Stream) Cause() error {
	if e := s.ended.Load(); e != nil {
		return *e
	}
	return nil
}

// LocalAddr returns the connection's own address.
func (s *Stream) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr returns the connection's other address. It is no identity.
func (s *Stream) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// SetDeadline sets both deadlines.
func (s *Stream) SetDeadline(t time.Time) error {
	s.noteDeadline(t)
	return s.conn.SetDeadline(t)
}

// SetReadDeadline bounds reads. A read that fails by it can be repeated after.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

// SetWriteDeadline bounds writes. What a write that fails by it has reported as written is not lost: it goes out with the next
// write or CloseWrite.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	s.noteDeadline(t)
	return s.conn.SetWriteDeadline(t)
}

func (s *Stream) noteDeadline(t time.Time) {
	if t.IsZero() {
		s.writeDeadline.Store(0)
	} else {
		s.writeDeadline.Store(t.UnixNano())
	}
}

// Read reads application data.
func (s *Stream) Read(p []byte) (int, error) {
	s.readMu.Lock()
	defer s.unlockRead()
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.fillLocked(); err != nil {
		return 0, err
	}
	n := copy(p, s.plain.b[s.from:s.to])
	s.usedLocked(n)
	return n, nil
}

// unlockRead and unlockWrite leave a half. Buffers of a stream the application has closed go back, whoever is the last in it.
func (s *Stream) unlockRead() {
	s.readMu.Unlock()
	if s.released.Load() && s.readMu.TryLock() {
		s.dropPlainLocked()
		s.src.drop()
		s.readMu.Unlock()
	}
}

func (s *Stream) unlockWrite() {
	s.writeMu.Unlock()
	if s.released.Load() && s.writeMu.TryLock() {
		s.dropUnsentLocked()
		s.writeMu.Unlock()
	}
}

func (s *Stream) dropUnsentLocked() {
	if s.unsent != nil {
		putBuffer(s.unsent)
		s.unsent = nil
	}
}

// release gives back what the stream holds, now or when those who use it leave.
func (s *Stream) release() {
	s.released.Store(true)
	if s.readMu.TryLock() {
		s.unlockRead()
	}
	if s.writeMu.TryLock() {
		s.unlockWrite()
	}
}

// usedLocked gives n bytes of plaintext to the application, and the buffer back with the last.
func (s *Stream) usedLocked(n int) {
	s.from += n
	s.read.Add(uint64(n))
	if s.from == s.to {
		s.dropPlainLocked()
	}
}

func (s *Stream) dropPlainLocked() {
	if s.plain != nil {
		clear(s.plain.b[:s.to])
		putBuffer(s.plain)
		s.plain, s.from, s.to = nil, 0, 0
	}
}

// fillLocked makes plaintext available, or says why there will be none.
func (s *Stream) fillLocked() error {
	for s.plain == nil {
		if s.released.Load() {
			return s.Cause()
		}
		if s.readErr != nil {
			return s.readErr
		}
		if err := s.src.read(); err == io.ErrNoProgress {
			continue
		} else if err != nil {
			return s.readFailedLocked(err)
		}
		if err := s.openLocked(); err != nil {
			s.readErr = err // delivered after what was opened before
			s.src.drop()
			if err != io.EOF {
				s.endWith(err)
			}
		}
	}
	return nil
}

// whole reports whether a complete record, or a header no record may have, lies ready.
func (g *gather) whole() bool {
	b := g.bytes()
	if len(b) < headerSize {
		return false
	}
	size := recordSize(b)
	return size < minRecord || size > maxStreamRecord || len(b) >= headerSize+size
}

func recordSize(b []byte) int { return int(b[0])<<8 | int(b[1]) }

// openLocked opens every whole record that lies ready into one stretch of plaintext, and acts on those that are not data. What
// was opened before a failing record is still delivered.
func (s *Stream) openLocked() error {
	if !s.src.whole() {
		return nil
	}
	// Each record opens to type || body with the type on top of the last byte of the body before it, which is put back: so the
	// bodies lie next to each other without being copied again. The first type needs a byte of its own; each record's framing
	// leaves 18.
	s.plain = getBuffer(s.src.end - s.src.start)
	s.from, s.to = 1, 1
	var err error
	for err == nil && s.src.whole() {
		err = s.openOneLocked()
	}
	s.src.rest()
	if s.from == s.to {
		s.dropPlainLocked()
	}
	return err
}

func (s *Stream) openOneLocked() error {
	b := s.src.bytes()
	size := recordSize(b)
	if size < minRecord || size > maxStreamRecord {
		return protocolError("stream record of %d bytes", size)
	}
	s.limitOrphan(&s.in)
	at := s.to - 1
	last := s.plain.b[at]
	plain, err := s.in.open(s.plain.b[at:at], b[:headerSize+size])
	if err != nil {
		s.plain.b[at] = last
		return err
	}
	kind := plain[0]
	s.plain.b[at] = last
	s.src.start += headerSize + size
	if kind == typeData {
		s.to = at + len(plain)
		return nil
	}
	return s.handleLocked(kind, plain[1:])
}

// handleLocked acts on a record that is not data, on an open stream.
func (s *Stream) handleLocked(kind byte, body []byte) error {
	switch kind {
	case typeEOF:
		if err := parseEmpty("EOF", body); err != nil {
			return err
		}
		if len(s.src.bytes()) > 0 {
			return protocolError("record after EOF")
		}
		return io.EOF
	case typeReset:
		e, err := parseReset(body)
		if err != nil {
			return err
		}
		return e
	case typeRekey:
		return s.switchInLocked(body)
	}
	if kind < firstIgnored {
		return protocolError("record of type %d on an open stream", kind)
	}
	s.ignored.Add(1)
	return nil
}

// readFailedLocked turns an error of the connection into what it means for the stream.
func (s *Stream) readFailedLocked(err error) error {
	if e := s.Cause(); e != nil {
		return e
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	s.readErr = ErrTruncated
	if !errors.Is(err, io.EOF) {
		s.readErr = fmt.Errorf("%w: %w", ErrTruncated, err)
	}
	s.src.drop()
	return s.readErr
}

// limitOrphan lowers what a key may still do, once, after its session ended.
func (s *Stream) limitOrphan(h *half) {
	if !h.orphan && s.orphan.Load() {
		h.orphan, h.limit = true, min(h.limit, h.bytes+OrphanBytes)
	}
}
