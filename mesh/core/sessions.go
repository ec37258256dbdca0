package core

import (
	"errors"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	codeNone     = session.CodeNormal
	codeShutdown = session.CodeShutdown
)

// sessionUp takes a finished handshake. The session does nothing until both sides have said READY.
func (c *Core) sessionUp(ev SessionUp) {
	d := c.endDial(ev.Dial)
	p := c.peerFor(ev.Peer)
	if code, why := c.refuse(p); code != 0 {
		c.emit(CloseSession{ID: ev.ID, Code: code, Why: why})
		return
	}
	s := &sess{
		id: ev.ID, peer: p, role: ev.Role, boot: ev.Boot, connSeq: ev.ConnSeq, cert: ev.Certificate, rootVer: ev.RootVersion,
		up: c.now.Mono, lastRecv: c.now.Mono, floodFrom: c.now.Mono, states: session.NewStates(time.Time{}, false),
	}
	if s.role == keys.RoleDialer {
		at := ev.Remote // of a dial that was given up and succeeded all the same
		if d != nil {
			at = d.addr.at
		}
		s.addr = c.reached(p, at)
		c.cancelDials(p, 0)
	}
	c.byID[s.id] = s
	i, _ := slices.BinarySearchFunc(c.live, s.id, func(s *sess, id SessionID) int { return int(int64(s.id) - int64(id)) })
	c.live = slices.Insert(c.live, i, s)
	p.sessions = append(p.sessions, s)
	p.chosen = false
	p.lastTraffic = c.now.Mono
	if p.presence < Stale {
		c.setPresence(p, Stale, "session made")
	}
	c.countBoot(p, s.boot)
	st, code := c.standing(s)
	if code != 0 {
		c.close(s, code, "not admitted")
		return
	}
	c.sendReady(s, st)
	if c.waited && st == session.Restricted && len(c.views) == 0 {
		c.after(syncWait, func() { c.review(s) })
	}
	s.limitT = c.after(readyWait, func() { c.close(s, session.CodeProtocol, "no READY from the peer") })
	c.keepBeat(s)
	c.keepLife(s)
}

// refuse says why no session with p is taken, whatever its certificate.
func (c *Core) refuse(p *peer) (session.Code, string) {
	switch {
	case c.stopping:
		return codeShutdown, "shutting down"
	case p == nil:
		return session.CodeLimit, "no room for another candidate"
	case p.paused > c.now.Mono:
		return session.CodeLimit, "it sent what no honest node sends a moment ago"
	case len(p.sessions) >= maxSessionsPeer:
		return session.CodeLimit, "too many sessions with one node"
	}
	return 0, ""
}

// sendReady tells the peer what it may do, and the shell what the session may do.
func (c *Core) sendReady(s *sess, st session.State) {
	if err := s.states.Declare(st); err != nil {
		c.close(s, session.CodeProtocol, err.Error())
		return
	}
	s.unsynced = st == session.Full && !c.seenEnough(s.peer)
	// The shell takes streams before the peer can know that it may open them.
	c.publish(s)
	c.send(s, session.Ready{State: st, Unsynced: s.unsynced})
}

// publish tells the shell the session's usable state: the lesser of what both sides said. A session drains only if both had said full:
// in the shell a draining session still takes what a full one does.
func (c *Core) publish(s *sess) {
	full := s.states.Local() == session.Full && s.states.Peer() == session.Full
	wasFull := full || s.published.State == session.Full || s.published.State == session.Draining
	draining := s.draining || s.states.Peer() == session.Draining
	st := min(s.states.Local(), session.Full)
	switch {
	case s.loser:
		st = session.Draining
	case draining && wasFull:
		st = session.Draining
	case draining, !s.ready(), st == session.Full && !full:
		st = session.Restricted
	}
	now := SessionState{ID: s.id, State: st, Local: s.states.Local(), Unsynced: s.unsynced}
	if now == s.published {
		return
	}
	first := st == session.Full && s.published.State != session.Full
	s.published = now
	c.emit(now)
	if s.states.Usable() {
		s.limitT.stop()
	}
	if first {
		s.peer.shutOut, s.peer.shuts = 0, 0
		c.setPresence(s.peer, Up, "session")
		c.remember(s)
		c.tellPeers(s)
		c.askAround(s)
	}
}

// frame takes a control record that arrived on s.
func (c *Core) frame(s *sess, b session.Body, raw []byte) {
	first := !s.ready()
	if err := s.states.Received(b, len(raw)); err != nil {
		code := session.CodeProtocol
		if errors.Is(err, session.ErrLimited) {
			code = session.CodeLimit
		}
		c.close(s, code, err.Error())
		return
	}
	switch k := b.Kind(); k {
	case session.KindReady:
		c.ready(s, first)
	case session.KindVec, session.KindWant, session.KindRoot, session.KindEntry, session.KindEvidence, session.KindHead,
		session.KindHashAt:
		c.syncFrame(s, k, raw)
	case session.KindFind:
		if f, ok := b.(session.Find); ok && s.full() {
			c.findIn(s, f)
		}
	case session.KindGoAway:
		s.draining = true
		c.publish(s)
	}
	// The other kinds are the shell's: peer records, services, the group secret, streams.
}

// ready takes the peer's READY, first or repeated.
func (c *Core) ready(s *sess, first bool) {
	if first {
		s.limitT.stop()
		if !c.resolveDuplicates(s) {
			return
		}
		// Until both sides are full the session opens no stream: it holds a place for a while and no longer.
		c.limit(s, s.up+controlOnly-c.now.Mono)
		c.startSync(s)
	}
	c.publish(s)
}

// limit ends a session that is not full on both sides after d. One that only this node's stale view holds down is no burden and the way
// in which a newer view comes, so it is looked at again instead.
func (c *Core) limit(s *sess, d time.Duration) {
	s.limitT = c.after(d, func() {
		if _, why := c.st.Admit(s.cert, s.rootVer, c.now.Trust); why == trust.ReasonStale {
			c.limit(s, controlOnly)
			return
		}
		c.close(s, session.CodeLimit, "not admitted to streams within the limit")
	})
}

// close ends a session from this side.
func (c *Core) close(s *sess, code session.Code, why string) {
	if c.byID[s.id] == nil {
		return
	}
	c.emit(CloseSession{ID: s.id, Code: code, Why: why})
	c.drop(s, code)
}

// drop forgets a session that has ended with code and plans to reach the peer again.
func (c *Core) drop(s *sess, code session.Code) {
	p := s.peer
	delete(c.byID, s.id)
	gone := func(o *sess) bool { return o == s }
	c.live = slices.DeleteFunc(c.live, gone)
	p.sessions = slices.DeleteFunc(p.sessions, gone)
	for _, t := range []*timer{s.hbT, s.lifeT, s.limitT, s.vecT, s.pullT, s.showT} {
		t.stop()
	}
	for _, q := range s.asked {
		q.t.stop()
	}
	s.asked = nil
	if s.sync != nil {
		s.sync.Close()
	}
	if s.addr != nil {
		switch {
		case c.now.Mono-s.up >= shortSession:
			s.addr.failures = 0
		case code == codeShutdown, code == session.CodeLimit, code == session.CodeDuplicate && !p.suspect():
			// Neither says anything about the address.
		default:
			c.failed(p, s.addr)
		}
	}
	if c.stopping {
		return
	}
	if p.working() == nil && p.presence == Up {
		c.setPresence(p, Stale, "session closed")
	}
	if p.revoked {
		return
	}
	c.lostLink(p, code)
	d := c.jitter(0, min(restartSpreadMax, restartSpread*time.Duration(len(c.order))))
	if !less(c.cfg.Self, p.id) {
		d += staggerFar
	}
	if p.enrolled {
		c.dialSoon(p, d)
	}
}
