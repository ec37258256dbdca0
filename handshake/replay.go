package handshake

import "sync"

// replayCache remembers the ephemeral keys of the last replayEntries messages 1 that opened. Only those of gate holders get in, so
// an outsider cannot flush it.
type replayCache struct {
	mu sync.Mutex
	// Guarded by mu.
	seen map[[dhSize]byte]struct{}
	ring [][dhSize]byte
	next int
}

// add remembers e and reports whether it is new.
func (c *replayCache) add(e [dhSize]byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.seen[e]; ok {
		return false
	}
	if c.seen == nil {
		c.seen = make(map[[dhSize]byte]struct{})
	}
	if len(c.ring) < replayEntries {
		c.ring = append(c.ring, e)
	} else {
		delete(c.seen, c.ring[c.next])
		c.ring[c.next] = e
		c.next = (c.next + 1) % replayEntries
	}
	c.seen[e] = struct{}{}
	return true
}
