package session

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// TagLimiter counts unknown stream tags per source, an IPv4 address or an IPv6 /64: 20 per second with a burst of 64, and then every
// stream connection from it is dropped for 10 s. Sources that are exempt, because a FULL session comes from there, are never
// dropped.
type TagLimiter struct {
	// guarded by mu
	mu      sync.Mutex
	sources map[netip.Prefix]*list.Element
	order   list.List // of *source, most recent first
}

type source struct {
	prefix  netip.Prefix
	tokens  float64
	at      time.Time // when tokens was true
	blocked time.Time // until
}

// NewTagLimiter makes an empty table.
func NewTagLimiter() *TagLimiter {
	return &TagLimiter{sources: map[netip.Prefix]*list.Element{}}
}

// sourceOf is the unit an address is counted in.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address at all: one source
	}
	return p
}

// Allow reports whether a stream connection from src may be read.
func (l *TagLimiter) Allow(src netip.Addr, exempt bool, now time.Time) bool {
	if exempt {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.sources[sourceOf(src)]
	return e == nil || !now.Before(e.Value.(*source).blocked)
}

// Unknown charges src with one unknown tag.
func (l *TagLimiter) Unknown(src netip.Addr, exempt bool, now time.Time) {
	if exempt {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := sourceOf(src)
	e := l.sources[p]
	if e == nil {
		if l.order.Len() >= tagSources {
			last := l.order.Back()
			delete(l.sources, last.Value.(*source).prefix)
			l.order.Remove(last)
		}
		e = l.order.PushFront(&source{prefix: p, tokens: tagBurst, at: now})
		l.sources[p] = e
	} else {
		l.order.MoveToFront(e)
	}
	s := e.Value.(*source)
	s.tokens = min(tagBurst, s.tokens+tagRate*max(0, now.Sub(s.at).Seconds()))
	s.at = now
	if s.tokens < 1 {
		s.blocked = now.Add(tagPenalty)
		return
	}
	s.tokens--
}
