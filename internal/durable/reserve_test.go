package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReserveSavesARevocation: on a full disk ordinary appends fail and the urgent one succeeds, several times; when
// there is room again the reserve is refilled.
func TestReserveSavesARevocation(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	r, err := OpenReserve(m, "reserve", 256<<10)
	if err != nil || r.Left() != 256<<10 {
		t.Fatal(r, err)
	}
	n := 0
	m.Limit(m.Used() + 1000)
	rescue := func() error {
		return r.Do(func() error {
			_, err := l.AppendSync(frame(n))
			return err
		})
	}
	for slice := range reserveSlices {
		// Fill up, until ordinary appends fail.
		for {
			if _, err := l.AppendSync(frame(n)); err != nil {
				if !IsNoSpace(err) {
					t.Fatal(err)
				}
				break
			}
			n++
		}
		if r.Left() != int64(reserveSlices-slice)*64<<10 {
			t.Fatalf("an ordinary append took from the reserve: %d left", r.Left())
		}
		if err := rescue(); err != nil {
			t.Fatalf("rescue %d: %v", slice, err)
		}
		n++
	}
	for {
		if _, err := l.AppendSync(frame(n)); err != nil {
			break
		}
		n++
	}
	if err := rescue(); !IsNoSpace(err) || r.Left() != 0 {
		t.Errorf("with an empty reserve: %v, %d left", err, r.Left())
	}
	if err := r.Refill(); !IsNoSpace(err) {
		t.Errorf("refilled on a full disk: %v", err)
	}
	m.Limit(-1)
	if err := r.Refill(); err != nil || r.Left() != 256<<10 {
		t.Errorf("refill: %v, %d left", err, r.Left())
	}
	m.Crash()
	_, _, frames := mustOpen(t, m)
	wantFrames(t, frames, n)
	if b, err := ReadFile(m, "reserve", 1<<20); err != nil || len(b) != 256<<10 || strings.Contains(string(b), strings.Repeat("\x00", 16)) {
		t.Errorf("reserve after a crash: %d bytes, or compressible: %v", len(b), err)
	}
}

// TestReserveSavesAWrite: WriteFile and OpenLog, which has a torn end to copy, are helped in the same way.
func TestReserveSavesAWrite(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 3)
	l.Close()
	put(t, m, "log.000001", get(t, m, "log.000001")+"torn")
	r, err := OpenReserve(m, "reserve", reserveMin)
	if err != nil {
		t.Fatal(err)
	}
	m.Limit(m.Used())
	wantErr(t, "WriteFile", WriteFile(m, "f", []byte("x")), syscall.ENOSPC)
	if err := r.Do(func() error { return WriteFile(m, "f", []byte("x")) }); err != nil {
		t.Error(err)
	}
	m.Limit(m.Used())
	if err := r.Do(func() error {
		_, rec, _, err := tryOpen(m)
		if err == nil && rec.Torn == nil {
			t.Error("no torn end")
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// TestReserveStopsAtAFailedLog: room does not repair a log whose fsync failed, so only one slice is given for its
// owner to reopen it with.
func TestReserveStopsAtAFailedLog(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	r, err := OpenReserve(m, "reserve", reserveMin)
	if err != nil {
		t.Fatal(err)
	}
	m.Fail(Fault{Op: OpSync, Name: "log.000001", Err: syscall.ENOSPC})
	calls := 0
	err = r.Do(func() error {
		calls++
		_, err := l.AppendSync(frame(0))
		return err
	})
	if !errors.Is(err, ErrFailed) || calls != 1 || r.Left() != reserveMin/reserveSlices*(reserveSlices-1) {
		t.Errorf("%v after %d calls, %d left", err, calls, r.Left())
	}
}

// TestReserveLeavesOtherErrors alone.
func TestReserveLeavesOtherErrors(t *testing.T) {
	m := NewMem()
	r, err := OpenReserve(m, "reserve", reserveMin)
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	wantErr(t, "Do", r.Do(func() error { calls++; return syscall.EIO }), syscall.EIO)
	if calls != 1 || r.Left() != reserveMin {
		t.Errorf("%d calls, %d left", calls, r.Left())
	}
	for _, size := range []int64{0, reserveMin - 1, reserveMax + 1} {
		if r, err := OpenReserve(m, "other", size); err == nil || r != nil {
			t.Errorf("a reserve of %d bytes", size)
		}
	}
}

// TestReserveOpensOnAFullDisk with what is left of it, and adopts a new size.
func TestReserveOpensOnAFullDisk(t *testing.T) {
	m := NewMem()
	r, err := OpenReserve(m, "reserve", 128<<10)
	if err != nil {
		t.Fatal(err)
	}
	m.Limit(m.Used())
	if err := r.Do(func() error { return WriteFile(m, "f", make([]byte, 32<<10)) }); err != nil {
		t.Fatal(err)
	}
	r, err = OpenReserve(m, "reserve", 128<<10)
	if err != nil || r.Left() != 96<<10 {
		t.Errorf("%v, %v", r, err)
	}
	m.Limit(-1)
	if r, err = OpenReserve(m, "reserve", 64<<10); err != nil || r.Left() != 64<<10 || m.Used() != 96<<10 {
		t.Errorf("shrunk: %v, %v, used %d", r, err, m.Used())
	}
}

// TestReserveIsRealSpace: on the system the file has blocks, not holes.
func TestReserveIsRealSpace(t *testing.T) {
	dir := privateDir(t)
	fsys, err := OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReserve(fsys, "reserve", 128<<10); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "reserve"))
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); st.Blocks*512 < 128<<10 {
		t.Error(fmt.Sprint("only ", st.Blocks, " blocks"))
	}
}
