package core

import (
	"net/netip"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Known is what a node keeps over its restarts of where another member is. There was a full session with it.
type Known struct {
	Peer   keys.NodeID
	Places []Place // best first
}

// Place is an address of a Known.
type Place struct {
	At   netip.AddrPort
	Good int64 // unix seconds, by this host's clock, of the last handshake with the expected key there; 0: the peer announced it
}

// What is kept is a list of its own, not a view of the peers: those come and go with what is heard, and a node that comes back alone
// needs the ones that nobody has told it of for a while. The newest session stands first, so order alone decides who goes; what the
// clock said is told to people, and decides nothing.

// recall makes peers of what was kept, and dials: at the start, before any beacon, and when a node in a large mesh has no session left.
// The anchor comes first, everybody else as the overlay chooses.
func (c *Core) recall() {
	for _, k := range c.kept {
		if _, enrolled := c.st.Member(k.Peer); !enrolled {
			continue
		}
		p := c.peerFor(k.Peer)
		if p == nil || p.revoked || len(p.addrs) > 0 {
			continue
		}
		for i, pl := range k.Places {
			src := sourceRecord
			if pl.Good != 0 {
				src = sourceGood
			}
			a := c.addAddress(p, pl.At, src)
			a.last = i == 0 && pl.Good != 0
		}
		if k.Peer == c.anchor {
			p.chosen = true
			c.dialSoon(p, 0)
			continue
		}
		d := c.jitter(0, min(restartSpreadMax, restartSpread*time.Duration(len(c.kept))))
		if !less(c.cfg.Self, p.id) {
			d += staggerFar
		}
		c.dialSoon(p, d)
	}
	c.fillSoon()
}

// remember notes where a member is with whom a session has just become full.
func (c *Core) remember(s *sess) {
	p := s.peer
	if !p.enrolled {
		return
	}
	i := slices.IndexFunc(c.kept, func(k *Known) bool { return k.Peer == p.id })
	k := &Known{Peer: p.id}
	if i >= 0 {
		k = c.kept[i]
		c.kept = slices.Delete(c.kept, i, i+1)
	}
	c.kept = slices.Insert(c.kept, 0, k)
	if last := len(c.kept) - 1; last >= maxKept {
		if c.kept[last].Peer == c.anchor {
			last--
		}
		c.kept = slices.Delete(c.kept, last, last+1)
	}
	if i < 0 {
		c.persistSoon()
	}
	if s.addr != nil && keepable(s.addr.at) {
		c.reachedAt(k, s.addr.at)
	}
	c.announcedAt(p)
}

// keepable reports whether an address may mean the same after a restart: the zone of a link-local one may not.
func keepable(at netip.AddrPort) bool {
	return at.IsValid() && at.Port() != 0 && at.Addr().Zone() == ""
}

// reachedAt puts the address of a handshake that succeeded first.
func (c *Core) reachedAt(k *Known, at netip.AddrPort) {
	if len(k.Places) == 0 || k.Places[0].At != at || k.Places[0].Good == 0 {
		c.persistSoon() // a later time for the same address is written with the next thing that is news
	}
	k.Places = slices.DeleteFunc(k.Places, func(o Place) bool { return o.At == at })
	k.Places = slices.Insert(k.Places, 0, Place{At: at, Good: max(c.now.Wall/1000, 1)})
	good := 0
	k.Places = slices.DeleteFunc(k.Places, func(o Place) bool {
		if o.Good != 0 {
			good++
		}
		return o.Good != 0 && good > maxGood
	})
	k.Places = k.Places[:min(len(k.Places), maxPlaces)]
}

// announcedAt follows a kept peer's own newest record, behind the addresses that worked: of a peer that always dials first, nothing else
// is known.
func (c *Core) announcedAt(p *peer) {
	i := slices.IndexFunc(c.kept, func(k *Known) bool { return k.Peer == p.id })
	if i < 0 || p.announced == nil {
		return
	}
	k := c.kept[i]
	places := slices.DeleteFunc(slices.Clone(k.Places), func(o Place) bool { return o.Good == 0 })
	for _, at := range p.announced {
		known := slices.ContainsFunc(places, func(o Place) bool { return o.At == at })
		if keepable(at) && !known && len(places) < maxPlaces {
			places = append(places, Place{At: at})
		}
	}
	if !slices.Equal(places, k.Places) {
		k.Places = places
		c.persistSoon()
	}
}

// persistSoon plans a write of what is kept: soon after the first news, and rarely after that.
func (c *Core) persistSoon() {
	if !c.stopping && !c.persistT.pending() {
		c.persistT = c.after(max(persistDelay, c.persisted+persistEvery-c.now.Mono), c.persist)
	}
}

// persist hands the whole of it to the shell. Who is no member any more goes.
func (c *Core) persist() {
	c.persistT.stop()
	c.persisted = c.now.Mono
	c.kept = slices.DeleteFunc(c.kept, func(k *Known) bool {
		_, enrolled := c.st.Member(k.Peer)
		return !enrolled
	})
	e := Persist{Anchor: c.anchor}
	for _, k := range c.kept {
		if len(k.Places) > 0 {
			e.Known = append(e.Known, Known{Peer: k.Peer, Places: slices.Clone(k.Places)})
		}
	}
	c.emit(e)
}

// keepAnchor looks after the anchor: one member, drawn from those this node has dialled itself, with whom it keeps a session and whom it
// dials first after a restart. Nobody else decides who that is, so whoever surrounds a starting node with its own machines is met by
// one acquaintance from before. One that is gone for long is replaced.
func (c *Core) keepAnchor() {
	if p := c.peers[c.anchor]; p != nil && p.enrolled && !p.revoked {
		s := p.working()
		if s != nil && s.full() {
			c.anchorSeen = c.now.Mono
		}
		if c.now.Mono-c.anchorSeen < anchorGone || len(c.live) == 0 {
			if s == nil && p.dialing == 0 && p.shunned <= c.now.Mono && c.dialable(p) {
				c.choose(p)
			}
			return
		}
	} else if _, enrolled := c.st.Member(c.anchor); enrolled && c.now.Mono-c.anchorSeen < anchorGone {
		return // not heard of yet
	}
	var found *peer
	n := 0
	for _, s := range c.live {
		p := s.peer
		if s.role != keys.RoleDialer || !s.full() || !p.enrolled || p.id == c.anchor || p.working() != s || c.now.Mono-s.up < anchorAge {
			continue
		}
		if n++; c.rng.IntN(n) == 0 {
			found = p
		}
	}
	if found != nil {
		c.anchor, c.anchorSeen = found.id, c.now.Mono
		c.persistSoon()
	}
}
