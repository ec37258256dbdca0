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
		if e := all[4]; e.Reason != "revoked" || e.Actor != "gpu1" || e.Verdict != Denied || e.Duration < repeatWindow || e.Duration > repeatWindow+time.Second {
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
