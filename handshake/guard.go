package handshake

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// errQueue means that as many handshakes as may wait for a processor already do.
var errQueue = errors.New("queue for a processor is full")

// work bounds concurrent asymmetric cryptography: half of the processors, so that handshakes never starve the sessions that
// exist, and a short queue, so that waiting never outlasts the deadlines by much.
type work struct {
	slots   chan struct{}
	waiting atomic.Int64
}

func newWork() *work {
	return &work{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// acquire takes a processor, waiting in the queue until ctx ends.
func (w *work) acquire(ctx context.Context) error {
	select {
	case w.slots <- struct{}{}:
		return nil
	default:
	}
	if w.waiting.Add(1) > workQueue {
		w.waiting.Add(-1)
		return errQueue
	}
	defer w.waiting.Add(-1)
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release gives the processor back.
func (w *work) release() { <-w.slots }

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

// oldGateBudget bounds the messages 1 that are tried against old gates, in all and per source.
type oldGateBudget struct {
	mu sync.Mutex
	// Guarded by mu.
	all     bucket
	sources sourceTable[bucket]
}

// take charges the source first: one that has spent its own share takes nothing from the others.
func (b *oldGateBudget) take(src netip.Addr, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sources.get(sourceOf(src)).take(oldGatesPerSource, oldGatesPerSource, now) &&
		b.all.take(oldGatesPerSecond, oldGatesPerSecond, now)
}
