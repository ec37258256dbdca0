package audit

import (
	"net/netip"
	"slices"
	"strings"
	"time"
)

// repeats merges denials that are alike in everything but their moment, session and source port: somebody, or a program left running,
// that asks for the same thing again and again. The first repeatsPlain are written one by one; while more of them come there is one
// record per repeatWindow with their number. It is guarded by Log.mu.
type repeats struct {
	m      map[Event]*repeat
	kinds  map[string]int // of an actor in m
	purged time.Time
}

type repeat struct {
	start time.Time
	plain int    // written one by one
	index uint64 // of the last that Append wrote
	over  uint64 // counted, not written
	last  Event
	seen  time.Time // when that came
}

// alike is what events that are merged have in common.
func alike(e Event) Event {
	e.Time = time.Time{}
	if noun, _, _ := strings.Cut(string(e.Code), "."); noun != "invite" { // there it names the invite
		e.Session = ""
	}
	if at, err := netip.ParseAddrPort(e.Target); err == nil {
		e.Target = at.Addr().String()
	}
	return e
}

// find returns the entry of a denial, nil where there is no room for one.
func (r *repeats) find(e Event, now time.Time) *repeat {
	k := alike(e)
	if x := r.m[k]; x != nil {
		if x.over == 0 && now.Sub(x.start) >= repeatWindow {
			*x = repeat{start: now}
		}
		return x
	}
	if r.fullFor(e.Actor) && now.Sub(r.purged) >= denialWindow {
		r.purged = now
		for k, x := range r.m {
			if x.over == 0 && now.Sub(x.start) >= repeatWindow {
				r.forget(k)
			}
		}
	}
	if r.fullFor(e.Actor) {
		return nil
	}
	x := &repeat{start: now}
	r.m[k] = x
	r.kinds[k.Actor]++
	return x
}

// fullFor reports that an actor gets no further kind. Without a bound of its own one that invents kinds would have a record a minute for each
// in the whole table, and nobody else's would be merged.
func (r *repeats) fullFor(actor string) bool {
	return len(r.m) >= repeatKinds || r.kinds[actor] >= repeatActorKinds
}

func (r *repeats) forget(k Event) {
	delete(r.m, k)
	if r.kinds[k.Actor]--; r.kinds[k.Actor] == 0 {
		delete(r.kinds, k.Actor)
	}
}

// drain returns one record for every window that has ended, or for all, with counted denials. A window in which some were counted is
// followed by another one, in which all are; one without is forgotten.
func (r *repeats) drain(now time.Time, all bool) []Event {
	var out []Event
	for k, x := range r.m {
		ended := now.Sub(x.start) >= repeatWindow
		switch {
		case x.over > 0 && (ended || all):
			out = append(out, merged(x.last, x.over, x.start, x.seen))
			x.over, x.start = 0, now
		case ended && x.over == 0:
			r.forget(k)
		}
	}
	slices.SortFunc(out, func(a, b Event) int { return strings.Compare(a.Actor+a.Target+a.Reason, b.Actor+b.Target+b.Reason) })
	return out
}

// merged is the record of counted denials, dated when the last came. One alone stands for itself, like any other.
func merged(e Event, count uint64, start, seen time.Time) Event {
	if count > 1 {
		e.Count, e.Duration = count, max(0, seen.Sub(start))
	}
	return e
}

// pending returns when the first window with counted denials ends.
func (r *repeats) pending() (at time.Time, any bool) {
	for _, x := range r.m {
		if x.over > 0 && (!any || x.start.Before(at)) {
			at, any = x.start, true
		}
	}
	return at.Add(repeatWindow), any
}
