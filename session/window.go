package session

import (
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

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

// slot is one counter. Its tags are in the table alone: they are computed again to be taken out, for there are 32 slots on every idle
// session.
type slot struct {
	since int64 // 0: not seen yet; > 0: a hole since then, unix nanoseconds; slotUsed
}

const slotUsed = -1

// retireLocked erases one generation's tags and exporter.
func (t *Tags) retireLocked(w *window, i uint64) {
	for j := range w.slots {
		if s := &w.slots[j]; s.since != slotUsed {
			delete(t.table, w.live[i].tag(w.base+uint64(j)))
		}
	}
	*w.live[i] = accepting{}
	w.live[i] = nil
}

// tag computes the tag of a counter of the peer's.
func (a *accepting) tag(counter uint64) keys.Tag { return a.x.StreamTag(a.w.ring.peerRole(), counter) }

// addLocked makes one tag valid and wakes whoever waits for it.
func (t *Tags) addLocked(a *accepting, counter uint64) {
	tag := a.tag(counter)
	t.table[tag] = tagEntry{a, counter}
	if w := t.waiting[tag]; w != nil {
		close(w.ready)
		delete(t.waiting, tag)
	}
}

// forgetLocked makes the tags of slot i invalid.
func (t *Tags) forgetLocked(w *window, i int) {
	s := &w.slots[i]
	if s.since == slotUsed {
		return
	}
	for _, a := range w.live {
		if a != nil {
			delete(t.table, a.tag(w.base+uint64(i)))
		}
	}
	if s.since > 0 {
		w.holes--
	}
	s.since = slotUsed
}

// extendLocked makes the window reach ahead of the highest accepted counter by n.
func (t *Tags) extendLocked(w *window, n int) {
	for end := w.high + uint64(n); w.base+uint64(len(w.slots)) < end; {
		counter := w.base + uint64(len(w.slots))
		w.slots = append(w.slots, slot{})
		for _, a := range w.live {
			if a != nil {
				t.addLocked(a, counter)
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
		t.forgetLocked(w, n)
	}
	w.base += uint64(n)
	w.slots = w.slots[n:]
}

// jumpLocked gives up everything below counter, which is beyond the window, without computing the tags between.
func (t *Tags) jumpLocked(w *window, counter uint64) {
	for i := range w.slots {
		t.forgetLocked(w, i)
	}
	w.slots = nil
	w.base, w.high = counter, counter
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

// sweepLocked forgets what of one window has expired and lets it shrink.
func (t *Tags) sweepLocked(r *Keyring, now time.Time) {
	w := r.window
	if !w.until.IsZero() && !now.Before(w.until) {
		t.dropLocked(w)
		return
	}
	for i, a := range w.live {
		if a != nil && !a.until.IsZero() && !now.Before(a.until) {
			t.retireLocked(w, uint64(i))
		}
	}
	t.trimLocked(w, now)
	keep := int(w.high-w.base) + w.ahead(now)
	for len(w.slots) > keep {
		t.forgetLocked(w, len(w.slots)-1)
		w.slots = w.slots[:len(w.slots)-1]
	}
	if cap(w.slots) > 2*max(len(w.slots), windowIdle) {
		w.slots = append(make([]slot, 0, len(w.slots)), w.slots...)
	}
	r.sweep(now)
}
