package durable

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const testMax = 4096 // maxFrame of the test logs

// frame returns the payload of frame i: its length varies, its content is recognisable.
func frame(i int) []byte {
	return bytes.Repeat(fmt.Appendf(nil, "frame %d;", i), 1+i*7%40)
}

func mustOpen(t testing.TB, fsys FS) (*Log, *Recovery, [][]byte) {
	t.Helper()
	l, rec, frames, err := tryOpen(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return l, rec, frames
}

func tryOpen(fsys FS) (*Log, *Recovery, [][]byte, error) {
	var frames [][]byte
	l, rec, err := OpenLog(fsys, "log", testMax, func(i uint64, payload []byte) error {
		if i != uint64(len(frames)) {
			return fmt.Errorf("replay of frame %d instead of %d", i, len(frames))
		}
		frames = append(frames, bytes.Clone(payload))
		return nil
	})
	if err == nil && rec.Frames != uint64(len(frames)) {
		err = fmt.Errorf("recovery counts %d frames, replayed %d", rec.Frames, len(frames))
	}
	return l, rec, frames, err
}

func mustAppend(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		index, err := l.Append(frame(i))
		if err != nil || index != uint64(i) {
			t.Fatalf("append %d: %d %v", i, index, err)
		}
	}
}

func wantFrames(t testing.TB, got [][]byte, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%d frames, want %d", len(got), n)
	}
	for i, p := range got {
		if !bytes.Equal(p, frame(i)) {
			t.Fatalf("frame %d is %q", i, p)
		}
	}
}

func TestLogRoundTrip(t *testing.T) {
	eachFS(t, func(t *testing.T, fsys FS) {
		l, rec, _ := mustOpen(t, fsys)
		if !rec.Clean || rec.Frames != 0 || rec.Segments != 1 || rec.Torn != nil {
			t.Errorf("new log: %+v", rec)
		}
		const n = 500
		mustAppend(t, l, 0, n/2)
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		mustAppend(t, l, n/2, n)
		if index, err := l.AppendSync(frame(n)); err != nil || index != n {
			t.Fatal(index, err)
		}
		if l.Len() != n+1 || l.Durable() != n+1 {
			t.Errorf("Len %d, Durable %d", l.Len(), l.Durable())
		}
		check := func() {
			t.Helper()
			for _, i := range []int{0, 1, 63, 64, n / 2, n - 1, n} {
				if p, err := l.Read(uint64(i)); err != nil || !bytes.Equal(p, frame(i)) {
					t.Errorf("Read(%d): %q %v", i, p, err)
				}
			}
			for _, from := range []int{0, 1, 333, n, n + 1} {
				next := from
				err := l.Scan(uint64(from), func(i uint64, p []byte) error {
					if i != uint64(next) || !bytes.Equal(p, frame(next)) {
						return fmt.Errorf("frame %d: %q", i, p)
					}
					next++
					return nil
				})
				if err != nil || next != n+1 {
					t.Errorf("Scan(%d) came to %d: %v", from, next, err)
				}
			}
		}
		check()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		var frames [][]byte
		l, rec, frames = mustOpen(t, fsys)
		wantFrames(t, frames, n+1)
		if !rec.Clean || rec.Torn != nil || l.Len() != n+1 || l.Durable() != n+1 {
			t.Errorf("reopened: %+v, Len %d, Durable %d", rec, l.Len(), l.Durable())
		}
		check()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := names(t, fsys, "."); !slices.Equal(got, []string{"log.000001"}) {
			t.Errorf("files %q", got)
		}
	})
}

// TestLogCleanOpenWritesNothing: a log that was closed in order is only read, and closing it again adds nothing.
func TestLogCleanOpenWritesNothing(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 10)
	l.Close()
	before := get(t, m, "log.000001")
	m.Fail(Fault{Op: OpWrite, Stay: true, Err: syscall.EIO})
	m.Fail(Fault{Op: OpTruncate, Stay: true, Err: syscall.EIO})
	m.Fail(Fault{Op: OpSync, Stay: true, Err: syscall.EIO})
	l, rec, _ := mustOpen(t, m)
	if err := l.Close(); err != nil || !rec.Clean {
		t.Errorf("%v, %+v", err, rec)
	}
	if get(t, m, "log.000001") != before {
		t.Error("the file changed")
	}
}

func TestLogRefusesSizes(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	for _, n := range []int{0, testMax + 1} {
		if _, err := l.Append(make([]byte, n)); err == nil {
			t.Errorf("a frame of %d bytes was accepted", n)
		}
	}
	for _, n := range []int{1, testMax} {
		if _, err := l.AppendSync(bytes.Repeat([]byte{1}, n)); err != nil {
			t.Errorf("a frame of %d bytes: %v", n, err)
		}
	}
	for _, n := range []int{-1, 0, maxFrameCeiling + 1} {
		if l, _, err := OpenLog(m, "other", n, nil); err == nil || l != nil {
			t.Errorf("maxFrame %d was accepted", n)
		}
	}
	if _, _, err := OpenLog(m, "../log", testMax, nil); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("log outside: %v", err)
	}
	if l, rec, err := OpenLog(m, "none/log", testMax, nil); !errors.Is(err, fs.ErrNotExist) || l != nil || rec != nil {
		t.Errorf("log without directory: %v", err)
	}
}

func TestLogClosed(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 3)
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Fatal(err)
	}
	_, err := l.Append([]byte("x"))
	wantErr(t, "Append", err, fs.ErrClosed)
	_, err = l.AppendSync([]byte("x"))
	wantErr(t, "AppendSync", err, fs.ErrClosed)
	wantErr(t, "Sync", l.Sync(), fs.ErrClosed)
	_, err = l.Read(0)
	wantErr(t, "Read", err, fs.ErrClosed)
	_, err = l.Reopen()
	wantErr(t, "Reopen", err, fs.ErrClosed)
}

func TestLogReadOutOfRange(t *testing.T) {
	l, _, _ := mustOpen(t, NewMem())
	mustAppend(t, l, 0, 3)
	p, err := l.Read(3)
	wantErr(t, "Read(3)", err, fs.ErrNotExist)
	if p != nil {
		t.Error("a payload with an error")
	}
	wantErr(t, "Scan(4)", l.Scan(4, nil), fs.ErrNotExist)
}

// TestReplayErrorChangesNothing: the caller's veto comes before any repair.
func TestReplayErrorChangesNothing(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 5)
	m.Kill()
	put(t, m, "log.000001", get(t, m, "log.000001")[:300]+"torn")
	before := get(t, m, "log.000001")
	steps := m.Steps()
	veto := errors.New("veto")
	l, rec, err := OpenLog(m, "log", testMax, func(uint64, []byte) error { return veto })
	wantErr(t, "OpenLog", err, veto)
	if l != nil || rec != nil || m.Steps() != steps || get(t, m, "log.000001") != before {
		t.Error("something was changed")
	}
	if !strings.Contains(err.Error(), "log.000001: frame 0") {
		t.Errorf("the error does not say where: %v", err)
	}
}

func TestReadLogChangesNothing(t *testing.T) {
	m := NewMem()
	_, err := ReadLog(m, "log", testMax, nil)
	wantErr(t, "no log", err, fs.ErrNotExist)
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 5)
	n := 0
	rec, err := ReadLog(m, "log", testMax, func(i uint64, p []byte) error {
		if !bytes.Equal(p, frame(n)) {
			return errors.New("wrong frame")
		}
		n++
		return nil
	})
	if err != nil || n != 5 || rec.Frames != 5 || rec.Torn != nil || rec.Clean {
		t.Errorf("%d frames, %+v, %v", n, rec, err)
	}
	m.Kill()
	put(t, m, "log.000001", get(t, m, "log.000001")[:300]+"torn")
	steps := m.Steps()
	rec, err = ReadLog(m, "log", testMax, nil)
	if err != nil || rec.Torn == nil || rec.Torn.Copy != "" || m.Steps() != steps {
		t.Errorf("%+v, %v, %d steps", rec, err, m.Steps()-steps)
	}
}

// TestLogOfANewerVersion is refused as such, not as damage.
func TestLogOfANewerVersion(t *testing.T) {
	m := NewMem()
	b := header{segment: 1}.encode()
	b[11] = 2
	put(t, m, "log.000001", string(resum(b)))
	_, _, _, err := tryOpen(m)
	wantErr(t, "OpenLog", err, errVersion)
	if _, ok := errors.AsType[*CorruptError](err); ok {
		t.Error("a newer version is called damaged")
	}
}

// TestLogBytes holds the layout of doc.go: a log written by this release is readable by the next.
func TestLogBytes(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	for _, p := range []string{"abc", "d"} {
		if _, err := l.AppendSync([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const want = "" +
		"6d6b6475726c6f67" + "00000001" + "00000001" + "0000000000000000" + "00000000" + "97b30df9" + // header
		"00000003" + "7e9212ce" + "616263" + // frame at 32
		"80000008" + "95dd4119" + "000000000000002b" + // mark at 43
		"00000001" + "2a569fd3" + "64" + // frame at 59
		"80000008" + "b139bd37" + "0000000000000044" // last mark at 68
	if got := fmt.Sprintf("%x", get(t, m, "log.000001")); got != want {
		t.Errorf("bytes\n%s, want\n%s", got, want)
	}
}
