package session

import (
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

// What is a dead path and what is none, look by look, five seconds apart.
func TestPathDead(t *testing.T) {
	const step = 5 * time.Second
	onItsWay := pathInfo{unacked: true, acked: 100, retransmits: 7}
	for name, c := range map[string]struct {
		looks []pathInfo
		dies  int // at which look, -1 never
	}{
		"idle":                {[]pathInfo{{acked: 100}, {acked: 100}, {acked: 100}, {acked: 100}, {acked: 100}, {acked: 100}}, -1},
		"nothing comes":       {[]pathInfo{{acked: 100}, onItsWay, onItsWay, onItsWay, onItsWay}, 4},
		"from the first look": {[]pathInfo{onItsWay, onItsWay, onItsWay, onItsWay}, 3},
		"it gets on": {[]pathInfo{
			{false, true, 100, 7, 0}, {false, true, 101, 7, 0}, {false, true, 102, 7, 0}, {false, true, 103, 7, 0}, {false, true, 104, 7, 0}, {false, true, 105, 7, 0},
		}, -1},
		"a reader that pauses": {[]pathInfo{{acked: 100, probes: 1}, {acked: 100}, {acked: 100, probes: 1}, {acked: 100}, {acked: 100}, {acked: 100}}, -1},
		"a reader that pauses, its kernel full": {[]pathInfo{
			{false, true, 100, 0, 1}, {false, true, 100, 0, 0}, {false, true, 100, 1, 1}, {false, true, 100, 0, 0}, {false, true, 100, 1, 0}, {false, true, 100, 0, 0},
		}, -1},
		"all answered in between":                      {[]pathInfo{onItsWay, onItsWay, onItsWay, {acked: 100}, onItsWay, onItsWay, onItsWay}, -1},
		"a reader that pauses, and then its path dies": {[]pathInfo{{acked: 100}, {acked: 100, probes: 3}, {acked: 100, probes: 5}, {acked: 100, probes: 6}}, 3},
	} {
		var p path
		died := -1
		for i, look := range c.looks {
			if p.dead(look, time.Unix(0, 0).Add(time.Duration(i)*step)) {
				died = i
				break
			}
		}
		if died != c.dies {
			t.Errorf("%s: dead at look %d, want %d", name, died, c.dies)
		}
	}
}

// A real connection is looked at: a stalled reader has probes or nothing, and what is written and read gets on.
func TestPathInfo(t *testing.T) {
	a, b := streamPair(t, suites[0])
	before, ok := a.pathInfo()
	if !ok {
		t.Fatal("not asked")
	}
	done := make(chan error, 1)
	go func() {
		_, err := a.Write(make([]byte, 32<<20)) // more than both kernels hold
		done <- err
	}()
	wait(t, "the window closes", func() bool {
		i, ok := a.pathInfo()
		a.CheckPath(time.Now())
		return ok && i.acked > before.acked && a.Cause() == nil
	})
	go func() {
		_, err := io.CopyN(io.Discard, b, 32<<20)
		done <- err
	}()
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if i, ok := a.pathInfo(); !ok || i.acked < 32<<20 {
		wait(t, "all acknowledged", func() bool { i, ok = a.pathInfo(); return ok && i.acked >= 32<<20 })
	}
	// And its end is an error of its own.
	a.path = path{}
	a.endWith(ErrPath)
	if _, err := a.Write([]byte("x")); !errors.Is(err, ErrPath) {
		t.Fatal(err)
	}
}

// A stream that is closed while its reader pauses stays until the reader has it all, and a reset ends it at once.
func TestCloseWaitsForAPausedReader(t *testing.T) {
	for _, reset := range []bool{false, true} {
		a, b := streamPair(t, suites[0])
		a.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := a.Write(make([]byte, 32<<20)) // more than both kernels hold
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(n, err)
		}
		a.SetWriteDeadline(time.Time{})
		read := make(chan int64, 1)
		if !reset {
			// A little room, for what the deadline left over and for EOF.
			if _, err := io.CopyN(io.Discard, b, 1<<20); err != nil {
				t.Fatal(err)
			}
			n -= 1 << 20
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			a.CheckPath(time.Now())
		}
		select {
		case <-a.Done():
			t.Fatal("gone, with bytes its reader waits for")
		default:
		}
		if reset {
			a.Reset(CodeRevoked)
			<-a.Done()
			if _, err := io.Copy(io.Discard, b); err == nil {
				t.Fatal("a clean end")
			}
			continue
		}
		go func() {
			got, err := io.Copy(io.Discard, b)
			if err != nil {
				t.Error(err)
			}
			read <- got
		}()
		wait(t, "it goes", func() bool {
			a.CheckPath(time.Now())
			select {
			case <-a.Done():
				return true
			default:
				return false
			}
		})
		if got := <-read; got != int64(n) {
			t.Fatal(got, "bytes of", n)
		}
	}
}
