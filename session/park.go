package session

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Parked is an authenticated connection that waits for an OPEN. It holds no buffer. The side that sent S1 is its opener; OPEN comes
// from the opener, or, on a reverse connection, from the other side.
type Parked struct {
	// immutable
	s       *Stream
	opened  bool // this side sent S1
	reverse bool
	since   time.Time

	// guarded by mu
	mu   sync.Mutex
	used bool
}

func park(s *Stream, reverse bool, now time.Time) (*Parked, error) {
	p := &Parked{s: s, opened: s.dialled, reverse: reverse, since: now}
	if err := s.ring.addParked(p); err != nil {
		s.endWith(err)
		return nil, err
	}
	return p, nil
}

// addParked makes p a member of the ring, unless a rekey has made it stale already.
func (r *Keyring) addParked(p *Parked) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended || p.opened && r.sending != p.s.generation { // nobody would close it any more
		return ErrEnded
	}
	if r.parked == nil {
		r.parked = map[*Parked]struct{}{}
	}
	r.parked[p] = struct{}{}
	return nil
}

// unpark takes p out and, for the side that sends OPEN, checks that its keys are still current.
func (r *Keyring) unpark(p *Parked) (current bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.parked, p)
	return !r.ended && r.sending == p.s.generation
}

// CanOpen reports whether this side is the one to send OPEN.
func (p *Parked) CanOpen() bool { return p.opened != p.reverse }

// Opened reports whether this side sent S1.
func (p *Parked) Opened() bool { return p.opened }

// Ring returns the keyring it was parked with.
func (p *Parked) Ring() *Keyring { return p.s.ring }

// Done is closed when the connection has been closed on this side.
func (p *Parked) Done() <-chan struct{} { return p.s.Done() }

// take makes p this caller's, once.
func (p *Parked) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used {
		return false
	}
	p.used = true
	return true
}

// Open sends OPEN on the parked connection and waits for the answer. On every error the connection is closed; one that wraps
// [ErrUnanswered] or [ErrEnded] means that it had gone stale, and the request may be made on a new one unless early is pending. early
// may be nil.
func (p *Parked) Open(ctx context.Context, req Request, early *Early) (*Stream, error) {
	body, err := encodeOpen(req)
	if err != nil {
		return nil, err
	}
	if !p.CanOpen() {
		return nil, errors.New("the other side of this parked connection sends OPEN")
	}
	if !p.take() {
		return nil, ErrEnded
	}
	s := p.s
	if !s.ring.unpark(p) {
		s.endWith(ErrEnded)
		return nil, fmt.Errorf("opening %s: %w", req.Service, ErrEnded)
	}
	s.request.Store(&req)
	before := s.in.counter
	err = s.ring.join(s)
	if err == nil {
		err = s.answered(ctx, AnswerTimeout, func() error {
			if err := s.openParked(body, early); err != nil {
				return err
			}
			return s.awaitAccept(early)
		})
	}
	if err != nil {
		s.endWith(err)
		if s.in.counter == before && !errors.Is(err, ErrUnanswered) {
			err = fmt.Errorf("%w: %w", ErrUnanswered, err)
		}
		return nil, fmt.Errorf("opening %s: %w", req.Service, err)
	}
	return s, nil
}

// openParked writes OPEN, and what is early, under the generation the connection was parked with.
func (s *Stream) openParked(body []byte, early *Early) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	if err := s.Cause(); err != nil {
		return err
	}
	b := getBuffer(headerSize + minRecord + maxStreamBody + firstFrame)
	defer putBuffer(b)
	b.b[headerSize] = typeOpen
	n := 1 + copy(b.b[headerSize+1:], body)
	size, err := s.sealOneLocked(b.b, b.b[headerSize:headerSize+n])
	end := size
	if err == nil {
		end, err = early.sealLocked(s, b.b, size)
	}
	if err == nil {
		n, err = s.conn.Write(b.b[:end])
		early.wrote(n, size)
	}
	return err
}

// Next waits for the peer's OPEN until ctx ends or the connection does. On every error the connection is closed.
func (p *Parked) Next(ctx context.Context, owner any) (*Incoming, error) {
	if p.CanOpen() {
		return nil, errors.New("this side of the parked connection sends OPEN")
	}
	s := p.s
	in := &Incoming{s: s, owner: owner}
	err := s.answered(ctx, 0, func() error {
		kind, body, release, err := s.readOne()
		if err != nil {
			return err
		}
		defer release()
		if !p.take() {
			return ErrEnded
		}
		if kind == typeReset {
			return resetBy(body)
		}
		if kind != typeOpen {
			return protocolError("type %d on a parked connection", kind)
		}
		if err := in.parse(kind, body); err != nil {
			return err
		}
		s.ring.unpark(p)
		return s.ring.join(s)
	})
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("parked connection: %w", err)
	}
	return in, nil
}

// Close closes a parked connection that was not used.
func (p *Parked) Close() { p.Reset(CodeNormal) }

// Reset cuts the parked connection at once, also while its OPEN is under way.
func (p *Parked) Reset(code Code) {
	p.take()
	p.s.ring.unpark(p)
	p.s.Reset(code)
}

// alive reports whether the connection looks usable: open and silent.
func (p *Parked) alive() bool {
	if p.s.Cause() != nil {
		return false
	}
	raw := p.s.src.raw
	if raw == nil {
		return true
	}
	silent := false
	err := raw.Control(func(fd uintptr) { silent = peekNow(fd) })
	return err == nil && silent
}

// expired reports whether p has been parked too long for this side.
func (p *Parked) expired(now time.Time) bool {
	if p.opened {
		return now.Sub(p.since) >= ParkOpener
	}
	return now.Sub(p.since) >= ParkAcceptor
}

// ParkedSet holds the parked connections of one peer. The zero value is empty and ready.
type ParkedSet struct {
	// guarded by mu
	mu   sync.Mutex
	list []*Parked // oldest first
}

// Put adds p and reports whether there was room; if not, the caller closes it.
func (t *ParkedSet) Put(p *Parked) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.list) >= MaxParked {
		return false
	}
	t.list = append(t.list, p)
	return true
}

// Take returns the newest connection this side may open on, or nil. Those that turn out dead or too old are closed on the way.
func (t *ParkedSet) Take(now time.Time) *Parked {
	for {
		p := t.takeNewest()
		if p == nil || !p.expired(now) && p.alive() {
			return p
		}
		p.Close()
	}
}

func (t *ParkedSet) takeNewest() *Parked {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.list) - 1; i >= 0; i-- {
		if p := t.list[i]; p.CanOpen() {
			t.list = append(t.list[:i], t.list[i+1:]...)
			return p
		}
	}
	return nil
}

// Remove takes p out, when its OPEN has come or it has ended.
func (t *ParkedSet) Remove(p *Parked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, q := range t.list {
		if p == q {
			t.list = append(t.list[:i], t.list[i+1:]...)
			return
		}
	}
}

// Sweep closes what is too old or dead and returns how many remain.
func (t *ParkedSet) Sweep(now time.Time) int {
	t.mu.Lock()
	var drop []*Parked
	keep := t.list[:0]
	for _, p := range t.list {
		if p.expired(now) || p.CanOpen() && !p.alive() {
			drop = append(drop, p)
		} else {
			keep = append(keep, p)
		}
	}
	clear(t.list[len(keep):])
	t.list = keep
	n := len(keep)
	t.mu.Unlock()
	for _, p := range drop {
		p.Close()
	}
	return n
}

// Reset cuts all of them at once.
func (t *ParkedSet) Reset(code Code) {
	t.mu.Lock()
	list := t.list
	t.list = nil
	t.mu.Unlock()
	for _, p := range list {
		p.Reset(code)
	}
}

// Len returns how many there are.
func (t *ParkedSet) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.list)
}
