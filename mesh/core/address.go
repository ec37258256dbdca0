package core

import (
	"net/netip"
	"slices"
	"time"
)

// source says how an address became known, best first.
type source uint8

const (
	sourceGood   source = iota // a handshake with the expected key succeeded here
	sourceBeacon               // the peer's own signed beacon, heard here
	sourceRecord               // the peer's signed beacon, told by another peer
	sourceSeed                 // configured by a person
)

// address is one place a peer may be reached, with its own back-off.
type address struct {
	at        netip.AddrPort
	src       source
	seed      bool          // a person configured it: kept whatever else comes
	last      bool          // the last one at which a handshake with the expected key succeeded
	seen      time.Duration // last time a beacon or session confirmed it
	busy      bool          // a dial is under way, waiting or staggered
	failures  int
	notBefore time.Duration // no dial before this time
}

// addAddress remembers an address of p and returns it. Known addresses are refreshed. When there are too many, the one unconfirmed
// for longest goes: a peer that wanders must not fill the table with where it was.
func (c *Core) addAddress(p *peer, at netip.AddrPort, src source) *address {
	for _, a := range p.addrs {
		if a.at == at {
			a.seen = c.now.Mono
			a.src = min(a.src, src)
			a.seed = a.seed || src == sourceSeed
			return a
		}
	}
	if len(p.addrs) >= maxAddresses {
		oldest := -1
		for i, a := range p.addrs {
			if !a.last && !a.seed && (oldest < 0 || a.seen < p.addrs[oldest].seen) {
				oldest = i
			}
		}
		oldest = max(oldest, 0) // nothing but seeds: the first of them
		p.addrs = slices.Delete(p.addrs, oldest, oldest+1)
	}
	a := &address{at: at, src: src, seen: c.now.Mono, seed: src == sourceSeed}
	p.addrs = append(p.addrs, a)
	return a
}

// reached remembers where a handshake with the expected key has just succeeded.
func (c *Core) reached(p *peer, at netip.AddrPort) *address {
	good := c.addAddress(p, at, sourceGood)
	for _, a := range p.addrs {
		a.last = a == good
	}
	return good
}

// class orders addresses for dialling: last good, same prefix, private, public.
func (c *Core) class(a *address) int {
	switch {
	case a.last:
		return 0
	case c.sameLink(a.at.Addr()):
		return 1
	case a.at.Addr().IsLoopback() || a.at.Addr().IsPrivate() || a.at.Addr().IsLinkLocalUnicast():
		return 2
	}
	return 3
}

func (c *Core) sameLink(ip netip.Addr) bool {
	for _, p := range c.prefixes {
		if p.Contains(ip.WithZone("")) {
			return true
		}
	}
	return false
}

func (c *Core) sortAddresses(p *peer) {
	slices.SortStableFunc(p.addrs, func(a, b *address) int {
		if x, y := c.class(a), c.class(b); x != y {
			return x - y
		}
		switch {
		case a.seen > b.seen:
			return -1
		case a.seen < b.seen:
			return 1
		}
		return a.at.Compare(b.at)
	})
}

// dropHints forgets addresses that only a beacon told, when no beacon repeats them. It reports whether some are left.
func (c *Core) dropHints(p *peer) (left bool) {
	p.addrs = slices.DeleteFunc(p.addrs, func(a *address) bool {
		hint := a.src == sourceBeacon && !a.seed
		old := hint && !a.busy && c.now.Mono-a.seen >= HintLife
		left = left || hint && !old
		return old
	})
	return left
}

// failed counts a failed dial and sets the address's back-off: U(0.5, 1) · min(cap, 1 s · 2ⁿ). The cap grows with the peer's
// absence, of which nothing is known before this run. It never gives up.
func (c *Core) failed(p *peer, a *address) {
	limit := backoffActive
	switch unseen := c.now.Mono - max(p.lastPresence(), c.born); {
	case unseen > 24*time.Hour:
		limit = backoffDay
	case unseen > time.Hour:
		limit = backoffHour
	}
	d := backoffFirst << min(a.failures, backoffMaxShift)
	a.failures++
	a.notBefore = c.now.Mono + c.scaled(min(limit, d), 0.5, 1)
}

// resetBackoff forgets every failure of p: new boot, heard again, network change, wake, or a person asked.
func (p *peer) resetBackoff() {
	for _, a := range p.addrs {
		a.failures, a.notBefore = 0, 0
	}
}
