package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// startDial carries out one dial of the core.
func (n *Node) startDial(ctx context.Context, d core.Dial) {
	ctx, cancel := context.WithCancel(ctx)
	n.mu.Lock()
	n.dials[d.ID] = cancel
	n.mu.Unlock()
	n.wg.Go(func() {
		defer cancel()
		code, err := n.dialPeer(ctx, d)
		n.mu.Lock()
		delete(n.dials, d.ID)
		n.mu.Unlock()
		if err != nil {
			n.log.Debug("dial failed", "peer", n.nameOf(d.Peer), "at", d.At, "err", err)
			n.noteDial(d.Peer, d.At, err)
			n.post(core.DialFailed{ID: d.ID, Code: code})
		}
	})
}

func (n *Node) cancelDial(id core.DialID) {
	n.mu.Lock()
	cancel := n.dials[id]
	n.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// dialPeer connects, proves that the peer is the one wanted, and begins the session. An error means that there is none.
func (n *Node) dialPeer(ctx context.Context, d core.Dial) (session.Code, error) {
	cctx, cancel := context.WithTimeout(ctx, connectTimeout)
	conn, err := n.net.Dial(cctx, d.At)
	cancel()
	if err != nil {
		return 0, err
	}
	n.tune(conn)
	suite := keys.SuiteChaCha
	if d.AES && n.aes {
		suite = keys.SuiteAES
	}
	seq := n.connSeq.Add(1)
	local := n.local()
	local.ConnSeq = seq
	res, err := handshake.Dial(ctx, conn, handshake.DialConfig{
		Local: local, Gate: n.secrets.gate(n.generationOf(d.Peer)), Suite: suite, Responder: d.Peer, Verify: n.verifyPeer, Now: n.trustNow,
	})
	if err != nil {
		var he *handshake.Error
		if errors.As(err, &he) && he.Reason == handshake.ReasonRefused && he.Peer != nil {
			n.auditRefused(he.Peer.Node, he.Code, d.At)
			return he.Code, err
		}
		return 0, err
	}
	// From here on the session's end is reported by the link, and cancelling the dial no longer touches it.
	n.runSession(conn, res, d.ID, seq, d.At)
	return 0, nil
}

// generationOf is the newest generation of the group secret a peer's beacons said it holds; 0: not known.
func (n *Node) generationOf(id keys.NodeID) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.presence[id].gen
}

// Errors of Dial.
var (
	// ErrUnknownNode: no live member has that name or id.
	ErrUnknownNode = errors.New("no such member")
	// ErrNameConflict: two live members hold the name, so it names neither.
	ErrNameConflict = errors.New("the name is held by two members; use the node id")
	// ErrPinChanged: the name meant another node when it was first used. It comes as a *[PinError].
	ErrPinChanged = errors.New("the name belongs to another node than at its first use")
	// ErrNotAdmitted: the peer proved itself and does not admit this node.
	ErrNotAdmitted = errors.New("the peer does not admit this node")
	// ErrStaleView: this node's view of the mesh is older than the root allows, so it has no session that may open streams.
	ErrStaleView = errors.New("this node's view of the mesh is too old to open streams")
	// ErrUnreachable: no session with the peer could be made in time.
	ErrUnreachable = errors.New("the peer cannot be reached")
)

// Dial opens a stream to "node/service". The connection is ready when the destination has authorised it. A refusal is a
// *session.RefusedError; the caller was told nothing more than that it may not, or that the service cannot be reached.
func (n *Node) Dial(ctx context.Context, target string) (*Conn, error) {
	t, err := n.Resolve(target)
	if err != nil {
		return nil, err
	}
	return n.DialTarget(ctx, t)
}

// DialTarget is Dial for a resolved target.
func (n *Node) DialTarget(ctx context.Context, t Target) (*Conn, error) {
	return n.DialEarly(ctx, t, nil)
}

// DialEarly is DialTarget for a caller that may have something to send already: first puts it into p without waiting and returns how much
// that is. It goes out together with the request for the stream, which saves half a round trip and two wake-ups, and reaches the service
// only once the destination has authorised the stream. The price: a request that had data with it and is not answered, as when the
// destination stops in that moment, is not repeated by itself, for nobody knows whether the service has seen the data.
func (n *Node) DialEarly(ctx context.Context, t Target, first func(p []byte) int) (*Conn, error) {
	if t.Node == n.self {
		return nil, errors.New("that is this node itself: connect to the service directly")
	}
	early := &session.Early{Fill: first}
	var last error
	for range dialAttempts {
		l, err := n.waitLink(ctx, t.Node)
		if err != nil {
			if last != nil {
				return nil, last
			}
			return nil, err
		}
		c, retry, err := n.openStream(ctx, l, t, early)
		if err == nil {
			return c, nil
		}
		last = err
		if !retry || ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, last
}

// openStream opens one stream over a link. retry means that nothing reached the destination's application.
func (n *Node) openStream(ctx context.Context, l *link, t Target, early *session.Early) (c *Conn, retry bool, err error) {
	if n.streams.count(t.Node) >= maxStreamsPeer {
		return nil, false, fmt.Errorf("already %d streams to this peer", maxStreamsPeer)
	}
	req := session.Request{Service: t.Service}
	warm := func(p *session.Parked) (*Conn, bool, error) {
		return n.openOn(l, t, early, p.Reset, func() (*session.Stream, error) { return p.Open(ctx, req, early) })
	}
	if p := l.takeWarm(); p != nil {
		c, retry, err := warm(p)
		if early.Pending() || !errors.Is(err, session.ErrUnanswered) && !errors.Is(err, session.ErrEnded) {
			return c, retry, err
		}
		n.count("warm.stale") // nothing was asked: a new connection shows what is the matter
	}
	tcp, p, err := n.reach(ctx, l)
	if err != nil {
		return nil, true, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	if p != nil {
		return warm(p)
	}
	return n.openOn(l, t, early, func(session.Code) { reset(tcp) }, func() (*session.Stream, error) {
		return session.Open(ctx, tcp, l.ring, req, early)
	})
}

// openOn opens one stream on a connection, which cut resets.
func (n *Node) openOn(
	l *link, t Target, early *session.Early, cut func(session.Code), open func() (*session.Stream, error),
) (c *Conn, retry bool, err error) {
	e := &entry{peer: l.peer.Node, boot: l.peer.Boot, session: l.id, service: t.Service}
	if !n.streams.join(e, cut) {
		cut(session.CodeNormal)
		return nil, true, fmt.Errorf("%w: the session ended", ErrUnreachable)
	}
	s, err := open()
	if err != nil {
		why, code := n.streams.leave(e)
		if why != "" {
			return nil, false, fmt.Errorf("%s: %w", why, &session.ResetError{Code: code})
		}
		var re *session.RefusedError
		return nil, !early.Pending() && !errors.As(err, &re), err
	}
	c = n.newConn(s, e, Caller{Node: l.peer.Node, Name: n.nameOf(l.peer.Node)}, t.Service)
	if !n.streams.replaceCut(e, c.cut) {
		s.Reset(session.CodeRevoked)
		return nil, false, &session.ResetError{Code: session.CodeRevoked}
	}
	n.warmUp(l)
	return c, false, nil
}

// connectStream opens the TCP connection of a stream: to the address the session was dialled at, or to one the peer announces.
func (n *Node) connectStream(ctx context.Context, l *link) (net.Conn, error) {
	addrs, err := n.awaitAddresses(ctx, l)
	if err != nil {
		return nil, err
	}
	cctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var last error
	for _, at := range addrs {
		conn, err := n.net.Dial(cctx, at)
		if err == nil {
			n.tuneStream(conn)
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// awaitAddresses returns the addresses to open a stream at. Right after a session was accepted the peer's own record may still be on its way.
func (n *Node) awaitAddresses(ctx context.Context, l *link) ([]netip.AddrPort, error) {
	late := time.NewTimer(openWait)
	defer late.Stop()
	for {
		n.mu.Lock()
		changed := n.changed
		addrs := n.streamAddressesLocked(l)
		n.mu.Unlock()
		switch {
		case len(addrs) > 0:
			return addrs, nil
		case session.State(l.state.Load()) == session.Closed:
			return nil, errors.New("the session ended")
		}
		select {
		case <-changed:
		case <-late.C:
			return nil, errors.New("no address of the peer is known")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// streamAddressesLocked lists where a peer accepts connections, best first. Only the first record's authentication decides whether it is
// the peer that answers; a stranger at the address learns one opaque tag.
func (n *Node) streamAddressesLocked(l *link) []netip.AddrPort {
	if l.role == keys.RoleDialer {
		return []netip.AddrPort{l.remote}
	}
	var same, other []netip.AddrPort
	for _, at := range n.endpoints[l.peer.Node] {
		if at.Addr().WithZone("") == l.remote.Addr().WithZone("") {
			same = append(same, at)
		} else {
			other = append(other, at)
		}
	}
	return append(same, other...)
}

// waitLink returns a full session with the peer, asking for one if there is none.
func (n *Node) waitLink(ctx context.Context, id keys.NodeID) (*link, error) {
	asked := false
	began := time.Now()
	for {
		l, changed, refused := n.fullLink(id, began)
		if l != nil {
			return l, nil
		}
		if refused != 0 {
			return nil, fmt.Errorf("%w: %s", ErrNotAdmitted, refused)
		}
		if !asked {
			n.post(core.Want{Peer: id})
			asked = true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if v := n.State().View(n.trustNow()); v.Stale && v.Restrict {
				return nil, fmt.Errorf("%w: %w", ErrStaleView, ctx.Err())
			}
			return nil, fmt.Errorf("%w: %s%w", ErrUnreachable, n.lastDial(id), ctx.Err())
		case <-n.ctx.Done():
			return nil, ErrClosed
		}
	}
}

// fullLink returns the newest full session with a peer, or a channel that closes at the next change of any session's state, and the
// code with which the peer has ended an attempt since the given time.
func (n *Node) fullLink(id keys.NodeID, since time.Time) (*link, <-chan struct{}, session.Code) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var best *link
	for _, l := range n.links {
		if l.peer.Node == id && l.open() && (best == nil || l.id > best.id) {
			best = l
		}
	}
	var refused session.Code
	if r, ok := n.refusals[id]; ok && !r.at.Before(since) {
		refused = r.code
	}
	return best, n.changed, refused
}
