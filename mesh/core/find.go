package core

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// finding is a FIND passed on for others: who gets the answer.
type finding struct {
	node   keys.NodeID
	askers []SessionID
	until  time.Duration
}

// askFor asks every neighbour where a peer is.
func (c *Core) askFor(p *peer) {
	for _, s := range c.live {
		if s.full() && s.peer != p {
			c.send(s, session.Find{K: session.KindFind, Node: p.id, Hops: session.MaxFindHops})
		}
	}
}

// askAround asks a new neighbour for the peers that users wait for.
func (c *Core) askAround(s *sess) {
	for _, p := range c.order {
		if p.wantedTo > c.now.Mono && p.working() == nil && p.enrolled && len(p.addrs) == 0 {
			c.send(s, session.Find{K: session.KindFind, Node: p.id, Hops: session.MaxFindHops})
		}
	}
}

// seek looks after a mesh in which everybody is to have a session with everybody: members without one are dialled where an address is known,
// for no beacon comes from another link, and asked for where none is. So a mesh that was too large for that becomes whole when it
// shrinks, and two who have missed each other's records meet.
func (c *Core) seek() {
	if c.stopping || len(c.live) == 0 {
		return
	}
	for m := range c.st.Members() {
		p := c.peerFor(m.Node)
		if p == nil || !p.enrolled || p.revoked || p.working() != nil || p.dialing > 0 || !m.Live(c.now.Trust) {
			continue
		}
		if len(p.addrs) > 0 {
			c.dialSoon(p, c.jitter(0, dialLowJitter))
			if c.dialable(p) {
				continue
			}
		}
		if p.seekWait == 0 {
			p.sought, p.seekWait = c.now.Mono, tickEvery
		} else if c.now.Mono-p.sought >= p.seekWait {
			p.sought, p.seekWait = c.now.Mono, min(2*p.seekWait, seekMax)
			c.askFor(p)
		}
	}
}

// findIn answers a question with the record held, and passes it on if the peer was not heard here itself. What is passed on is bounded:
// by the asker's rate, by the hops, and by one question for a node at a time.
func (c *Core) findIn(s *sess, f session.Find) {
	if !s.finds.take(c.now.Mono, findRate, findBurst) {
		return
	}
	if f.Node == c.cfg.Self {
		c.emit(TellSelf{ID: s.id})
		return
	}
	if _, enrolled := c.st.Member(f.Node); !enrolled {
		return
	}
	p := c.peers[f.Node]
	if p != nil && p.record != nil {
		c.tell(s, p, true)
		if p.presence >= Stale {
			return
		}
	}
	c.finding = slices.DeleteFunc(c.finding, func(g finding) bool { return g.until <= c.now.Mono })
	for i := range c.finding {
		if g := &c.finding[i]; g.node == f.Node {
			if len(g.askers) < maxAskers && !slices.Contains(g.askers, s.id) {
				g.askers = append(g.askers, s.id)
			}
			return
		}
	}
	if f.Hops == 0 || len(c.finding) >= maxFinding {
		return
	}
	c.finding = append(c.finding, finding{node: f.Node, askers: []SessionID{s.id}, until: c.now.Mono + findWait})
	for _, o := range c.live {
		if o != s && o.full() && o.peer.id != f.Node {
			c.send(o, session.Find{K: session.KindFind, Node: f.Node, Hops: f.Hops - 1})
		}
	}
}

// found passes a newer record of a peer on to whoever asked for it.
func (c *Core) found(p *peer) {
	i := slices.IndexFunc(c.finding, func(g finding) bool { return g.node == p.id && g.until > c.now.Mono })
	if i < 0 || p.record == nil {
		return
	}
	for _, id := range c.finding[i].askers {
		if s := c.byID[id]; s != nil && s.full() {
			c.tell(s, p, true)
		}
	}
	c.finding = slices.Delete(c.finding, i, i+1)
}
