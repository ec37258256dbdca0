package audit

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// rewriteJournal replaces the frames of the only journal by others, as somebody can who knows the format.
func rewriteJournal(t testing.TB, m *durable.Mem, edit func(frames [][]byte) [][]byte) {
	t.Helper()
	f := folder{m, Dir(testKey(t, 1).NodeID())}
	var frames [][]byte
	if _, err := durable.ReadLog(m, f.numberedPath(journalName, 1), maxFrame, func(_ uint64, b []byte) error {
		frames = append(frames, slices.Clone(b))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range files(t, m, f.path(journalName), "") {
		m.Remove(name)
	}
	j, _, err := durable.OpenLog(m, f.numberedPath(journalName, 1), maxFrame, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range edit(frames) {
		if _, err := j.AppendSync(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestJournalForgery(t *testing.T) {
	// 101 entries in tiles, 50 more in commits of one entry each, then a crash.
	live := durable.NewMem()
	l := openLog(t, live)
	fill(t, l, 100)
	checkpoint(t, l)
	mustAppend(t, l, 50)
	orig := clone(t, live)
	l.Close()
	mustVerify(t, orig, 151)

	parse := func(b []byte) *frame {
		f, err := parseFrame(b, testKey(t, 1).NodeID(), testMesh)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	last := func(frames [][]byte) int { return len(frames) - 1 }
	for _, c := range []struct {
		name  string
		edit  func(frames [][]byte) [][]byte
		first uint64
		open  uint64 // what Open says
	}{
		{"leaf edited under the old signature", func(fr [][]byte) [][]byte {
			f := parse(fr[last(fr)-10])
			f.Leaves[0] = forged(t, event(1))
			fr[last(fr)-10] = wireMarshal(t, f)
			return fr
		}, 140, 140},
		{"frame of another key", func(fr [][]byte) [][]byte {
			f := parse(fr[last(fr)])
			fr[last(fr)] = newFrame(testKey(t, 2), testMesh, f.First, f.Leaves, f.Root)
			return fr
		}, 150, 150},
		{"frame of another mesh", func(fr [][]byte) [][]byte {
			f := parse(fr[last(fr)])
			fr[last(fr)] = newFrame(testKey(t, 1), keys.MeshID{1}, f.First, f.Leaves, f.Root)
			return fr
		}, 150, 150},
		{"frame removed", func(fr [][]byte) [][]byte { return slices.Delete(fr, last(fr)-10, last(fr)-9) }, 140, 140},
		{"frames swapped", func(fr [][]byte) [][]byte {
			n := last(fr)
			fr[n-10], fr[n-9] = fr[n-9], fr[n-10]
			return fr
		}, 140, 140},
		{"entry in the tiles edited", func(fr [][]byte) [][]byte {
			f := parse(fr[2])
			f.Leaves[3] = forged(t, event(1))
			fr[2] = wireMarshal(t, f)
			return fr
		}, 0, 0},
	} {
		m := clone(t, orig)
		var edited uint64
		rewriteJournal(t, m, func(frames [][]byte) [][]byte {
			if c.first == 0 {
				edited = parse(frames[2]).First + 3
			}
			return c.edit(frames)
		})
		if c.first == 0 {
			firstBad(t, m, c.name, edited, KindJournal)
			continue // Open takes those entries from the tiles
		}
		firstBad(t, m, c.name, c.first)
		_, err := Open(m, testKey(t, 1), testMesh, Options{})
		damage, ok := errors.AsType[*DamageError](err)
		if !ok || damage.First != c.open {
			t.Errorf("%s: Open says %v, want damage at %d", c.name, err, c.open)
		}
	}
}

func TestLogGoesOnWithoutItsJournal(t *testing.T) {
	m := history(t, 300, 100)
	f := folder{m, Dir(testKey(t, 1).NodeID())}
	name := f.numberedPath(journalName, 1) + ".000001"
	b := readFile(t, m, name)
	b[len(b)/2] ^= 1
	writeFile(t, m, name, b)
	_, err := Open(m, testKey(t, 1), testMesh, Options{})
	if damage, ok := errors.AsType[*DamageError](err); !ok || !strings.Contains(damage.Reason, "move "+f.numberedPath(journalName, 1)) {
		t.Fatalf("a damaged journal: %v", err)
	}
	if err := m.Remove(name); err != nil {
		t.Fatal(err)
	}
	l := openLog(t, m)
	mustAppend(t, l, 1)
	l.Close()
	mustVerify(t, m, l.Size())
	if l.Size() < 301 {
		t.Fatalf("%d entries", l.Size())
	}
}
