package audit

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// hangingFS is a disk that hangs, without an error, at the at-th operation from when it was armed, and at all after it, until it is
// let go.
type hangingFS struct {
	*durable.Mem

	mu   sync.Mutex
	at   int // 0: not armed
	free chan struct{}
	hung chan struct{} // closed at the first operation that hangs
}

func (h *hangingFS) arm(at int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.free, h.hung = at, make(chan struct{}), make(chan struct{})
}

func (h *hangingFS) letGo() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = 0
	close(h.free)
}

func (h *hangingFS) step() {
	h.mu.Lock()
	if h.at > 1 {
		h.at--
	} else if h.at == 1 {
		select {
		case <-h.hung:
		default:
			close(h.hung)
		}
		free := h.free
		h.mu.Unlock()
		<-free
		return
	}
	h.mu.Unlock()
}

func (h *hangingFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	h.step()
	f, err := h.Mem.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &hangingFile{f, h}, nil
}
func (h *hangingFS) Rename(a, b string) error  { h.step(); return h.Mem.Rename(a, b) }
func (h *hangingFS) Remove(name string) error  { h.step(); return h.Mem.Remove(name) }
func (h *hangingFS) SyncDir(name string) error { h.step(); return h.Mem.SyncDir(name) }

type hangingFile struct {
	durable.File
	h *hangingFS
}

func (f *hangingFile) Write(p []byte) (int, error) { f.h.step(); return f.File.Write(p) }

func (f *hangingFile) WriteAt(p []byte, off int64) (int, error) {
	f.h.step()
	return f.File.WriteAt(p, off)
}

func (f *hangingFile) Truncate(n int64) error { f.h.step(); return f.File.Truncate(n) }
func (f *hangingFile) Sync() error            { f.h.step(); return f.File.Sync() }
func (f *hangingFile) Close() error           { f.h.step(); return f.File.Close() }

// Later returns wherever the disk hangs: in a commit, in a checkpoint, and while a journal is replaced.
func TestLaterNeverWaitsForTheDisk(t *testing.T) {
	t.Parallel()
	big := event(0)
	big.Reason, big.Before, big.After = strings.Repeat("x", maxReason), strings.Repeat("y", maxChange), strings.Repeat("z", maxChange)
	for at := 1; ; at += testrun.Stride(3) {
		h := &hangingFS{Mem: durable.NewMem()}
		l := openLog(t, h)
		for range 1000 { // so much that a checkpoint replaces the journal
			if err := l.Later(big); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
		h.arm(at)
		done := make(chan error, 1)
		go func() {
			_, err := l.Append(event(1))
			if err == nil {
				_, err = l.Checkpoint()
			}
			done <- err
		}()
		var err error
		hung := false
		select {
		case <-h.hung:
			hung = true
			returned := make(chan error, 1)
			go func() { returned <- l.Later(event(2)) }()
			select {
			case err := <-returned:
				if err != nil {
					t.Fatalf("hung at operation %d: %v", at, err)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("Later waits for a disk that hangs at operation %d", at)
			}
			h.letGo()
			err = <-done
		case err = <-done:
			h.letGo() // it was not reached
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if !hung {
			if at < 20 {
				t.Fatalf("only %d operations", at)
			}
			return
		}
	}
}

// Behind a disk that hangs the log becomes degraded at a bound, and says afterwards how much was lost.
func TestHungDiskDegradesAtTheBound(t *testing.T) {
	m := durable.NewMem()
	h := &hangingFS{Mem: m}
	running(t, h, Options{}, func(t *testing.T, l *Log) {
		mustAppend(t, l, 3)
		h.arm(1)
		if err := l.Later(event(0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait() // Run hangs in the commit of it
		waiting := make(chan error, 1)
		go func() {
			_, err := l.Append(event(1))
			waiting <- err
		}()
		synctest.Wait()
		var err error
		n := 0
		for ; err == nil; n++ {
			err = l.Later(event(n))
			if s := l.Status(); s.Degraded == nil && n > maxQueue/32 {
				t.Fatalf("%d events wait in memory", n)
			}
		}
		if !errors.Is(err, ErrDegraded) || !errors.Is(err, errBehind) {
			t.Fatal(err)
		}
		if err := <-waiting; !errors.Is(err, ErrDegraded) {
			t.Fatalf("Append behind a hung disk: %v", err)
		}
		if err := l.Later(event(n)); !errors.Is(err, ErrDegraded) {
			t.Fatal(err)
		}
		lost := uint64(n + 2)
		if s := l.Status(); s.Lost != lost || s.Since.IsZero() {
			t.Fatalf("%+v, want %d lost", s, lost)
		}
		h.letGo()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		mustAppend(t, l, 1)
		if g := gaps(t, l); len(g) != 1 || g[0].Count != lost || !strings.Contains(g[0].Reason, "too slowly") {
			t.Fatalf("%+v", g)
		}
	})
	mustVerify(t, m, 1+3+1+1+1) // the event that hung was written after all
}

// What Later leaves is committed before it is due when it is more than a commit, so that a burst stays far from the bound.
func TestLaterIsCommittedEarlyInABurst(t *testing.T) {
	running(t, durable.NewMem(), Options{}, func(t *testing.T, l *Log) {
		for i := range 3 * batchEntries {
			if err := l.Later(event(i)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if l.Size() < 1+2*batchEntries {
			t.Fatalf("%d entries without waiting", l.Size())
		}
	})
}

// The flush of a burst of Later keeps the bound on what waits for a checkpoint.
func TestBurstWithoutCheckpointDegradesAtTheBound(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	m.Fail(durable.Fault{Op: durable.OpRename, Stay: true, Err: syscall.EIO})
	for i := range maxUnsaved + 10*batchEntries {
		if err := l.Later(event(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(); !errors.Is(err, ErrDegraded) {
		t.Fatal(err)
	}
	if n := len(l.tail); n > maxUnsaved+batchEntries {
		t.Fatalf("%d entries in memory", n)
	}
	m.Heal()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil { // its end tries once more
		t.Fatal(err)
	}
	if l.Status().Degraded != nil {
		t.Fatal(l.Status().Degraded)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := verify(t, m); !r.OK() || r.Gaps != 1 {
		t.Fatalf("%+v", r)
	}
}
