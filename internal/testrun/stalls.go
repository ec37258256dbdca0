package testrun

import (
	"sync"
	"testing"
	"time"
)

// stallTick is how often Stalls looks whether the process still runs. A tick that is late by less than stallLeast is the scheduler's
// ordinary doing.
const (
	stallTick  = 5 * time.Millisecond
	stallLeast = 4 * stallTick
)

// Stalls watches, until the test ends, for times in which this process was not run. The function it returns tells their sum so far: a
// bound on a real clock is one for a machine that runs, and one that does something else for a second breaks no promise of ours.
func Stalls(t testing.TB) func() time.Duration {
	w := watchStalls(t)
	return func() time.Duration { sum, _ := w.look(time.Now()); return sum }
}

// LongestStall is Stalls for the longest of them: by how much a timer may have been late.
func LongestStall(t testing.TB) func() time.Duration {
	w := watchStalls(t)
	return func() time.Duration { _, longest := w.look(time.Now()); return longest }
}

func watchStalls(t testing.TB) *stallWatch {
	stop, done := make(chan struct{}), make(chan struct{})
	w := &stallWatch{last: time.Now()}
	go func() {
		defer close(done)
		tick := time.NewTicker(stallTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.look(time.Now())
			case <-stop:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
	})
	return w
}

// stallWatch adds up the gaps between looks.
type stallWatch struct {
	mu      sync.Mutex
	last    time.Time
	sum     time.Duration
	longest time.Duration
}

func (w *stallWatch) look(now time.Time) (sum, longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if gap := now.Sub(w.last); gap >= stallLeast {
		w.sum += gap
		w.longest = max(w.longest, gap)
	}
	w.last = now
	return w.sum, w.longest
}
