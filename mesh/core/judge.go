package core

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// standing is what this side lets a session do that is not full, by the log and by whether this node has compared views with others.
// A code refuses.
func (c *Core) standing(s *sess) (session.State, session.Code) {
	standing, why := c.st.Admit(s.cert, s.rootVer, c.now.Trust)
	if standing == trust.Refused {
		return session.Closed, refusal(why)
	}
	if _, live := c.st.LiveMember(s.peer.id, c.now.Trust); standing == trust.RenewOnly && live {
		standing = trust.Full // renewed on this session, or before, and the log has it
	}
	if standing == trust.Full && c.mustCompare(s) && !c.seenEnough(s.peer) {
		standing = trust.Restricted
	}
	return StateOf(standing), 0
}

// mustCompare reports whether a session has to wait for others' views of the log. A node that was alone while it waited after its start
// waits for the view of the first peer that comes, as long as that peer may take.
func (c *Core) mustCompare(s *sess) bool {
	return !c.waited || len(c.views) == 0 && c.now.Mono < s.up+syncWait
}

// refusal is the close code for a reason of the trust log.
func refusal(why trust.Reason) session.Code {
	if code := session.Code(why.Code()); code != 0 {
		return code
	}
	return session.CodeNotAdmitted
}

// StateOf is the session state a standing of the trust log allows.
func StateOf(s trust.Standing) session.State {
	switch s {
	case trust.Full:
		return session.Full
	case trust.Restricted:
		return session.Restricted
	case trust.RenewOnly:
		return session.RenewOnly
	case trust.SyncOnly:
		return session.SyncOnly
	}
	return session.Closed
}

// stays is the code with which a session that is full must end now, 0 if it may stay. It stays with the certificate it was made
// with, or with any other live enrolment of the same node: a renewal extends it in place.
func (c *Core) stays(s *sess) session.Code {
	standing, why := c.st.Admit(s.cert, s.rootVer, c.now.Trust)
	_, live := c.st.LiveMember(s.peer.id, c.now.Trust)
	switch {
	case standing == trust.Full:
		return 0
	case why == trust.ReasonStale:
		return session.CodeStale
	case live:
		return 0
	case standing == trust.RenewOnly:
		return session.CodeExpired
	}
	return refusal(why)
}

// review looks at a session's standing again. One that was full and may not be is the node's end here: every socket of it is reset,
// for streams hang on the node, not on the session. Others are told a change by READY.
func (c *Core) review(s *sess) {
	if c.byID[s.id] == nil {
		return
	}
	said := s.states.Local()
	if said >= session.Full {
		if code := c.stays(s); code != 0 {
			c.cut(s.peer, code)
		}
		return
	}
	st, code := c.standing(s)
	switch {
	case code != 0:
		c.close(s, code, "no longer admitted")
	case st != said:
		c.sendReady(s, st)
		if s.sync != nil && c.byID[s.id] != nil {
			s.sync.SetQuiet(st == session.SyncOnly)
			if said == session.SyncOnly {
				c.sendFrames(s, s.sync.Vec(c.now.Mono))
			}
		}
	}
}

// cut resets every socket of a peer.
func (c *Core) cut(p *peer, code session.Code) {
	c.emit(CutNode{Node: p.id, Code: code, Why: "trust: " + code.String()})
	if code == session.CodeRevoked {
		p.revoked = true
		p.dialT.stop()
		c.cancelDials(p, 0)
	}
	for _, s := range slices.Clone(p.sessions) {
		c.drop(s, code)
	}
}

// judge follows what the log says of one node.
func (c *Core) judge(p *peer) {
	_, enrolled := c.st.Member(p.id)
	_, revoked := c.st.Revoked(p.id)
	c.setEnrolled(p, enrolled)
	if revoked && !p.revoked {
		c.cut(p, session.CodeRevoked)
		return
	}
	p.revoked = revoked // false: a root took the revocation back
	for _, s := range slices.Clone(p.sessions) {
		c.review(s)
	}
}

// judgeRemoved judges the nodes whose keys changes revoke. It comes before everything else about them.
func (c *Core) judgeRemoved(changes []trust.Change) {
	for _, ch := range changes {
		if ch.Entry == nil {
			continue
		}
		for _, op := range ch.Entry.Ops {
			if o, ok := op.(trust.OpRevokeNode); ok {
				c.judgeNode(o.Node)
			}
		}
	}
}

// judgeNamed judges the nodes that changes name, and everybody where a change may concern anybody.
func (c *Core) judgeNamed(changes []trust.Change) {
	sweep, sessions := false, false
	for _, ch := range changes {
		switch {
		case ch.Kind == trust.KindHead:
			sessions = true // only how stale the view is
		case ch.Entry == nil:
			sweep = true // a root or evidence
		default:
			for _, op := range ch.Entry.Ops {
				switch o := op.(type) {
				case trust.OpEnroll:
					c.judgeNode(o.Node)
				case trust.OpRevokeCert:
					sessions = true
				}
			}
		}
	}
	if sweep {
		c.sweep()
	} else if sessions {
		c.reviewAll()
	}
}

func (c *Core) judgeNode(id keys.NodeID) {
	if p := c.peers[id]; p != nil {
		c.judge(p)
	}
}

func (c *Core) reviewAll() {
	for _, s := range slices.Clone(c.live) {
		c.review(s)
	}
}

// sweep judges everybody of whom something is known by the state and time of now.
func (c *Core) sweep() {
	for _, p := range slices.Clone(c.order) {
		c.judge(p)
	}
	c.swept, c.sweptTo = c.st.Epoch(), c.st.NextChange(c.now.Trust)
}

// scheduleSweep looks at every session every few seconds, and at the moment the passing of time changes an answer. All members are
// walked only if the log has changed since the last walk, or time has changed an answer.
func (c *Core) scheduleSweep() {
	d := sweepEvery
	if c.sweptTo != 0 {
		d = min(d, time.Duration(c.sweptTo-c.now.Trust)*time.Second)
	}
	c.changeT.stop()
	c.changeT = c.after(max(d, minSweep), func() {
		c.st = c.ledger.Current()
		if c.st.Epoch() != c.swept || c.sweptTo != 0 && c.now.Trust >= c.sweptTo {
			c.sweep()
		} else {
			c.reviewAll()
		}
		c.scheduleSweep()
	})
}
