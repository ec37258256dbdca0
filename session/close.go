package session

import (
	"errors"
	"net"
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
)

// Ending. A control session and a stream end in one of three ways, and the first to happen wins:
//
//	close   this side says why (CLOSE, EOF) and closes the connection in order
//	reset   the connection is cut at once (RST); the reason goes out only if the socket takes it without waiting
//	lost    the connection ends from outside; what was not ended by CLOSE, EOF or RESET is a truncation
//
// Both first two are idempotent, may be called by any goroutine at any time, and make every blocked call return.

// Close sends CLOSE{code} if the socket takes it without blocking, and closes the connection. It waits for nobody: a write of another
// goroutine that is under way has 20 ms to end, and says CLOSE behind its record. If it does not end, nothing can be said any more, and the
// connection is reset.
func (c *Control) Close(code Code) {
	if c.closing.Swap(true) {
		return
	}
	c.parting.Store(uint32(code))
	c.conn.SetWriteDeadline(soon()) // a write that sets its own after this sees that the session is closing
	c.part()
}

// part says CLOSE and closes the connection, if that is to be done and nobody is in a write: who is does it when it leaves.
func (c *Control) part() {
	if c.parting.Load() == 0 || !c.sendMu.TryLock() {
		return
	}
	defer c.sendMu.Unlock()
	code := Code(c.parting.Swap(0))
	if code == 0 {
		return
	}
	err := c.sendLocked(RecordClose, wire.MustMarshal(closeBody{Code: code}), closeWriteTimeout)
	if c.sendErr == nil {
		c.sendErr = ErrEnded
	}
	if err != nil {
		cut(c.conn)
		return
	}
	c.conn.Close()
}

// Reset cuts the connection at once: the peer's kernel gets RST, nothing is said.
func (c *Control) Reset() {
	c.closing.Store(true)
	cut(c.conn)
}

// cut closes a connection with RST: bytes not yet sent are dropped, and the peer learns at once.
func cut(conn net.Conn) {
	if t, ok := conn.(interface{ SetLinger(sec int) error }); ok {
		t.SetLinger(0)
	}
	conn.Close()
}

// tcpHalfClose is implemented by connections that can end one direction.
type tcpHalfClose interface{ CloseWrite() error }

// soon is a deadline for a write that may use room in a socket but not wait for it.
func soon() time.Time { return time.Now().Add(closeWriteTimeout) }

// end notes why the stream ends on this side and reports whether it was the first to say so.
func (s *Stream) end(cause error) bool {
	return s.ended.CompareAndSwap(nil, &cause)
}

// gone closes what Done returns and leaves the ring. It is called once, by whoever end said true to.
func (s *Stream) gone() {
	s.ring.leave(s)
	close(s.done)
}

// Close ends the stream in order: the peer reads everything written, then io.EOF. It waits at most 5 s for room for the EOF record
// in the socket. If a write of another goroutine is under way, what it was writing is cut short, and the peer is told nothing: it
// sees a truncation. While the peer's reader pauses the connection stays, and the stream with its session, until what was written is on its way
// (CheckPath).
func (s *Stream) Close() error {
	ended := false // the peer will read EOF
	if s.writeMu.TryLock() {
		if s.Cause() == nil && !s.halfDone {
			s.conn.SetWriteDeadline(time.Now().Add(eofTimeout))
			s.writeDeadline.Store(0)
			s.closeWriteLocked()
		}
		ended = s.halfDone
		s.writeMu.Unlock()
	}
	first := s.end(net.ErrClosed)
	defer s.release()
	if !first || ended && s.linger() {
		return nil
	}
	return s.shut()
}

// Reset cuts the stream at once, in both directions. The peer is told the code if its socket takes a record without waiting; its
// kernel is told by RST in any case.
func (s *Stream) Reset(code Code) {
	if s.end(&cutError{code}) {
		s.cut(code)
	} else {
		s.cutLingering()
	}
	s.release()
}

// endWith ends the stream because of what came from the connection, or because the caller's step failed.
func (s *Stream) endWith(cause error) {
	if !s.end(cause) {
		s.cutLingering()
		return
	}
	// If the caller holds the sending half nothing is said: it failed in the middle of a write.
	s.cut(codeFor(cause))
}

// cutLingering cuts a stream that was closed in order and still waits for its reader.
func (s *Stream) cutLingering() {
	if s.lingering.CompareAndSwap(true, false) {
		cut(s.conn)
		s.gone()
	}
}

// codeFor is what the peer is told about the end of a stream, 0 for nothing: it knows, or cannot hear it.
func codeFor(cause error) Code {
	switch {
	case errors.Is(cause, ErrProtocol), errors.Is(cause, ErrRecord):
		return CodeProtocol
	case errors.Is(cause, ErrKeyLimit):
		return CodeLimit
	case errors.Is(cause, ErrTruncated):
		return 0
	}
	if _, told := errors.AsType[*ResetError](cause); told {
		return 0
	}
	if _, told := errors.AsType[*RefusedError](cause); told {
		return 0
	}
	return CodeAborted
}

// cut says RESET if that needs no waiting, and closes the connection with RST.
func (s *Stream) cut(code Code) {
	if code != 0 && s.writeMu.TryLock() {
		if s.started && s.unsent == nil && s.writeErr == nil && !s.eof {
			s.sayResetLocked(code)
		}
		s.writeMu.Unlock()
	}
	cut(s.conn)
	s.gone()
}

func (s *Stream) sayResetLocked(code Code) {
	b := getBuffer(2 * (headerSize + minRecord + maxStreamBody))
	size, err := s.sealBodyLocked(b.b, typeReset, encodeReset(code))
	if err != nil {
		putBuffer(b)
		return
	}
	s.eof = true // nothing follows
	s.pushNowLocked(b, size)
	s.dropUnsentLocked() // what did not go out now never will
}

// cutError is a stream this side has reset.
type cutError struct{ code Code }

// Error says that it was this side, and why.
func (e *cutError) Error() string { return "stream reset here: " + e.code.String() }

// Unwrap makes it a use of a closed connection.
func (e *cutError) Unwrap() error { return net.ErrClosed }
