package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// writer is WriteFile or WriteNew.
type writer func(fsys FS, name string, data []byte) error

const (
	oldContent = "the old content"
	newContent = "the new content, which is longer than a sector if it has to be: " // repeated by bigNew
)

var bigNew = strings.Repeat(newContent, 20)

// state returns what a name holds, "" if nothing.
func state(t *testing.T, m *Mem, name string) string {
	t.Helper()
	b, err := ReadFile(m, name, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// forEachCrash runs act with a power cut at each of its changing operations, before and after its effect, and with
// several kinds of crash, until act gets through. It calls check after each crash.
func forEachCrash(t *testing.T, prepare func(m *Mem), act func(m *Mem) error, check func(t *testing.T, m *Mem, done bool)) {
	t.Helper()
	cuts := 0
	for _, keep := range []bool{false, true} {
		for seed := range uint64(12) {
			for n := 1; ; n++ {
				m := NewMem()
				prepare(m)
				m.CutPower(n, keep)
				err := act(m)
				if err != nil && !errors.Is(err, ErrPowerCut) {
					t.Fatalf("cut at %d: %v", n, err)
				}
				if seed == 0 {
					m.Crash()
				} else {
					m.CrashKeeping(seed)
				}
				cuts++
				check(t, m, err == nil)
				if t.Failed() {
					t.Fatalf("power cut at operation %d, keep %v, seed %d", n, keep, seed)
				}
				if err == nil {
					break
				}
			}
		}
	}
	t.Logf("%d crashes", cuts)
}

func TestWriteFileCrashAtEveryStep(t *testing.T) {
	for _, old := range []string{"", oldContent} {
		forEachCrash(t,
			func(m *Mem) {
				if old != "" {
					if err := WriteFile(m, "f", []byte(old)); err != nil {
						t.Fatal(err)
					}
				}
			},
			func(m *Mem) error { return WriteFile(m, "f", []byte(bigNew)) },
			func(t *testing.T, m *Mem, done bool) {
				switch got := state(t, m, "f"); {
				case got == bigNew:
				case got == old && !done:
				default:
					t.Errorf("done %v, file holds %q", done, got)
				}
				sweepCheck(t, m)
			})
	}
}

func TestWriteNewCrashAtEveryStep(t *testing.T) {
	forEachCrash(t,
		func(*Mem) {},
		func(m *Mem) error { return WriteNew(m, "f", []byte(bigNew)) },
		func(t *testing.T, m *Mem, done bool) {
			switch got := state(t, m, "f"); {
			case got == bigNew:
			case got == "" && !done:
			default:
				t.Errorf("done %v, file holds %q", done, got)
			}
			sweepCheck(t, m)
		})
}

// sweepCheck is what a start does first; afterwards there is nothing but f.
func sweepCheck(t *testing.T, m *Mem) {
	t.Helper()
	before := state(t, m, "f")
	if err := Sweep(m, "."); err != nil {
		t.Error(err)
	}
	m.Crash()
	for _, name := range names(t, m, ".") {
		if name != "f" {
			t.Errorf("left over: %s", name)
		}
	}
	if state(t, m, "f") != before {
		t.Error("Sweep changed the file")
	}
}

// inPieces is WriteFileFunc as a writer: it writes a hundred bytes at a time.
func inPieces(fsys FS, name string, data []byte) error {
	return WriteFileFunc(fsys, name, func(w io.Writer) error {
		for piece := range slices.Chunk(data, 100) {
			if _, err := w.Write(piece); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestWriteFileFuncGivesUp: an error of who writes leaves the old content and no temporary file.
func TestWriteFileFuncGivesUp(t *testing.T) {
	m := NewMem()
	if err := WriteFile(m, "f", []byte(oldContent)); err != nil {
		t.Fatal(err)
	}
	why := errors.New("changed its mind")
	err := WriteFileFunc(m, "f", func(w io.Writer) error {
		if _, err := io.WriteString(w, newContent); err != nil {
			return err
		}
		return why
	})
	if !errors.Is(err, why) || errors.Is(err, ErrUncertain) || state(t, m, "f") != oldContent {
		t.Fatalf("%v, and the file holds %q", err, state(t, m, "f"))
	}
	if list, _ := m.ReadDir("."); len(list) != 1 {
		t.Fatalf("left over: %v", list)
	}
}

// TestWriteFaultAtEveryStep lets each operation fail, in both flavours: the error says whether the old content stands.
func TestWriteFaultAtEveryStep(t *testing.T) {
	for _, kind := range []struct {
		name  string
		write writer
		old   string
	}{{"WriteFile", WriteFile, oldContent}, {"WriteFileFunc", inPieces, oldContent}, {"WriteNew", WriteNew, ""}} {
		for _, errno := range []error{syscall.EIO, syscall.ENOSPC} {
			for _, happen := range []bool{false, true} {
				for n := 1; ; n++ {
					m := NewMem()
					if kind.old != "" {
						if err := WriteFile(m, "f", []byte(kind.old)); err != nil {
							t.Fatal(err)
						}
					}
					steps := m.Steps()
					m.Fail(Fault{Nth: n, Err: errno, Happen: happen})
					err := kind.write(m, "f", []byte(bigNew))
					hit := m.Steps()-steps >= n
					m.Heal()
					where := fmt.Sprintf("%s, %v at operation %d, happen %v", kind.name, errno, n, happen)
					if !hit {
						if err != nil {
							t.Errorf("%s: not hit, but %v", where, err)
						}
						break
					}
					for _, crashed := range []bool{false, true} {
						if crashed {
							m.Crash()
						}
						got := state(t, m, "f")
						switch {
						case err == nil:
							t.Errorf("%s: the error was lost", where)
						case !errors.Is(err, errno):
							t.Errorf("%s: error %v", where, err)
						case errors.Is(err, ErrUncertain):
							if got != kind.old && got != bigNew {
								t.Errorf("%s: neither old nor new: %q", where, got)
							}
						case got != kind.old:
							t.Errorf("%s: a certain error, but the file holds %q", where, got)
						}
					}
					if err := kind.write(m, "f", []byte(bigNew)); err != nil && !errors.Is(err, fs.ErrExist) {
						t.Errorf("%s: after healing: %v", where, err)
					}
					if got := state(t, m, "f"); got != bigNew {
						t.Errorf("%s: after healing: %q", where, got)
					}
				}
			}
		}
	}
}

// TestWriteFaultLeavesNoTemporary: an error that is not a crash cleans up after itself.
func TestWriteFaultLeavesNoTemporary(t *testing.T) {
	for _, write := range []writer{WriteFile, WriteNew} {
		for _, op := range []Op{OpWrite, OpSync, OpRename, OpLink, OpSyncDir} {
			m := NewMem()
			m.Fail(Fault{Op: op, Err: syscall.EIO})
			_ = write(m, "f", []byte("x"))
			for _, name := range names(t, m, ".") {
				if name != "f" {
					t.Errorf("fault %d: %s is left", op, name)
				}
			}
		}
	}
}

func TestWriteFileReplaces(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		for _, content := range []string{"one", "", "three"} {
			if err := WriteFile(fsys, "f", []byte(content)); err != nil {
				t.Fatal(err)
			}
			if got := get(t, fsys, "f"); got != content {
				t.Errorf("%q, want %q", got, content)
			}
		}
		if got := names(t, fsys, "."); !slices.Equal(got, []string{"f"}) {
			t.Errorf("directory holds %q", got)
		}
		wantErr(t, "outside", WriteFile(fsys, "../f", nil), fs.ErrInvalid)
		wantErr(t, "no directory", WriteFile(fsys, "none/f", nil), fs.ErrNotExist)
	})
}

func TestWriteNewNeverReplaces(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		if err := WriteNew(fsys, "f", []byte("first")); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "second", WriteNew(fsys, "f", []byte("second")), fs.ErrExist)
		if got := get(t, fsys, "f"); got != "first" {
			t.Errorf("replaced by %q", got)
		}
		// A file that did not come through this package is a file all the same, also an empty one.
		put(t, fsys, "empty", "")
		wantErr(t, "over an empty file", WriteNew(fsys, "empty", []byte("x")), fs.ErrExist)
		if got := names(t, fsys, "."); !slices.Equal(got, []string{"empty", "f"}) {
			t.Errorf("directory holds %q", got)
		}
	})
}

// TestWriteNewRace: of many writers exactly one wins, and its content is what stays.
func TestWriteNewRace(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		for round := range 20 {
			name := fmt.Sprintf("f%d", round)
			var wg sync.WaitGroup
			errs := make([]error, 8)
			start := make(chan struct{})
			for i := range errs {
				wg.Go(func() {
					<-start
					errs[i] = WriteNew(fsys, name, bytes.Repeat([]byte{byte(i)}, 100))
				})
			}
			close(start)
			wg.Wait()
			won := -1
			for i, err := range errs {
				if err == nil {
					if won >= 0 {
						t.Fatalf("%d and %d both won", won, i)
					}
					won = i
				} else if !errors.Is(err, fs.ErrExist) {
					t.Fatal(err)
				}
			}
			if won < 0 {
				t.Fatal("nobody won")
			}
			if got := get(t, fsys, name); got != strings.Repeat(string(rune(won)), 100) {
				t.Fatalf("%d won, but the file holds %q", won, got)
			}
		}
	})
}

// TestWriteFileRace: concurrent writers of one name never mix.
func TestWriteFileRace(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 10 {
					if err := WriteFile(fsys, "f", bytes.Repeat([]byte{'a' + byte(i)}, 1000)); err != nil {
						t.Error(err)
						return
					}
					got := get(t, fsys, "f")
					if len(got) != 1000 || strings.Count(got, got[:1]) != 1000 {
						t.Errorf("mixed content %q", got)
						return
					}
				}
			})
		}
		wg.Wait()
		if got := names(t, fsys, "."); !slices.Equal(got, []string{"f"}) {
			t.Errorf("directory holds %q", got)
		}
	})
}

// plainFS is an FS that is no Linker.
type plainFS struct{ FS }

func TestWriteNewNeedsLinker(t *testing.T) {
	m := NewMem()
	wantErr(t, "WriteNew", WriteNew(plainFS{m}, "f", []byte("x")), errors.ErrUnsupported)
	if got := names(t, m, "."); len(got) != 0 {
		t.Errorf("left %q", got)
	}
}

func TestSweepTakesOnlyTemporaries(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		keep := []string{".tmp~1", "a", "a.tmp", "a.tmp~", "a.tmp~1x", "a.tmp~x"}
		for _, name := range append([]string{"a.tmp~0", "a.tmp~17", "b.tmp~1"}, keep...) {
			put(t, fsys, name, "x")
		}
		if err := fsys.Mkdir("d.tmp~1", dirPerm); err != nil {
			t.Fatal(err)
		}
		if err := Sweep(fsys, "."); err != nil {
			t.Fatal(err)
		}
		if got := names(t, fsys, "."); !slices.Equal(got, append(keep, "d.tmp~1")) {
			t.Errorf("left %q", got)
		}
	})
}

func TestTemporariesAreBounded(t *testing.T) {
	m := NewMem()
	for i := range maxTempTries {
		put(t, m, fmt.Sprintf("f%s%d", tempMark, i), "x")
	}
	if err := WriteFile(m, "f", nil); err == nil || !strings.Contains(err.Error(), "remove f.tmp~*") {
		t.Errorf("error %v", err)
	}
}
