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

// Stalls watches for times in which this process was not run, and the function it returns ends that and tells their sum: a bound on a real
// clock is one for a machine that runs, and one that does something else for a second breaks no promise of ours.
func Stalls(t testing.TB) func() time.Duration {
	stop, done := make(chan struct{}), make(chan struct{})
	w := stallWatch{last: time.Now()}
	go func() {
		defer close(done)
		tick := time.NewTicker(stallTick)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				w.look(time.Now())
			case <-stop:
				w.look(time.Now())
				return
			}
		}
	}()
	end := sync.OnceValue(func() time.Duration {
		close(stop)
		<-done
		return w.sum
	})
	t.Cleanup(func() { end() })
	return end
}

// stallWatch adds up the gaps between looks.
type stallWatch struct {
	last time.Time
	sum  time.Duration
}

func (w *stallWatch) look(now time.Time) {
	if gap := now.Sub(w.last); gap >= stallLeast {
		w.sum += gap
	}
	w.last = now
}
