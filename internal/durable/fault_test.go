package durable

import (
	"errors"
	"fmt"
	"syscall"
	"testing"
)

// TestFailedSyncIsNeverRetried, in both flavours: the log stays failed until Reopen, although the disk is well again,
// and what was not acknowledged is void.
func TestFailedSyncIsNeverRetried(t *testing.T) {
	for _, happen := range []bool{false, true} {
		m := NewMem()
		l, _, _ := mustOpen(t, m)
		mustAppend(t, l, 0, 5)
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, 5, 9)
		m.Fail(Fault{Op: OpSync, Err: syscall.EIO, Happen: happen})
		err := l.Sync()
		wantErr(t, "Sync", err, ErrFailed)
		wantErr(t, "Sync", err, syscall.EIO)
		steps := m.Steps()
		for range 3 {
			wantErr(t, "Sync again", l.Sync(), ErrFailed)
			_, err = l.Append(frame(9))
			wantErr(t, "Append", err, ErrFailed)
			_, err = l.AppendSync(frame(9))
			wantErr(t, "AppendSync", err, ErrFailed)
		}
		if m.Steps() != steps {
			t.Errorf("a failed log touched the disk %d times", m.Steps()-steps)
		}
		if l.Durable() != 5 {
			t.Errorf("Durable %d", l.Durable())
		}
		next, err := l.Reopen()
		if err != nil || next != 5 || l.Len() != 5 || l.Durable() != 5 {
			t.Fatalf("Reopen: %d %v, Len %d, Durable %d", next, err, l.Len(), l.Durable())
		}
		// Other frames take the places of the void ones.
		for i := 5; i < 8; i++ {
			if index, err := l.AppendSync(frame(i)); err != nil || index != uint64(i) {
				t.Fatal(index, err)
			}
		}
		m.Crash()
		_, rec, frames := mustOpen(t, m)
		wantFrames(t, frames, 8)
		if rec.Segments != 2 {
			t.Errorf("%+v", rec)
		}
	}
}

// TestFailedLogCloses: Close tells the failure and writes nothing more.
func TestFailedLogCloses(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 2)
	m.Fail(Fault{Op: OpSync, Err: syscall.EIO})
	_ = l.Sync()
	steps := m.Steps()
	wantErr(t, "Close", l.Close(), ErrFailed)
	if m.Steps() != steps {
		t.Error("a failed log wrote at Close")
	}
}

// TestReopenCanFailAndBeRepeated lets each operation of Reopen fail, in both flavours, and cuts the power after it.
func TestReopenCanFailAndBeRepeated(t *testing.T) {
	for _, happen := range []bool{false, true} {
		for n := 1; ; n++ {
			m := NewMem()
			l, _, _ := mustOpen(t, m)
			mustAppend(t, l, 0, 3)
			l.Sync()
			mustAppend(t, l, 3, 5)
			m.Fail(Fault{Op: OpSync, Err: syscall.EIO})
			_ = l.Sync()
			m.Fail(Fault{Nth: n, Err: syscall.EIO, Happen: happen})
			steps := m.Steps()
			_, err := l.Reopen()
			if m.Steps()-steps < n {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			if err == nil {
				t.Fatalf("fault at %d: no error", n)
			}
			_, appendErr := l.Append(frame(3))
			wantErr(t, "Append after a failed Reopen", appendErr, ErrFailed)
			if next, err := l.Reopen(); err != nil || next != 3 {
				t.Fatalf("fault at %d, happen %v: second Reopen: %d %v", n, happen, next, err)
			}
			if _, err := l.AppendSync(frame(3)); err != nil {
				t.Fatal(err)
			}
			m.Crash()
			_, _, frames := mustOpen(t, m)
			wantFrames(t, frames, 4)
		}
	}
}

// TestReopenOfAHealthyLog changes nothing.
func TestReopenOfAHealthyLog(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 3)
	steps := m.Steps()
	if next, err := l.Reopen(); next != 3 || err != nil || m.Steps() != steps {
		t.Errorf("%d %v, %d steps", next, err, m.Steps()-steps)
	}
}

// TestLogFaultAtEveryStep lets each operation of a log's life fail, in both flavours and with both errors. The log goes
// on (after ENOSPC) or is reopened (after ErrFailed); whatever it acknowledged before and after is there after a crash.
func TestLogFaultAtEveryStep(t *testing.T) {
	for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, happen := range []bool{false, true} {
			for n := 1; ; n++ {
				m := NewMem()
				l, _, _ := mustOpen(t, m)
				m.Fail(Fault{Nth: n, Err: errno, Happen: happen})
				steps := m.Steps()
				where := fmt.Sprintf("%v at operation %d, happen %v", errno, n, happen)
				acked := 0
				for tries := 0; acked < 12; tries++ {
					if tries > 20 {
						t.Fatalf("%s: no progress", where)
					}
					var err error
					if acked%3 == 0 {
						_, err = l.Append(frame(acked))
						if err == nil {
							err = l.Sync()
						}
					} else {
						_, err = l.AppendSync(frame(acked))
					}
					switch {
					case err == nil:
						acked++
					case errors.Is(err, ErrFailed):
						next, err := l.Reopen()
						if err != nil || int(next) != acked {
							t.Fatalf("%s: reopened at %d of %d: %v", where, next, acked, err)
						}
					case IsNoSpace(err):
					default:
						t.Fatalf("%s: %v", where, err)
					}
				}
				if m.Steps()-steps < n {
					break
				}
				for range 2 {
					m.Crash()
					_, _, frames := mustOpen(t, m)
					wantFrames(t, frames, acked)
				}
			}
		}
	}
}

// TestFullDiskKeepsTheLogWhole: on a disk that fills up the log takes what fits, loses nothing, and goes on when there
// is room again, without being reopened.
func TestFullDiskKeepsTheLogWhole(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	m.Limit(growStep + 3000)
	n := 0
	for {
		_, err := l.AppendSync(frame(n))
		if err != nil {
			if !IsNoSpace(err) || errors.Is(err, ErrFailed) {
				t.Fatal(err)
			}
			break
		}
		n++
	}
	if l.end < growStep+2000 {
		t.Errorf("gave up at %d bytes of %d", l.end, growStep+3000)
	}
	if l.Len() != uint64(n) || l.Durable() != uint64(n) {
		t.Errorf("Len %d, Durable %d, want %d", l.Len(), l.Durable(), n)
	}
	m.Limit(-1)
	for range 300 {
		if _, err := l.AppendSync(frame(n)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	m.Crash()
	_, rec, frames := mustOpen(t, m)
	wantFrames(t, frames, n)
	if rec.Torn != nil || rec.Segments != 1 {
		t.Errorf("%+v", rec)
	}
}

// TestFullDiskAtClose: no room for the last mark is no error, the frames are safe.
func TestFullDiskAtClose(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 3)
	m.Fail(Fault{Op: OpWrite, Stay: true, Err: syscall.ENOSPC})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	m.Crash()
	_, _, frames := mustOpen(t, m)
	wantFrames(t, frames, 3)
}

// TestFailedWriteIsTakenBack: a write that fails but persists must not leave its frame to be found later, under an
// index that another frame has by then.
func TestFailedWriteIsTakenBack(t *testing.T) {
	for _, happen := range []bool{false, true} {
		m := NewMem()
		l, _, _ := mustOpen(t, m)
		mustAppend(t, l, 0, 2)
		m.Fail(Fault{Op: OpWrite, Err: syscall.ENOSPC, Happen: happen})
		_, err := l.Append(make([]byte, testMax))
		if !IsNoSpace(err) || errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		if _, err := l.AppendSync(frame(2)); err != nil {
			t.Fatal(err)
		}
		m.Crash()
		_, rec, frames := mustOpen(t, m)
		wantFrames(t, frames, 3)
		if rec.Torn != nil {
			t.Errorf("happen %v: the rest of the failed frame is left: %+v", happen, rec.Torn)
		}
	}
	// If taking it back fails too, nothing may follow it.
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 2)
	m.Fail(Fault{Op: OpWrite, Err: syscall.ENOSPC, Happen: true})
	m.Fail(Fault{Op: OpTruncate, Err: syscall.EIO})
	_, err := l.Append(frame(7))
	wantErr(t, "Append", err, ErrFailed)
}
