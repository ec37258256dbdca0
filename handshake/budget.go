package handshake

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// Budget bounds what connections of peers that have proved nothing yet can hold. It is TCP's answer to cookies: an address that
// completed a TCP handshake is not forged, so counting per address works. It is asked first, before anything is allocated.
//
// Strangers may use what is not kept for addresses of the peer table. From half full on they are dropped at random, with a
// probability that rises linearly to 1, so that a slow flood cannot keep a newcomer out for good.
type Budget struct {
	// Immutable.
	limits BudgetLimits

	mu sync.Mutex
	// Guarded by mu.
	strangers int // connections of addresses nobody knows
	known     int // of addresses in the peer table
	members   int // of addresses with a FULL session
	bySource  map[netip.Prefix]int
	byNetwork map[netip.Prefix]int
	byMember  map[netip.Addr]int
	rates     sourceTable[bucket] // of handshakes
	refused   BudgetCounts
}

// BudgetLimits are the sizes of a Budget. A zero field means the protocol's value.
type BudgetLimits struct {
	Total      int // connections, but for those of members
	PerSource  int // of them, per IPv4 address or IPv6 /64
	PerNetwork int // of them, strangers only, per /24 or /48
	PerMember  int // connections per address with a FULL session
	Members    int // of them, in all
	// Random returns a number in [0, 1) for the early drop; nil is the system's.
	Random func() float64
}

// BudgetCounts says how often each limit refused something.
type BudgetCounts struct {
	Total, Early, Source, Network, Member, Handshakes uint64
}

// NewBudget makes an empty budget.
func NewBudget(l BudgetLimits) *Budget {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Total, budgetTotal)
	def(&l.PerSource, budgetPerSource)
	def(&l.PerNetwork, budgetPerNetwork)
	def(&l.PerMember, budgetPerMember)
	def(&l.Members, budgetMembers)
	if l.Random == nil {
		l.Random = rand.Float64
	}
	return &Budget{
		limits: l, bySource: make(map[netip.Prefix]int), byNetwork: make(map[netip.Prefix]int), byMember: make(map[netip.Addr]int),
	}
}

// Enter asks for a place for a connection just accepted from src. known says that the address is in the peer table, full that a
// FULL session with it exists. If ok is false the caller closes the connection without reading or writing; else it calls
// release once the peer is proved or the connection ends. release may be called more than once, from any goroutine.
func (b *Budget) Enter(src netip.Addr, known, full bool) (release func(), ok bool) {
	src = src.Unmap().WithZone("")
	b.mu.Lock()
	defer b.mu.Unlock()
	if full {
		return b.enterMemberLocked(src)
	}
	source, network := sourceOf(src), networkOf(src)
	switch {
	case b.strangers+b.known >= b.limits.Total:
		b.refused.Total++
		return nil, false
	case b.bySource[source] >= b.limits.PerSource:
		b.refused.Source++
		return nil, false
	case !known && b.byNetwork[network] >= b.limits.PerNetwork:
		b.refused.Network++
		return nil, false
	case !known && b.limits.Random() < b.dropLocked():
		b.refused.Early++
		return nil, false
	}
	count := &b.known
	if !known {
		count = &b.strangers
		b.byNetwork[network]++
	}
	*count++
	b.bySource[source]++
	return b.release(func() {
		*count--
		decrement(b.bySource, source)
		if !known {
			decrement(b.byNetwork, network)
		}
	}), true
}

// dropLocked is the probability with which one more stranger is turned away: 1 where the kept places begin.
func (b *Budget) dropLocked() float64 {
	share := float64(b.limits.Total) * (100 - budgetKept) / 100
	from := share * budgetDropFrom / 100
	return (float64(b.strangers) - from) / (share - from)
}

func (b *Budget) enterMemberLocked(src netip.Addr) (func(), bool) {
	if b.members >= b.limits.Members || b.byMember[src] >= b.limits.PerMember {
		b.refused.Member++
		return nil, false
	}
	b.members++
	b.byMember[src]++
	return b.release(func() {
		b.members--
		decrement(b.byMember, src)
	}), true
}

// release wraps f, which is called with the lock held, to act once.
func (b *Budget) release(f func()) func() {
	return sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		f()
	})
}

// decrement counts down and forgets at zero, so that the map holds only who is here.
func decrement[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}

// Handshake asks for one handshake from src. The acceptor asks it by itself.
func (b *Budget) Handshake(src netip.Addr, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.rates.get(sourceOf(src)).take(handshakesPerSecond, handshakesBurst, now) {
		b.refused.Handshakes++
		return false
	}
	return true
}

// Held returns how many connections hold a place: of strangers, of known addresses, of members.
func (b *Budget) Held() (strangers, known, members int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.strangers, b.known, b.members
}

// Counts returns how often each limit refused something.
func (b *Budget) Counts() BudgetCounts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}
