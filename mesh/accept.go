package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// acceptLoop takes TCP connections under the budget, before anything is allocated for them.
func (n *Node) acceptLoop(ctx context.Context, ln net.Listener) error {
	for {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return ctx.Err()
			}
			n.count("accept.failed")
			select {
			case <-time.After(acceptPause):
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		accepted := time.Now()
		src := addrOf(conn.RemoteAddr())
		known, full := n.standing(src.Addr())
		release, ok := n.budget.Enter(src.Addr(), known, full)
		if !ok {
			reset(conn)
			n.count("accept.budget")
			continue
		}
		n.tune(conn)
		n.wg.Go(func() {
			defer release()
			defer n.recovered("connection", conn)
			n.incoming(ctx, conn, src, accepted, full, release)
		})
	}
}

// incoming reads the first byte and hands the connection to whom it is for. It owns the connection.
func (n *Node) incoming(ctx context.Context, conn net.Conn, src netip.AddrPort, accepted time.Time, full bool, release func()) {
	stop := context.AfterFunc(ctx, func() { reset(conn) })
	defer stop()
	var first [1]byte
	if err := conn.SetReadDeadline(accepted.Add(handshake.TimeoutM1)); err != nil {
		reset(conn)
		return
	}
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		reset(conn)
		n.count("accept.silent")
		return
	}
	switch first[0] {
	case byte(keys.SuiteChaCha), byte(keys.SuiteAES), byte(keys.SuiteEnroll):
		n.acceptHandshake(ctx, conn, keys.Suite(first[0]), src, accepted, release)
	case session.FirstByte:
		n.acceptStream(ctx, conn, src, accepted, full, release)
	default:
		reset(conn)
		n.count("accept.first-byte")
	}
}

func (n *Node) acceptHandshake(ctx context.Context, conn net.Conn, suite keys.Suite, src netip.AddrPort, accepted time.Time, release func()) {
	res, err := n.acceptor.Accept(ctx, conn, suite, src.Addr(), accepted)
	if err != nil {
		var he *handshake.Error
		if errors.As(err, &he) && he.Reason == handshake.ReasonRefused && he.Peer != nil {
			n.auditRefused(he.Peer.Node, he.Code, src)
		}
		n.count("handshake." + reason(err))
		return // the acceptor closed the connection
	}
	release()
	switch {
	case res.Enroll:
		leave, ok := n.guards.enrolments.enter(src.Addr(), res.Invite)
		if !ok {
			n.count("enrolment.limit")
			session.NewControl(conn, res.Keys, res.Role).Close(session.CodeLimit)
			return
		}
		defer leave()
		n.serveEnrolment(ctx, conn, res, src)
	case res.Refused != 0:
		n.auditRefused(res.Peer.Node, res.Refused, src)
		session.NewControl(conn, res.Keys, res.Role).Close(res.Refused)
	default:
		n.runSession(conn, res, 0, res.Peer.ConnSeq, src)
	}
}

func reason(err error) string {
	var he *handshake.Error
	if errors.As(err, &he) {
		return he.Reason.String()
	}
	return "failed"
}

// standing says how the budget treats an address: known to the peer table, or with a full session.
func (n *Node) standing(src netip.Addr) (known, full bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	src = src.WithZone("")
	return n.knownAddrs[src] > 0, n.fullAddrs[src] > 0
}

func addrOf(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		ap := t.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

// reset closes a connection with RST, so that a dead or unwelcome path holds no state.
func reset(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	conn.Close()
}
