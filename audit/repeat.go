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
	purged time.Time
}

type repeat struct {
	start time.Time
	plain int    // written one by one
	index uint64 // of the last that Append wrote
	over  uint64 // counted, not written
	last  Event
}

// alike is what events that are merged have in common.
func alike(e Event) Event {
	e.Time, e.Session = time.Time{}, ""
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
	if len(r.m) >= repeatKinds && now.Sub(r.purged) >= denialWindow {
		r.purged = now
		for k, x := range r.m {
			if x.over == 0 && now.Sub(x.start) >= repeatWindow {
				delete(r.m, k)
			}
		}
	}
	if len(r.m) >= repeatKinds {
		return nil
	}
	x := &repeat{start: now}
	r.m[k] = x
	return x
}

// drain returns one record for every window that has ended, or for all, with counted denials. A window in which some were counted is
// followed by another one, in which all are; one without is forgotten.
func (r *repeats) drain(now time.Time, all bool) []Event {
	var out []Event
	for k, x := range r.m {
		ended := now.Sub(x.start) >= repeatWindow
		switch {
		case x.over > 0 && (ended || all):
			e := x.last
			e.Time, e.Count, e.Duration = now, x.over, max(0, now.Sub(x.start))
			out = append(out, e)
			x.over, x.start = 0, now
		case ended && x.over == 0:
			delete(r.m, k)
		}
	}
	slices.SortFunc(out, func(a, b Event) int { return strings.Compare(a.Actor+a.Target+a.Reason, b.Actor+b.Target+b.Reason) })
	return out
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
