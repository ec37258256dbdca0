package testrun

import (
	"testing"
	"testing/synctest"
	"time"
)

// A process that runs has no stalls, however long it waits.
func TestNoStallsWhileItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stalls := Stalls(t)
		time.Sleep(time.Minute)
		if d := stalls(); d != 0 {
			t.Fatal(d)
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
	if d := w.look(now); d != 1700*time.Millisecond {
		t.Fatal(d)
	}
}
