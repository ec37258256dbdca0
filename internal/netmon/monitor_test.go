package netmon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// system is a host whose interfaces the test changes.
type system struct {
	mu     sync.Mutex
	addrs  []address
	err    error
	reads  int
	notify func()
}

func (s *system) read() ([]net.Interface, []address, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.err != nil {
		return nil, nil, s.err
	}
	return []net.Interface{link(2, "eth0")}, append([]address(nil), s.addrs...), nil
}

func (s *system) set(prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs = []address{at(2, prefix)}
}

func (s *system) subscribe() (subscription, error) {
	return func(ctx context.Context, event func()) error {
		s.mu.Lock()
		s.notify = event
		s.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}, nil
}

// watched runs a monitor over the system and records when it reported what.
type watched struct {
	*Monitor
	began time.Time
	stop  func() error

	mu    sync.Mutex
	times []time.Duration
	snaps []Snapshot
}

func watchSystem(s *system) *watched {
	w := &watched{Monitor: New(Config{}), began: time.Now()}
	w.Monitor.read, w.Monitor.subscribe = s.read, s.subscribe
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.Run(ctx, func(n Snapshot) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.times = append(w.times, time.Since(w.began))
			w.snaps = append(w.snaps, n)
		})
	}()
	w.stop = func() error {
		cancel()
		return <-done
	}
	return w
}

func (w *watched) reports() []time.Duration {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Duration(nil), w.times...)
}

func TestFirstSnapshotAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &system{}
		w := watchSystem(s)
		if got := w.reports(); len(got) != 1 || got[0] != 0 {
			t.Errorf("reports at %v, want one at once, although it is empty", got)
		}
		if err := w.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
}

func TestFlappingLinkIsReportedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &system{}
		s.set("192.0.2.1/24")
		w := watchSystem(s)
		w.reports()
		// An event each 100 ms, for 5 s. Were the wait begun anew by each, nothing would be reported.
		for i := range 50 {
			s.set(fmt.Sprintf("192.0.2.%d/24", i+2))
			s.notify()
			time.Sleep(100 * time.Millisecond)
		}
		got := w.reports()
		w.stop()
		if len(got) < 5 {
			t.Fatalf("reports at %v", got)
		}
		for i := 1; i < len(got); i++ {
			if got[i]-got[i-1] < DefaultDebounce {
				t.Errorf("reports %v apart", got[i]-got[i-1])
			}
		}
	})
}

// After a quiet time a change is reported soon, but not its first moment: what vanishes and returns within it did not change.
func TestChangeAfterQuietIsReportedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &system{}
		s.set("192.0.2.1/24")
		w := watchSystem(s)
		time.Sleep(5 * time.Second)
		s.set("192.0.2.9/24")
		s.notify()
		time.Sleep(settleTime / 2)
		s.set("192.0.2.1/24")
		s.notify()
		time.Sleep(2 * time.Second)
		if got := w.reports(); len(got) != 1 {
			t.Errorf("reports at %v of an address that was renewed", got)
		}
		s.set("192.0.2.2/24")
		s.notify()
		time.Sleep(2 * time.Second)
		if got := w.reports(); len(got) != 2 || got[1] != 7*time.Second+settleTime/2+settleTime {
			t.Errorf("reports at %v", got)
		}
		w.stop()
	})
}

func TestPollFindsWhatNobodySaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &system{}
		s.set("192.0.2.1/24")
		w := watchSystem(s)
		w.reports()
		s.set("192.0.2.2/24")
		time.Sleep(DefaultPoll + time.Millisecond)
		if got := w.reports(); len(got) != 2 || got[1] != DefaultPoll {
			t.Errorf("reports at %v, want 0 and %v", got, DefaultPoll)
		}
		if got := w.Current(); len(got) != 1 || got[0].V4[0].Addr().String() != "192.0.2.2" {
			t.Errorf("current %v", got)
		}
		w.stop()
	})
}

func TestNoReportWithoutChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &system{}
		s.set("192.0.2.1/24")
		w := watchSystem(s)
		w.reports()
		s.notify()
		time.Sleep(10 * DefaultPoll)
		if got := w.reports(); len(got) != 1 {
			t.Errorf("reports at %v", got)
		}
		if s.reads < 10 {
			t.Errorf("read %d times", s.reads)
		}
		w.stop()
	})
}

func TestFailedReadChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &system{}
		s.set("192.0.2.1/24")
		w := watchSystem(s)
		w.reports()
		s.mu.Lock()
		s.err = errors.New("out of memory")
		s.mu.Unlock()
		time.Sleep(DefaultPoll + time.Millisecond)
		if got := w.reports(); len(got) != 1 || len(w.Current()) != 1 {
			t.Errorf("reports at %v, current %v", got, w.Current())
		}
		if !strings.Contains(w.Degraded(), "out of memory") {
			t.Errorf("degraded: %q", w.Degraded())
		}
		s.mu.Lock()
		s.err = nil
		s.mu.Unlock()
		time.Sleep(DefaultPoll)
		synctest.Wait()
		if w.Degraded() != "" {
			t.Errorf("degraded after recovery: %q", w.Degraded())
		}
		w.stop()
	})
}

func TestWithoutEventsItPolls(t *testing.T) {
	refuse := func() (subscription, error) { return nil, errors.New("address family forbidden") }
	breaks := func() (subscription, error) {
		return func(context.Context, func()) error { return errors.New("address family forbidden") }, nil
	}
	for name, subscribe := range map[string]func() (subscription, error){"refused": refuse, "breaks": breaks} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &system{}
				s.set("192.0.2.1/24")
				w := &watched{Monitor: New(Config{})}
				w.Monitor.read, w.Monitor.subscribe = s.read, subscribe
				ctx, cancel := context.WithCancel(context.Background())
				n := 0
				done := make(chan error, 1)
				go func() { done <- w.Run(ctx, func(Snapshot) { n++ }) }()
				synctest.Wait()
				s.set("192.0.2.2/24")
				time.Sleep(DefaultPoll + time.Millisecond)
				synctest.Wait()
				if n != 2 || !strings.Contains(w.Degraded(), "forbidden") {
					t.Errorf("%d reports, degraded %q", n, w.Degraded())
				}
				cancel()
				<-done
			})
		})
	}
}

func TestListLoopback(t *testing.T) {
	s, err := List(Config{Loopback: OnlyLoopback})
	if err != nil {
		t.Fatal(err)
	}
	if len(s) != 1 || !s[0].Loopback || len(s[0].V4) == 0 || !s[0].V4[0].Addr().IsLoopback() {
		t.Errorf("got %+v", s)
	}
}
