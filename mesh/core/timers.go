package core

import (
	"container/heap"
	"time"
)

// timer is one thing to do at a monotonic time. Stopping it drops the function; the heap forgets it when its time comes.
type timer struct {
	at  time.Duration
	seq uint64 // equal times fire in the order they were set
	do  func()
}

func (t *timer) stop() {
	if t != nil {
		t.do = nil
	}
}

func (t *timer) pending() bool { return t != nil && t.do != nil }

type timerHeap []*timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].seq < h[j].seq
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(*timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return t
}

// after sets a timer d from now.
func (c *Core) after(d time.Duration, do func()) *timer {
	c.timerSeq++
	t := &timer{at: c.now.Mono + d, seq: c.timerSeq, do: do}
	heap.Push(&c.timers, t)
	return t
}

// runTimers runs everything due now. A timer set for now by a running timer runs too; the bound stops a loop that sets itself.
func (c *Core) runTimers() {
	for n := 0; len(c.timers) > 0 && c.timers[0].at <= c.now.Mono && n < maxTimersPerStep; n++ {
		t := heap.Pop(&c.timers).(*timer)
		if do := t.do; do != nil {
			t.do = nil
			do()
		}
	}
}

// nextTimer returns when the next timer is due.
func (c *Core) nextTimer() (time.Duration, bool) {
	for len(c.timers) > 0 && c.timers[0].do == nil {
		heap.Pop(&c.timers)
	}
	if len(c.timers) == 0 {
		return 0, false
	}
	return c.timers[0].at, true
}

// jitter returns a duration uniform in [lo, hi).
func (c *Core) jitter(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(c.rng.Int64N(int64(hi-lo)))
}

// scaled returns d × U(lo, hi).
func (c *Core) scaled(d time.Duration, lo, hi float64) time.Duration {
	return time.Duration(float64(d) * (lo + c.rng.Float64()*(hi-lo)))
}

// bucket is a token bucket on the monotonic clock; the zero bucket is full.
type bucket struct {
	used float64
	at   time.Duration
}

func (b *bucket) take(mono time.Duration, rate, burst float64) bool {
	b.used = max(0, b.used-rate*(mono-b.at).Seconds())
	b.at = mono
	if b.used+1 > burst {
		return false
	}
	b.used++
	return true
}
