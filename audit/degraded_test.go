package audit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// running runs a test body beside Run.
func running(t *testing.T, m durable.FS, opts Options, body func(t *testing.T, l *Log)) {
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(m, testKey(t, 1), testMesh, opts)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		body(t, l)
		cancel()
		wg.Wait()
		_ = l.Close()
	})
}

func gaps(t *testing.T, l *Log) []Event {
	t.Helper()
	var out []Event
	for r, err := range l.Query(t.Context(), Filter{Code: string(AuditGap)}) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r.Event)
	}
	return out
}

func TestDegradedIsStickyUntilTheGapIsRecorded(t *testing.T) {
	for _, happen := range []bool{false, true} {
		m := durable.NewMem()
		running(t, m, Options{}, func(t *testing.T, l *Log) {
			mustAppend(t, l, 3)
			m.Fail(durable.Fault{Op: durable.OpSync, Stay: true, Err: syscall.EIO, Happen: happen})
			if _, err := l.Append(event(100)); !errors.Is(err, ErrDegraded) || !errors.Is(err, syscall.EIO) {
				t.Fatalf("Append on a broken disk: %v", err)
			}
			// Sticky: no write is tried, callers fail at once, everything is counted.
			for range 4 {
				if _, err := l.Append(event(101)); !errors.Is(err, ErrDegraded) {
					t.Fatalf("second Append: %v", err)
				}
				if err := l.Later(event(102)); !errors.Is(err, ErrDegraded) {
					t.Fatalf("Later: %v", err)
				}
			}
			if s := l.Status(); s.Lost != 8 || !errors.Is(s.Degraded, ErrDegraded) || s.Since.IsZero() {
				t.Fatalf("status: %+v", s)
			}
			if _, err := l.Checkpoint(); !errors.Is(err, ErrDegraded) {
				t.Fatalf("Checkpoint: %v", err)
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			if l.Status().Degraded == nil {
				t.Fatal("recovered on a broken disk")
			}
			m.Heal()
			healed := time.Now()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			if s := l.Status(); s.Degraded != nil || s.Lost != 0 {
				t.Fatalf("5 s after the disk healed: %+v", s)
			}
			index, err := l.Append(event(103))
			if err != nil || index != 6 {
				t.Fatalf("after recovery: %d, %v", index, err)
			}
			g := gaps(t, l)
			if len(g) != 1 || g[0].Count != 8 || g[0].Before != "entries 4-4 were not acknowledged" || g[0].Verdict != Failed {
				t.Fatalf("gap records: %+v", g)
			}
			if g[0].Duration < 29*time.Second || g[0].Time.Sub(healed) > 5*time.Second || !strings.Contains(g[0].Reason, "input/output") {
				t.Fatalf("gap record: %+v", g[0])
			}
			mustVerify(t, clone(t, m), 7)
		})
		mustVerify(t, m, 7)
		l := openLog(t, m)
		if l.Size() != 7 {
			t.Fatalf("after restart: %d entries", l.Size())
		}
		l.Close()
	}
}

func TestFullDiskRecovers(t *testing.T) {
	m := durable.NewMem()
	running(t, m, Options{}, func(t *testing.T, l *Log) {
		mustAppend(t, l, 3)
		m.Limit(m.Used())
		var err error
		n := 3
		for ; err == nil && n < 2000; n++ {
			_, err = l.Append(event(n))
		}
		if !durable.IsNoSpace(err) || !errors.Is(err, ErrDegraded) {
			t.Fatalf("append %d on a full disk: %v", n, err)
		}
		m.Limit(-1)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		mustAppend(t, l, 1)
		if g := gaps(t, l); len(g) != 1 {
			t.Fatalf("gap records: %+v", g)
		}
	})
	if r := verify(t, m); !r.OK() || r.Gaps != 1 {
		t.Fatalf("%+v", r.Problems)
	}
}

// A checkpoint that cannot be written does not stop Append until too much waits for it.
func TestFailingCheckpointDegradesAtTheBound(t *testing.T) {
	t.Parallel()
	m := durable.NewMem()
	running(t, m, Options{}, func(t *testing.T, l *Log) {
		m.Fail(durable.Fault{Op: durable.OpRename, Stay: true, Err: syscall.EIO})
		mustAppend(t, l, 100)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if s := l.Status(); s.SaveError == nil || s.Degraded != nil || s.Checkpoint.Size != 1 {
			t.Fatalf("status: %+v", s)
		}
		var err error
		n := 0
		for ; err == nil && n < 2*maxUnsaved; n++ {
			_, err = l.Append(event(n))
		}
		if !errors.Is(err, ErrDegraded) || n > maxUnsaved {
			t.Fatalf("after %d events without a checkpoint: %v", n, err)
		}
		m.Heal()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		mustAppend(t, l, 1)
		if s := l.Status(); s.Degraded != nil || s.Checkpoint.Size < maxUnsaved || len(gaps(t, l)) != 1 {
			t.Fatalf("status: %+v", s)
		}
	})
	if r := verify(t, m); !r.OK() {
		t.Fatalf("%v", r.Problems)
	}
}

func TestOpenDegraded(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	mustAppend(t, l, 3)
	l.Close()
	m.Fail(durable.Fault{Op: durable.OpAny, Stay: true, Err: syscall.EROFS})
	if _, err := Open(m, testKey(t, 1), testMesh, Options{}); !errors.Is(err, syscall.EROFS) {
		t.Fatalf("Open on a read-only disk: %v", err)
	}
	running(t, m, Options{AllowDegraded: true}, func(t *testing.T, l *Log) {
		if _, err := l.Append(event(0)); !errors.Is(err, ErrDegraded) {
			t.Fatalf("Append: %v", err)
		}
		if recs, err := l.Read(0, 10); err != nil || len(recs) != 0 {
			t.Fatalf("Read of a log that is not loaded: %v, %v", recs, err)
		}
		m.Heal()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n, err := l.Append(event(0)); err != nil || n != 5 {
			t.Fatalf("after the disk came back: %d, %v", n, err)
		}
		if g := gaps(t, l); len(g) != 1 || g[0].Count != 1 {
			t.Fatalf("gap records: %+v", g)
		}
	})
	mustVerify(t, m, 6)
}

func TestCloseWhileDegraded(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	m.Fail(durable.Fault{Op: durable.OpSync, Stay: true, Err: syscall.EIO})
	if _, err := l.Append(event(0)); !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
	if err := l.Close(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("Close: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
}

func denial(actor string, i int) Event {
	return Event{Code: StreamDeny, Actor: actor, Target: "gpu1/postgres", Verdict: Denied, Reason: "no grant matches", Bytes: uint64(i)}
}

func TestDenialsAreAggregated(t *testing.T) {
	m := durable.NewMem()
	running(t, m, Options{}, func(t *testing.T, l *Log) {
		var last uint64
		for i := range 50 {
			n, err := l.Append(denial("laptop", i))
			if err != nil {
				t.Fatal(err)
			}
			if i < denialsPerSecond && n != uint64(i+1) || i >= denialsPerSecond && n != denialsPerSecond {
				t.Fatalf("denial %d has index %d", i, n)
			}
			last = n
		}
		if n, err := l.Append(denial("pi4", 0)); err != nil || n != last+1 {
			t.Fatalf("denial of another actor: %d, %v", n, err)
		}
		if n, err := l.Append(event(0)); err != nil || n != last+2 {
			t.Fatalf("other events: %d, %v", n, err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		recs, err := l.Read(last+3, 10)
		if err != nil || len(recs) != 1 {
			t.Fatalf("%+v, %v", recs, err)
		}
		e := recs[0].Event
		if e.Count != 40 || e.Code != StreamDeny || e.Actor != "laptop" || e.Target != "gpu1/postgres" || e.Verdict != Denied ||
			e.After != "first: no grant matches" || e.Duration >= denialWindow {
			t.Fatalf("aggregate: %+v", e)
		}
		// A new second, a new count.
		for i := range denialsPerSecond {
			if err := l.Later(denial("laptop", i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Flush(); err != nil || l.Size() != last+4+denialsPerSecond {
			t.Fatalf("size %d, %v", l.Size(), err)
		}
	})
	if r := verify(t, m); !r.OK() {
		t.Fatal(r.Problems)
	}
}

// drained ends every window, as a stop does.
func drained(t *testing.T, l *Log) {
	t.Helper()
	l.mu.Lock()
	l.drainDenialsLocked(true)
	l.mu.Unlock()
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestOneMoreDenialIsWrittenPlainly(t *testing.T) {
	l := openLog(t, durable.NewMem())
	defer l.Close()
	for i := range denialsPerSecond + 1 {
		if err := l.Later(denial("laptop", i)); err != nil {
			t.Fatal(err)
		}
	}
	drained(t, l)
	recs, err := l.Read(denialsPerSecond+1, 1)
	if err != nil || recs[0].Err != nil || recs[0].Event.Count != 0 || recs[0].Event.Reason != "no grant matches" {
		t.Fatalf("%+v, %v", recs, err)
	}
}

func TestDenialTableIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, durable.NewMem())
		for i := range 3 * denialActors {
			if err := l.Later(denial(fmt.Sprintf("192.0.2.%d", i), i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(l.denials.actors); n > denialActors {
			t.Fatalf("%d actors in memory", n)
		}
		drained(t, l)
		want := uint64(denialActors + denialsPerSecond + 1 + 1)
		recs, err := l.Read(want-1, 5)
		if err != nil || l.Size() != want || recs[0].Event.Actor != "many" || recs[0].Event.Count != 2*denialActors-denialsPerSecond {
			t.Fatalf("size %d, want %d, %+v, %v", l.Size(), want, recs, err)
		}
		// Ended windows make room.
		time.Sleep(denialWindow)
		for i := range denialActors {
			if err := l.Later(denial(fmt.Sprintf("198.51.100.%d", i), i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Flush(); err != nil || l.Size() != want+denialActors {
			t.Fatalf("size %d, want %d, %v", l.Size(), want+denialActors, err)
		}
		l.Close()
	})
}

func TestFailedCheckpointIsRetried(t *testing.T) {
	m := durable.NewMem()
	running(t, m, Options{}, func(t *testing.T, l *Log) {
		mustAppend(t, l, 5)
		m.Fail(durable.Fault{Op: durable.OpRename, Stay: true, Err: syscall.EIO})
		time.Sleep(checkpointEvery + time.Second)
		synctest.Wait()
		if s := l.Status(); s.SaveError == nil || s.Checkpoint.Size != 1 {
			t.Fatalf("status: %+v", s)
		}
		m.Heal()
		time.Sleep(retryEvery + time.Second)
		synctest.Wait()
		if s := l.Status(); s.SaveError != nil || s.Checkpoint.Size != 6 {
			t.Fatalf("status after the disk healed: %+v", s)
		}
	})
}

func TestDenialWindowsEndByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, durable.NewMem())
		for range 3 {
			for i := range denialsPerSecond {
				if _, err := l.Append(denial("laptop", i)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(denialWindow)
		}
		if l.Size() != 1+3*denialsPerSecond {
			t.Fatalf("%d entries: ten a second are written one by one", l.Size())
		}
		// A table full of ended windows has room for others.
		for round := range 2 {
			for i := range denialActors {
				if err := l.Later(denial(fmt.Sprintf("%d.%d", round, i), i)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(denialWindow)
		}
		l.Close()
		if want := uint64(1 + 3*denialsPerSecond + 2*denialActors); l.Size() != want {
			t.Fatalf("%d entries, want %d", l.Size(), want)
		}
	})
}
