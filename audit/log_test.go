package audit

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

func TestAppendReadVerify(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	index, err := l.Append(event(7))
	if err != nil || index != 1 {
		t.Fatalf("Append = %d, %v; the first entry is audit.open, so 1 is wanted", index, err)
	}
	fill(t, l, 700)
	recs, err := l.Read(0, 1000)
	if err != nil || len(recs) != 702 {
		t.Fatalf("Read gave %d records, %v", len(recs), err)
	}
	if recs[0].Event.Code != AuditOpen || recs[0].Event.Target != l.Origin() {
		t.Fatalf("first entry is %+v", recs[0].Event)
	}
	if e := recs[1].Event; e.Session != "s7" || e.Grant != "g-18" || e.Verdict != Allowed || e.Bytes != 7 {
		t.Fatalf("entry 1 is %+v", e)
	}
	mustVerify(t, m, 702)
	checkpoint(t, l)
	mustVerify(t, m, 702)
	fill(t, l, 10)
	if recs, err = l.Read(500, 1000); err != nil || len(recs) != 212 || recs[0].Index != 500 || recs[211].Event.Session != "s9" {
		t.Fatalf("Read across tiles and memory: %d records, %v", len(recs), err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(event(0)); !errors.Is(err, ErrClosed) {
		t.Fatalf("Append after Close: %v", err)
	}
	mustVerify(t, m, 712)

	l = openLog(t, m)
	if l.Size() != 712 {
		t.Fatalf("size after an orderly restart: %d", l.Size())
	}
	mustAppend(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, m, 713)
}

func TestUncleanStartIsRecorded(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	mustAppend(t, l, 3)
	m.Crash()
	l = openLog(t, m)
	defer l.Close()
	recs, err := l.Read(4, 10)
	if err != nil || len(recs) != 1 || recs[0].Event.Code != AuditRecover || recs[0].Event.Count != 3 {
		t.Fatalf("after a crash: %+v, %v", recs, err)
	}
}

func TestGroupCommitSharesFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := durable.NewMem()
		l := openLog(t, slowFS{m, 10 * time.Millisecond})
		before := time.Now()
		var wg sync.WaitGroup
		seen := make([]uint64, 100)
		for i := range 100 {
			wg.Go(func() {
				n, err := l.Append(event(i))
				if err != nil {
					t.Error(err)
				}
				seen[i] = n
			})
		}
		wg.Wait()
		if took := time.Since(before); took > 60*time.Millisecond {
			t.Errorf("100 concurrent appends took %v at 10 ms per flush", took)
		}
		recs, err := l.Read(0, 200)
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range seen {
			if recs[n].Event.Bytes != uint64(i) {
				t.Fatalf("append %d was told index %d, which is %+v", i, n, recs[n].Event)
			}
		}
		l.Close()
		mustVerify(t, m, 101)
	})
}

func TestLaterIsDurableWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := durable.NewMem()
		l := openLog(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { l.Run(ctx) })
		synctest.Wait()
		if err := l.Later(event(1)); err != nil {
			t.Fatal(err)
		}
		if l.Size() != 1 {
			t.Fatal("Later waited for the disk")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		c := clone(t, m)
		mustVerify(t, c, 2)
		cancel()
		wg.Wait()
		l.Close()
	})
}

func TestAppendCarriesLaterInOrder(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	defer l.Close()
	if err := l.Later(event(1)); err != nil {
		t.Fatal(err)
	}
	n, err := l.Append(event(2))
	if err != nil || n != 2 {
		t.Fatalf("Append behind Later = %d, %v", n, err)
	}
}

func TestCheckpointEachMinuteAndAtStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := durable.NewMem()
		l := openLog(t, m)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := l.Run(ctx); !errors.Is(err, errRunning) {
			t.Errorf("second Run: %v", err)
		}
		mustAppend(t, l, 5)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := l.Status().Checkpoint.Size; got != 1 {
			t.Errorf("checkpoint before its time: %d", got)
		}
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		if got := l.Status().Checkpoint; got.Size != 6 || time.Since(got.Time) > 2*time.Second {
			t.Errorf("checkpoint after a minute: %+v", got)
		}
		steps := m.Steps()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if m.Steps() != steps {
			t.Error("an idle log writes")
		}
		mustAppend(t, l, 1)
		cancel()
		wg.Wait()
		if got := l.Status().Checkpoint.Size; got != 7 {
			t.Errorf("checkpoint at stop: %d", got)
		}
		mustAppend(t, l, 1)
		l.Close()
		if r := verify(t, m); !r.OK() || r.Checkpoint.Size != 8 {
			t.Errorf("after Close: %+v", r)
		}
	})
}

func TestUnsavedEntriesAreBounded(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	defer l.Close()
	fill(t, l, maxUnsaved+3000) // nobody runs Run
	if len(l.tail) > maxUnsaved {
		t.Fatalf("%d entries in memory", len(l.tail))
	}
	if l.Status().Checkpoint.Size < 2 {
		t.Fatal("no checkpoint was made")
	}
	mustVerify(t, m, maxUnsaved+3001)
}

func TestJournalIsReplaced(t *testing.T) {
	t.Parallel()
	m := durable.NewMem()
	l := openLog(t, m)
	big := strings.Repeat("x", maxReason)
	for round := range 3 {
		for range 2500 {
			e := event(round)
			e.Reason, e.Before, e.After = big, big, big
			if err := l.Later(e); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		checkpoint(t, l)
		mustAppend(t, l, 1)
	}
	if list, _ := l.numbered(journalName); len(list) > 2 || list[0] == 1 {
		t.Fatalf("journals on disk: %v", list)
	}
	size := l.Size()
	mustVerify(t, m, size)
	m.Crash()
	l = openLog(t, m)
	defer l.Close()
	if l.Size() != size+1 {
		t.Fatalf("size after a crash %d, want %d", l.Size(), size+1)
	}
	mustVerify(t, m, size+1)
}

func TestRotatedKeyCommitsToOldLog(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	mustAppend(t, l, 5)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	old := l.Status().Checkpoint
	next, err := Open(m, testKey(t, 2), testMesh, Options{Previous: testKey(t, 1).NodeID()})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	recs, err := next.Read(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := predecessorText(testKey(t, 1).NodeID(), &old); recs[0].Event.Before != want {
		t.Fatalf("first entry says %q, want %q", recs[0].Event.Before, want)
	}
}

func TestOpenRefusesNonsense(t *testing.T) {
	if _, err := Open(nil, testKey(t, 1), testMesh, Options{}); err == nil {
		t.Error("no file system")
	}
	if _, err := Open(durable.NewMem(), nil, testMesh, Options{}); err == nil {
		t.Error("no key")
	}
	if _, err := Open(durable.NewMem(), testKey(t, 1), keys.MeshID{}, Options{}); err == nil {
		t.Error("no mesh")
	}
}

func TestWaitFollowsTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLog(t, durable.NewMem())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := l.Wait(t.Context(), 1); err != nil {
				t.Error(err)
			}
			if err := l.Wait(t.Context(), 2); !errors.Is(err, ErrClosed) {
				t.Errorf("Wait on a closed log: %v", err)
			}
		})
		synctest.Wait()
		mustAppend(t, l, 1)
		synctest.Wait()
		l.Close()
		wg.Wait()
	})
}

func TestQueryFilters(t *testing.T) {
	l := openLog(t, durable.NewMem())
	defer l.Close()
	base := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	for i := range 600 {
		e := event(i)
		e.Time = base.Add(time.Duration(i) * time.Minute)
		if i%3 == 0 {
			e.Code, e.Actor, e.Verdict = StreamClose, "nas", None
		}
		if err := l.Later(e); err != nil {
			t.Fatal(err)
		}
		if i == 400 {
			checkpoint(t, l)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	count := func(f Filter) (n int, first uint64) {
		for r, err := range l.Query(t.Context(), f) {
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				first = r.Index
			}
			n++
		}
		return n, first
	}
	for _, c := range []struct {
		name  string
		f     Filter
		n     int
		first uint64
	}{
		{"all", Filter{}, 601, 0},
		{"code", Filter{Code: "stream.close"}, 200, 1},
		{"noun", Filter{Code: "stream"}, 600, 1},
		{"actor", Filter{Actor: "laptop"}, 400, 2},
		{"one of the actors", Filter{Actors: []string{"laptop", "nas", "pi4"}}, 600, 1},
		{"one of the targets", Filter{Targets: []string{"pi4", "gpu1/*"}, Actors: []string{"nas"}}, 200, 1},
		{"none of the actors", Filter{Actors: []string{"pi4"}}, 0, 0},
		{"prefix", Filter{Target: "gpu1/*"}, 600, 1},
		{"a service of this node", Filter{Targets: []string{"gpu1/none"}, Service: "ollama"}, 0, 0}, // these are another node's
		{"verdict", Filter{Verdict: Allowed}, 400, 2},
		{"since", Filter{Since: base.Add(599 * time.Minute), Code: "stream"}, 1, 600},
		{"until", Filter{Until: base.Add(2 * time.Minute), Code: "stream"}, 2, 1},
		{"session", Filter{Session: "s5"}, 1, 6},
		{"grant", Filter{Grant: "g-19"}, 0, 0},
		{"range", Filter{From: 250, To: 520}, 270, 250},
		{"newest", Filter{Newest: true, Limit: 3}, 3, 600},
		{"newest range", Filter{Newest: true, From: 100, To: 300}, 200, 299},
	} {
		if n, first := count(c.f); n != c.n || first != c.first {
			t.Errorf("%s: %d records from %d, want %d from %d", c.name, n, first, c.n, c.first)
		}
	}
}

// slowFS makes each fsync take a while.
type slowFS struct {
	*durable.Mem
	wait time.Duration
}

type slowFile struct {
	durable.File
	wait time.Duration
}

func (s slowFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	f, err := s.Mem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return slowFile{f, s.wait}, nil
}

func (f slowFile) Sync() error {
	time.Sleep(f.wait)
	return f.File.Sync()
}

func TestLeafIsWhatTheTreeHashes(t *testing.T) {
	l := openLog(t, durable.NewMem())
	defer l.Close()
	fill(t, l, 600)
	checkpoint(t, l)
	mustAppend(t, l, 2)
	recs, err := l.Read(0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		leaf, err := l.Leaf(r.Index)
		if err != nil || tlog.RecordHash(leaf) != r.Hash {
			t.Fatalf("entry %d: % x, %v", r.Index, leaf, err)
		}
	}
	if leaf, err := l.Leaf(603); err == nil || leaf != nil {
		t.Fatalf("an entry behind the end: % x", leaf)
	}
}
