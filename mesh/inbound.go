package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// acceptStream serves one stream connection, in the one order that lets no stream slip past a revocation:
//
//	tag → session full → the stream joins the peer's set → decide, noting the sweep count → audit durable while the target is
//	dialled → under the set's lock: still in, and no sweep since; else decide again → ACCEPT
//
// No byte of the peer reaches the target before ACCEPT is sent.
func (n *Node) acceptStream(ctx context.Context, conn net.Conn, src netip.AddrPort, accepted time.Time, full bool, release func()) {
	if !n.tagLimit.Allow(src.Addr(), full, accepted) {
		reset(conn)
		n.count("stream.tag-flood")
		return
	}
	in, err := session.ReadS1(conn, n.tags, accepted.Add(session.S1Timeout), full)
	if err != nil {
		reset(conn)
		if errors.Is(err, session.ErrUnknownTag) {
			n.tagLimit.Unknown(src.Addr(), full, time.Now())
			n.count("stream.unknown-tag")
		} else {
			n.count("stream.bad-s1")
		}
		return
	}
	release()
	n.tuneStream(conn)
	l := in.Owner().(*link)
	if warm, _ := in.Warm(); warm {
		n.park(ctx, in, l)
		return
	}
	n.takeStream(ctx, in, l)
}

// takeStream serves one request of a peer, from its OPEN to its end.
func (n *Node) takeStream(ctx context.Context, in *session.Incoming, l *link) {
	e := &entry{
		peer: l.peer.Node, boot: l.peer.Boot, session: l.id, inbound: true, service: in.Request().Service,
	}
	switch ok, ended := n.awaitOpen(ctx, l); {
	case ended:
		// Said to nobody: the opener tries another session, as if the tag had been forgotten already.
		in.Reset(session.CodeNormal)
		n.count("stream.session-ended")
		return
	case !ok:
		in.Refuse(session.CodeNotAdmitted, 0)
		n.count("stream.session-not-full")
		return
	}
	if !n.streams.join(e, in.Reset) {
		in.Reset(session.CodeNormal)
		n.count("stream.session-ended")
		return
	}
	defer func() {
		if v := recover(); v != nil {
			n.streams.cutEntry(e, "panic", session.CodeAborted)
			panic(v)
		}
	}()
	n.serveStream(ctx, in, l, e)
}

// awaitOpen waits for a session to be full. The peer's first stream may overtake its own READY, which is on another connection. A
// session that lost as a duplicate still counts: its tags stay valid for a while, and the stream joins the peer, not the session.
func (n *Node) awaitOpen(ctx context.Context, l *link) (ok, ended bool) {
	late := time.NewTimer(openWait)
	defer late.Stop()
	for {
		n.mu.Lock()
		changed := n.changed
		n.mu.Unlock()
		switch {
		case l.usable():
			return true, false
		case session.State(l.state.Load()) == session.Closed:
			dup := l.duplicate.Load() && l.wasFull.Load()
			return dup, !dup
		}
		select {
		case <-changed:
		case <-late.C:
			return false, false
		case <-ctx.Done():
			return false, true
		}
	}
}

// serveStream decides, records, accepts and serves one stream that is in its peer's set.
func (n *Node) serveStream(ctx context.Context, in *session.Incoming, l *link, e *entry) {
	if n.streams.count(e.peer) > maxStreamsPeer || !n.streams.mayOpen(e.peer) {
		n.streams.leave(e)
		in.Refuse(session.CodeLimit, 0)
		n.count("stream.limit")
		return
	}
	if !n.streams.denials.left(e.peer, time.Now()) {
		n.refuseFlood(in, l, e)
		return
	}
	for range maxDecisions {
		epoch := n.streams.now()
		dec := n.State().Decide(e.peer, n.self, e.service, n.trustNow())
		svc := n.service(e.service)
		if !dec.Allowed || svc == nil {
			n.refuseStream(in, l, e, dec, svc)
			return
		}
		who := n.caller(e.peer, dec)
		prep, idx, code := n.prepare(ctx, svc, who, l, e)
		if code != 0 {
			n.streams.leave(e)
			in.Refuse(code, idx)
			return
		}
		good, gone := n.streams.stillGood(e, epoch, nil)
		switch {
		case gone:
			prep.Abort()
			n.auditStreamEnd(e, who, e.why, e.code, time.Now(), 0, 0)
			return
		case !good:
			prep.Abort()
			n.auditStreamEnd(e, who, "trust changed meanwhile; decided again", 0, time.Now(), 0, 0)
			continue
		}
		n.run(ctx, in, l, e, prep, who, svc)
		return
	}
	n.streams.leave(e)
	in.Refuse(session.CodeLimit, 0)
}

// prepare dials the target while the opening becomes durable in the audit log; the stream waits for both.
func (n *Node) prepare(ctx context.Context, svc *service, who Caller, l *link, e *entry) (Prepared, uint64, session.Code) {
	type record struct {
		idx uint64
		err error
	}
	recorded := make(chan record, 1)
	n.wg.Go(func() {
		idx, err := n.audit.Append(audit.Event{
			Time: time.Now(), Code: audit.StreamOpen, Actor: e.peer.Compact(), Target: e.service, Verdict: audit.Allowed,
			Grant: who.Grant, Session: l.name(),
		})
		recorded <- record{idx, err}
	})
	// Here, and not in a goroutine of its own: most targets are on this machine and answer before another processor is awake.
	p, err := n.prepareTarget(ctx, svc, who)
	r := <-recorded
	switch {
	case r.err != nil && n.cfg.Unrecorded != UnrecordedAllow:
		if p != nil {
			p.Abort()
		}
		n.count("stream.audit-degraded")
		return nil, 0, session.CodeDegraded
	case err != nil:
		n.auditLater(audit.Event{
			Code: audit.StreamClose, Actor: e.peer.Compact(), Target: e.service, Reason: "target unreachable", Grant: who.Grant,
			Session: l.name(),
		})
		n.log.Info("service target does not answer", "service", e.service, "err", err)
		return nil, r.idx, session.CodeUnreachable
	}
	return p, r.idx, 0
}

// prepareTarget asks the service's handler, whose panic is its own failure alone.
func (n *Node) prepareTarget(ctx context.Context, svc *service, who Caller) (p Prepared, err error) {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			n.panicked("preparing "+svc.name, v)
			p, err = nil, errors.New("the service failed")
		}
	}()
	return svc.handler.Prepare(ctx, who)
}

// run accepts the stream and serves it to its end.
func (n *Node) run(ctx context.Context, in *session.Incoming, l *link, e *entry, prep Prepared, who Caller, svc *service) {
	began := time.Now()
	s, err := in.Accept()
	if err != nil {
		prep.Abort()
		n.streams.leave(e)
		n.auditStreamEnd(e, who, err.Error(), 0, began, 0, 0)
		return
	}
	c := n.newConn(s, e, who, e.service)
	if !n.streams.replaceCut(e, c.cut) {
		prep.Abort()
		s.Reset(session.CodeRevoked)
		n.auditStreamEnd(e, who, e.why, e.code, began, 0, 0)
		return
	}
	n.svcMu.Lock()
	svc.streams++
	n.svcMu.Unlock()
	defer func() {
		n.svcMu.Lock()
		svc.streams--
		n.svcMu.Unlock()
	}()
	prep.Serve(ctx, c)
	c.Close()
}

// refuseFlood refuses a peer that was denied too often, without a decision and without waiting for the disk. The audit log counts it with
// the denials before it.
func (n *Node) refuseFlood(in *session.Incoming, l *link, e *entry) {
	defer n.streams.leave(e)
	n.auditLater(audit.Event{
		Code: audit.StreamDeny, Actor: e.peer.Compact(), Target: e.service, Verdict: audit.Denied, Session: l.name(),
		Reason: "denied too often in a second",
	})
	in.Refuse(session.CodeLimit, 0)
	n.count("stream.denied-flood")
}

// refuseStream records a denial and answers it. "No such service" and "not granted" are one code: a caller that may not use a
// service does not learn whether it exists.
func (n *Node) refuseStream(in *session.Incoming, l *link, e *entry, dec trust.Decision, svc *service) {
	if !n.streams.denials.take(e.peer, time.Now()) {
		n.refuseFlood(in, l, e)
		return
	}
	defer n.streams.leave(e) // last: what waits for the disk here is bounded by the peer's streams
	reason := string(dec.Reason)
	if dec.Allowed {
		reason = "no such service"
	}
	if svc != nil {
		n.svcMu.Lock()
		svc.refused++
		n.svcMu.Unlock()
	}
	idx, err := n.audit.Append(audit.Event{
		Time: time.Now(), Code: audit.StreamDeny, Actor: e.peer.Compact(), Target: e.service, Verdict: audit.Denied,
		Reason: reason, Session: l.name(),
	})
	if err != nil {
		idx = 0
	}
	in.Refuse(session.CodeNotAdmitted, idx)
	n.count("stream.denied")
	n.notify(Event{Kind: EventDenied, Node: e.peer, Service: e.service, Text: reason})
}

// caller is who opened a stream, by the proven key and the log.
func (n *Node) caller(id nodeID, dec trust.Decision) Caller {
	who := Caller{Node: id, Name: n.trustedName(id), Grant: dec.Grant.String()}
	if m, ok := n.State().Member(id); ok {
		who.Tags = m.Tags
	}
	return who
}

// sweep authorises every stream again under the newest trust state, and cuts those that lost their right. It runs on every change
// of trust, at the next expiry, and every few seconds.
func (n *Node) sweep() int {
	st, now := n.State(), n.trustNow()
	return n.streams.sweep(func(e *entry) (bool, string, session.Code) {
		if _, revoked := st.Revoked(e.peer); revoked {
			return false, "revoked", session.CodeRevoked
		}
		if _, live := st.LiveMember(e.peer, now); !live {
			return false, "certificate not in force", session.CodeExpired
		}
		if !e.inbound {
			return true, "", 0
		}
		if dec := st.Decide(e.peer, n.self, e.service, now); !dec.Allowed {
			return false, string(dec.Reason), session.CodeNotAdmitted
		}
		return true, "", 0
	})
}
