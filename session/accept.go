package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Incoming is a request of a peer, authenticated and not yet decided. Nothing of what follows its OPEN has been read: early data waits
// in the kernel. Exactly one of Accept, Refuse, Park and Reset ends it; Reset may be called by any goroutine at any time.
type Incoming struct {
	// immutable
	s       *Stream
	owner   any
	warm    bool
	reverse bool
}

// ReadS1 reads the first message of a stream connection whose first byte, FirstByte, was read already. deadline is S1Timeout after
// accept. It takes conn over: on every error it is closed and not one byte was written. [ErrUnknownTag] is to be charged to the
// source.
//
// patient is for addresses a FULL session comes from: connections overtake each other, and there a tag the window has not reached
// yet is waited for until the deadline instead of refused.
func ReadS1(conn net.Conn, tags *Tags, deadline time.Time, patient bool) (*Incoming, error) {
	in, err := readS1(conn, tags, deadline, patient)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("reading S1: %w", err)
	}
	return in, nil
}

func readS1(conn net.Conn, tags *Tags, deadline time.Time, patient bool) (*Incoming, error) {
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	b := getBuffer(len(keys.Tag{}) + maxRecord0)
	defer putBuffer(b)
	head := b.b[:len(keys.Tag{})+headerSize]
	if _, err := io.ReadFull(conn, head); err != nil {
		return nil, err
	}
	tag := keys.Tag(head)
	record := b.b[len(tag):]
	size := recordSize(record)
	if size < minRecord || size > maxRecord0-headerSize {
		return nil, protocolError("record 0 of %d bytes", size)
	}
	f, ok := tags.lookup(tag, time.Now())
	if !ok && patient {
		f, ok = tags.lookupPatient(tag, deadline)
	}
	if !ok {
		return nil, ErrUnknownTag
	}
	record = record[:headerSize+size]
	if _, err := io.ReadFull(conn, record[headerSize:]); err != nil {
		return nil, err
	}
	in := &Incoming{s: newStream(conn, f.ring, f.generation, f.counter, f.out, f.in, false), owner: f.owner}
	if err := in.begin(tags, tag, f, record); err != nil {
		in.s.abandon(err)
		return nil, err
	}
	return in, nil
}

// begin opens record 0 and uses the tag up.
func (in *Incoming) begin(tags *Tags, tag keys.Tag, f found, record []byte) error {
	s := in.s
	plain, err := s.in.open(record[headerSize:headerSize], record)
	if err != nil {
		return err
	}
	// Only now is the tag used up: a stranger who repeats or guesses one cannot take it from its owner.
	if !tags.claim(tag, f, time.Now()) {
		return ErrUnknownTag
	}
	if err := in.parse(plain[0], plain[1:]); err != nil {
		return err
	}
	s.started = true
	if !in.warm {
		if err := f.ring.join(s); err != nil {
			return err
		}
	}
	return s.conn.SetDeadline(time.Time{})
}

func (in *Incoming) parse(kind byte, body []byte) (err error) {
	switch kind {
	case typeOpen:
		var req Request
		if req, err = parseOpen(body); err == nil {
			in.s.request.Store(&req)
		}
	case typeWarm:
		in.warm = true
		in.reverse, err = parseWarm(body)
	default:
		err = protocolError("record 0 of type %d", kind)
	}
	return err
}

// lookupPatient waits for the window to reach a tag.
func (t *Tags) lookupPatient(tag keys.Tag, deadline time.Time) (found, bool) {
	ready, cancel := t.await(tag)
	defer cancel()
	if ready == nil {
		return found{}, false
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-ready:
		return t.lookup(tag, time.Now())
	case <-timer.C:
		return found{}, false
	}
}

// Owner returns what the keyring was registered with: the proven peer.
func (in *Incoming) Owner() any { return in.owner }

// Ring returns the keyring the tag belongs to.
func (in *Incoming) Ring() *Keyring { return in.s.ring }

// Request returns what OPEN asked for, the zero value for a WARM.
func (in *Incoming) Request() Request { return in.s.Request() }

// Warm reports whether record 0 was WARM: the connection is to be parked, and on a reverse one this side will send OPEN.
func (in *Incoming) Warm() (warm, reverse bool) { return in.warm, in.reverse }

// RemoteAddr returns the connection's other address.
func (in *Incoming) RemoteAddr() net.Addr { return in.s.RemoteAddr() }

// Reset cuts the connection at once.
func (in *Incoming) Reset(code Code) { in.s.Reset(code) }

// Done is closed when the connection has been closed on this side.
func (in *Incoming) Done() <-chan struct{} { return in.s.Done() }

// Accept answers ACCEPT. From now on the stream is open.
func (in *Incoming) Accept() (*Stream, error) {
	if in.warm {
		return nil, errors.New("a WARM is parked, not accepted")
	}
	if err := in.s.answer(typeAccept, []byte(emptyBody)); err != nil {
		return nil, fmt.Errorf("accepting stream: %w", err)
	}
	return in.s, nil
}

// Refuse answers REFUSE and closes the connection. Nothing about the reason goes out but the code and where the decision was
// logged.
func (in *Incoming) Refuse(code Code, auditIndex uint64) error {
	s := in.s
	err := s.answer(typeRefuse, encodeRefuse(RefusedError{Code: code, AuditIndex: auditIndex}))
	if err != nil {
		return fmt.Errorf("refusing stream: %w", err)
	}
	if s.end(net.ErrClosed) {
		if h, ok := s.conn.(tcpHalfClose); ok {
			h.CloseWrite()
		}
		s.src.discard() // early data left unread would make the kernel send RST, which may overtake REFUSE
		s.conn.Close()
		s.gone()
	}
	return nil
}

// Park answers WARM and parks the connection.
func (in *Incoming) Park() (*Parked, error) {
	if !in.warm {
		return nil, errors.New("an OPEN is not parked")
	}
	if err := in.s.answer(typeWarm, encodeWarm(in.reverse)); err != nil {
		return nil, fmt.Errorf("parking: %w", err)
	}
	return park(in.s, in.reverse, time.Now())
}

// answer sends the record that decides a request. A peer that does not take it within AnswerTimeout has given up.
func (s *Stream) answer(kind byte, body []byte) error {
	release := s.within(context.Background(), AnswerTimeout)
	s.writeMu.Lock()
	err := s.writableLocked()
	if err == nil {
		b := getBuffer(2 * (headerSize + minRecord + maxStreamBody))
		var n int
		if n, err = s.sealBodyLocked(b.b, kind, body); err == nil {
			_, err = s.conn.Write(b.b[:n])
		}
		putBuffer(b)
	}
	s.writeMu.Unlock()
	if late := release(); err == nil {
		err = late
	}
	if err != nil {
		s.endWith(err)
	}
	return err
}

// discard reads what a socket holds, at most what may be sent early, without waiting.
func (g *gather) discard() {
	if g.raw == nil {
		return
	}
	b := getBuffer(classes[1])
	defer putBuffer(b)
	g.raw.Read(func(fd uintptr) bool {
		for left := maxEarly; left > 0; {
			n, again, err := readNow(fd, b.b)
			if again || err != nil || n == 0 {
				break
			}
			left -= n
		}
		return true
	})
}
