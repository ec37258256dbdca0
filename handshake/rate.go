package handshake

import (
	"container/list"
	"net/netip"
	"time"
)

// bucket is a token bucket. The zero value is full. `now` is monotonic time from the shell.
type bucket struct {
	spent float64 // tokens missing from a full bucket
	last  time.Time
}

// take removes one token, if there is one.
func (b *bucket) take(perSecond, burst float64, now time.Time) bool {
	if d := now.Sub(b.last).Seconds(); d > 0 {
		b.spent = max(0, b.spent-d*perSecond)
		b.last = now
	}
	if b.spent+1 > burst {
		return false
	}
	b.spent++
	return true
}

// sourceTable keeps something per source, for the sourceEntries sources seen last.
type sourceTable[T any] struct {
	byKey map[netip.Prefix]*list.Element
	order list.List // front: seen last; of *sourceEntry[T]
}

type sourceEntry[T any] struct {
	key   netip.Prefix
	value T
}

// get returns the source's value, zero at first. It is valid until the next call.
func (t *sourceTable[T]) get(key netip.Prefix) *T {
	if e, ok := t.byKey[key]; ok {
		t.order.MoveToFront(e)
		return &e.Value.(*sourceEntry[T]).value
	}
	if t.byKey == nil {
		t.byKey = make(map[netip.Prefix]*list.Element)
	}
	if len(t.byKey) >= sourceEntries {
		last := t.order.Back()
		delete(t.byKey, last.Value.(*sourceEntry[T]).key)
		t.order.Remove(last)
	}
	entry := &sourceEntry[T]{key: key}
	t.byKey[key] = t.order.PushFront(entry)
	return &entry.value
}

// Source and network sizes: what one host, and one site, controls.
const (
	hostBits4, siteBits4 = 32, 24
	hostBits6, siteBits6 = 64, 48
)

// sourceOf names the unit one host controls: an IPv4 address or an IPv6 /64. On a link all link-local addresses share one /64, so
// there the address itself counts.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	switch {
	case a.Is4():
		return prefix(a, hostBits4)
	case a.IsLinkLocalUnicast():
		return prefix(a, a.BitLen())
	}
	return prefix(a, hostBits6)
}

// networkOf names the unit one site controls: an IPv4 /24 or an IPv6 /48.
func networkOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return prefix(a, siteBits4)
	}
	return prefix(a, siteBits6)
}

// prefix masks a; the zero address, which no socket has, is a source of its own.
func prefix(a netip.Addr, bits int) netip.Prefix {
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
