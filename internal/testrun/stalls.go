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
	return func() time.Duration { return w.look(time.Now()) }
}

// stallWatch adds up the gaps between looks.
type stallWatch struct {
	mu   sync.Mutex
	last time.Time
	sum  time.Duration
}

func (w *stallWatch) look(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if gap := now.Sub(w.last); gap >= stallLeast {
		w.sum += gap
	}
	w.last = now
	return w.sum
}
