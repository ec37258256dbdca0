package core

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/session"
)

// dial is one connection attempt under way.
type dial struct {
	id    DialID
	began time.Duration
	guest bool // to a peer the log did not name when it began
	dialJob
}

// dialJob waits for its stagger, or for a free place among all dials.
type dialJob struct {
	peer *peer
	addr *address
}

func sortedDials(m map[DialID]*dial) []DialID {
	ids := make([]DialID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// wanted reports whether a session with p should be made: there is none, or the one there is may be dead. Enrolled peers and
// candidates alike, for a candidate may be enrolled by entries this node has not seen yet; the handshake decides.
func (c *Core) wanted(p *peer) bool {
	return !c.stopping && !p.revoked && p.paused <= c.now.Mono && p.shutOut <= c.now.Mono && (p.working() == nil && c.keeps(p) || p.suspect())
}

// dialSoon starts a campaign after d unless an earlier one is already planned.
func (c *Core) dialSoon(p *peer, d time.Duration) {
	if c.stopping || p.revoked || len(p.addrs) == 0 || p.working() != nil && !p.suspect() || !c.keeps(p) {
		return
	}
	at := max(c.now.Mono+d, p.paused, p.shutOut)
	if p.dialT.pending() {
		if p.dialT.at <= at {
			return
		}
		p.dialT.stop()
	}
	p.dialT = c.after(at-c.now.Mono, func() { c.campaign(p) })
}

// trying reports whether p is being dialled for the overlay.
func (c *Core) trying(p *peer) bool { return p.chosen && (p.dialing > 0 || p.dialT.pending()) }

// tried is how many are: of a mesh that is out of reach no more at once than one keeps sessions.
func (c *Core) tried() (n int) {
	for _, p := range c.order {
		if c.trying(p) {
			n++
		}
	}
	return n
}

// expect counts p, which is to be dialled within d, as a peer with a session until that has been under way for long enough. Then another
// is dialled as well.
func (c *Core) expect(p *peer, d time.Duration) {
	p.expected = c.now.Mono + d + hangingDial
	c.after(d+hangingDial, func() {
		if c.trying(p) && p.working() == nil && c.now.Mono >= p.expected {
			c.fillSoon()
		}
	})
}

// campaign dials p's best addresses that are not backed off, staggered, and plans the next campaign.
func (c *Core) campaign(p *peer) {
	if !c.wanted(p) {
		return
	}
	c.startDials(p, nil)
	if p.dialing == 0 {
		c.planRetry(p)
	}
}

// startDials dials p's addresses except one: the one a suspect session already uses.
func (c *Core) startDials(p *peer, except *address) {
	c.sortAddresses(p)
	delay := time.Duration(0)
	for _, a := range p.addrs {
		if p.dialing >= maxDialsPeer {
			break
		}
		if a == except || a.busy || a.notBefore > c.now.Mono {
			continue
		}
		p.dialing++
		a.busy = true
		job := &dialJob{peer: p, addr: a}
		if delay == 0 {
			c.launch(job)
		} else {
			c.after(delay, func() { c.launch(job) })
		}
		if c.sameLink(a.at.Addr()) {
			delay += staggerNear
		} else {
			delay += staggerFar
		}
	}
}

// launch starts a dial, or queues it when all places are taken.
func (c *Core) launch(j *dialJob) {
	if !c.wanted(j.peer) {
		j.done()
		return
	}
	if !j.peer.enrolled && c.guestDials >= maxDialsCandidates {
		// Its id may be anybody's invention: it takes no place from members, and is dialled when it is heard again.
		j.done()
		return
	}
	if len(c.dials) >= maxDials {
		c.queue = append(c.queue, j)
		return
	}
	c.begin(j)
}

func (c *Core) begin(j *dialJob) {
	c.nextDial++
	c.dials[c.nextDial] = &dial{id: c.nextDial, began: c.now.Mono, guest: !j.peer.enrolled, dialJob: *j}
	if !j.peer.enrolled {
		c.guestDials++
	}
	c.emit(Dial{ID: c.nextDial, Peer: j.peer.id, At: j.addr.at, AES: j.peer.aes})
}

func (j *dialJob) done() {
	j.peer.dialing--
	j.addr.busy = false
}

// endDial frees a place and gives it to whoever waits.
func (c *Core) endDial(id DialID) *dial {
	d := c.dials[id]
	if d == nil {
		return nil
	}
	delete(c.dials, id)
	if d.guest {
		c.guestDials--
	}
	d.done()
	for len(c.queue) > 0 && len(c.dials) < maxDials {
		j := c.queue[0]
		c.queue = c.queue[1:]
		c.launch(j)
	}
	return d
}

func (c *Core) dialFailed(ev DialFailed) {
	d := c.endDial(ev.ID)
	if d == nil {
		return
	}
	c.failed(d.peer, d.addr)
	if ev.Code == session.CodeRevoked { // one of the two is, as the other one has it
		c.shut(d.peer)
	}
	if d.peer.dialing == 0 {
		c.giveUp(d.peer)
		c.planRetry(d.peer)
	}
}

// shut lets alone a peer that says this node is revoked. Nothing is believed but a signed entry, so it is asked again, but at most every
// ShutOutMost, and what else forgets a back-off does not shorten that: to a node that is revoked beacons go on, and it hears them.
func (c *Core) shut(p *peer) {
	d := min(ShutOutFirst<<min(p.shuts, backoffMaxShift), ShutOutMost)
	p.shuts++
	p.shutAt, p.shutOut = c.now.Mono, c.now.Mono+c.scaled(d, 0.5, 1)
	p.dialT.stop()
	c.cancelDials(p, 0)
}

// planRetry plans a campaign for when the first address of p may be dialled again. A candidate is dialled when something is heard of
// it, and not again by itself: its name may be anybody's invention.
func (c *Core) planRetry(p *peer) {
	first := never
	for _, a := range p.addrs {
		if !a.busy && (p.enrolled || a.seed) && (first == never || a.notBefore < first) {
			first = a.notBefore
		}
	}
	if first != never {
		c.dialSoon(p, max(first-c.now.Mono, retryMin))
	}
}

// cancelDials gives up p's dials that have been under way for at least age.
func (c *Core) cancelDials(p *peer, age time.Duration) {
	for _, id := range sortedDials(c.dials) {
		if d := c.dials[id]; d != nil && d.peer == p && c.now.Mono-d.began >= age {
			c.emit(CancelDial{ID: id})
			c.endDial(id)
		}
	}
}

// replace dials the peer of a session this node dialled once more; the session with the higher number wins. It needs no free place: a
// session whose keys are due must not end because others are being dialled.
func (c *Core) replace(id SessionID) {
	s := c.byID[id]
	if s == nil || s.addr == nil || s.addr.busy || s.draining || c.stopping {
		return
	}
	s.peer.dialing++
	s.addr.busy = true
	c.begin(&dialJob{peer: s.peer, addr: s.addr})
}
