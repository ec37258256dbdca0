package session

import (
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Tags is the table of every stream tag this process would take now: one look-up, whoever asks.
type Tags struct {
	// guarded by mu
	mu      sync.Mutex
	table   map[keys.Tag]tagEntry
	rings   map[*Keyring]struct{}
	orphans map[*Keyring]time.Time // whose session ended then, and may still have streams
	waiting map[keys.Tag]*waiter
	waiters int
}

// tagEntry says whose tag it is.
type tagEntry struct {
	g       *accepting
	counter uint64
}

// waiter is a connection that showed a tag the window has not reached.
type waiter struct {
	ready chan struct{} // closed when the tag becomes valid
	n     int
}

// NewTags makes an empty table.
func NewTags() *Tags {
	return &Tags{
		table: map[keys.Tag]tagEntry{}, rings: map[*Keyring]struct{}{}, orphans: map[*Keyring]time.Time{},
		waiting: map[keys.Tag]*waiter{},
	}
}

// Register makes the streams of a session's peer acceptable. owner is handed back with each of them.
func (t *Tags) Register(r *Keyring, owner any, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.mu.Lock()
	g := *r.newestLocked()
	r.mu.Unlock()
	w := &window{owner: owner, ring: r, epoch: now}
	w.live[g.number%2] = &accepting{w: w, x: g.x, num: g.number}
	r.window = w
	t.rings[r] = struct{}{}
	t.extendLocked(w, windowIdle)
}

// Unregister notes that the session is over. No stream of ours begins with the ring any more, and those that live keep their last
// key for at most [OrphanBytes] more in each direction and for [OrphanLife]. What is parked is closed. The peer's tags end at once, or after grace, for a session that lost to a
// duplicate and whose peer may have streams under way.
func (t *Tags) Unregister(r *Keyring, grace time.Duration, now time.Time) {
	r.end()
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.orphans[r]; !known {
		t.orphans[r] = now
	}
	w := r.window
	if w == nil {
		return
	}
	if grace > 0 {
		if w.until.IsZero() {
			w.until = now.Add(grace)
		}
		return
	}
	t.dropLocked(w)
}

func (t *Tags) dropLocked(w *window) {
	for i := range w.slots {
		t.forgetLocked(w, i)
	}
	w.live = [2]*accepting{}
	w.ring.window = nil
	delete(t.rings, w.ring)
	w.ring.erase()
}

// Install adds generation number of a ring for receiving: from now on the peer may use it, for new streams and for those that
// live. The dialer of the session calls it once it verified R2, its acceptor before it sends R2, so that nobody meets an unknown
// generation.
func (t *Tags) Install(r *Keyring, number uint64, x keys.Exporter) error {
	if err := r.install(number, x); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	w := r.window
	if w == nil {
		return nil
	}
	i := number % 2
	if w.live[i] != nil {
		t.retireLocked(w, i) // a rekey so soon after another ends the older grace
	}
	a := &accepting{w: w, x: x, num: number}
	w.live[i] = a
	for j := range w.slots {
		if w.slots[j].since != slotUsed {
			t.addLocked(a, w.base+uint64(j))
		}
	}
	return nil
}

// Switch begins to send with the generation installed last: the dialer of the session calls it with Install, its acceptor once it
// has R3. Parked connections this side opened are closed, for they are not rekeyed. The generation before stays valid for receiving
// for RetireGrace.
func (t *Tags) Switch(r *Keyring, now time.Time) {
	r.change(now)
	t.mu.Lock()
	defer t.mu.Unlock()
	w := r.window
	if w == nil || w.live[0] == nil || w.live[1] == nil {
		return
	}
	old := w.live[0]
	if w.live[1].num < old.num {
		old = w.live[1]
	}
	if old.until.IsZero() {
		old.until = now.Add(RetireGrace)
	}
}

// found is what a valid tag stands for.
type found struct {
	owner      any
	ring       *Keyring
	generation uint64
	counter    uint64
	in, out    keys.TrafficKey // of the receiver of S1
}

// lookup finds a tag without using it up.
func (t *Tags) lookup(tag keys.Tag, now time.Time) (found, bool) {
	t.mu.Lock()
	e, ok := t.table[tag]
	if !ok || !e.validLocked(now) {
		t.mu.Unlock()
		return found{}, false
	}
	f := found{owner: e.g.w.owner, ring: e.g.w.ring, generation: e.g.num, counter: e.counter}
	x := e.g.x
	t.mu.Unlock()
	role := f.ring.peerRole()
	f.in = x.StreamKey(role, f.counter, keys.DirForward)
	f.out = x.StreamKey(role, f.counter, keys.DirBack)
	return f, true
}

// claim uses a tag up, after record 0 opened under its key. Of several connections that show the same tag one succeeds.
func (t *Tags) claim(tag keys.Tag, f found, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.table[tag]
	if !ok || !e.validLocked(now) {
		return false
	}
	w := e.g.w
	t.forgetLocked(w, int(f.counter-w.base))
	w.ahead(now) // begins a new epoch if it is time
	w.recent++
	if f.counter >= w.high {
		t.passLocked(w, f.counter, now)
	} else {
		t.extendLocked(w, w.ahead(now))
		t.trimLocked(w, now)
	}
	return true
}

// Skip handles SKIP{counter}: the peer gave this counter up. A counter further ahead than any honest peer could be is an error.
func (t *Tags) Skip(r *Keyring, counter uint64, now time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := r.window
	switch {
	case w == nil || counter < w.base:
		return nil
	case counter >= w.high+windowMax:
		return protocolError("SKIP of %d when %d is next", counter, w.high)
	}
	if counter >= w.high {
		// Counters the window never reached stay valid only if they are near the one given up: 32 each way.
		if end := w.base + uint64(len(w.slots)); counter >= end+windowIdle {
			t.jumpLocked(w, counter-windowIdle)
		}
		t.extendLocked(w, int(counter-w.high)+1)
		t.forgetLocked(w, int(counter-w.base))
		t.passLocked(w, counter, now)
		return nil
	}
	t.forgetLocked(w, int(counter-w.base))
	t.trimLocked(w, now)
	return nil
}

// await returns a channel that is closed when tag becomes valid, or nil if too many wait already. cancel must be called.
func (t *Tags) await(tag keys.Tag) (ready <-chan struct{}, cancel func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiters >= maxWaiting {
		return nil, func() {}
	}
	w := t.waiting[tag]
	if w == nil {
		w = &waiter{ready: make(chan struct{})}
		if _, ok := t.table[tag]; ok {
			close(w.ready) // it came between the look-up and here
			return w.ready, func() {}
		}
		t.waiting[tag] = w
	}
	w.n++
	t.waiters++
	return w.ready, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.waiters--
		if w.n--; w.n == 0 && t.waiting[tag] == w {
			delete(t.waiting, tag)
		}
	}
}

// Sweep forgets what has expired, lets windows of sessions that opened nothing lately shrink, and ends streams that outlived their
// session for too long. Call it each few seconds; between sweeps no expired tag is valid, it only takes memory.
func (t *Tags) Sweep(now time.Time) {
	for _, s := range t.sweep(now) {
		s.Reset(CodeLimit)
	}
}

// sweep returns the streams whose time is over.
func (t *Tags) sweep(now time.Time) (over []*Stream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.rings {
		t.sweepLocked(r, now)
	}
	for r, since := range t.orphans {
		age := now.Sub(since)
		if age >= OrphanLife {
			over = append(over, r.members()...)
		}
		// A stream whose tag was claimed a moment before the end joins within RetireGrace.
		if age >= OrphanLife || r.window == nil && age >= RetireGrace && r.Streams() == 0 {
			delete(t.orphans, r)
		}
	}
	return over
}

// Size returns the number of valid tags, for metrics and tests.
func (t *Tags) Size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.table)
}
