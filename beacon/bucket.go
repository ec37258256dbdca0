package beacon

import "time"

// bucket is a token bucket in one number, the theoretical arrival time of the generic cell rate algorithm: when the
// bucket will be full again. Its zero value is full. Times are durations since the receiver's first datagram and never go back.
type bucket struct{ full time.Duration }

// take charges one token of a bucket that gains one each every and holds burst, or reports that there is none.
func (b *bucket) take(now, every time.Duration, burst int) bool {
	full := max(b.full, now) + every
	if full-now > every*time.Duration(burst) {
		return false
	}
	b.full = full
	return true
}

// refund gives back part of a charge.
func (b *bucket) refund(part time.Duration) { b.full -= part }

// buckets is a bucket per key for the most recently used keys. It is bounded: a flood of keys pushes out only buckets, and
// whoever is pushed out begins again with a full one, which the budget above it bounds.
type buckets[K comparable] struct {
	// immutable
	every time.Duration
	burst int
	max   int

	slots map[K]*slot[K]
	head  slot[K] // of a ring, most recently used first
}

type slot[K comparable] struct {
	key        K
	bucket     bucket
	prev, next *slot[K]
}

func newBuckets[K comparable](every time.Duration, burst, limit int) *buckets[K] {
	b := &buckets[K]{every: every, burst: burst, max: limit, slots: make(map[K]*slot[K])}
	b.head.prev, b.head.next = &b.head, &b.head
	return b
}

// take charges the key's bucket.
func (b *buckets[K]) take(key K, now time.Duration) bool {
	s, ok := b.slots[key]
	switch {
	case ok:
		s.unlink()
	case len(b.slots) < b.max:
		s = &slot[K]{key: key}
		b.slots[key] = s
	default:
		s = b.head.prev
		s.unlink()
		delete(b.slots, s.key)
		s.key, s.bucket = key, bucket{}
		b.slots[key] = s
	}
	s.prev, s.next = &b.head, b.head.next
	s.prev.next, s.next.prev = s, s
	return s.bucket.take(now, b.every, b.burst)
}

func (s *slot[K]) unlink() { s.prev.next, s.next.prev = s.next, s.prev }
