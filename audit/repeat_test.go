package audit

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// A machine that is refused again and again, from another port each time, is in the log three times and then once a minute, and every refusal is
// in some count: also those before a stop.
func TestRepeatedDenialsAreMerged(t *testing.T) {
	m := durable.NewMem()
	refused := func(i int) Event {
		return Event{Code: SessionRefuse, Actor: "gpu1", Target: fmt.Sprintf("192.0.2.7:%d", 30000+i), Session: fmt.Sprint(i), Verdict: Denied, Reason: "revoked"}
	}
	entries := func(l *Log) (out []Event) {
		recs, err := l.Read(1, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			if r.Event.Code == SessionRefuse {
				out = append(out, r.Event)
			}
		}
		return out
	}
	total := func(all []Event) (n uint64) {
		for _, e := range all {
			n += max(1, e.Count)
		}
		return n
	}
	running(t, m, Options{}, func(t *testing.T, l *Log) {
		n := 0
		for n < 660 { // five and a half minutes, two a second
			if err := l.Later(refused(n)); err != nil {
				t.Fatal(err)
			}
			n++
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		all := entries(l)
		if len(all) != repeatsPlain+5 || all[2].Count != 0 || all[3].Count < 115 || all[4].Count < 115 {
			t.Fatalf("%d entries: %+v", len(all), all)
		}
		if e := all[4]; e.Reason != "revoked" || e.Actor != "gpu1" || e.Verdict != Denied || e.Duration < repeatWindow-time.Second || e.Duration > repeatWindow {
			t.Fatalf("%+v", e)
		}
		// Another reason, host or actor is another thing, and is written at once.
		for i := range 3 {
			e, size := refused(0), l.Size()
			e.Reason = fmt.Sprint("other ", i)
			if at, err := l.Append(e); err != nil || at != size {
				t.Fatal(at, err)
			}
		}
		e := refused(0)
		e.Target = "192.0.2.8:30000"
		if i, err := l.Append(e); err != nil || i != l.Size()-1 {
			t.Fatal(i, err)
		}
		// Who asks for the number of a merged one gets that of the last that was written.
		e = refused(1)
		e.Actor = "pi4"
		var last uint64
		for i := range repeatsPlain + 2 {
			at, err := l.Append(e)
			if err != nil || i >= repeatsPlain && at != last {
				t.Fatal(i, at, last, err)
			}
			last = at
		}
		// When it has stopped, a minute without one makes the next one written at once.
		time.Sleep(3 * repeatWindow)
		synctest.Wait()
		if got := len(l.denials.alike.m); got != 0 {
			t.Fatal("remembered:", got)
		}
		before := l.Size()
		if at, err := l.Append(refused(1)); err != nil || at != before {
			t.Fatal(at, err)
		}
		for i := range 7 {
			if err := l.Later(refused(i)); err != nil {
				t.Fatal(err)
			}
		}
	})
	l := openLog(t, m)
	defer l.Close()
	if got := total(entries(l)); got != 660+3+1+5+8 {
		t.Fatalf("%d of %d denials are in the log", got, 660+3+1+5+8)
	}
	if r := verify(t, m); !r.OK() {
		t.Fatal(r.Problems)
	}
}

// Kinds beyond the table are not merged and not lost.
func TestRepeatTableIsBounded(t *testing.T) {
	l := openLog(t, durable.NewMem())
	defer l.Close()
	for i := range 2 * repeatKinds {
		if err := l.Later(Event{Code: SessionRefuse, Actor: fmt.Sprint(i), Target: "192.0.2.7:1", Verdict: Denied, Reason: "revoked"}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.denials.alike.m); n != repeatKinds {
		t.Fatalf("%d kinds in memory", n)
	}
}

// One that invents kinds has its part of the table: its records stay about eleven a second, and others' denials are merged as before. What it
// has built up is forgotten when it stops.
func TestRepeatTableIsShared(t *testing.T) {
	running(t, durable.NewMem(), Options{}, func(t *testing.T, l *Log) {
		guess := func(i int) Event {
			return Event{Code: StreamDeny, Actor: "gpu1", Target: fmt.Sprint("nas/s", i%repeatKinds), Verdict: Denied, Reason: "no grant matches"}
		}
		later := func(e Event) {
			t.Helper()
			if err := l.Later(e); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		ask := func(seconds int) {
			for range seconds {
				for range 50 {
					later(guess(n))
					n++
				}
				time.Sleep(time.Second)
			}
		}
		ask(600) // enough to fill a table without that bound
		synctest.Wait()
		if kinds := len(l.denials.alike.m); kinds > repeatActorKinds {
			t.Fatalf("one actor has %d kinds in memory", kinds)
		}
		before := l.Size()
		ask(300)
		if grown := l.Size() - before; grown > 300*(denialsPerSecond+3) {
			t.Errorf("%d records in 300 seconds", grown)
		}
		e := Event{Code: SessionRefuse, Actor: "192.0.2.7", Target: "nas", Verdict: Denied, Reason: "revoked"}
		time.Sleep(2 * denialWindow) // nothing is owed for the last second
		synctest.Wait()
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		before = l.Size()
		for range repeatsPlain + 5 {
			later(e)
		}
		if err := l.Flush(); err != nil || l.Size()-before != repeatsPlain {
			t.Errorf("another's denials are not merged: %d records, %v", l.Size()-before, err)
		}
		time.Sleep(3 * repeatWindow)
		synctest.Wait()
		if m, k := len(l.denials.alike.m), len(l.denials.alike.kinds); m != 0 || k != 0 {
			t.Errorf("remembered: %d kinds of %d actors", m, k)
		}
	})
}

// Whoever reads the log does not choose when a window ends.
func TestFlushEndsNoWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, durable.NewMem())
		defer l.Close()
		e := Event{Code: SessionRefuse, Actor: "gpu1", Target: "192.0.2.7:1", Verdict: Denied, Reason: "revoked"}
		for range 20 {
			if err := l.Later(e); err != nil {
				t.Fatal(err)
			}
			if err := l.Flush(); err != nil {
				t.Fatal(err)
			}
		}
		if n := l.Size(); n != 1+repeatsPlain {
			t.Fatalf("%d entries", n)
		}
	})
}

// A merged record says when the last of them was, and one alone is as if it had been written at once.
func TestMergedDenialsAreDated(t *testing.T) {
	m := durable.NewMem()
	var alone, last time.Time
	running(t, m, Options{}, func(t *testing.T, l *Log) {
		refused := func(actor string, after time.Duration) time.Time {
			time.Sleep(after)
			if err := l.Later(Event{Code: SessionRefuse, Actor: actor, Target: "nas", Verdict: Denied, Reason: "revoked"}); err != nil {
				t.Fatal(err)
			}
			return time.Now()
		}
		for range repeatsPlain {
			refused("gpu1", 0)
			refused("pi4", 0)
		}
		alone = refused("gpu1", 5*time.Second)
		refused("pi4", 0)
		last = refused("pi4", 5*time.Second)
		time.Sleep(2 * repeatWindow)
		synctest.Wait()
		recs, err := l.Read(1+2*repeatsPlain, 10)
		if err != nil || len(recs) != 2 {
			t.Fatal(recs, err)
		}
		if e := recs[0].Event; e.Actor != "gpu1" || e.Count != 0 || e.Duration != 0 || !e.Time.Equal(alone.Truncate(time.Millisecond)) {
			t.Errorf("one alone: %+v, was at %v", e, alone)
		}
		if e := recs[1].Event; e.Actor != "pi4" || e.Count != 2 || e.Duration != 10*time.Second || !e.Time.Equal(last.Truncate(time.Millisecond)) {
			t.Errorf("two: %+v, last at %v", e, last)
		}
	})
}

// Denials of two invites stay apart, with the invite that each is of.
func TestInvitesAreNotMerged(t *testing.T) {
	l := openLog(t, durable.NewMem())
	defer l.Close()
	for i := range 2 * (repeatsPlain + 2) {
		e := Event{Code: InviteRefuse, Actor: "192.0.2.7", Target: "gpu1", Session: fmt.Sprint("invite ", i%2), Verdict: Denied, Reason: "used"}
		if err := l.Later(e); err != nil {
			t.Fatal(err)
		}
	}
	drained(t, l)
	of := map[string]uint64{}
	recs, err := l.Read(1, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		of[r.Event.Session] += max(1, r.Event.Count)
	}
	if len(of) != 2 || of["invite 0"] != repeatsPlain+2 || of["invite 1"] != repeatsPlain+2 {
		t.Error(of)
	}
}

// A kind that has been quiet for a window is written one by one again, also where nothing has looked at the table meanwhile.
func TestQuietKindsAreWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, durable.NewMem())
		defer l.Close()
		e := Event{Code: SessionRefuse, Actor: "gpu1", Target: "192.0.2.7:1", Verdict: Denied, Reason: "revoked"}
		for range repeatsPlain {
			if _, err := l.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(repeatWindow)
		size := l.Size()
		if at, err := l.Append(e); err != nil || at != size {
			t.Fatal(at, err)
		}
	})
}
