package durable

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"
)

// The Mem is what all durability tests stand on, so its own unkindness is tested.

func TestMemCrashLosesUnsyncedContent(t *testing.T) {
	m := NewMem()
	f, err := m.OpenFile("f", os.O_RDWR|os.O_CREATE, filePerm)
	if err != nil {
		t.Fatal(err)
	}
	f.Write([]byte("kept"))
	if err := errors.Join(f.Sync(), m.SyncDir(".")); err != nil {
		t.Fatal(err)
	}
	f.Write([]byte(" lost"))
	f.WriteAt([]byte("X"), 0)
	if got := get(t, m, "f"); got != "Xept lost" {
		t.Fatalf("before the crash: %q", got)
	}
	m.Crash()
	if got := get(t, m, "f"); got != "kept" {
		t.Errorf("after the crash: %q", got)
	}
	_, err = f.Write([]byte("x"))
	wantErr(t, "handle after a crash", err, ErrPowerCut)
}

func TestMemCrashLosesUnsyncedNames(t *testing.T) {
	m := NewMem()
	put(t, m, "created", "1")
	m.Crash()
	if got := names(t, m, "."); len(got) != 0 {
		t.Errorf("a name without SyncDir survived: %q", got)
	}
	put(t, m, "a", "a")
	put(t, m, "b", "b")
	m.SyncDir(".")
	if err := errors.Join(m.Rename("a", "b"), m.Link("b", "c")); err != nil {
		t.Fatal(err)
	}
	m.Crash()
	if got := names(t, m, "."); !slices.Equal(got, []string{"a", "b"}) || get(t, m, "a") != "a" || get(t, m, "b") != "b" {
		t.Errorf("unsynced rename and link survived: %q", got)
	}
	m.Remove("a")
	m.Rename("b", "c")
	m.SyncDir(".")
	m.Crash()
	if got := names(t, m, "."); !slices.Equal(got, []string{"c"}) || get(t, m, "c") != "b" {
		t.Errorf("synced names did not survive: %q", got)
	}
}

func TestMemCrashKeepingKeepsParts(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(64) {
		m := NewMem()
		put(t, m, "f", string(make([]byte, 3*sectorSize)))
		m.SyncDir(".")
		f, _ := m.OpenFile("f", os.O_RDWR, 0)
		for i := range 3 {
			f.WriteAt([]byte{'x'}, int64(i)*sectorSize)
		}
		m.Rename("f", "g")
		m.CrashKeeping(seed)
		name := names(t, m, ".")[0]
		got := get(t, m, name)
		seen[name+string([]byte{got[0], got[sectorSize], got[2*sectorSize]})] = true
	}
	if len(seen) < 12 {
		t.Errorf("64 crashes had %d of the 16 possible ends", len(seen))
	}
}

func TestMemFailedSyncDropsData(t *testing.T) {
	m := NewMem()
	put(t, m, "f", "old")
	m.SyncDir(".")
	f, _ := m.OpenFile("f", os.O_RDWR, 0)
	f.WriteAt([]byte("new"), 0)
	m.Fail(Fault{Op: OpSync, Err: syscall.EIO})
	wantErr(t, "sync", f.Sync(), syscall.EIO)
	if err := f.Sync(); err != nil {
		t.Fatalf("the second sync has to succeed, as on Linux: %v", err)
	}
	m.Kill()
	if got := get(t, m, "f"); got != "new" {
		t.Errorf("the page cache holds %q", got)
	}
	m.Crash()
	if got := get(t, m, "f"); got != "old" {
		t.Errorf("the disk holds %q", got)
	}
}

// Nth counts from 1, and a fault that does not say is the first.
func TestMemFaultCountsFromOne(t *testing.T) {
	for nth, want := range []int{1, 1, 2, 3} {
		m := NewMem()
		put(t, m, "f", "")
		f, err := m.OpenFile("f", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		m.Fail(Fault{Op: OpWrite, Nth: nth, Err: syscall.EIO})
		failed := 0
		for i := 1; failed == 0 && i < 10; i++ {
			if _, err := f.Write([]byte("x")); err != nil {
				failed = i
			}
		}
		if failed != want {
			t.Errorf("Nth %d: write %d failed, want %d", nth, failed, want)
		}
	}
}

func TestMemFaults(t *testing.T) {
	m := NewMem()
	put(t, m, "f", "")
	f, _ := m.OpenFile("f", os.O_RDWR, 0)
	m.Fail(Fault{Op: OpWrite, Name: "f", Nth: 2, Err: syscall.EIO})
	if _, err := f.Write([]byte("1111")); err != nil {
		t.Fatal(err)
	}
	n, err := f.Write([]byte("2222"))
	if n != 2 || !errors.Is(err, syscall.EIO) || get(t, m, "f") != "111122" {
		t.Errorf("failed write: %d %v, file %q", n, err, get(t, m, "f"))
	}
	m.Fail(Fault{Op: OpWrite, Happen: true, Err: syscall.EIO})
	if _, err := f.WriteAt([]byte("3333"), 0); !errors.Is(err, syscall.EIO) || get(t, m, "f") != "333322" {
		t.Errorf("failed but persisted write: %v, file %q", err, get(t, m, "f"))
	}
	m.Fail(Fault{Op: OpRename, Stay: true, Err: syscall.EIO})
	for range 2 {
		wantErr(t, "rename", m.Rename("f", "g"), syscall.EIO)
	}
	m.Heal()
	if err := m.Rename("f", "g"); err != nil {
		t.Error(err)
	}
	m.Fail(Fault{Op: OpRead, Err: syscall.EIO})
	_, err = f.ReadAt(make([]byte, 1), 0)
	wantErr(t, "read", err, syscall.EIO)
}

func TestMemCutPower(t *testing.T) {
	for _, keep := range []bool{false, true} {
		m := NewMem()
		m.CutPower(2, keep)
		if err := m.Mkdir("a", dirPerm); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "the cut", m.SyncDir("."), ErrPowerCut)
		_, err := m.ReadDir(".")
		wantErr(t, "after the cut", err, ErrPowerCut)
		m.Crash()
		if got := names(t, m, "."); len(got) == 1 != keep {
			t.Errorf("keep %v: %q", keep, got)
		}
	}
}

func TestMemLimit(t *testing.T) {
	m := NewMem()
	put(t, m, "f", "1234")
	m.Limit(6)
	f, _ := m.OpenFile("f", os.O_RDWR, 0)
	n, err := f.WriteAt([]byte("abcdef"), 2)
	if n != 4 || !errors.Is(err, syscall.ENOSPC) || m.Used() != 6 {
		t.Errorf("%d %v, used %d", n, err, m.Used())
	}
	if n, err := f.WriteAt([]byte("XY"), 0); n != 2 || err != nil {
		t.Errorf("overwriting needs no room: %d %v", n, err)
	}
	wantErr(t, "growing", f.Truncate(7), syscall.ENOSPC)
	if err := f.Truncate(1); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("ab"), 1); err != nil {
		t.Errorf("freed space: %v", err)
	}
	var pe *fs.PathError
	if !errors.As(err, &pe) && err != nil {
		t.Errorf("error without a path: %v", err)
	}
}
