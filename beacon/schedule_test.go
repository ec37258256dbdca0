package beacon

import (
	"math/rand/v2"
	"testing"
	"time"
)

// run follows a schedule for d and returns when beacons went out, each up to late after it was due.
func run(s *Schedule, now time.Time, d time.Duration, late func() time.Duration) []time.Time {
	var out []time.Time
	for end := now.Add(d); ; {
		next := s.Next()
		if next.IsZero() || next.After(end) {
			return out
		}
		at := next.Add(late())
		s.Sent(at)
		out = append(out, at)
	}
}

func punctual() time.Duration { return 0 }

func TestNothingBeforeTheFirstBurst(t *testing.T) {
	if next := NewSchedule(rand.New(rand.NewPCG(1, 1))).Next(); !next.IsZero() {
		t.Errorf("planned for %v", next)
	}
}

func TestBurst(t *testing.T) {
	var earliest, latest [3]time.Duration
	for seed := range uint64(1000) {
		s := NewSchedule(rand.New(rand.NewPCG(seed, 1)))
		s.Burst(testTime)
		var flags []Flags
		for i := range 3 {
			at := s.Next().Sub(testTime)
			low := time.Duration(i) * time.Second
			if at < low || at >= low+burstJitter {
				t.Fatalf("beacon %d at %v", i, at)
			}
			if seed == 0 || at < earliest[i] {
				earliest[i] = at
			}
			latest[i] = max(latest[i], at)
			flags = append(flags, s.Flags())
			s.Sent(s.Next())
		}
		if flags[0] != FlagSolicit || flags[1] != 0 || flags[2] != 0 || s.Flags() != 0 {
			t.Fatalf("flags %v", flags)
		}
	}
	for i := range 3 {
		if latest[i]-earliest[i] < burstJitter*9/10 {
			t.Errorf("beacon %d is between %v and %v: not spread", i, earliest[i], latest[i])
		}
	}
}

// After the burst every gap on the wire is 4.0 to 5.0 s, with timers up to 100 ms late, and the whole range is used.
func TestGapsAfterTheBurst(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	s := NewSchedule(r)
	s.Burst(testTime)
	late := func() time.Duration { return time.Duration(r.Int64N(int64(100 * time.Millisecond))) }
	times := run(s, testTime, 24*time.Hour, late)
	shortest, longest := time.Hour, time.Duration(0)
	for i := 3; i < len(times); i++ {
		gap := times[i].Sub(times[i-1])
		shortest, longest = min(shortest, gap), max(longest, gap)
	}
	if shortest < 4*time.Second || longest > 5*time.Second {
		t.Errorf("gaps from %v to %v", shortest, longest)
	}
	if shortest > 4100*time.Millisecond || longest < 4900*time.Millisecond {
		t.Errorf("gaps only from %v to %v", shortest, longest)
	}
}

// Four beacons always fit in the 20 s after which a peer is pruned.
func TestFourChancesBeforePruning(t *testing.T) {
	s := NewSchedule(rand.New(rand.NewPCG(7, 8)))
	s.Burst(testTime)
	times := run(s, testTime, 24*time.Hour, punctual)
	for i := 4; i < len(times); i++ {
		if d := times[i].Sub(times[i-4]); d > 20*time.Second {
			t.Fatalf("four gaps last %v", d)
		}
	}
}

func TestIntervalIsStretchedAndClamped(t *testing.T) {
	for set, want := range map[time.Duration]time.Duration{
		0: MinInterval, time.Second: MinInterval, 20 * time.Second: 20 * time.Second, time.Hour: MaxInterval,
	} {
		s := NewSchedule(rand.New(rand.NewPCG(9, 1)))
		s.SetInterval(set)
		if s.Interval() != want {
			t.Errorf("set %v, got %v", set, s.Interval())
		}
		s.Burst(testTime)
		times := run(s, testTime, time.Hour, punctual)
		for i := 3; i < len(times); i++ {
			if gap := times[i].Sub(times[i-1]); gap < want*8/10 || gap > want {
				t.Fatalf("gap of %v at an interval of %v", gap, want)
			}
		}
	}
}

func TestBurstReplacesThePlan(t *testing.T) {
	s := NewSchedule(rand.New(rand.NewPCG(2, 2)))
	s.Burst(testTime)
	run(s, testTime, 10*time.Second, punctual)
	now := testTime.Add(11 * time.Second)
	s.Burst(now)
	times := run(s, now, 3*time.Second, punctual)
	if len(times) != 3 || times[0].Sub(now) >= burstJitter {
		t.Errorf("burst at %v", times)
	}
}

// A link that flaps makes neither a flood nor silence: bursts within a second are one.
func TestBurstsAreAtLeastASecondApart(t *testing.T) {
	s := NewSchedule(rand.New(rand.NewPCG(2, 3)))
	sent := 0
	for ms := range 10_000 {
		now := testTime.Add(time.Duration(ms) * time.Millisecond)
		s.Burst(now)
		if !s.Next().After(now) {
			s.Sent(now)
			sent++
		}
	}
	if sent < 9 || sent > 11 {
		t.Errorf("%d beacons in ten seconds", sent)
	}
	// A wall clock set back must not hold the next burst up.
	back := testTime.Add(-time.Hour)
	s.Burst(back)
	if next := s.Next(); next.Sub(back) > burstJitter {
		t.Errorf("after the clock was set back the next beacon is at %v", next)
	}
}

func TestSameSeedSameSchedule(t *testing.T) {
	a, b := NewSchedule(rand.New(rand.NewPCG(4, 4))), NewSchedule(rand.New(rand.NewPCG(4, 4)))
	a.Burst(testTime)
	b.Burst(testTime)
	x, y := run(a, testTime, time.Hour, punctual), run(b, testTime, time.Hour, punctual)
	for i := range x {
		if !x[i].Equal(y[i]) {
			t.Fatal("two schedules of one seed differ")
		}
	}
}
