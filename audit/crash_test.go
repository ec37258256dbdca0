package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// workload is a life of a log that meets every kind of write: commits, checkpoints with partial and complete tiles, history,
// a new journal, orderly restarts. It remembers what was promised.
type workload struct {
	key   byte
	next  int
	acked map[uint64]int // index → number of the event
	notes [][]byte       // checkpoints that were handed out
}

func newWorkload() *workload { return &workload{key: 1, acked: make(map[uint64]int)} }

func (w *workload) open(t testing.TB, fsys durable.FS) (*Log, error) {
	return Open(fsys, testKey(t, w.key), testMesh, Options{})
}

func (w *workload) append(l *Log, n int) error {
	for range n {
		i := w.next
		w.next++
		index, err := l.Append(event(i))
		if err != nil {
			return err
		}
		w.acked[index] = i
	}
	return nil
}

// bulk adds events by Later and promises them after the Flush.
func (w *workload) bulk(l *Log, n int) error {
	first := w.next
	from := l.Size()
	for range n {
		if err := l.Later(event(w.next)); err != nil {
			return err
		}
		w.next++
	}
	if err := l.Flush(); err != nil {
		return err
	}
	for i := range n {
		w.acked[from+uint64(i)] = first + i
	}
	return nil
}

func (w *workload) checkpoint(l *Log) error {
	cp, err := l.Checkpoint()
	if err == nil {
		w.notes = append(w.notes, cp.Note)
	}
	return err
}

// run goes on until the first error.
func (w *workload) run(t testing.TB, fsys durable.FS) error {
	for round := range 2 {
		l, err := w.open(t, fsys)
		if err != nil {
			return err
		}
		steps := []func() error{
			func() error { return w.append(l, 2) },
			func() error { return w.checkpoint(l) },
			func() error { return w.bulk(l, 200) },
			func() error {
				l.journalLen = journalBytes + 1 // as if it had grown
				return w.checkpoint(l)
			},
			func() error { return w.append(l, 2) },
			func() error { return w.bulk(l, 100) },
			func() error { return w.checkpoint(l) },
			func() error { return w.append(l, round) },
			l.Close,
		}
		for _, step := range steps {
			if err := step(); err != nil {
				l.journal = nil // the process is gone
				return err
			}
		}
	}
	return nil
}

// check opens the log after a crash and wants all that was promised, and a log that verifies.
func (w *workload) check(t testing.TB, m durable.FS) error {
	l, err := w.open(t, m)
	if err != nil {
		return fmt.Errorf("opening: %w", err)
	}
	defer l.Close()
	recs, err := l.Read(0, maxReadBatch)
	if err != nil {
		return err
	}
	seen := make(map[uint64]Event)
	for _, r := range recs {
		if r.Err != nil {
			return fmt.Errorf("entry %d: %w", r.Index, r.Err)
		}
		seen[r.Index] = r.Event
	}
	for index, i := range w.acked {
		if e, ok := seen[index]; !ok || e.Bytes != uint64(i) || e.Session != event(i).Session {
			return fmt.Errorf("entry %d was acknowledged as event %d, and is %+v", index, i, e)
		}
	}
	// Still writable.
	if err := w.append(l, 1); err != nil {
		return err
	}
	node := testKey(t, w.key).NodeID()
	r, err := Verify(m, node, testMesh, w.notes...)
	if err != nil {
		return err
	}
	if !r.OK() || r.Size != l.Size() {
		return fmt.Errorf("verify: size %d of %d, torn %v: %v", r.Size, l.Size(), r.Torn, r.Problems)
	}
	return nil
}

func crashAs(m *durable.Mem, seed uint64) {
	switch seed {
	case 0:
		m.Crash()
	case 1:
		m.Kill()
	default:
		m.CrashKeeping(seed)
	}
}

// every is how many writes a walk over all of them goes on by: prime to the ways to die.
func every() int { return testrun.Stride(11) }

func TestCrashAtEveryWrite(t *testing.T) {
	t.Parallel()
	m := durable.NewMem()
	w := newWorkload()
	if err := w.run(t, m); err != nil {
		t.Fatal(err)
	}
	total := m.Steps()
	t.Logf("%d writes", total)
	for step := 1; step <= total; step += every() {
		for _, keep := range []bool{false, true} {
			// The three ways to die take turns; over the writes of one commit or checkpoint all are met.
			seed := uint64(step % 3)
			if seed == 2 {
				seed = uint64(step)
			}
			m, w := durable.NewMem(), newWorkload()
			m.CutPower(step, keep)
			// An error of the last writes is none: what Close could not seal is durable all the same.
			_ = w.run(t, m)
			crashAs(m, seed)
			if err := w.check(t, m); err != nil {
				t.Fatalf("power cut at write %d (done: %v), seed %d: %v", step, keep, seed, err)
			}
		}
	}
}

func TestCrashDuringRecovery(t *testing.T) {
	t.Parallel()
	total := func() int {
		m := durable.NewMem()
		if err := newWorkload().run(t, m); err != nil {
			t.Fatal(err)
		}
		return m.Steps()
	}()
	for step := 5; step <= total; step += 7 * every() {
		for again := 1; ; again += 3 {
			m, w := durable.NewMem(), newWorkload()
			m.CutPower(step, step%2 == 0)
			_ = w.run(t, m)
			crashAs(m, uint64(step))
			m.CutPower(again, again%2 == 0)
			l, err := w.open(t, m)
			if err == nil {
				l.Close()
				m.Kill()
				break
			}
			crashAs(m, uint64(again))
			if err := w.check(t, m); err != nil {
				t.Fatalf("power cut at write %d, then at write %d of the recovery: %v", step, again, err)
			}
		}
	}
}

// TestFaultAtEveryWrite lets each write fail once, in both ways, in a process that lives on.
func TestFaultAtEveryWrite(t *testing.T) {
	t.Parallel()
	m := durable.NewMem()
	if err := newWorkload().run(t, m); err != nil {
		t.Fatal(err)
	}
	total := m.Steps()
	for step := 1; step <= total; step += every() {
		for _, happen := range []bool{false, true} {
			m, w := durable.NewMem(), newWorkload()
			m.Fail(durable.Fault{Op: durable.OpAny, Nth: step, Err: syscall.EIO, Happen: happen})
			if err := w.runThrough(t, m); err != nil {
				t.Fatalf("write %d failed (done: %v): %v", step, happen, err)
			}
			if step%3 == 0 {
				m.Crash()
			} else {
				m.Kill()
			}
			if err := w.check(t, m); err != nil {
				t.Fatalf("write %d failed (done: %v), after restart: %v", step, happen, err)
			}
		}
	}
}

// runThrough is run, but goes on after errors as a daemon does.
func (w *workload) runThrough(t testing.TB, fsys durable.FS) error {
	for range 2 {
		l, err := w.open(t, fsys)
		if err != nil {
			if !errors.Is(err, syscall.EIO) {
				return err
			}
			if l, err = w.open(t, fsys); err != nil {
				return fmt.Errorf("second attempt to open: %w", err)
			}
		}
		failed := false
		for _, step := range []func() error{
			func() error { return w.append(l, 2) },
			func() error { return w.checkpoint(l) },
			func() error { return w.bulk(l, 200) },
			func() error {
				l.journalLen = journalBytes + 1
				return w.checkpoint(l)
			},
			func() error { return w.append(l, 2) },
			func() error { return w.bulk(l, 100) },
			func() error { return w.checkpoint(l) },
		} {
			err := step()
			if err == nil {
				continue
			}
			if !errors.Is(err, syscall.EIO) {
				return err
			}
			failed = failed || errors.Is(err, ErrDegraded)
			if err := l.resume(); err != nil {
				return fmt.Errorf("resuming: %w", err)
			}
			if err := w.append(l, 1); err != nil {
				return fmt.Errorf("after resuming: %w", err)
			}
		}
		gaps := 0
		for r, err := range l.Query(t.Context(), Filter{Code: string(AuditGap)}) {
			if err != nil {
				return err
			}
			if !strings.Contains(r.Event.Reason, "input/output") {
				return fmt.Errorf("gap record without a reason: %+v", r.Event)
			}
			gaps++
		}
		if failed && gaps == 0 {
			return errors.New("it was degraded, and there is no gap record")
		}
		if err := l.Close(); err != nil && !errors.Is(err, syscall.EIO) {
			return err
		}
	}
	return nil
}

func TestTornJournalIsKeptAndRecorded(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	mustAppend(t, l, 3)
	f := folder{m, Dir(testKey(t, 1).NodeID())}
	name := f.numberedPath(journalName, 1) + ".000001"
	j := readFile(t, m, name)
	end := len(j)
	for j[end-1] == 0 {
		end--
	}
	m.Kill()
	copy(j[end:], []byte{0, 0, 0, 99, 1, 2, 3, 4, 5, 6})
	writeFile(t, m, name, j)
	if r := verify(t, m); !r.OK() || !r.Torn {
		t.Fatalf("verify of a torn journal: %+v", r)
	}
	l = openLog(t, m)
	defer l.Close()
	recs, err := l.Read(4, 1)
	if err != nil || len(recs) != 1 || !strings.Contains(recs[0].Event.Reason, "torn bytes cut off") {
		t.Fatalf("%+v, %v", recs, err)
	}
	if copies := files(t, m, f.path(journalName), ".torn."); len(copies) != 1 {
		t.Fatalf("copies of the torn end: %v", copies)
	}
}

func TestCheckpointIsRebuilt(t *testing.T) {
	for _, what := range []string{checkpointName, "tile/0/", "tile/1/", "tile/entries/", historyName} {
		m := history(t, 600, 100)
		for _, name := range files(t, m, logPath(t, ""), what) {
			// What is complete is not read at a start, nor repaired: it is Verify's to find.
			if strings.HasPrefix(what, "tile/") && !strings.Contains(name, ".p/") {
				continue
			}
			b := readFile(t, m, name)
			b[len(b)/2] ^= 1
			writeFile(t, m, name, b)
		}
		l, err := Open(m, testKey(t, 1), testMesh, Options{})
		if err != nil {
			t.Fatalf("%s damaged: %v", what, err)
		}
		recs, err := l.Read(600, 1)
		if err != nil || recs[0].Event.Code != AuditRecover || len(recs[0].Event.Reason) < len("not closed in order; ") {
			t.Errorf("%s damaged: the log does not say so: %+v, %v", what, recs, err)
		}
		mustAppend(t, l, 1)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		r := verify(t, m)
		switch what {
		case checkpointName, "tile/0/", "tile/1/":
			if !r.OK() || r.Size != 602 {
				t.Errorf("%s damaged, log reopened: %v", what, r.Problems)
			}
		default:
			if r.OK() {
				t.Errorf("%s damaged, log reopened: the damage is no longer seen", what)
			}
		}
	}
}

func TestDamageIsRefused(t *testing.T) {
	m := history(t, 600, 100)
	for _, name := range files(t, m, logPath(t, tileName), "") {
		m.Remove(name)
	}
	// As long as the first journal is there, it has everything.
	l, err := Open(m, testKey(t, 1), testMesh, Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	mustVerify(t, m, 601)

	m = durable.NewMem()
	l = openLog(t, m)
	fill(t, l, 600)
	l.journalLen = journalBytes + 1
	checkpoint(t, l)
	mustAppend(t, l, 1)
	checkpoint(t, l)
	l.Close()
	for _, name := range files(t, m, logPath(t, tileName), "") {
		m.Remove(name)
	}
	_, err = Open(m, testKey(t, 1), testMesh, Options{})
	if damage, ok := errors.AsType[*DamageError](err); !ok || damage.First != 0 {
		t.Fatalf("without tiles: %v", err)
	}
	// Tiles alone are no new log.
	m = history(t, 600, 100)
	for _, part := range []string{checkpointName, historyName, journalName} {
		for _, name := range files(t, m, logPath(t, ""), "/"+part) {
			m.Remove(name)
		}
	}
	if _, err = Open(m, testKey(t, 1), testMesh, Options{}); err == nil {
		t.Fatal("tiles without signatures were taken for a new log")
	}
	if _, err := m.OpenFile(logPath(t, "tile/entries/000"), 0, 0); errors.Is(err, fs.ErrNotExist) {
		t.Fatal("the evidence was removed")
	}
}

func TestStartSweepsLeftovers(t *testing.T) {
	m := history(t, 600, 100)
	left := []string{
		"checkpoint.tmp~0", "journal/000001.000001.tmp~0", "tile/0/001.tmp~0", "tile/entries/002.p/88.tmp~3", // temporary files
		"tile/entries/002.p/99", "tile/0/002.p/99", "tile/1/000.p/3", // a checkpoint that was not published
	}
	for _, name := range left {
		writeFile(t, m, logPath(t, name), []byte("x"))
	}
	l := openLog(t, m)
	for _, name := range left {
		if len(files(t, m, logPath(t, ""), "/"+name)) > 0 {
			t.Errorf("%s is still there", name)
		}
	}
	// When the bundle is complete nothing of its parts is left.
	fill(t, l, 200)
	l.Close()
	if parts := files(t, m, logPath(t, tileName), "/002.p/"); len(parts) > 0 {
		t.Errorf("parts of a complete bundle: %v", parts)
	}
	mustVerify(t, m, 800)
}
