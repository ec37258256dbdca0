package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

// Early is application data that goes out together with OPEN, ahead of the answer. None of it reaches the service before the peer has
// decided. An Early belongs to one request, and goes with each OPEN that is made for it.
type Early struct {
	// Fill puts what there is to send already into p, without waiting, and returns how much that is. It is called until it had something.
	Fill func(p []byte) int

	kept    []byte
	pending bool
}

// Pending reports that data went out and neither REFUSE nor RESET came back: whether the service has seen it nobody here can tell, and the
// request must not be made a second time.
func (e *Early) Pending() bool { return e != nil && e.pending }

// sealLocked appends what there is to the OPEN that ends at dst[at], as one record, and returns the new end.
func (e *Early) sealLocked(s *Stream, dst []byte, at int) (int, error) {
	if e == nil {
		return at, nil
	}
	rec := dst[at:]
	data := rec[headerSize+1:][:maxFirst]
	size := copy(data, e.kept)
	if size == 0 && e.Fill != nil {
		size = e.Fill(data)
		e.kept = slices.Clone(data[:size])
	}
	if size == 0 {
		return at, nil
	}
	e.pending = true
	rec[headerSize] = typeData
	n, err := s.out.seal(rec, rec[headerSize:headerSize+1+size])
	if err == nil {
		s.written.Add(uint64(size))
	}
	return at + n, err
}

// wrote notes how much of the write of an OPEN of size bytes, and of what is early behind it, the connection took.
func (e *Early) wrote(n, size int) {
	if n <= size {
		e.denied()
	}
}

// denied notes that the peer said no, or was not asked.
func (e *Early) denied() {
	if e != nil {
		e.pending = false
	}
}

// Open asks the peer for a service over a fresh TCP connection and waits for its answer, at most AnswerTimeout or until ctx ends. It
// takes conn over and closes it on every error: [*RefusedError] is the destination's no, an error that wraps [ErrUnanswered] says
// that nothing authentic came back, which a new connection may mend. early may be nil.
func Open(ctx context.Context, conn net.Conn, ring *Keyring, req Request, early *Early) (*Stream, error) {
	body, err := encodeOpen(req)
	if err != nil {
		conn.Close()
		return nil, err
	}
	s, err := begin(ctx, conn, ring, typeOpen, body, early, func(s *Stream) error {
		s.request.Store(&req)
		return ring.join(s)
	})
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", req.Service, err)
	}
	if err := s.answered(ctx, AnswerTimeout, func() error { return s.awaitAccept(early) }); err != nil {
		return nil, fmt.Errorf("opening %s: %w", req.Service, err)
	}
	return s, nil
}

// Warm parks a fresh TCP connection with the peer, to be used later without the wait for a connect. With reverse the peer will send
// OPEN on it, and this side decide and answer. It takes conn over and closes it on every error.
func Warm(ctx context.Context, conn net.Conn, ring *Keyring, reverse bool) (*Parked, error) {
	s, err := begin(ctx, conn, ring, typeWarm, encodeWarm(reverse), nil, func(*Stream) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("warming: %w", err)
	}
	var p *Parked
	err = s.answered(ctx, AnswerTimeout, func() error {
		kind, body, release, err := s.readOne()
		if err != nil {
			return err
		}
		defer release()
		switch kind {
		case typeWarm:
			if back, err := parseWarm(body); err != nil || back != reverse {
				return protocolError("WARM answered by another WARM")
			}
		case typeRefuse:
			return refusedBy(body)
		case typeReset:
			return resetBy(body)
		default:
			return protocolError("WARM answered by type %d", kind)
		}
		p, err = park(s, reverse, time.Now())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("warming: %w", err)
	}
	return p, nil
}

// begin takes a counter, upgrades the connection with its keys and sends S1 = 0x20 || tag || record 0, and what is early, in one write.
func begin(
	ctx context.Context, conn net.Conn, ring *Keyring, kind byte, body []byte, early *Early, join func(*Stream) error,
) (*Stream, error) {
	t, err := ring.take()
	if err != nil {
		conn.Close()
		return nil, err
	}
	s := newStream(conn, ring, t.generation, t.counter, t.out, t.in, true)
	if err := join(s); err != nil {
		s.abandon(err)
		ring.giveUp(t.counter)
		return nil, err
	}
	release := s.within(ctx, AnswerTimeout)
	s.writeMu.Lock()
	b := getBuffer(1 + len(t.tag) + maxRecord0 + firstFrame)
	b.b[0] = FirstByte
	at := 1 + copy(b.b[1:], t.tag[:])
	rec := b.b[at:]
	rec[headerSize] = kind
	plain := rec[headerSize : headerSize+1+copy(rec[headerSize+1:], body)]
	// Not through announceLocked: record 0 is always under the generation of the tag.
	n, err := s.out.seal(rec, plain)
	at += n
	end := at
	if err == nil {
		end, err = early.sealLocked(s, b.b, at)
	}
	if err == nil {
		n, err = conn.Write(b.b[:end])
		early.wrote(n, at)
		s.started = err == nil
	}
	s.writeMu.Unlock()
	putBuffer(b)
	if late := release(); err == nil {
		err = late
	}
	if err != nil {
		s.abandon(err)
		ring.giveUp(t.counter)
		return nil, fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	return s, nil
}

// within bounds the steps until release by ctx and by d. release reports ctx's end; after it the connection has no deadline.
func (s *Stream) within(ctx context.Context, d time.Duration) (release func() error) {
	var until time.Time
	if d > 0 {
		until = time.Now().Add(d)
	}
	if t, ok := ctx.Deadline(); ok && (until.IsZero() || t.Before(until)) {
		until = t
	}
	s.conn.SetDeadline(until)
	stop := context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })
	return func() error {
		if !stop() {
			return context.Cause(ctx)
		}
		return s.conn.SetDeadline(time.Time{})
	}
}

// answered runs wait, which reads the peer's answer, and on error ends the stream and gives its counter up unless the answer was
// authentic.
func (s *Stream) answered(ctx context.Context, d time.Duration, wait func() error) error {
	release := s.within(ctx, d)
	err := wait()
	late := release()
	if err == nil {
		err = late
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if late != nil {
			err = late
		} else {
			err = fmt.Errorf("%w in time: %w", ErrUnanswered, err)
		}
	}
	authentic := s.in.counter > 0
	if !authentic && !errors.Is(err, ErrUnanswered) {
		err = fmt.Errorf("%w: %w", ErrUnanswered, err)
	}
	s.endWith(err)
	if !authentic && s.dialled {
		s.ring.giveUp(s.counter)
	}
	return err
}

// abandon drops a stream that never began.
func (s *Stream) abandon(cause error) {
	if s.end(cause) {
		s.conn.Close()
		s.gone()
	}
}

// awaitAccept reads until ACCEPT or what stands in its place.
func (s *Stream) awaitAccept(early *Early) error {
	kind, body, release, err := s.readOne()
	if err != nil {
		return err
	}
	defer release()
	switch kind {
	case typeAccept:
		return parseEmpty("ACCEPT", body)
	case typeRefuse:
		early.denied()
		return refusedBy(body)
	case typeReset:
		early.denied()
		return resetBy(body)
	}
	return protocolError("OPEN answered by type %d", kind)
}

func refusedBy(body []byte) error {
	e, err := parseRefuse(body)
	if err != nil {
		return err
	}
	return e
}

func resetBy(body []byte) error {
	e, err := parseReset(body)
	if err != nil {
		return err
	}
	return e
}

// readOne reads exactly one record that is neither data nor REKEY nor unknown, while the stream is not open yet: so that nothing
// behind it is taken from the connection. It waits without a buffer; body is valid until release.
func (s *Stream) readOne() (kind byte, body []byte, release func(), err error) {
	s.readMu.Lock()
	defer s.readMu.Unlock()
	for {
		b, plain, err := s.readExactLocked()
		if err != nil {
			return 0, nil, nil, err
		}
		kind, body := plain[0], plain[1:]
		switch {
		case kind == typeRekey:
			err = s.switchInLocked(body)
		case kind >= firstIgnored:
			s.ignored.Add(1)
		default:
			return kind, body, func() { putBuffer(b) }, nil
		}
		putBuffer(b)
		if err != nil {
			return 0, nil, nil, err
		}
	}
}

// readExactLocked reads the bytes of one small record and no more.
func (s *Stream) readExactLocked() (*buffer, []byte, error) {
	header := s.src.tiny[:]
	if _, err := io.ReadFull(s.conn, header); err != nil {
		return nil, nil, s.readFailedLocked(err)
	}
	size := recordSize(header)
	if size < minRecord || size > minRecord+maxStreamBody {
		return nil, nil, protocolError("record of %d bytes before the stream is open", size)
	}
	b := getBuffer(headerSize + size)
	record := b.b[:headerSize+size]
	copy(record, header)
	if _, err := io.ReadFull(s.conn, record[headerSize:]); err != nil {
		putBuffer(b)
		return nil, nil, s.readFailedLocked(err)
	}
	plain, err := s.in.open(record[headerSize:headerSize], record)
	if err != nil {
		putBuffer(b)
		return nil, nil, err
	}
	return b, plain, nil
}
