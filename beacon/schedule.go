package beacon

import (
	"math/rand/v2"
	"time"
)

// Schedule says when to send beacons. It is a pure value machine for one goroutine: the caller sleeps until Next, sends, and
// reports Sent; randomness comes from the source it was given.
type Schedule struct {
	// immutable
	rand *rand.Rand

	interval time.Duration
	began    time.Time // of the newest burst
	left     []time.Time
	next     time.Time
	solicit  bool
}

// NewSchedule returns a schedule that plans nothing before its first burst.
func NewSchedule(r *rand.Rand) *Schedule { return &Schedule{rand: r, interval: DefaultInterval} }

// SetInterval changes the interval, from the next Sent on; it is clamped to what receivers believe.
func (s *Schedule) SetInterval(d time.Duration) { s.interval = min(max(d, MinInterval), MaxInterval) }

// Interval returns the interval to announce.
func (s *Schedule) Interval() time.Duration { return s.interval }

// Burst plans beacons at 0, 1 and 2 s, each up to 250 ms later, in place of what was planned: after start, interface-up, wake and
// address change. The first of them solicits. Within a second of the last burst's beginning it changes nothing.
func (s *Schedule) Burst(now time.Time) {
	if !s.began.IsZero() {
		if since := now.Sub(s.began); since >= 0 && since < burstPause {
			return
		}
	}
	s.began = now
	s.left = s.left[:0]
	for i := range burstCount {
		s.left = append(s.left, now.Add(time.Duration(i)*burstStep+s.jitter(burstJitter)))
	}
	s.solicit = true
	s.plan(now)
}

// Next is when the next beacon is due; the zero time before the first burst.
func (s *Schedule) Next() time.Time { return s.next }

// Flags are those of the next beacon.
func (s *Schedule) Flags() Flags {
	if s.solicit {
		return FlagSolicit
	}
	return 0
}

// Sent plans the beacon after one that was sent just now. The gap is at least 0.8 intervals and, with a timer up to 1/50 interval
// late, at most one: the jitter is downward only, so four beacons always fit in four intervals.
func (s *Schedule) Sent(now time.Time) {
	s.solicit = false
	s.plan(now)
}

func (s *Schedule) plan(now time.Time) {
	if len(s.left) > 0 {
		s.next, s.left = s.left[0], s.left[1:]
		return
	}
	low, high := s.interval*8/10, s.interval-s.interval/latenessDivisor
	s.next = now.Add(low + s.jitter(high-low))
}

// jitter is U(0, d).
func (s *Schedule) jitter(d time.Duration) time.Duration {
	return time.Duration(s.rand.Int64N(int64(d)))
}
