package mesh

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// Connections to peers that are in use are made and authenticated before they are needed, so that a new stream costs one question and
// its answer. Each is parked with its session: it goes with it, with its keys, and with the peer's right to be here; what it is for is
// decided when OPEN comes.
//
//	a peer we can dial      we connect, WARM; later we send OPEN on it
//	a peer we cannot dial   we send DIAL on the session, which it dialled; it connects to where it dialled that, WARM{reverse}; we send OPEN

// warmth is a link's part in it.
type warmth struct {
	ready   session.ParkedSet // this side sends OPEN
	waiting session.ParkedSet // the peer does
	under   atomic.Int32      // connections being made
	more    atomic.Int32      // ready ones to keep beyond warmMin
	wanted  atomic.Int32      // streams that wait for a connection of the peer's
	way     atomic.Int32      // how the peer is reached: wayUnknown until one way has proven itself
	retried budget            // connects to a peer that could not be dialled
	asked   budget            // DIALs of the peer
	back    atomic.Int32      // connections being made for them
}

const (
	wayUnknown int32 = iota
	wayDirect        // a connect of ours succeeded
	wayReverse       // it failed, or the peer's own, which it was asked for, came before it
)

func (w *warmth) reverse() bool { return w.way.Load() == wayReverse }

// reached notes how a connect ended. One failure does not outweigh a success before it: the stream after this one tries both ways again.
func (w *warmth) reached(err error) {
	switch {
	case err == nil:
		w.way.Store(wayDirect)
	case !w.way.CompareAndSwap(wayDirect, wayUnknown):
		w.notDirect()
	}
}

// notDirect notes that a peer of which nothing else is known can be reached by its own connections only.
func (w *warmth) notDirect() {
	if w.way.CompareAndSwap(wayUnknown, wayReverse) {
		w.mayRetry()
	}
}

// mayRetry reports whether it is time to see whether a peer that could not be dialled now can.
func (w *warmth) mayRetry() bool { return w.retried.of(rate.Every(dialDirectAgain), 1).Allow() }

// takeWarm returns a connection to send OPEN on, or nil.
func (l *link) takeWarm() *session.Parked {
	p := l.warm.ready.Take(time.Now())
	if p == nil {
		l.warm.more.Store(warmMax - warmMin)
	}
	return p
}

// warmUp makes connections for the next streams with a peer that is in use, one at a time.
func (n *Node) warmUp(l *link) {
	if !l.may(session.FeatureWarm) || !l.open() {
		return
	}
	missing := warmMin + int(l.warm.more.Load()) - l.warm.ready.Len() - int(l.warm.under.Load())
	if missing <= 0 {
		return
	}
	if l.warm.reverse() {
		n.askToDial(l, missing)
		if !l.warm.mayRetry() {
			return
		}
	}
	l.warm.under.Add(1) // before the next stream looks, which may be sooner than the goroutine runs
	if !n.goWhile(l, func(ctx context.Context) {
		defer l.warm.under.Add(-1)
		if l.warm.ready.Len() > 0 && !pause(ctx, warmAfter) {
			return
		}
		conn, err := n.connectStream(ctx, l)
		if err != nil {
			return
		}
		l.warm.reached(nil)
		if p, err := session.Warm(ctx, conn, l.ring, false); err != nil {
			n.count("warm.failed")
		} else if !l.warm.ready.Put(p) {
			p.Close()
		}
	}) {
		l.warm.under.Add(-1)
	}
}

// goWhile runs f in a goroutine of the node's, unless the link has ended: while it has not, its reader is one, and the node waits for it.
func (n *Node) goWhile(l *link, f func(ctx context.Context)) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.links[l.id] != l || n.ctx.Err() != nil {
		return false
	}
	n.wg.Go(func() {
		defer func() {
			if v := recover(); v != nil {
				n.panicked("warm connection", v)
			}
		}()
		f(n.ctx)
	})
	return true
}

// askToDial asks a peer that dialled the session for connections.
func (n *Node) askToDial(l *link, count int) {
	if l.role == keys.RoleAcceptor {
		n.queueBody(l.id, session.Number{K: session.KindDial, N: uint64(min(count, maxDialBack))})
	}
}

// dialBack obeys DIAL: it connects to where this side dialled the session, which is the one address the peer has proven, and never to one
// that a message names.
func (n *Node) dialBack(l *link, count uint64) {
	if l.role != keys.RoleDialer || !l.may(session.FeatureWarm) ||
		!l.warm.asked.of(dialBackPerSecond, dialBackPerSecond).Allow() {
		n.count("dial-back.ignored")
		return
	}
	for range count {
		if l.warm.back.Add(1) > session.MaxParked {
			l.warm.back.Add(-1)
			n.count("dial-back.ignored")
			return
		}
		if !n.goWhile(l, func(ctx context.Context) {
			p := n.connectBack(ctx, l)
			l.warm.back.Add(-1)
			if p != nil {
				n.serveParked(ctx, l, p)
			}
		}) {
			l.warm.back.Add(-1)
		}
	}
}

// connectBack makes one connection to where this side dialled the session.
func (n *Node) connectBack(ctx context.Context, l *link) *session.Parked {
	cctx, cancel := context.WithTimeout(ctx, connectTimeout)
	conn, err := n.net.Dial(cctx, l.remote)
	cancel()
	if err != nil {
		n.count("dial-back.failed")
		return nil
	}
	n.tuneStream(conn)
	p, err := session.Warm(ctx, conn, l.ring, true)
	if err != nil {
		n.count("dial-back.failed")
		return nil
	}
	return p
}

// park answers a WARM. On a reverse one this side sends OPEN later; on the other kind it waits for the peer's.
func (n *Node) park(ctx context.Context, in *session.Incoming, l *link) {
	if ok, _ := n.awaitOpen(ctx, l); !ok || !l.may(session.FeatureWarm) {
		in.Reset(session.CodeLimit)
		n.count("stream.warm")
		return
	}
	p, err := in.Park()
	if err != nil {
		n.count("warm.failed")
		return
	}
	if !p.CanOpen() {
		n.serveParked(ctx, l, p)
		return
	}
	l.warm.notDirect()
	if !l.warm.ready.Put(p) {
		p.Reset(session.CodeLimit)
		n.count("warm.limit")
		return
	}
	n.wake()
}

// serveParked waits for the peer's OPEN on a parked connection and serves the stream it begins. That the peer was a member when it was
// parked gives it no right: everything is decided now.
func (n *Node) serveParked(ctx context.Context, l *link, p *session.Parked) {
	if !l.warm.waiting.Put(p) {
		p.Reset(session.CodeLimit)
		n.count("warm.limit")
		return
	}
	in, err := p.Next(ctx, l)
	l.warm.waiting.Remove(p)
	if err != nil {
		return // it was closed, which is how most of them end
	}
	n.takeStream(ctx, in, l)
}

// reach gets a connection for a stream with a peer: a new one, or, from a peer that dialled the session and cannot be dialled, one of its own.
func (n *Node) reach(ctx context.Context, l *link) (net.Conn, *session.Parked, error) {
	if l.role == keys.RoleDialer || !l.may(session.FeatureWarm) {
		conn, err := n.connectStream(ctx, l)
		return conn, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	l.warm.wanted.Add(1)
	defer l.warm.wanted.Add(-1)
	type result struct {
		conn net.Conn
		err  error
	}
	direct := make(chan result)
	failure := errors.New("the peer can be reached neither way")
	patience := dialBackAfter
	if l.warm.reverse() {
		patience = 0
	} else if !n.goWhile(l, func(all context.Context) {
		// Beyond this stream's patience too: a peer that is only slow to reach must not be taken for long for one that cannot be dialled, whose
		// streams are as few as it may be asked for.
		conn, err := n.connectStream(all, l)
		l.warm.reached(err)
		select {
		case direct <- result{conn, err}:
		case <-ctx.Done():
			if err == nil {
				reset(conn)
			}
		}
	}) {
		return nil, nil, ErrClosed
	}
	ask := time.NewTimer(patience)
	defer ask.Stop()
	for {
		n.mu.Lock()
		changed := n.changed
		n.mu.Unlock()
		if p := l.warm.ready.Take(time.Now()); p != nil {
			return nil, p, nil
		}
		if !l.open() {
			return nil, nil, errors.New("the session ended")
		}
		select {
		case r := <-direct:
			if r.err == nil {
				return r.conn, nil, nil
			}
			failure = r.err
			ask.Reset(0)
		case <-ask.C:
			n.askToDial(l, int(l.warm.wanted.Load()))
			ask.Reset(dialBackAgain)
		case <-changed:
		case <-ctx.Done():
			return nil, nil, failure
		}
	}
}

// coolDown closes parked connections that were not used for long.
func (n *Node) coolDown(now time.Time) {
	for _, l := range n.allLinks() {
		if had := l.warm.ready.Len(); l.warm.ready.Sweep(now) < had {
			l.warm.more.Store(0)
		}
		l.warm.waiting.Sweep(now)
	}
}

// pause waits and reports whether ctx still lives.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
