package audit

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Record is an entry as it is read back.
type Record struct {
	Index uint64
	Event Event
	Hash  tlog.Hash // RFC 6962 record hash
	Err   error     // why the entry is unreadable; then Event is zero. Verify says more
}

// Read returns up to n records (at most maxReadBatch) from index from on; fewer at the end of the log.
func (l *Log) Read(from uint64, n int) ([]Record, error) {
	n = min(n, maxReadBatch)
	var out []Record
	for len(out) < n {
		entries, first, err := l.around(from)
		if err != nil {
			return nil, err
		}
		if entries == nil {
			break
		}
		for i := from - first; i < uint64(len(entries)) && len(out) < n; i++ {
			out = append(out, newRecord(first+i, entries[i]))
		}
		from = first + uint64(len(entries))
	}
	return out, nil
}

func newRecord(index uint64, leaf []byte) Record {
	e, err := parseLeaf(leaf)
	return Record{Index: index, Event: e, Hash: tlog.RecordHash(leaf), Err: err}
}

// around returns a run of entries that holds index, and the index of its first; nil if the log is shorter. A missing or short
// bundle gives unreadable entries, so that readers get past it.
func (l *Log) around(index uint64) ([][]byte, uint64, error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, 0, ErrClosed
	}
	size, start, tail := l.size, l.tailStart, l.tail
	l.mu.Unlock()
	switch {
	case index >= size:
		return nil, 0, nil
	case index >= start:
		return tail[:size-start], start, nil
	}
	b := index / tileWidth
	entries, file, err := l.readEntries(b, tileWidth)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the audit log: %s: %w", file, err)
	}
	for len(entries) < tileWidth {
		entries = append(entries, nil)
	}
	return entries, b * tileWidth, nil
}

// Filter selects records. The zero value selects all.
type Filter struct {
	From, To     uint64    // indexes, To exclusive; 0: to the end
	Since, Until time.Time // Until exclusive
	Code         string    // noun.verb, or a noun alone
	Actor        string    // equal, or a prefix that ends in "*"
	Target       string    // the same
	Actors       []string  // any of these, each as Actor; none: any
	Targets      []string  // the same
	Service      string    // beside Targets: a service of this node's own, which its records of streams and services name without the node
	Session      string
	Grant        string
	Verdict      Verdict // None: any
	Newest       bool    // newest first
	Limit        int     // 0: no limit
}

// Match reports whether the filter selects a record, From, To and Limit aside. Unreadable records are always selected, except
// by time, which they do not have.
func (f *Filter) Match(r *Record) bool {
	if r.Err != nil {
		return f.Since.IsZero() && f.Until.IsZero()
	}
	e := &r.Event
	noun, _, _ := strings.Cut(string(e.Code), ".")
	switch {
	case !f.Since.IsZero() && e.Time.Before(f.Since), !f.Until.IsZero() && !e.Time.Before(f.Until),
		f.Code != "" && f.Code != string(e.Code) && f.Code != noun,
		!matchText(f.Actor, e.Actor), !matchText(f.Target, e.Target), !matchAny(f.Actors, e.Actor), !f.matchTargets(noun, e.Target),
		f.Session != "" && f.Session != e.Session, f.Grant != "" && f.Grant != e.Grant,
		f.Verdict != None && f.Verdict != e.Verdict:
		return false
	}
	return true
}

func (f *Filter) matchTargets(noun, target string) bool {
	// Other records have a machine's name in the same place, and a stream to another node has that node before the service.
	own := f.Service != "" && (noun == "stream" || noun == "service") && !strings.Contains(target, "/") && matchText(f.Service, target)
	return own || (len(f.Targets) > 0 || f.Service == "") && matchAny(f.Targets, target)
}

func matchAny(patterns []string, s string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return matchText(p, s) })
}

func matchText(pattern, s string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, prefix)
	}
	return pattern == "" || pattern == s
}

// Query returns the records a filter selects, holding one bundle in memory. It ends with the log as it was at the start; the
// last pair may be an error instead of a record.
func (l *Log) Query(ctx context.Context, f Filter) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) { query(ctx, f, l.Size(), l.around)(yield) }
}

// query is Query over size entries, which around reads in runs.
func query(ctx context.Context, f Filter, size uint64, around func(uint64) ([][]byte, uint64, error)) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		from, to := f.From, size
		if f.To != 0 {
			to = min(to, f.To)
		}
		found := 0
		give := func(index uint64, leaf []byte) bool {
			r := newRecord(index, leaf)
			if !f.Match(&r) {
				return true
			}
			found++
			return yield(r, nil) && (f.Limit == 0 || found < f.Limit)
		}
		for from < to {
			if err := ctx.Err(); err != nil {
				yield(Record{}, err)
				return
			}
			at := from
			if f.Newest {
				at = to - 1
			}
			entries, first, err := around(at)
			if err != nil {
				yield(Record{}, err)
				return
			}
			if f.Newest {
				for ; to > max(from, first); to-- {
					if !give(to-1, entries[to-1-first]) {
						return
					}
				}
				continue
			}
			for ; from < min(to, first+uint64(len(entries))); from++ {
				if !give(from, entries[from-first]) {
					return
				}
			}
		}
	}
}

// Wait returns when the log has more than size entries: for following it. It fails when ctx ends or the log is closed.
func (l *Log) Wait(ctx context.Context, size uint64) error {
	for {
		l.mu.Lock()
		more, closed, changed := l.size > size, l.closed, l.changed
		l.mu.Unlock()
		switch {
		case more:
			return nil
		case closed:
			return ErrClosed
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}
