package netmon

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// LoopbackMode says what to do with the loopback interface.
type LoopbackMode uint8

const (
	// WithoutLoopback leaves it out: the usual daemon.
	WithoutLoopback LoopbackMode = iota
	// WithLoopback adds it, for several daemons of one mesh on a machine that may be offline.
	WithLoopback
	// OnlyLoopback leaves out everything else: demonstrations and tests.
	OnlyLoopback
)

// Config says what to watch. The zero value is what a daemon wants.
type Config struct {
	Ignore   []string      // interface patterns to leave out; nil: DefaultIgnore
	Include  []string      // exceptions from Ignore
	Loopback LoopbackMode  // zero: without
	Poll     time.Duration // zero: DefaultPoll
	Debounce time.Duration // zero: DefaultDebounce
}

func (c Config) filter() filter {
	f := filter{ignore: slices.Clone(c.Ignore), include: slices.Clone(c.Include), loopback: c.Loopback}
	if c.Ignore == nil {
		f.ignore = DefaultIgnore()
	}
	return f
}

// List reads the interfaces once.
func List(c Config) (Snapshot, error) {
	links, addresses, err := read()
	if err != nil {
		return nil, err
	}
	return build(c.filter(), links, addresses), nil
}

// subscription calls event after each notice of a change, until ctx ends or it fails. It is called once.
type subscription func(ctx context.Context, event func()) error

// Monitor watches the interfaces.
type Monitor struct {
	// immutable
	filter    filter
	poll      time.Duration
	debounce  time.Duration
	read      func() ([]net.Interface, []address, error)
	subscribe func() (subscription, error)

	// guarded by mu
	mu         sync.Mutex
	current    Snapshot
	watchError error
	readError  error
}

// New returns a monitor that has not read anything yet.
func New(c Config) *Monitor {
	m := &Monitor{filter: c.filter(), poll: c.Poll, debounce: c.Debounce, read: read, subscribe: subscribe}
	if m.poll <= 0 {
		m.poll = DefaultPoll
	}
	if m.debounce <= 0 {
		m.debounce = DefaultDebounce
	}
	return m
}

// Current returns the newest snapshot, nil before the first.
func (m *Monitor) Current() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

// Degraded says why changes are found by polling only or the interfaces cannot be read, or "".
func (m *Monitor) Degraded() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.readError != nil:
		return fmt.Sprintf("interfaces cannot be read: %v", m.readError)
	case m.watchError != nil:
		return fmt.Sprintf("interface changes are only polled each %s: %v", m.poll, m.watchError)
	}
	return ""
}

// Run calls changed with the first snapshot at once, which may be empty, and then whenever the network changed, until ctx ends;
// it returns ctx's error. The calls come one at a time from Run's goroutine, and delay the next look while they last.
func (m *Monitor) Run(ctx context.Context, changed func(Snapshot)) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	// Subscribed before the first look, so that no change falls between the two.
	events := make(chan struct{}, 1)
	failed := make(chan error, 1)
	if watch, err := m.subscribe(); err != nil {
		failed <- err
	} else {
		wg.Go(func() {
			err := watch(ctx, func() {
				select {
				case events <- struct{}{}:
				default:
				}
			})
			if err != nil && ctx.Err() == nil {
				failed <- err
			}
		})
	}

	m.look(true, changed)
	looked := time.Now()
	poll := time.NewTicker(m.poll)
	defer poll.Stop()
	var settle <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			m.mu.Lock()
			m.watchError = err
			m.mu.Unlock()
		case <-events:
			if settle == nil {
				settle = time.After(max(settleTime, m.debounce-time.Since(looked)))
			}
		case <-settle:
			settle = nil
			m.look(false, changed)
			looked = time.Now()
		case <-poll.C:
			m.look(false, changed)
		}
	}
}

// look reads the interfaces and reports them if they differ. A failed read changes nothing: an empty list would make every
// sender fall silent because of a momentary lack of memory or descriptors.
func (m *Monitor) look(first bool, changed func(Snapshot)) {
	links, addresses, err := m.read()
	m.mu.Lock()
	m.readError = err
	same := true
	if err == nil {
		s := build(m.filter, links, addresses)
		same = s.Equal(m.current)
		m.current = s
	}
	current := m.current
	m.mu.Unlock()
	if first || !same {
		changed(current)
	}
}
