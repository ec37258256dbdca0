package session

import (
	"errors"
	"io"
	"net"
	"os"
	"time"
)

// Write seals p into records and sends up to 256 KiB of them with one system call. The bytes it reports as written are sealed: if
// a deadline passed before the connection took them, they go out first with the next call.
func (s *Stream) Write(p []byte) (n int, err error) {
	s.writeMu.Lock()
	defer s.unlockWrite()
	if err := s.writableLocked(); err != nil {
		return 0, err
	}
	for len(p) > 0 {
		// Room for p in records, and for one REKEY in front.
		records := min((len(p)+MaxData-1)/MaxData, maxGather)
		need := len(p) + records*(headerSize+minRecord)
		if s.outAhead.Load() {
			need += streamFrame
		}
		b := getBuffer(gatherSize(min(need, maxGather*streamFrame)))
		size, took, err := s.sealLocked(b.b, p)
		if err != nil {
			putBuffer(b)
			return n, err
		}
		p = p[took:]
		n += took
		s.written.Add(uint64(took))
		if err := s.pushLocked(b, size); err != nil {
			return n, err
		}
		if len(p) > 0 {
			if err := s.writableLocked(); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// sealLocked fills dst with records of p. It returns the bytes filled and the bytes of p in them.
func (s *Stream) sealLocked(dst, p []byte) (size, took int, err error) {
	size, err = s.announceLocked(dst)
	for err == nil && len(p) > 0 {
		n := min(len(p), MaxData, len(dst)-size-headerSize-minRecord)
		if n <= 0 {
			break
		}
		rec := dst[size:]
		rec[headerSize] = typeData
		copy(rec[headerSize+1:], p[:n])
		var w int
		if w, err = s.sealOneLocked(rec, rec[headerSize:headerSize+1+n]); err == nil {
			size, took, p = size+w, took+n, p[n:]
		}
	}
	if took > 0 {
		err = nil // what is sealed goes out; the limit is met again by the next call
	}
	return size, took, err
}

// sealOneLocked seals type || body as one record. At its limit the stream ends: there is no key to go on with.
func (s *Stream) sealOneLocked(dst, plain []byte) (int, error) {
	s.limitOrphan(&s.out)
	n, err := s.out.seal(dst, plain)
	if err != nil {
		s.writeErr = err
		s.endWith(err)
	}
	return n, err
}

// sealBodyLocked seals a record that is not data, with a REKEY in front if one is due.
func (s *Stream) sealBodyLocked(dst []byte, kind byte, body []byte) (int, error) {
	at, err := s.announceLocked(dst)
	if err != nil {
		return 0, err
	}
	rec := dst[at:]
	rec[headerSize] = kind
	n := 1 + copy(rec[headerSize+1:], body)
	w, err := s.sealOneLocked(rec, rec[headerSize:headerSize+n])
	return at + w, err
}

// writableLocked reports why nothing may be written, after sending what a deadline has left over.
func (s *Stream) writableLocked() error {
	switch {
	case s.Cause() != nil:
		return s.Cause()
	case s.writeErr != nil:
		return s.writeErr
	case s.eof:
		return errWriteClosed
	case s.deadlinePassed():
		return os.ErrDeadlineExceeded
	}
	return s.flushLocked()
}

// deadlinePassed keeps a write that cannot be sent from being sealed.
func (s *Stream) deadlinePassed() bool {
	d := s.writeDeadline.Load()
	return d != 0 && time.Now().UnixNano() >= d
}

// errWriteClosed is returned by writes after CloseWrite.
var errWriteClosed = errors.New("write after CloseWrite")

// pushLocked writes b.b[:size] and takes b over. What a deadline leaves over is kept: sealed bytes cannot be sealed again under
// another nonce, and never are under the same.
func (s *Stream) pushLocked(b *buffer, size int) error {
	n, err := s.conn.Write(b.b[:size])
	if err == nil {
		putBuffer(b)
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		s.unsent, s.sent, s.size = b, n, size
		return err
	}
	putBuffer(b)
	return s.writeFailedLocked(err)
}

// pushNowLocked is pushLocked without waiting: what the connection does not take at once is kept for the next write.
func (s *Stream) pushNowLocked(b *buffer, size int) {
	n := 0
	if raw := s.src.raw; raw != nil {
		s.conn.SetWriteDeadline(time.Time{}) // which only lets the attempt happen
		raw.Write(func(fd uintptr) bool {
			n = writeNow(fd, b.b[:size])
			return true
		})
	} else {
		s.conn.SetWriteDeadline(soon())
		n, _ = s.conn.Write(b.b[:size])
	}
	s.restoreDeadline()
	if n == size {
		putBuffer(b)
		return
	}
	s.unsent, s.sent, s.size = b, n, size
}

// restoreDeadline sets the connection's write deadline to what the application asked for.
func (s *Stream) restoreDeadline() {
	var t time.Time
	if d := s.writeDeadline.Load(); d != 0 {
		t = time.Unix(0, d)
	}
	s.conn.SetWriteDeadline(t)
}

// flushLocked sends what an earlier write left over.
func (s *Stream) flushLocked() error {
	if s.unsent == nil {
		return nil
	}
	n, err := s.conn.Write(s.unsent.b[s.sent:s.size])
	s.sent += n
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	s.dropUnsentLocked()
	if err != nil {
		return s.writeFailedLocked(err)
	}
	return nil
}

// writeFailedLocked makes a failure of the connection final. If the reader learned the peer's reason, that is the error.
func (s *Stream) writeFailedLocked(err error) error {
	s.writeErr = err
	if e := s.Cause(); e != nil {
		s.writeErr = e
	}
	return s.writeErr
}

// CloseWrite ends this direction: the peer reads everything written, then io.EOF. Reading goes on.
func (s *Stream) CloseWrite() error {
	s.writeMu.Lock()
	defer s.unlockWrite()
	return s.closeWriteLocked()
}

func (s *Stream) closeWriteLocked() error {
	if s.halfDone {
		return nil
	}
	if !s.eof {
		if err := s.writableLocked(); err != nil {
			return err
		}
		b := getBuffer(2 * (headerSize + 1 + maxStreamBody + tagSize))
		size, err := s.sealBodyLocked(b.b, typeEOF, []byte(emptyBody))
		if err != nil {
			putBuffer(b)
			return err
		}
		s.eof = true
		if err := s.pushLocked(b, size); err != nil {
			return err
		}
	} else if err := s.flushLocked(); err != nil {
		return err
	}
	s.halfDone = true
	if h, ok := s.conn.(tcpHalfClose); ok {
		// The peer has EOF in any case; FIN only tells its kernel. It fails if the peer has gone, which is no error of this call.
		h.CloseWrite()
	}
	return nil
}

// WriteTo writes the stream to w until its end: every record that lies ready with one write. It is what [io.Copy] uses.
func (s *Stream) WriteTo(w io.Writer) (total int64, err error) {
	s.readMu.Lock()
	defer s.unlockRead()
	for {
		if err := s.fillLocked(); err != nil {
			if err == io.EOF {
				return total, nil
			}
			return total, err
		}
		n, err := w.Write(s.plain.b[s.from:s.to])
		if n < 0 || n > s.to-s.from {
			return total, errors.New("writer reports an impossible count")
		}
		short := n < s.to-s.from
		s.usedLocked(n)
		total += int64(n)
		if err != nil {
			return total, err
		}
		if short {
			return total, io.ErrShortWrite
		}
	}
}

// ReadFrom writes everything r yields to the stream: each read of up to 256 KiB becomes one write. It is what [io.Copy] uses. From
// a TCP or Unix connection of package net it waits without a buffer; any other reader holds one record's while it waits. It does not
// end the direction: call CloseWrite after.
func (s *Stream) ReadFrom(r io.Reader) (total int64, err error) {
	var src gather
	src.init(r, 1) // the first record's type goes in front
	defer src.drop()
	for {
		if err := src.read(); err != nil {
			switch {
			case err == io.EOF:
				return total, nil
			case err == io.ErrNoProgress && src.raw == nil:
				continue // a reader may return nothing, rarely
			}
			return total, err
		}
		n, err := s.writeGathered(&src)
		total += int64(n)
		if err != nil {
			return total, err
		}
	}
}

// writeGathered seals what src holds straight into the buffer that is written. Each record's type takes the place of the byte
// before its body, which is already sealed.
func (s *Stream) writeGathered(src *gather) (n int, err error) {
	s.writeMu.Lock()
	defer s.unlockWrite()
	if err := s.writableLocked(); err != nil {
		return 0, err
	}
	for src.start < src.end {
		data := src.end - src.start
		records := (data + MaxData - 1) / MaxData
		need := data + records*(headerSize+minRecord)
		if s.outAhead.Load() {
			need += headerSize + minRecord + maxStreamBody
		}
		b := getBuffer(min(need, classes[len(classes)-1]))
		size, err := s.announceLocked(b.b)
		for err == nil && src.start < src.end {
			k := min(src.end-src.start, MaxData)
			if size+headerSize+minRecord+k > len(b.b) {
				break
			}
			src.buf.b[src.start-1] = typeData
			var w int
			if w, err = s.sealOneLocked(b.b[size:], src.buf.b[src.start-1:src.start+k]); err == nil {
				size, src.start, n = size+w, src.start+k, n+k
				s.written.Add(uint64(k))
			}
		}
		if err != nil && size == 0 {
			putBuffer(b)
			return n, err
		}
		if src.start == src.end {
			src.drop() // not held while the write waits
		}
		if err := s.pushLocked(b, size); err != nil {
			return n, err
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

var (
	_ net.Conn      = (*Stream)(nil)
	_ io.WriterTo   = (*Stream)(nil)
	_ io.ReaderFrom = (*Stream)(nil)
)
