package mesh

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// guards are bounds on what others make this node do and believe. The zero value is ready.
type guards struct {
	enrolments enrolments
	announced  map[keys.NodeID]order // newest announcement believed of each member; guarded by Node.mu
}

// order is the place of an announcement among those of its node.
type order struct{ epoch, counter uint64 }

func (o order) newer(than order) bool {
	return o.epoch > than.epoch || o.epoch == than.epoch && o.counter > than.counter
}

// newestLocked notes an announcement of a member and reports whether its addresses may replace those held. What is told, or was made at
// an unknown time, counts unless an announcement before it was newer: an old announcement stays well signed for ever. One made now counts
// anyway, for a node restored from a backup counts from below. Called with Node.mu held.
func (g *guards) newestLocked(id keys.NodeID, o order, madeNow bool) bool {
	if !madeNow && g.announced[id].newer(o) {
		return false
	}
	if g.announced == nil {
		g.announced = map[keys.NodeID]order{}
	}
	g.announced[id] = o
	return true
}

// enrolments counts the enrolment sessions that are open.
type enrolments struct {
	mu       sync.Mutex
	total    int // guarded by mu, as all that follows
	bySource map[netip.Prefix]int
	byInvite map[identity.InviteID]int
}

// enter takes a place, if there is one. leave gives it back.
func (e *enrolments) enter(src netip.Addr, invite identity.InviteID) (leave func(), ok bool) {
	from := enrolSource(src)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.total >= maxEnrolments || e.bySource[from] >= maxEnrolmentsSource || e.byInvite[invite] >= maxEnrolmentsInvite {
		return nil, false
	}
	if e.bySource == nil {
		e.bySource, e.byInvite = map[netip.Prefix]int{}, map[identity.InviteID]int{}
	}
	e.total++
	e.bySource[from]++
	e.byInvite[invite]++
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.total--
		decrement(e.bySource, from)
		decrement(e.byInvite, invite)
	}), true
}

// enrolSource is the unit one host controls, as package handshake counts it: an IPv4 address, an IPv6 /64, a link-local address.
func enrolSource(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := a.BitLen()
	if a.Is6() && !a.IsLinkLocalUnicast() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all such are one source
	}
	return p
}

// budget is a link's share of something, made when it is first drawn on: most idle sessions never ask for most of it. The zero value is
// full.
type budget struct{ limiter atomic.Pointer[rate.Limiter] }

// of returns the limiter, which is made with these bounds if there is none yet.
func (b *budget) of(limit rate.Limit, burst int) *rate.Limiter {
	if l := b.limiter.Load(); l != nil {
		return l
	}
	b.limiter.CompareAndSwap(nil, rate.NewLimiter(limit, burst))
	return b.limiter.Load()
}

// denials are the budgets of peers for opens that are denied. They outlive the peer's sessions, so that a new session is no new
// budget; full ones are forgotten. The zero value is ready.
type denials struct {
	mu sync.Mutex
	of map[keys.NodeID]*rate.Limiter // guarded by mu
}

// left reports whether one more open of the peer may be denied.
func (d *denials) left(id keys.NodeID, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.of[id]
	return l == nil || l.TokensAt(now) >= 1
}

// take charges one denial. Opens that were decided at the same time may find nothing left.
func (d *denials) take(id keys.NodeID, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.of[id]
	if l == nil {
		if len(d.of) >= denialPeers {
			for other, is := range d.of {
				if is.TokensAt(now) >= denialsPerSecond {
					delete(d.of, other)
				}
			}
		}
		if d.of == nil {
			d.of = map[keys.NodeID]*rate.Limiter{}
		}
		l = rate.NewLimiter(denialsPerSecond, denialsPerSecond)
		d.of[id] = l
	}
	return l.AllowN(now, 1)
}
