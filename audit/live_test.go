package audit

import (
	"io/fs"
	"strings"
	"sync"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// TestVerifyWhileWriting verifies a log that its node writes to, makes checkpoints of and replaces journals of.
func TestVerifyWhileWriting(t *testing.T) {
	t.Parallel()
	m := durable.NewMem()
	l := openLog(t, m)
	fill(t, l, 2000)
	checkpoint(t, l)
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range 3000 {
			if _, err := l.Append(event(i)); err != nil {
				t.Error(err)
				return
			}
			if i%5 != 0 {
				continue
			}
			if i%200 == 0 {
				l.mu.Lock()
				l.journalLen = journalBytes + 1
				l.mu.Unlock()
			}
			if _, err := l.Checkpoint(); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for writing := true; writing; {
		select {
		case <-done:
			writing = false
		default:
		}
		before := l.Size()
		if r := verify(t, m); !r.OK() || r.Size < before || r.Size != r.Signed {
			t.Errorf("size %d (at least %d), signed %d: %v", r.Size, before, r.Signed, r.Problems)
			writing = false
		}
	}
	wg.Wait()
	l.Close()
}

// hookFS calls fn once, just before the nth opening of a file or listing of a directory whose name contains part.
type hookFS struct {
	*durable.Mem
	part string
	nth  int
	fn   func()
	swap *durable.Mem // if set, that opening is served from here
}

func (h *hookFS) hit(name string) bool {
	if h.nth == 0 || !strings.Contains(name, h.part) {
		return false
	}
	if h.nth--; h.nth > 0 {
		return false
	}
	if h.fn != nil {
		h.fn()
	}
	return true
}

func (h *hookFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if h.hit(name) && h.swap != nil {
		return h.swap.OpenFile(name, flag, perm)
	}
	return h.Mem.OpenFile(name, flag, perm)
}

func (h *hookFS) ReadDir(name string) ([]fs.DirEntry, error) {
	h.hit(name + "/")
	return h.Mem.ReadDir(name)
}

// TestVerifyWhenTheLogMovesOn lets the node write at the worst moments of a Verify. One pass has to be enough each time: on a
// large log a second one would meet the next checkpoint.
func TestVerifyWhenTheLogMovesOn(t *testing.T) {
	for _, c := range []struct {
		name  string
		part  string
		nth   int
		moves func(t *testing.T, l *Log)
	}{
		{"checkpoint and new journal while tiles are read", "tile/entries/000", 1, func(t *testing.T, l *Log) {
			for range 2 {
				mustAppend(t, l, 3)
				l.journalLen = journalBytes + 1
				checkpoint(t, l)
			}
		}},
		{"commits before the journal is read again", "journal/000001.000001", 3, func(t *testing.T, l *Log) { mustAppend(t, l, 3) }},
		{"checkpoint before the journal is read again", "journal/000001.000001", 3, func(t *testing.T, l *Log) {
			mustAppend(t, l, 3)
			checkpoint(t, l)
		}},
		{"journal removed after it was listed", "journal/000001.000001", 1, func(t *testing.T, l *Log) {
			for range 2 {
				mustAppend(t, l, 3)
				l.journalLen = journalBytes + 1
				checkpoint(t, l)
			}
		}},
	} {
		m := durable.NewMem()
		l := openLog(t, m)
		fill(t, l, 300)
		checkpoint(t, l)
		mustAppend(t, l, 5)
		h := &hookFS{Mem: m, part: c.part, nth: c.nth, fn: func() { c.moves(t, l) }}
		w := newWalker(folder{h, Dir(testKey(t, 1).NodeID())}, testKey(t, 1).NodeID(), testMesh)
		w.collect()
		w.walk()
		if h.nth != 0 {
			t.Fatalf("%s: not reached", c.name)
		}
		if r := w.report; !r.OK() || r.Size < 306 || r.Size != r.Signed {
			t.Errorf("%s: size %d, signed %d: %v", c.name, r.Size, r.Signed, r.Problems)
		}
		l.Close()
		mustVerify(t, m, l.Size())
	}
}

// TestVerifyReadsAHalfWrittenJournalAgain serves a journal once as it looks while the node writes to it.
func TestVerifyReadsAHalfWrittenJournalAgain(t *testing.T) {
	m := history(t, 300, 100)
	name := logPath(t, journalName+"/000001.000001")
	half := clone(t, m)
	b := readFile(t, m, name)
	clear(b[len(b)/2 : len(b)/2+20])
	writeFile(t, half, name, b)
	h := &hookFS{Mem: m, part: "journal/000001.000001", nth: 2, swap: half} // the first opening reads the header
	r, err := Verify(h, testKey(t, 1).NodeID(), testMesh)
	if err != nil || !r.OK() || h.nth != 0 {
		t.Fatalf("%v, %v", r.Problems, err)
	}
}
