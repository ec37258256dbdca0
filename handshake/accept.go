package handshake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// AcceptorConfig is what an Acceptor needs. The functions are called from many goroutines and must not block.
type AcceptorConfig struct {
	// Local returns what this node proves itself with now. Required.
	Local func() Local
	// Gates returns the gates of the group secret: the current one, the previous one, then the older ones marked Old.
	// Required.
	Gates func() []Gate
	// Invite returns the key of a live invite. Nil: this node enrols nobody.
	Invite func(identity.InviteID) (keys.PSK, bool)
	// Verify decides about a proven peer. Required.
	Verify VerifyFunc
	// Now is trust's clock, in unix seconds. Required.
	Now func() int64
	// Budget bounds handshakes per source. Nil: one of its own with the protocol's limits.
	Budget *Budget
}

// Acceptor answers handshakes. It starts nothing: Accept runs in the caller's goroutine.
type Acceptor struct {
	// Immutable.
	cfg    AcceptorConfig
	budget *Budget
	work   *work

	// Each guards itself.
	replay replayCache
	old    oldGateBudget
	counts [numReasons]atomic.Uint64
	done   atomic.Uint64
	pool   sync.Pool // of *scratch
}

// scratch is the memory of one handshake.
type scratch [scratchSize]byte

// NewAcceptor checks the configuration. It panics if a required function is missing: a programmer's error that must not become
// a node that admits everybody.
func NewAcceptor(c AcceptorConfig) *Acceptor {
	if c.Local == nil || c.Gates == nil || c.Verify == nil || c.Now == nil {
		panic("handshake: acceptor without Local, Gates, Verify or Now")
	}
	a := &Acceptor{cfg: c, budget: c.Budget, work: newWork()}
	if a.budget == nil {
		a.budget = NewBudget(BudgetLimits{})
	}
	a.pool.New = func() any { return new(scratch) }
	return a
}

// Counts returns how many handshakes succeeded and how many ended for each reason.
func (a *Acceptor) Counts() (done uint64, dropped map[Reason]uint64) {
	dropped = make(map[Reason]uint64)
	for r := range numReasons {
		if n := a.counts[r].Load(); n > 0 {
			dropped[r] = n
		}
	}
	return a.done.Load(), dropped
}

// Accept answers the handshake that begins with the byte first, which the caller has read from conn at or after the time
// accepted; the deadlines count from there. It reads exactly the bytes of the handshake and nothing behind them.
//
// Before a peer has proved that it belongs here nothing is sent to it, whatever it sends. On an error, an *Error, the connection
// is closed and what was wrong is only counted. A Result may still say that the peer, proved, is refused.
func (a *Acceptor) Accept(ctx context.Context, conn net.Conn, first keys.Suite, src netip.Addr, accepted time.Time) (*Result, error) {
	r, err := guarded(ctx, conn, func() (*Result, error) { return a.accept(ctx, conn, first, src, accepted) })
	switch {
	case err != nil:
		a.count(err)
		return nil, err
	case r.Refused != 0:
		a.counts[ReasonRefused].Add(1)
	default:
		a.done.Add(1)
	}
	return r, nil
}

func (a *Acceptor) count(err error) {
	if e, ok := errors.AsType[*Error](err); ok {
		a.counts[e.Reason].Add(1)
	}
}

// accept holds the responder's checks, in the order of the protocol.
func (a *Acceptor) accept(ctx context.Context, conn net.Conn, first keys.Suite, src netip.Addr, accepted time.Time) (*Result, error) {
	// 1. The budget, before anything is allocated. (That for connections was asked when this one was accepted.)
	if !a.budget.Handshake(src, time.Now()) {
		return nil, fail(ReasonBudget, errors.New("too many handshakes from this source"))
	}
	// 3. The suite, as its byte is here already and fixes the size.
	size, err := messageSize(first)
	if err != nil {
		return nil, fail(ReasonSuite, err)
	}
	mem := a.pool.Get().(*scratch)
	defer func() {
		clear(mem[:])
		a.pool.Put(mem)
	}()

	// 2. Message 1, exactly.
	m1, rest := mem[:size:size], mem[size:]
	m1[0] = byte(first)
	if err := readExactly(conn, m1[1:], accepted.Add(TimeoutM1)); err != nil {
		return nil, fail(ReasonShort, fmt.Errorf("reading M1: %w", err))
	}

	// 4. A gate that opens it.
	local := a.cfg.Local()
	if err := local.check(false); err != nil {
		return nil, fail(ReasonLocal, err)
	}
	r, err := a.open(&local, first, src, m1[1:], rest[:0:sizeP1])
	if err != nil {
		return nil, err
	}
	rest = rest[sizeP1:]

	// 5. Not seen before.
	e := [dhSize]byte(m1[len(m1)-(dhSize+sizeP1+tagSize):])
	if !a.replay.add(e) {
		return nil, fail(ReasonReplay, errors.New("message 1 was seen before"))
	}

	// 6. Its payload.
	ek, err := r.encapsulationKey()
	if err != nil {
		return nil, err
	}

	// 7. Message 2: the first byte this node sends, and its first asymmetric work.
	ctx, cancel := context.WithDeadline(ctx, accepted.Add(TimeoutHandshake))
	defer cancel()
	m2, err := a.answer(ctx, r, rest[:0:SizeM2], ek)
	if err != nil {
		return nil, err
	}
	if err := writeAll(conn, m2, accepted.Add(TimeoutHandshake)); err != nil {
		return nil, fail(ReasonWrite, fmt.Errorf("writing M2: %w", err))
	}

	// 8. Message 3, exactly.
	m3 := rest[SizeM2 : SizeM2+SizeM3]
	if err := readExactly(conn, m3, accepted.Add(TimeoutHandshake)); err != nil {
		return nil, fail(ReasonShort, fmt.Errorf("reading M3: %w", err))
	}

	// 9 and 10. Open it and verify the peer.
	return a.finish(ctx, r, m3)
}

// open finds the gate, or the invite, that opens message 1, given without its suite byte.
func (a *Acceptor) open(local *Local, suite keys.Suite, src netip.Addr, m1, p1 []byte) (*responder, error) {
	if suite == keys.SuiteEnroll {
		return a.openInvite(local, m1, p1)
	}
	var old []Gate
	for _, g := range a.cfg.Gates() {
		if g.Old {
			old = append(old, g)
			continue
		}
		if r, err := openM1(local, suite, g.PSK, m1, p1); err == nil {
			return r, nil
		}
	}
	if len(old) == 0 {
		return nil, fail(ReasonGate, errors.New("no gate opens M1"))
	}
	if !a.old.take(src, time.Now()) {
		return nil, fail(ReasonOldGate, errors.New("budget of older gates is spent"))
	}
	for _, g := range old[:min(len(old), maxOldGates)] {
		if r, err := openM1(local, suite, g.PSK, m1, p1); err == nil {
			r.verify.old = true
			return r, nil
		}
	}
	return nil, fail(ReasonGate, errors.New("no gate opens M1, nor an older one"))
}

func (a *Acceptor) openInvite(local *Local, m1, p1 []byte) (*responder, error) {
	if a.cfg.Invite == nil {
		return nil, fail(ReasonGate, errors.New("this node enrols nobody"))
	}
	id := identity.InviteID(m1[:inviteIDSize])
	psk, ok := a.cfg.Invite(id)
	if !ok {
		return nil, fail(ReasonGate, errors.New("no such invite"))
	}
	r, err := openM1(local, keys.SuiteEnroll, psk, m1[inviteIDSize:], p1)
	if err != nil {
		return nil, fail(ReasonGate, errors.New("invite does not open M1"))
	}
	r.invite = id
	return r, nil
}

func (a *Acceptor) answer(ctx context.Context, r *responder, out, ek []byte) ([]byte, error) {
	if err := a.acquire(ctx); err != nil {
		return nil, err
	}
	defer a.work.release()
	return r.answer(out, ek, a.cfg.Now())
}

func (a *Acceptor) finish(ctx context.Context, r *responder, m3 []byte) (*Result, error) {
	if err := a.acquire(ctx); err != nil {
		return nil, err
	}
	defer a.work.release()
	return r.finish(m3, a.cfg.Verify, a.cfg.Now())
}

// acquire takes a processor. A wait that outlasts the handshake's deadline is the same as a full queue.
func (a *Acceptor) acquire(ctx context.Context) error {
	if err := a.work.acquire(ctx); err != nil {
		return fail(ReasonBusy, err)
	}
	return nil
}
