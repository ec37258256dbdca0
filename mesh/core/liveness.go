package core

import (
	"net/netip"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// question is a ping whose answer, any authenticated record, decides something.
type question struct {
	t      *timer
	answer func(alive bool)
}

// ask pings a session. answer is called once: at the next record, or after pongWait without one; never if the session ends first.
func (c *Core) ask(s *sess, answer func(alive bool)) {
	c.pingSeq++
	c.beat(s, c.pingSeq, 0)
	if len(s.asked) >= maxAsked {
		return // the same was asked several times within pongWait
	}
	q := &question{answer: answer}
	q.t = c.after(pongWait, func() {
		s.asked = slices.DeleteFunc(s.asked, func(o *question) bool { return o == q })
		answer(false)
	})
	s.asked = append(s.asked, q)
}

// askAll pings every session of a peer; one that does not answer is suspect.
func (c *Core) askAll(p *peer) {
	for _, s := range p.sessions {
		c.check(s)
	}
}

func (c *Core) check(s *sess) {
	c.ask(s, func(alive bool) {
		if !alive {
			c.suspect(s, nil)
		}
	})
}

// heard notes authenticated traffic. It returns the session, unless it is unknown or an answer ended it.
func (c *Core) heard(id SessionID) *sess {
	s := c.byID[id]
	if s == nil {
		return nil
	}
	s.lastRecv = c.now.Mono
	s.peer.lastTraffic = c.now.Mono
	s.suspect = false
	c.faulty = false
	if s.full() {
		c.setPresence(s.peer, Up, "session")
	}
	asked := s.asked
	s.asked = nil
	for _, q := range asked {
		q.t.stop()
		if c.byID[id] != nil {
			q.answer(true)
		}
	}
	return c.byID[id]
}

func (c *Core) send(s *sess, b session.Body) { c.emit(Send{ID: s.id, Body: b}) }

func (c *Core) beat(s *sess, ping, pong uint64) {
	c.emit(Heartbeat{ID: s.id, Digest: c.digestNow(), Degree: c.degree(), Ping: ping, Pong: pong})
}

// degree is the number of peers with a usable session. Peers shed by it, so one that may be dead is not told as one there is.
func (c *Core) degree() uint64 {
	n := uint64(0)
	for _, s := range c.live {
		if s.full() && !s.suspect && s.peer.working() == s {
			n++
		}
	}
	return n
}

// heartbeatIn takes the peer's heartbeat: life, a hint, and maybe a question.
func (c *Core) heartbeatIn(s *sess, ev HeartbeatIn) {
	if ev.Ping != 0 && s.pongs.take(c.now.Mono, pongRate, pongBurst) {
		c.beat(s, 0, ev.Ping)
	}
	c.digestHint(s, ev.Digest)
}

// keepBeat sends heartbeats, on busy sessions too: they carry the health summary. Like beacons they never come later than the
// interval.
func (c *Core) keepBeat(s *sess) {
	s.hbT = c.after(c.scaled(Interval, jitterLow, 1), func() {
		c.beat(s, 0, 0)
		c.keepBeat(s)
	})
}

// keepLife watches a session's silence. One timer follows the newest record.
func (c *Core) keepLife(s *sess) {
	silent := c.now.Mono - s.lastRecv
	next := -silent
	switch {
	case silent < Suspect:
		next += Suspect
	case silent < Dead:
		c.ask(s, func(bool) {})
		c.suspect(s, s.addr)
		next += Dead
	case silent < faultDead && c.localFault():
		next = excuseLook
	default:
		c.close(s, codeNone, "silent")
		return
	}
	s.lifeT = c.after(max(next, 0), func() { c.keepLife(s) })
}

// suspect looks for another way to a peer whose session is silent, before that breaks. except is the address in use; it is dialled
// too if there is no other, for the path may have forgotten only this connection.
func (c *Core) suspect(s *sess, except *address) {
	if s.suspect || s.draining || c.byID[s.id] == nil {
		return
	}
	s.suspect = true
	if !c.faulty && c.localFault() {
		c.faulty = true
		c.emit(PollNetwork{})
		c.burst()
	}
	c.fillSoon()
	p := s.peer
	if !c.wanted(p) || p.dialing > 0 {
		return
	}
	c.startDials(p, except)
	if p.dialing == 0 {
		c.planRetry(p) // whatever address that leaves
	}
}

// localFault reports whether the sessions with several peers, and all of them, are silent at once: then it is more likely that this
// host hears nothing than that they all died.
func (c *Core) localFault() bool {
	var one keys.NodeID
	several := false
	for _, s := range c.live {
		if s.draining || !s.ready() {
			continue
		}
		if c.now.Mono-s.lastRecv < Suspect {
			return false
		}
		if !one.IsZero() && one != s.peer.id {
			several = true
		}
		one = s.peer.id
	}
	return several
}

// lateness is how long the earliest timer has been due.
func (c *Core) lateness(now Now) time.Duration {
	if at, ok := c.nextTimer(); ok {
		return now.Mono - at
	}
	return 0
}

// excuse does not count as others' silence the time in which this node itself did not run.
func (c *Core) excuse(late time.Duration) {
	for _, s := range c.live {
		s.lastRecv = min(s.lastRecv+late, c.now.Mono)
	}
	for _, p := range c.order {
		if p.presence >= Stale {
			p.lastBeacon, p.lastTraffic = min(p.lastBeacon+late, c.now.Mono), min(p.lastTraffic+late, c.now.Mono)
			for i := range p.heardOn {
				p.heardOn[i].at = min(p.heardOn[i].at+late, c.now.Mono)
			}
		}
	}
	for _, i := range sortedIfaces(c.ifaces) {
		f := c.ifaces[i]
		f.lastBeacon = min(f.lastBeacon+late, c.now.Mono)
	}
}

func sortedIfaces(m map[int]*iface) []int {
	out := make([]int, 0, len(m))
	for i := range m {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

func wallAhead(n Now) time.Duration {
	return time.Duration(n.Wall)*time.Millisecond - n.Mono
}

// noticeSleep compares the two clocks: the monotonic one stops in suspend, the wall clock does not. A clock that is set forward
// looks the same and costs a redial, no more; one that is set back costs nothing.
func (c *Core) noticeSleep(now Now) time.Duration {
	if !c.started {
		return 0
	}
	jump := wallAhead(now) - c.wallAhead
	c.wallAhead = wallAhead(now)
	if jump > wakeJump {
		return jump
	}
	return 0
}

// wake finds out what is left after a suspend. After a short one every session is asked. After one longer than Dead the peers have
// closed theirs, so one that does not answer is over. After a long one all are replaced, and other nodes' views are waited for
// again: what was revoked meanwhile is not known here.
func (c *Core) wake(slept time.Duration) {
	c.emit(PollNetwork{})
	for _, s := range slices.Clone(c.live) {
		switch {
		case slept > wakeRedial:
			c.close(s, codeNone, "the machine slept")
		case slept >= Dead:
			c.ask(s, func(alive bool) {
				if !alive {
					c.close(s, codeNone, "no answer after the machine slept")
				}
			})
		default:
			c.check(s)
		}
	}
	if slept > wakeRedial {
		c.beginSync()
	}
	c.redial()
	c.burst()
}

// netChange follows a change of interfaces or addresses: connections from an address that is gone are dead, and nobody says so.
func (c *Core) netChange(prefixes []netip.Prefix) {
	c.prefixes = prefixes
	for _, s := range c.live {
		c.check(s)
	}
	c.redial()
	c.burst()
}

// redial forgets every back-off and dials whoever has no session.
func (c *Core) redial() {
	for _, p := range c.order {
		p.resetBackoff()
		if len(p.sessions) == 0 {
			c.dialSoon(p, c.jitter(0, dialLowJitter))
		}
	}
}
