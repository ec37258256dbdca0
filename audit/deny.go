package audit

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// denials counts denials per actor: the first denialsPerSecond in a window are written one by one, the others become one
// record when the window has ended. It is guarded by Log.mu.
type denials struct {
	actors map[string]*window
	shared *window   // for actors beyond denialActors
	purged time.Time // when ended windows were last looked for
	alike  repeats
}

// place is where a denial is counted: with those like it, and with its actor's.
type place struct {
	r *repeat // nil: no room for another kind
	w *window // nil: counted with those like it
}

// index is that of the last denial of the place that Append wrote.
func (p place) index() uint64 {
	if p.w != nil {
		return p.w.index
	}
	if p.r != nil {
		return p.r.index
	}
	return 0
}

// wrote notes where Append has written a denial.
func (p place) wrote(index uint64) {
	if p.w != nil {
		p.w.index = index
	}
	if p.r != nil {
		p.r.index = index
	}
}

// window is the count of one actor.
type window struct {
	start  time.Time
	seen   int
	index  uint64    // of the last denial that was written by Append
	over   uint64    // counted, not written
	sample Event     // the first of those
	dated  time.Time // the time of the last of those, and
	came   time.Time // when that came
}

// countLocked returns where a denial is counted, nowhere for other events, and whether it was counted instead of being written.
func (d *denials) countLocked(e Event) (place, bool) {
	if e.Verdict != Denied || e.Count > 0 {
		return place{}, false
	}
	now := time.Now()
	r := d.alike.find(e, now)
	if r != nil && r.plain >= repeatsPlain {
		r.over++
		r.last, r.seen = e, now
		return place{r: r}, true
	}
	w, counted := d.countActor(e, now)
	if !counted && r != nil {
		r.plain++
	}
	return place{r: r, w: w}, counted
}

// countActor counts a denial in its actor's window.
func (d *denials) countActor(e Event, now time.Time) (*window, bool) {
	w := d.actors[e.Actor]
	if w == nil {
		if len(d.actors) >= denialActors {
			d.purge(now)
		}
		if len(d.actors) < denialActors {
			w = &window{start: now}
			d.actors[e.Actor] = w
		} else {
			if d.shared == nil {
				d.shared = &window{start: now}
			}
			w = d.shared
		}
	}
	if w.over == 0 && now.Sub(w.start) >= denialWindow {
		w.start, w.seen = now, 0
	}
	w.seen++
	if w.seen <= denialsPerSecond {
		return w, false
	}
	if w.over == 0 {
		w.sample = e
		if w == d.shared {
			w.sample.Actor, w.sample.Target = "many", ""
		}
	}
	w.over++
	w.dated, w.came = e.Time, now
	return w, true
}

// purge forgets ended windows that owe no record. It looks through the table once per window at most.
func (d *denials) purge(now time.Time) {
	if now.Sub(d.purged) < denialWindow {
		return
	}
	d.purged = now
	for actor, w := range d.actors {
		if w.over == 0 && now.Sub(w.start) >= denialWindow {
			delete(d.actors, actor)
		}
	}
}

// drain returns one record for every window with counted denials that has ended, or for all, and forgets ended windows.
func (d *denials) drain(all bool) []Event {
	now := time.Now()
	out := d.alike.drain(now, all)
	end := func(w *window) bool {
		if !all && now.Sub(w.start) < denialWindow {
			return false
		}
		if w.over > 0 {
			e := merged(w.sample, w.over, w.start, w.came)
			e.Time = w.dated
			if w.over > 1 {
				e.Before, e.After = "", "first: "+e.Reason
				e.Reason = strconv.FormatUint(w.over, 10) + " more denials"
			}
			out = append(out, e)
		}
		return true
	}
	for actor, w := range d.actors {
		if end(w) {
			delete(d.actors, actor)
		}
	}
	slices.SortStableFunc(out, func(a, b Event) int { return strings.Compare(a.Actor, b.Actor) })
	if d.shared != nil && end(d.shared) {
		d.shared = nil
	}
	return out
}

// pending reports whether a window has counted denials, and when the first of these ends.
func (d *denials) pending() (time.Time, bool) {
	var at time.Time
	look := func(w *window) {
		if w != nil && w.over > 0 && (at.IsZero() || w.start.Before(at)) {
			at = w.start
		}
	}
	for _, w := range d.actors {
		look(w)
	}
	look(d.shared)
	at, any := at.Add(denialWindow), !at.IsZero()
	if t, ok := d.alike.pending(); ok && (!any || t.Before(at)) {
		return t, true
	}
	return at, any
}

// drainDenialsLocked queues the records of ended windows, or of all.
func (l *Log) drainDenialsLocked(all bool) {
	for _, e := range l.denials.drain(all) {
		leaf, err := encodeLeaf(e)
		if err != nil {
			continue // impossible: the sample was encoded before
		}
		if l.failed != nil || l.closed {
			l.lost += max(1, e.Count)
			continue
		}
		l.enqueueLocked(leaf)
		l.lingerLocked()
	}
}
