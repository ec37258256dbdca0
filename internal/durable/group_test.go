package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
)

// slowFS is a Mem whose Sync of log files waits for the test: each one takes an error from the channel.
type slowFS struct {
	*Mem
	gate  chan error
	syncs atomic.Int32 // begun
}

type slowFile struct {
	File
	fsys *slowFS
}

func (s *slowFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := s.Mem.OpenFile(name, flag, perm)
	if err != nil || isTemp(name) {
		return f, err
	}
	return slowFile{f, s}, nil
}

func (f slowFile) Sync() error {
	f.fsys.syncs.Add(1)
	if err := <-f.fsys.gate; err != nil {
		return err
	}
	return f.File.Sync()
}

func newSlow(t *testing.T) (*slowFS, *Log) {
	t.Helper()
	s := &slowFS{Mem: NewMem(), gate: make(chan error)}
	l, _, _ := mustOpen(t, s)
	return s, l
}

// begun checks how many flushes have begun.
func (s *slowFS) begun(t *testing.T, want int32) {
	t.Helper()
	synctest.Wait()
	if got := s.syncs.Load(); got != want {
		t.Fatalf("%d flushes begun, want %d", got, want)
	}
}

// TestGroupCommit: a flush starts at once; what arrives meanwhile is the next one, together.
func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSlow(t)
		var done atomic.Int32
		appender := func() {
			if _, err := l.AppendSync([]byte("x")); err != nil {
				t.Error(err)
			}
			done.Add(1)
		}
		go appender()
		s.begun(t, 1)
		for range 20 {
			go appender()
		}
		s.begun(t, 1)
		if l.Len() != 21 || l.Durable() != 0 {
			t.Fatalf("Len %d, Durable %d while the first flush runs", l.Len(), l.Durable())
		}
		s.gate <- nil
		s.begun(t, 2)
		if done.Load() != 1 || l.Durable() != 1 {
			t.Fatalf("%d acknowledged after the first flush", done.Load())
		}
		s.gate <- nil
		synctest.Wait()
		if done.Load() != 21 || l.Durable() != 21 {
			t.Fatalf("%d acknowledged after the second flush", done.Load())
		}
		s.begun(t, 2)
	})
}

// TestGroupIsBounded: at most 64 frames or 64 KiB wait for one flush, also if nobody asks for it; more waits.
func TestGroupIsBounded(t *testing.T) {
	for _, c := range []struct {
		size, group int
	}{{1, groupFrames}, {testMax, groupBytes / (testMax + recordHeader)}} {
		synctest.Test(t, func(t *testing.T) {
			s, l := newSlow(t)
			var appended atomic.Int32
			go func() {
				for range 2*c.group + 1 {
					if _, err := l.Append(bytes.Repeat([]byte{1}, c.size)); err != nil {
						t.Error(err)
					}
					appended.Add(1)
				}
			}()
			s.begun(t, 1) // the appender itself flushes the full group
			if got := int(appended.Load()); got != c.group {
				t.Fatalf("frames of %d bytes: %d in the first group, want %d", c.size, got, c.group)
			}
			// While that flush runs the next group fills, and then blocks.
			go func() {
				for range 2 * c.group {
					if _, err := l.Append(bytes.Repeat([]byte{2}, c.size)); err != nil {
						t.Error(err)
					}
				}
			}()
			s.begun(t, 1)
			if got := l.Len(); got > uint64(2*c.group) || got < uint64(2*c.group-1) {
				t.Fatalf("frames of %d bytes: %d unsynced, want two groups of %d", c.size, got, c.group)
			}
			close(s.gate)
			synctest.Wait()
			if got := l.Len(); got != uint64(4*c.group+1) {
				t.Fatalf("%d frames in the end", got)
			}
		})
	}
}

// TestUnsyncedFitsTheTail: whatever mix of frames is appended, what is unsynced fits the limit by which recovery tells
// a torn end from damage.
func TestUnsyncedFitsTheTail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSlow(t)
		var wg sync.WaitGroup
		for w := range 3 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 2))
				for range 300 {
					if _, err := l.Append(make([]byte, 1+rng.IntN(testMax))); err != nil {
						t.Error(err)
					}
				}
			})
		}
		most := int64(0)
		for flushing := true; flushing; {
			synctest.Wait() // all appenders are through, or wait for the one flush
			l.mu.Lock()
			most = max(most, l.end-l.synced)
			l.mu.Unlock()
			select {
			case s.gate <- nil:
			default:
				flushing = false
			}
		}
		wg.Wait()
		if most > tailLimit(testMax) || most < tailLimit(testMax)*3/4 {
			t.Errorf("up to %d bytes were unsynced, the limit is %d", most, tailLimit(testMax))
		}
	})
}

// TestFailedFlushTellsEveryWaiter: all frames of the failed flush and of the group behind it get the error, also after
// a Reopen that gave their indexes away.
func TestFailedFlushTellsEveryWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSlow(t)
		var failed atomic.Int32
		appender := func() {
			_, err := l.AppendSync([]byte("x"))
			if errors.Is(err, ErrFailed) {
				failed.Add(1)
			} else {
				t.Errorf("error %v", err)
			}
		}
		go appender()
		s.begun(t, 1)
		for range 10 {
			go appender()
		}
		synctest.Wait()
		go func() {
			// Reopen waits for the flush, and is through before the waiters can look.
			if next, err := l.Reopen(); err != nil || next != 0 {
				t.Error(next, err)
			}
		}()
		synctest.Wait()
		s.gate <- syscall.EIO
		synctest.Wait()
		if failed.Load() != 11 {
			t.Fatalf("%d of 11 were told", failed.Load())
		}
		close(s.gate)
		if index, err := l.AppendSync([]byte("y")); err != nil || index != 0 {
			t.Fatal(index, err)
		}
	})
}

// TestWaiterThatSleptThroughReopens: its frame was void after the first Reopen, though the index is durable by now.
func TestWaiterThatSleptThroughReopens(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	reopen := func() {
		m.Fail(Fault{Op: OpSync, Err: syscall.EIO})
		_ = l.Sync()
		if _, err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	mustAppend(t, l, 0, 2)
	l.Sync()
	mustAppend(t, l, 2, 4) // frames 2 and 3 of segment 1: void
	reopen()
	mustAppend(t, l, 2, 4) // others with their indexes: durable
	l.Sync()
	mustAppend(t, l, 4, 5)
	reopen()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.syncLocked(2, 1); err != nil {
		t.Errorf("frame 1 of segment 1 is durable: %v", err)
	}
	wantErr(t, "frame 2 of segment 1", l.syncLocked(3, 1), ErrFailed)
	wantErr(t, "frame 3 of segment 1", l.syncLocked(4, 1), ErrFailed)
	if err := l.syncLocked(4, 2); err != nil {
		t.Errorf("frame 3 of segment 2 is durable: %v", err)
	}
}

// TestCloseWaitsForTheFlush and acknowledges what was appended before it.
func TestCloseWaitsForTheFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, l := newSlow(t)
		var acked, closed atomic.Int32
		for range 2 {
			go func() {
				if _, err := l.AppendSync([]byte("x")); err != nil {
					t.Error(err)
				}
				acked.Add(1)
			}()
			synctest.Wait()
		}
		go func() {
			if err := l.Close(); err != nil {
				t.Error(err)
			}
			closed.Add(1)
		}()
		s.begun(t, 1) // not a second one beside it
		if closed.Load() != 0 {
			t.Error("closed during a flush")
		}
		close(s.gate)
		synctest.Wait()
		if acked.Load() != 2 || closed.Load() != 1 {
			t.Errorf("%d acknowledged, %d closed", acked.Load(), closed.Load())
		}
	})
}

// TestConcurrentAppenders on memory and disk: every frame is there once, in the order of its index, and readers see
// whole frames meanwhile.
func TestConcurrentAppenders(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		l, _, _ := mustOpen(t, fsys)
		const writers, each = 8, 60
		var wg sync.WaitGroup
		var got [writers][each]uint64
		for w := range writers {
			wg.Go(func() {
				for i := range each {
					payload := binary.BigEndian.AppendUint32(nil, uint32(w*each+i))
					payload = append(payload, make([]byte, w*i%300)...)
					var err error
					if i%3 == 0 {
						got[w][i], err = l.Append(payload)
					} else {
						got[w][i], err = l.AppendSync(payload)
					}
					if err != nil {
						t.Error(err)
						return
					}
					if p, err := l.Read(got[w][i]); err != nil || !bytes.Equal(p, payload) {
						t.Errorf("Read: %q %v", p, err)
						return
					}
				}
			})
		}
		wg.Go(func() {
			for range 20 {
				if err := l.Scan(0, func(uint64, []byte) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		_, rec, frames := mustOpen(t, fsys)
		if rec.Frames != writers*each {
			t.Fatalf("%d frames", rec.Frames)
		}
		for w := range writers {
			for i := range each {
				if i > 0 && got[w][i] <= got[w][i-1] {
					t.Fatal("the indexes of one writer do not ascend")
				}
				if id := binary.BigEndian.Uint32(frames[got[w][i]]); id != uint32(w*each+i) {
					t.Fatalf("index %d holds %d", got[w][i], id)
				}
			}
		}
	})
}

// TestConcurrentFailures: appenders under random faults, each reopening as it must; nothing acknowledged is lost.
func TestConcurrentFailures(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	var mu sync.Mutex
	acked := map[uint64]string{}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			for i := range 200 {
				switch rng.IntN(40) {
				case 0:
					m.Fail(Fault{Op: OpSync, Err: syscall.EIO, Happen: rng.IntN(2) == 0})
				case 1:
					m.Fail(Fault{Op: OpWrite, Err: syscall.ENOSPC, Happen: rng.IntN(2) == 0})
				}
				text := fmt.Sprintf("writer %d frame %d", w, i)
				index, err := l.AppendSync([]byte(text))
				switch {
				case err == nil:
					mu.Lock()
					if old, ok := acked[index]; ok {
						t.Errorf("index %d was given to %q and %q", index, old, text)
					}
					acked[index] = text
					mu.Unlock()
				case errors.Is(err, ErrFailed):
					_, _ = l.Reopen() // a fault may hit this too
				case !IsNoSpace(err):
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	m.Crash()
	_, rec, frames := mustOpen(t, m)
	if len(acked) < 200 {
		t.Fatalf("only %d frames were acknowledged", len(acked))
	}
	for index, text := range acked {
		if index >= uint64(len(frames)) || string(frames[index]) != text {
			t.Fatalf("frame %d %q is lost", index, text)
		}
	}
	t.Logf("%d acknowledged, %d segments", len(acked), rec.Segments)
}
