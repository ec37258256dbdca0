package durable

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/synctest"

	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// workload is a life of a log: it appends, syncs and closes, and remembers what was promised.
type workload struct {
	tried int // frames given to Append
	acked int // frames the log called durable
}

// run goes on until the first error. It covers Append without Sync, groups, AppendSync, Close and opening again, and
// more than one extension of the file.
func (w *workload) run(m *Mem) error {
	for range 2 {
		l, _, frames, err := tryOpen(m)
		if err != nil {
			return err
		}
		// What OpenLog replays it promises.
		w.tried, w.acked = len(frames), len(frames)
		sync := func() error {
			err := l.Sync()
			if err == nil {
				w.acked = w.tried
			}
			return err
		}
		for i := range 9 {
			w.tried++
			payload := frame(w.tried - 1)
			if i%4 == 1 {
				if _, err := l.AppendSync(payload); err != nil {
					return err
				}
				w.acked = w.tried
				continue
			}
			if _, err := l.Append(payload); err != nil {
				return err
			}
			if i%4 == 3 {
				if err := sync(); err != nil {
					return err
				}
			}
		}
		if err := l.Close(); err != nil {
			return err
		}
		w.acked = w.tried
	}
	return nil
}

// check opens the log after a crash: nothing promised is lost, nothing is invented, no crash looks like damage.
func (w *workload) check(m *Mem) error {
	l, _, frames, err := tryOpen(m)
	if err != nil {
		return err
	}
	if len(frames) < w.acked || len(frames) > w.tried {
		return fmt.Errorf("%d frames after the crash, %d were acknowledged, %d tried", len(frames), w.acked, w.tried)
	}
	for i, p := range frames {
		if !bytes.Equal(p, frame(i)) {
			return fmt.Errorf("frame %d is %q", i, p)
		}
	}
	w.tried, w.acked = len(frames), len(frames)
	return l.Close()
}

func crashAs(m *Mem, seed uint64) {
	if seed == 0 {
		m.Crash()
	} else {
		m.CrashKeeping(seed)
	}
}

// TestLogCrashAtEveryStep cuts the power at every operation of a log's life, before and after its effect, with the
// disk keeping nothing or a random part of what was not synced.
func TestLogCrashAtEveryStep(t *testing.T) {
	crashes := 0
	for _, keep := range []bool{false, true} {
		for seed := range uint64(testrun.Cases(25, 25)) {
			for n := 1; ; n++ {
				m, w := NewMem(), &workload{}
				m.CutPower(n, keep)
				err := w.run(m)
				if err != nil && !errors.Is(err, ErrPowerCut) {
					t.Fatal(err)
				}
				crashAs(m, seed)
				crashes++
				if err := w.check(m); err != nil {
					t.Fatalf("power cut at operation %d, keep %v, seed %d: %v", n, keep, seed, err)
				}
				// And what the recovery promised survives the next crash.
				m.Crash()
				if err := w.check(m); err != nil {
					t.Fatalf("second crash after operation %d, keep %v, seed %d: %v", n, keep, seed, err)
				}
				if err == nil {
					break
				}
			}
		}
	}
	t.Logf("%d crashes", crashes)
}

// TestLogCrashInRecovery cuts the power a second time, at every operation of the recovery from a first crash.
func TestLogCrashInRecovery(t *testing.T) {
	crashes := 0
	for seed := range uint64(testrun.Cases(10, 10)) {
		for first := 1; first < 200; first += 7 {
			for second := 1; ; second++ {
				m, w := NewMem(), &workload{}
				m.CutPower(first, seed%2 == 0)
				if err := w.run(m); err == nil {
					break // the life has fewer operations
				}
				m.CrashKeeping(seed + 1)
				m.CutPower(second, seed%2 == 1)
				err := w.check(m)
				if err != nil && !errors.Is(err, ErrPowerCut) {
					t.Fatal(err)
				}
				m.CrashKeeping(seed + 1000)
				crashes++
				if err := w.check(m); err != nil {
					t.Fatalf("cut at %d, recovery cut at %d, seed %d: %v", first, second, seed, err)
				}
				if err == nil {
					break
				}
			}
		}
	}
	t.Logf("%d crashes in recovery", crashes)
}

// TestLogKillLosesNothing: the end of the process without a power loss loses no appended frame, synced or not.
func TestLogKillLosesNothing(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 30)
	m.Kill()
	_, rec, frames := mustOpen(t, m)
	wantFrames(t, frames, 30)
	if rec.Clean || rec.Torn != nil {
		t.Errorf("%+v", rec)
	}
	m.Crash()
	_, _, frames = mustOpen(t, m)
	wantFrames(t, frames, 30)
}

// TestTornEndIsKept: what is cut off is found in the side file, byte for byte, and named in the Recovery.
func TestTornEndIsKept(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 4)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole := get(t, m, "log.000001")
	torn := appendFrame(nil, 1, int64(len(whole)), frame(4))
	torn = torn[:len(torn)-3]
	other := bytes.Clone(torn)
	other[9] ^= 1
	// Twice the same crash at the same place, once another one: three openings, two copies.
	for i, tail := range []string{string(torn), string(torn), string(other)} {
		put(t, m, "log.000001", whole+tail)
		_, rec, frames := mustOpen(t, m)
		wantFrames(t, frames, 4)
		want := Torn{
			File: "log.000001", Frame: 4, Offset: int64(len(whole)), Size: int64(len(tail)), Reason: errCut,
			Copy: fmt.Sprintf("log.000001.torn.%d.%d", len(whole), i/2),
		}
		if rec.Torn == nil || *rec.Torn != want || rec.Clean {
			t.Fatalf("recovery %+v, torn %+v, want %+v", rec, rec.Torn, want)
		}
		m.Crash()
		if got := get(t, m, rec.Torn.Copy); got != tail {
			t.Errorf("the copy holds %q", got)
		}
		if got := get(t, m, "log.000001"); got != whole {
			t.Errorf("the log holds %d bytes, want %d", len(got), len(whole))
		}
	}
}

// TestTornCopyComesFirst: if the copy cannot be written nothing is cut off.
func TestTornCopyComesFirst(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 4)
	l.Close()
	damaged := get(t, m, "log.000001") + "torn"
	put(t, m, "log.000001", damaged)
	for _, op := range []Op{OpWrite, OpSync, OpLink, OpSyncDir} {
		m.Fail(Fault{Op: op, Err: errors.New("no")})
		if _, _, _, err := tryOpen(m); err == nil {
			t.Errorf("fault %d: opened", op)
		}
		m.Heal()
		if get(t, m, "log.000001") != damaged {
			t.Errorf("fault %d: the log was changed", op)
		}
	}
}

// TestReopenedProcessRewritesTail: an fsync fails, the process dies before it can react, the next one is told by the
// page cache that all is well. It must not believe it.
func TestReopenedProcessRewritesTail(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 5)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 5, 20)
	m.Fail(Fault{Op: OpSync, Err: errors.New("io")})
	wantErr(t, "Sync", l.Sync(), ErrFailed)
	m.Kill()
	_, _, frames := mustOpen(t, m)
	wantFrames(t, frames, 20)
	m.Crash()
	_, _, again := mustOpen(t, m)
	wantFrames(t, again, 20)
}

// TestOpenSyncsTheName: a segment whose name was not synced by the process that made it is made durable by the next
// one, before that acknowledges anything in it.
func TestOpenSyncsTheName(t *testing.T) {
	m := NewMem()
	m.Fail(Fault{Op: OpSyncDir, Err: errors.New("io")})
	if _, _, _, err := tryOpen(m); !errors.Is(err, ErrUncertain) {
		t.Fatal(err)
	}
	m.Kill()
	l, _, _ := mustOpen(t, m)
	if _, err := l.AppendSync(frame(0)); err != nil {
		t.Fatal(err)
	}
	m.Crash()
	_, _, frames := mustOpen(t, m)
	wantFrames(t, frames, 1)
}

// TestUnmarkedEndIsNotClean: a file that happens to end with a frame was not closed in order, so its end is not
// trusted without a sync.
func TestUnmarkedEndIsNotClean(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 5)
	end := l.end
	m.Kill()
	f, err := m.OpenFile("log.000001", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(end); err != nil {
		t.Fatal(err)
	}
	_, rec, _ := mustOpen(t, m)
	if rec.Clean {
		t.Error("taken for closed in order")
	}
	m.Crash()
	_, _, frames := mustOpen(t, m)
	wantFrames(t, frames, 5)
}

// TestMarkBehindTornFrames: a frame appended while a flush ran stands before the mark of that flush, which does not
// vouch for it. Lost in a crash it is torn, though a valid mark and a valid frame stand behind it.
func TestMarkBehindTornFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSlow(t)
		go func() {
			if _, err := l.AppendSync(frame(0)); err != nil {
				t.Error(err)
			}
		}()
		s.begun(t, 1)
		synced := l.end
		mustAppend(t, l, 1, 2)
		lost := l.end
		s.gate <- nil
		synctest.Wait()
		mustAppend(t, l, 2, 3)
		content := []byte(get(t, s, "log.000001"))
		if r, err := parseRecord(content[lost:], 1, lost, testMax); err != nil || !r.mark || r.durable != synced {
			t.Fatalf("no mark for the flush: %+v %v", r, err)
		}
		clear(content[synced:lost])
		corrupt, torn := openDamaged(t, string(content))
		if corrupt != nil || torn == nil || torn.Frame != 1 || torn.Offset != synced || torn.Reason != errZero {
			t.Errorf("%v %+v", corrupt, torn)
		}
	})
}
