package core

import (
	"cmp"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// Up to FullMesh members everybody keeps a session with everybody. Above that a node keeps about degreeTarget: it picks firstPicks
// by itself, near ones and far ones, the others' picks bring as many again, and a tick every five seconds mends what is missing,
// sheds what is too much, and now and then dials somebody not seen for a while, so that a split heals. What a user wants is dialled
// beside that, and kept while it is used.

// crowded reports whether the mesh is too large for a session with everybody.
func (c *Core) crowded() bool {
	if c.crowdOf != c.st {
		n := 0
		for range c.st.Members() {
			if n++; n > FullMesh {
				break
			}
		}
		c.crowdOf, c.crowd = c.st, n > FullMesh
	}
	return c.crowd
}

// keeps reports whether this node is to have a session with p itself, not just with enough others. Candidates are few, and one of
// them may be the newest member.
func (c *Core) keeps(p *peer) bool {
	return p.chosen || !p.enrolled || p.wanted(c.now.Mono) || !c.crowded()
}

// wanted reports whether a user wants a session with p, or did lately.
func (p *peer) wanted(mono time.Duration) bool { return p.using || mono < p.wantedTo }

// want dials a member because a user asks for it.
func (c *Core) want(id keys.NodeID) {
	p := c.peers[id]
	if p == nil {
		if _, enrolled := c.st.Member(id); !enrolled || id == c.cfg.Self {
			return
		}
		p = c.peerFor(id)
	}
	p.wantedTo = c.now.Mono + idleData
	p.resetBackoff()
	p.shutOut = min(p.shutOut, p.shutAt+ShutOutFirst) // a person may know better, but not twenty times a second
	if len(p.addrs) == 0 {
		c.askFor(p)
	}
	c.dialSoon(p, 0)
}

// use follows whether a peer has streams.
func (c *Core) use(id keys.NodeID, streams bool) {
	if p := c.peers[id]; p != nil && p.using != streams {
		p.using = streams
		p.wantedTo = c.now.Mono + idleData
	}
}

// links counts the peers this node has a session with, or is about to: in all, on its own links, and dialled by itself. A session that is
// suspect is none: what takes its place is made before it breaks, for that takes ten more seconds. Neither is a dial that should have
// brought one by now.
func (c *Core) links() (all, near, out int) {
	for _, p := range c.order {
		s := p.working()
		if s != nil && s.suspect || s == nil && !(c.trying(p) && c.now.Mono < p.expected) {
			continue
		}
		all++
		if c.isNear(p) {
			near++
		}
		if s == nil || s.role == keys.RoleDialer {
			out++
		}
	}
	return all, near, out
}

// isNear reports whether p is heard on a link of this host.
func (c *Core) isNear(p *peer) bool { return p.presence >= Stale && p.lastBeacon != never }

// isFresh reports whether p was heard within its last interval: then it is most probably there. One whose beacon was due and did not come
// may have lost power with half of the others.
func (c *Core) isFresh(p *peer) bool {
	return c.isNear(p) && c.now.Mono-p.lastBeacon <= Interval*stretch(p.interval)
}

// fillSoon chooses peers to dial in a moment, when those that can be heard have been heard.
func (c *Core) fillSoon() {
	if c.stopping || !c.crowded() || c.fillT.pending() {
		return
	}
	c.fillT = c.after(c.jitter(fillDelayMin, fillDelayMax), func() {
		if all, _, out := c.links(); all < degreeMin || out < minOutbound && all < degreeMax {
			c.fill(min(max(firstPicks-min(out, firstPicks-1), degreeMin-all), firstPicks))
		}
	})
}

// fill picks up to most peers and dials them: near ones and such as only others have heard by turns, as long as there are some.
func (c *Core) fill(most int) {
	if c.stopping || !c.crowded() {
		return
	}
	_, near, _ := c.links()
	most = min(most, degreeMax-c.tried())
	isFar := func(p *peer) bool { return p.presence == Unseen }
	anybody := func(*peer) bool { return true } // only such as were here and are gone, as far as one can hear
	for i := range max(most, 0) {
		kinds := []func(*peer) bool{isFar, c.isFresh, c.isNear, anybody}
		if near < nearPicks && i%2 == 0 {
			kinds[0], kinds[1] = kinds[1], kinds[0]
		}
		var p *peer
		for _, kind := range kinds {
			if p = c.pick(kind); p != nil {
				break
			}
		}
		if p == nil {
			return
		}
		if c.isNear(p) {
			near++
		}
		c.choose(p)
	}
}

// pick returns a random member that passes ok and could be dialled now.
func (c *Core) pick(ok func(*peer) bool) *peer {
	var found *peer
	n := 0
	for _, p := range c.order {
		if !p.enrolled || p.revoked || p.chosen || len(p.sessions) > 0 || p.dialing > 0 || p.shunned > c.now.Mono || p.paused > c.now.Mono ||
			!c.dialable(p) || !ok(p) {
			continue
		}
		if n++; c.rng.IntN(n) == 0 {
			found = p
		}
	}
	return found
}

// dialable reports whether p has an address that is not backed off.
func (c *Core) dialable(p *peer) bool {
	for _, a := range p.addrs {
		if !a.busy && a.notBefore <= c.now.Mono {
			return true
		}
	}
	return false
}

// choose dials a peer for the overlay.
func (c *Core) choose(p *peer) {
	p.chosen = true
	c.dialSoon(p, c.jitter(0, dialLowJitter))
	c.expect(p, dialLowJitter)
}

// giveUp follows the end of a campaign without a session: somebody else is chosen in p's place, and whoever wants p itself asks others
// where it is now.
func (c *Core) giveUp(p *peer) {
	if p.wanted(c.now.Mono) {
		c.askFor(p)
	}
	if p.chosen {
		p.chosen = false
		c.fillSoon()
	}
}

// lostLink follows the end of a session with p. One that was shed is not made again for a while; any other is, or another in its place.
func (c *Core) lostLink(p *peer, code session.Code) {
	switch {
	case !c.crowded() || p.working() != nil:
	case code == session.CodeLimit:
		p.shunned = c.now.Mono + shunFor
		if p.enrolled && p.lastBeacon == never && p.presence == Stale {
			// It was there a moment ago, and nobody here looks at it any more: that is no silence of its.
			p.lookT.stop()
			c.setPresence(p, Unseen, "no session kept with it")
		}
		c.fillSoon()
	default:
		p.chosen = p.enrolled
		c.fillSoon()
	}
}

// scheduleTick looks after the overlay for as long as the node runs.
func (c *Core) scheduleTick() {
	c.tickT = c.after(c.scaled(tickEvery, 0.8, 1.2), func() {
		c.keepAnchor()
		if c.crowded() {
			c.tick()
		} else {
			c.seek()
		}
		c.scheduleTick()
	})
}

func (c *Core) tick() {
	all, _, out := c.links()
	if len(c.live) == 0 {
		c.recall()
	}
	switch {
	case all < degreeMin:
		c.fill(2)
	case all < degreeTarget, out < minOutbound && all < degreeMax:
		c.fill(1)
	case !c.shedSome(all, out) && all < degreeMax && c.rng.IntN(healOdds) == 0:
		if p := c.pick(func(p *peer) bool { return c.now.Mono-p.lastPresence() >= unseenFor }); p != nil {
			c.choose(p)
		}
	}
	if c.ticks++; c.ticks%shuffleTicks == 0 {
		c.shuffle()
	}
}

// shedSome ends sessions that are too many: half of them at a look, for a node whom everybody on a link had reason to dial should not
// keep hundreds for long.
func (c *Core) shedSome(all, out int) (any bool) {
	for range 1 + max(0, all-degreeMax)/2 {
		if !c.shed(out) {
			break
		}
		any = true
		_, _, out = c.links()
	}
	return any
}

// shed ends one session if there are more than the overlay needs: never one that a user needs or lately did, nor one whose peer would
// be left with too few. Of the others the one goes whose peer has the most.
func (c *Core) shed(out int) bool {
	idle, data := 0, 0
	var worst, oldest *sess
	for _, s := range c.live {
		p := s.peer
		if !s.full() || p.working() != s || p.using || s.suspect {
			continue
		}
		if p.wantedTo > c.now.Mono {
			if data++; oldest == nil || p.wantedTo < oldest.peer.wantedTo {
				oldest = s
			}
			continue
		}
		idle++
		if c.now.Mono-s.up < shedAge || s.role == keys.RoleDialer && out <= minOutbound || s.degree <= degreeMin || p.id == c.anchor {
			continue
		}
		if worst == nil || s.degree > worst.degree {
			worst = s
		}
	}
	switch {
	case data > maxData:
		worst = oldest
	case idle <= degreeMax || worst == nil:
		return false
	}
	c.close(worst, session.CodeLimit, "more sessions than the overlay keeps")
	return true
}

// heardInCrowd takes an address of a member without a session: it is one to choose from. One whose beacons keep showing another view of
// the trust log is asked for it.
func (c *Core) heardInCrowd(p *peer, ev BeaconIn) {
	if !p.enrolled {
		d := candidateWait + c.jitter(0, dialHighJitter)
		if len(c.live) == 0 {
			d = c.jitter(0, dialLowJitter) // it may be this node's log that is old
		}
		c.dialSoon(p, d)
		return
	}
	if p.wanted(c.now.Mono) {
		c.dialSoon(p, 0)
		return
	}
	c.fillSoon()
	switch {
	case ev.Told:
	case ev.Digest == c.digestNow(), c.knowsBranch(ev.Digest):
		p.differs = 0
	default:
		if p.differs++; p.differs >= 2 && c.now.Mono >= p.shunned {
			p.differs = 0
			// Everybody on the link hears the same. A few are enough, and if they have no success others come next.
			if c.rng.IntN(max(c.neighbours(), 1)) < askersWanted {
				c.choose(p)
			}
		}
	}
}

// shuffle tells a random neighbour some peer records, this node's among them.
func (c *Core) shuffle() {
	var to *sess
	n := 0
	for _, s := range c.live {
		if s.full() {
			if n++; c.rng.IntN(n) == 0 {
				to = s
			}
		}
	}
	if to != nil {
		c.emit(TellSelf{ID: to.id})
		c.tellSome(to, shuffleRecords, false)
		c.tellNews(to)
	}
}

// tellNews passes on the health summaries that came last: one that is told on while it is new gets about, one at random is old when it
// arrives.
func (c *Core) tellNews(to *sess) {
	var news []*peer
	for _, p := range c.order {
		if p.health != nil && p != to.peer && p.enrolled && !p.revoked {
			news = append(news, p)
		}
	}
	slices.SortStableFunc(news, func(a, b *peer) int { return cmp.Compare(b.healthIn, a.healthIn) })
	for _, p := range news[:min(len(news), shuffleHealth)] {
		c.send(to, session.Object{K: session.KindHealth, Raw: p.health})
	}
}

// neighbours is how many others are heard on the most crowded interface.
func (c *Core) neighbours() int {
	most := 0
	counts := map[int]int{}
	for _, p := range c.order {
		if p.presence < Stale {
			continue
		}
		for _, h := range p.heardOn {
			if c.now.Mono-h.at < Dead*stretch(p.interval) {
				counts[h.iface]++
				most = max(most, counts[h.iface])
			}
		}
	}
	return most
}

// forgetSomebody makes room among the known members: a random one goes that is not heard, not wanted and not dialled.
func (c *Core) forgetSomebody() {
	var gone *peer
	n := 0
	for _, p := range c.order {
		if p.enrolled && p.presence <= Offline && len(p.sessions) == 0 && p.dialing == 0 && !p.chosen && !p.wanted(c.now.Mono) && !p.seeded() {
			if n++; c.rng.IntN(n) == 0 {
				gone = p
			}
		}
	}
	if gone != nil {
		c.forget(gone)
	}
}

func (p *peer) seeded() bool {
	for _, a := range p.addrs {
		if a.seed {
			return true
		}
	}
	return false
}
