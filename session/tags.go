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
	return &Tags{table: map[keys.Tag]tagEntry{}, rings: map[*Keyring]struct{}{}, waiting: map[keys.Tag]*waiter{}}
}

// window is the accept side of a keyring: for each counter near the highest accepted, whether it may still come.
//
//	base … | holes and used | high … valid, not yet seen … base+len(slots)
type window struct {
	owner any
	ring  *Keyring
	until time.Time // after this no tag is valid; zero while the session lives
	live  [2]*accepting
	base  uint64
	high  uint64 // one past the highest counter accepted
	slots []slot
	holes int

	epoch        time.Time // start of the current epoch
	recent, last int       // accepted in this epoch and in the one before
}

// accepting is one generation of a window.
type accepting struct {
	w     *window
	x     keys.Exporter
	num   uint64
	until time.Time // after this its tags are not valid; zero while in use
}

// slot is one counter. tags[g%2] is its tag in generation g.
type slot struct {
	since int64 // 0: not seen yet; > 0: a hole since then, unix nanoseconds; slotUsed
	tags  [2]keys.Tag
}

const slotUsed = -1

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
// key for at most [OrphanBytes] more in each direction. The peer's tags end at once, or after grace, for a session that lost to a
// duplicate and whose peer may have streams under way.
func (t *Tags) Unregister(r *Keyring, grace time.Duration, now time.Time) {
	r.end()
	t.mu.Lock()
	defer t.mu.Unlock()
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
		t.forgetLocked(w, &w.slots[i])
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
		if s := &w.slots[j]; s.since != slotUsed {
			t.addLocked(a, s, w.base+uint64(j))
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

// retireLocked erases one generation's tags and exporter.
func (t *Tags) retireLocked(w *window, i uint64) {
	for j := range w.slots {
		if s := &w.slots[j]; s.since != slotUsed {
			delete(t.table, s.tags[i])
			s.tags[i] = keys.Tag{}
		}
	}
	*w.live[i] = accepting{}
	w.live[i] = nil
}

// addLocked makes one tag valid and wakes whoever waits for it.
func (t *Tags) addLocked(a *accepting, s *slot, counter uint64) {
	tag := a.x.StreamTag(a.w.ring.peerRole(), counter)
	s.tags[a.num%2] = tag
	t.table[tag] = tagEntry{a, counter}
	if w := t.waiting[tag]; w != nil {
		close(w.ready)
		delete(t.waiting, tag)
	}
}

// forgetLocked makes the tags of one counter invalid.
func (t *Tags) forgetLocked(w *window, s *slot) {
	if s.since == slotUsed {
		return
	}
	for i := range w.live {
		if w.live[i] != nil {
			delete(t.table, s.tags[i])
		}
	}
	if s.since > 0 {
		w.holes--
	}
	s.since = slotUsed
	s.tags = [2]keys.Tag{}
}

// extendLocked makes the window reach ahead of the highest accepted counter by n.
func (t *Tags) extendLocked(w *window, n int) {
	for end := w.high + uint64(n); w.base+uint64(len(w.slots)) < end; {
		counter := w.base + uint64(len(w.slots))
		w.slots = append(w.slots, slot{})
		for _, a := range w.live {
			if a != nil {
				t.addLocked(a, &w.slots[len(w.slots)-1], counter)
			}
		}
	}
}

// ahead is how far the window reaches: 32 when idle, 4 for each open of the last 10 to 20 s, at most 4096.
func (w *window) ahead(now time.Time) int {
	switch age := now.Sub(w.epoch); {
	case age >= 2*windowEpoch:
		w.recent, w.last, w.epoch = 0, 0, now
	case age >= windowEpoch:
		w.recent, w.last, w.epoch = 0, w.recent, w.epoch.Add(windowEpoch)
	}
	return min(max(windowIdle, windowGrowth*(w.recent+w.last)), windowMax)
}

// passLocked moves the window to beyond counter: what it overtakes becomes holes, what is too old goes.
func (t *Tags) passLocked(w *window, counter uint64, now time.Time) {
	for ; w.high <= counter; w.high++ {
		if s := &w.slots[w.high-w.base]; s.since == 0 {
			s.since = now.UnixNano()
			w.holes++
		}
	}
	t.extendLocked(w, w.ahead(now))
	t.trimLocked(w, now)
}

// trimLocked drops, from the low end, used counters and holes that are too old or too many.
func (t *Tags) trimLocked(w *window, now time.Time) {
	oldest := now.Add(-holeLife).UnixNano()
	n := 0
	for ; w.base+uint64(n) < w.high; n++ {
		s := &w.slots[n]
		if s.since != slotUsed && s.since > oldest && w.holes <= windowMax && w.high-w.base-uint64(n) <= windowSpan {
			break
		}
		t.forgetLocked(w, s)
	}
	w.base += uint64(n)
	w.slots = w.slots[n:]
}

// validLocked reports whether an entry of the table may be used at now, whether or not a sweep has come by.
func (e tagEntry) validLocked(now time.Time) bool {
	w := e.g.w
	if !w.until.IsZero() && !now.Before(w.until) || !e.g.until.IsZero() && !now.Before(e.g.until) {
		return false
	}
	if e.counter >= w.high {
		return true
	}
	return w.slots[e.counter-w.base].since > now.Add(-holeLife).UnixNano()
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
	if !ok || e.g.w.ring != f.ring || e.counter != f.counter || !e.validLocked(now) {
		return false
	}
	w := e.g.w
	t.forgetLocked(w, &w.slots[f.counter-w.base])
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
		t.forgetLocked(w, &w.slots[counter-w.base])
		t.passLocked(w, counter, now)
		return nil
	}
	t.forgetLocked(w, &w.slots[counter-w.base])
	t.trimLocked(w, now)
	return nil
}

// jumpLocked gives up everything below counter, which is beyond the window, without computing the tags between.
func (t *Tags) jumpLocked(w *window, counter uint64) {
	for i := range w.slots {
		t.forgetLocked(w, &w.slots[i])
	}
	w.slots = nil
	w.base, w.high = counter, counter
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

// Sweep forgets what has expired and lets windows of sessions that opened nothing lately shrink. Call it each few seconds; between
// sweeps nothing expired is valid, it only takes memory.
func (t *Tags) Sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for r := range t.rings {
		w := r.window
		if !w.until.IsZero() && !now.Before(w.until) {
			t.dropLocked(w)
			continue
		}
		for i, a := range w.live {
			if a != nil && !a.until.IsZero() && !now.Before(a.until) {
				t.retireLocked(w, uint64(i))
			}
		}
		t.trimLocked(w, now)
		keep := int(w.high-w.base) + w.ahead(now)
		for len(w.slots) > keep {
			t.forgetLocked(w, &w.slots[len(w.slots)-1])
			w.slots = w.slots[:len(w.slots)-1]
		}
		if cap(w.slots) > 2*max(len(w.slots), windowIdle) {
			w.slots = append(make([]slot, 0, len(w.slots)), w.slots...)
		}
		r.sweep(now)
	}
}

// Size returns the number of valid tags, for metrics and tests.
func (t *Tags) Size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.table)
}
