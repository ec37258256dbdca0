package durable

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// layout is where the records of a file are.
type layout struct {
	offset, end int64
	frame       uint64 // index of the frame, or of the next one for a mark
	mark        bool
}

func layoutOf(t *testing.T, b string) []layout {
	t.Helper()
	var list []layout
	var next uint64
	for at := int64(segmentHeader); at < int64(len(b)); {
		r, err := parseRecord([]byte(b[at:]), 1, at, testMax)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, layout{at, at + int64(r.size), next, r.mark})
		if !r.mark {
			next++
		}
		at += int64(r.size)
	}
	return list
}

// sampleLog is a log of several groups, closed in order.
func sampleLog(t *testing.T, frames int) string {
	t.Helper()
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	for i := range frames {
		mustAppend(t, l, i, i+1)
		if i%5 == 4 {
			if err := l.Sync(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return get(t, m, "log.000001")
}

// openDamaged opens a log with this content. It checks that damage means: an error or a torn end, nothing changed on
// disk in the first case, and every frame before the damage read.
func openDamaged(t *testing.T, content string) (corrupt *CorruptError, torn *Torn) {
	t.Helper()
	m := NewMem()
	put(t, m, "log.000001", content)
	m.SyncDir(".")
	steps := m.Steps()
	_, rec, frames, err := tryOpen(m)
	for i, p := range frames {
		if !bytes.Equal(p, frame(i)) {
			t.Fatalf("frame %d is %q", i, p)
		}
	}
	if err == nil {
		return nil, rec.Torn
	}
	corrupt, ok := errors.AsType[*CorruptError](err)
	if !ok {
		t.Fatal(err)
	}
	if m.Steps() != steps || get(t, m, "log.000001") != content {
		t.Fatal("a damaged log was changed")
	}
	if corrupt.Offset >= segmentHeader && uint64(len(frames)) != corrupt.Frame {
		t.Fatalf("%d frames read before damage at frame %d", len(frames), corrupt.Frame)
	}
	return corrupt, nil
}

// TestEveryBitFlipIsFound flips every bit of a log: the report names the record it is in. Only in the last mark, which
// nothing behind it vouches for, is it taken for a torn end, and there no frame is lost.
func TestEveryBitFlipIsFound(t *testing.T) {
	content := sampleLog(t, 12)
	records := layoutOf(t, content)
	last := records[len(records)-1]
	at := func(i int) layout {
		for _, r := range records {
			if int64(i) >= r.offset && int64(i) < r.end {
				return r
			}
		}
		return layout{} // header
	}
	for i := 0; i < len(content); i += testrun.Stride(1) {
		for bit := range 8 {
			b := []byte(content)
			b[i] ^= 1 << bit
			want := at(i)
			corrupt, torn := openDamaged(t, string(b))
			switch {
			case corrupt != nil:
				if want == last || corrupt.File != "log.000001" || corrupt.Offset != want.offset || corrupt.Frame != want.frame {
					t.Fatalf("byte %d bit %d, in %+v: %v", i, bit, want, corrupt)
				}
			case torn != nil:
				if want != last || torn.Offset != last.offset || torn.Frame != 12 {
					t.Fatalf("byte %d bit %d, in %+v: torn %+v", i, bit, want, torn)
				}
			default:
				t.Fatalf("byte %d bit %d: not found", i, bit)
			}
		}
	}
	t.Logf("%d bytes", len(content))
}

// TestBitFlipOfALiveLog flips bits of a log that was not closed: every flip is found at its record; before the last
// mark as damage, behind it as a torn end, and in the zeros as well.
func TestBitFlipOfALiveLog(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 6)
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 6, 9)
	end := l.end
	content := get(t, m, "log.000001")
	if int64(len(content)) != growStep {
		t.Fatalf("the file has %d bytes", len(content))
	}
	records := layoutOf(t, content[:end])
	for i := int64(segmentHeader); i < end+300; i += int64(testrun.Stride(1)) {
		b := []byte(content)
		b[i] ^= 0x10
		offset, frames, synced := end, uint64(9), false
		for _, r := range records {
			if i >= r.offset && i < r.end {
				offset, frames, synced = r.offset, r.frame, r.frame < 6 && !r.mark
			}
		}
		corrupt, torn := openDamaged(t, string(b))
		switch {
		case synced && corrupt != nil && corrupt.Offset == offset && corrupt.Frame == frames:
		case !synced && torn != nil && torn.Offset == offset && torn.Frame == frames:
		default:
			t.Fatalf("byte %d, record at %d, synced %v: %v, %+v", i, offset, synced, corrupt, torn)
		}
	}
}

// TestTruncation cuts a closed log at every length. A cut inside a record is found there; a cut between records leaves
// a shorter log, which is all this package can know.
func TestTruncation(t *testing.T) {
	content := sampleLog(t, 12)
	between := map[int64]uint64{segmentHeader: 0}
	for _, r := range layoutOf(t, content) {
		between[r.end] = r.frame + 1
		if r.mark {
			between[r.end] = r.frame
		}
	}
	for n := range len(content) {
		corrupt, torn := openDamaged(t, content[:n])
		_, clean := between[int64(n)]
		// The first bytes of a length are zeros; alone they cannot be told from the zeros behind a log.
		for k := n - 1; k >= n-3 && k >= segmentHeader && content[k] == 0 && !clean; k-- {
			_, clean = between[int64(k)]
		}
		switch {
		case n < segmentHeader && corrupt != nil && corrupt.Offset == 0:
		case n >= segmentHeader && clean && corrupt == nil && torn == nil:
		case n >= segmentHeader && !clean && torn != nil && torn.Offset < int64(n) && torn.Offset+torn.Size <= int64(n):
		default:
			t.Fatalf("cut at %d: %v, %+v", n, corrupt, torn)
		}
	}
}

// TestSwappedRecordsAreFound swaps two valid records of one length, repeats one, and removes one.
func TestSwappedRecordsAreFound(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	var payloads [][]byte
	for i := range 6 {
		payloads = append(payloads, fmt.Appendf(nil, "payload %d", i))
		if _, err := l.AppendSync(payloads[i]); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	content := get(t, m, "log.000001")
	var frames []layout
	for _, r := range layoutOf(t, content) {
		if !r.mark {
			frames = append(frames, r)
		}
	}
	rec := func(i int) string { return content[frames[i].offset:frames[i].end] }
	replace := func(s string, i int, with string) string {
		return s[:frames[i].offset] + with + s[frames[i].end:]
	}
	for name, damaged := range map[string]string{
		"swapped":  replace(replace(content, 1, rec(3)), 3, rec(1)),
		"repeated": replace(content, 1, rec(0)),
		"removed":  replace(content, 1, ""),
		"inserted": replace(content, 1, rec(0)+rec(1)),
	} {
		put(t, m, "log.000001", damaged)
		n := 0
		_, _, err := OpenLog(m, "log", testMax, func(_ uint64, p []byte) error {
			if !bytes.Equal(p, payloads[n]) {
				t.Errorf("%s: frame %d is %q", name, n, p)
			}
			n++
			return nil
		})
		corrupt, ok := errors.AsType[*CorruptError](err)
		if name == "removed" || name == "inserted" {
			// The marks moved too, so nothing vouches for the rest: a torn end, at the right place.
			if err != nil || n != 1 {
				t.Errorf("%s: %v after %d frames", name, err, n)
			}
			continue
		}
		if !ok || corrupt.Frame != 1 || corrupt.Offset != frames[1].offset {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDamagedReadIsFound: damage that comes while the log is open is found by Read and Scan, at its place.
func TestDamagedReadIsFound(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 20)
	l.Sync()
	b := []byte(get(t, m, "log.000001"))
	at := layoutOf(t, string(b[:l.end]))[7].offset
	b[at+9] ^= 1
	put(t, m, "log.000001", string(b))
	for name, read := range map[string]func() error{
		"Read": func() error { _, err := l.Read(7); return err },
		"Scan": func() error { return l.Scan(3, func(uint64, []byte) error { return nil }) },
	} {
		err := read()
		corrupt, ok := errors.AsType[*CorruptError](err)
		if !ok || corrupt.Frame != 7 || corrupt.Offset != at {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Read(6); err != nil {
		t.Errorf("a good frame before the damage: %v", err)
	}
}

// TestLongDamageIsNoCrash: more damaged bytes than can ever be unsynced are damage, also with no mark behind them.
func TestLongDamageIsNoCrash(t *testing.T) {
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	mustAppend(t, l, 0, 3)
	content := get(t, m, "log.000001")[:l.end]
	limit := int(tailLimit(testMax))
	if corrupt, torn := openDamaged(t, content+strings.Repeat("x", limit)); corrupt != nil || torn == nil || torn.Size != int64(limit) {
		t.Errorf("at the limit: %v %+v", corrupt, torn)
	}
	corrupt, torn := openDamaged(t, content+strings.Repeat("x", limit+1))
	if corrupt == nil || torn != nil || !errors.Is(corrupt, errTail) || corrupt.Offset != int64(len(content)) || corrupt.Frame != 3 {
		t.Errorf("over the limit: %v %+v", corrupt, torn)
	}
}

// TestCorruptErrorSaysWhatToDo: file, frame, byte, reason, next step.
func TestCorruptErrorSaysWhatToDo(t *testing.T) {
	content := []byte(sampleLog(t, 12))
	content[200] ^= 1
	corrupt, _ := openDamaged(t, string(content))
	if corrupt == nil {
		t.Fatal("not found")
	}
	text := corrupt.Error()
	for _, part := range []string{"log.000001", fmt.Sprintf("frame %d", corrupt.Frame), fmt.Sprintf("byte %d", corrupt.Offset), "meshkey audit verify", "nothing was changed"} {
		if !strings.Contains(text, part) {
			t.Errorf("%q lacks %q", text, part)
		}
	}
	if !errors.Is(corrupt, errSynced) {
		t.Errorf("reason %v", corrupt.Reason)
	}
}

// segmentedLog is a log of three segments of 5 frames each, made by two failed flushes; the ones the flushes were
// about are void in their segment.
func segmentedLog(t *testing.T) (*Mem, *Log) {
	t.Helper()
	m := NewMem()
	l, _, _ := mustOpen(t, m)
	for s := range 3 {
		mustAppend(t, l, 5*s, 5*s+5)
		if err := l.Sync(); err != nil {
			t.Fatal(err)
		}
		if s == 2 {
			break
		}
		mustAppend(t, l, 5*s+5, 5*s+7)
		m.Fail(Fault{Op: OpSync, Happen: true, Err: errors.New("io")})
		wantErr(t, "Sync", l.Sync(), ErrFailed)
		if next, err := l.Reopen(); err != nil || next != uint64(5*s+5) {
			t.Fatal(next, err)
		}
	}
	return m, l
}

func TestSegmentsReadAsOne(t *testing.T) {
	m, l := segmentedLog(t)
	for i := range 15 {
		if p, err := l.Read(uint64(i)); err != nil || !bytes.Equal(p, frame(i)) {
			t.Errorf("Read(%d): %q %v", i, p, err)
		}
	}
	next := 3
	if err := l.Scan(3, func(i uint64, p []byte) error {
		if int(i) != next || !bytes.Equal(p, frame(next)) {
			return fmt.Errorf("frame %d: %q", i, p)
		}
		next++
		return nil
	}); err != nil || next != 15 {
		t.Errorf("Scan came to %d: %v", next, err)
	}
	l.Close()
	m.Crash()
	_, rec, frames := mustOpen(t, m)
	wantFrames(t, frames, 15)
	if rec.Segments != 3 || !rec.Clean {
		t.Errorf("%+v", rec)
	}
}

func TestDamagedSegmentsAreFound(t *testing.T) {
	edit := func(name string, change func(b []byte) []byte) func(t *testing.T, m *Mem) {
		return func(t *testing.T, m *Mem) { put(t, m, name, string(change([]byte(get(t, m, name))))) }
	}
	for name, c := range map[string]struct {
		damage func(t *testing.T, m *Mem)
		file   string
		frame  uint64
		reason error
	}{
		"first missing":  {func(t *testing.T, m *Mem) { m.Remove("log.000001") }, "log.000001", 0, errMissing},
		"middle missing": {func(t *testing.T, m *Mem) { m.Remove("log.000002") }, "log.000002", 0, errMissing},
		"swapped": {func(t *testing.T, m *Mem) {
			m.Rename("log.000001", "x")
			m.Rename("log.000002", "log.000001")
			m.Rename("x", "log.000002")
		}, "log.000001", 0, errFileNumber},
		"header cut":        {edit("log.000003", func(b []byte) []byte { return b[:31] }), "log.000003", 5, errHeader},
		"header flipped":    {edit("log.000002", func(b []byte) []byte { b[20] ^= 1; return b }), "log.000002", 0, errHeader},
		"base goes back":    {edit("log.000003", func(b []byte) []byte { return append(header{3, 4}.encode(), b[32:]...) }), "log.000003", 5, errBase},
		"base of the first": {edit("log.000001", func(b []byte) []byte { return append(header{1, 1}.encode(), b[32:]...) }), "log.000001", 0, errBase},
		"frames missing":    {edit("log.000002", func(b []byte) []byte { return b[:segmentHeader] }), "log.000002", 5, errShort},
		"frame flipped":     {edit("log.000002", func(b []byte) []byte { b[segmentHeader+8] ^= 1; return b }), "log.000002", 5, errChecksum},
	} {
		m, l := segmentedLog(t)
		l.Close()
		c.damage(t, m)
		_, _, _, err := tryOpen(m)
		corrupt, ok := errors.AsType[*CorruptError](err)
		if !ok || corrupt.File != c.file || corrupt.Frame != c.frame || !errors.Is(err, c.reason) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestVoidFramesStayVoid: what a failed segment holds behind the base of the next one is not read, damaged or not.
func TestVoidFramesStayVoid(t *testing.T) {
	m, l := segmentedLog(t)
	l.Close()
	b := []byte(get(t, m, "log.000001"))
	for i := len(b) - 1; i > 0; i-- {
		if b[i] != 0 {
			b[i] ^= 0xff
			break
		}
	}
	put(t, m, "log.000001", string(b))
	_, rec, frames := mustOpen(t, m)
	wantFrames(t, frames, 15)
	if rec.Torn != nil {
		t.Errorf("%+v", rec.Torn)
	}
}
