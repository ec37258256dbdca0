package testrun

import (
	"testing"
	"testing/synctest"
	"time"
)

// A process that runs has no stalls, however long it waits.
func TestNoStallsWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sum, longest := Stalls(t), LongestStall(t)
		time.Sleep(time.Minute)
		if sum() != 0 || longest() != 0 {
			t.Fatal(sum(), longest())
		}
	})
}

func TestStallsAreAddedUp(t *testing.T) {
	now := time.Now()
	w := stallWatch{last: now}
	for _, gap := range []time.Duration{stallTick, 700 * time.Millisecond, 2 * stallTick, stallTick, time.Second, stallLeast - 1} {
		now = now.Add(gap)
		w.look(now)
	}
	if sum, longest := w.look(now); sum != 1700*time.Millisecond || longest != time.Second {
		t.Fatal(sum, longest)
	}
}
