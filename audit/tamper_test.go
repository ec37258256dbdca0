package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// history makes a closed log of n entries with a checkpoint each step entries, and some commits behind the last one.
func history(t testing.TB, n, step int) *durable.Mem {
	t.Helper()
	m := durable.NewMem()
	l := openLog(t, m)
	for l.Size() < uint64(n) {
		fill(t, l, min(step, n-int(l.Size())))
		checkpoint(t, l)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	mustVerify(t, m, uint64(n))
	return m
}

func logPath(t testing.TB, name string) string {
	return path.Join(Dir(testKey(t, 1).NodeID()), name)
}

// firstBad verifies and wants a first bad entry of one of the kinds.
func firstBad(t testing.TB, fsys durable.FS, what string, want uint64, kinds ...Kind) {
	t.Helper()
	r := verify(t, fsys)
	first, bad := r.FirstBad()
	if !bad || first != want {
		t.Fatalf("%s: first bad entry %d (%v), want %d: %v", what, first, bad, want, r.Problems)
	}
	if len(kinds) > 0 && !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.First == want && slices.Contains(kinds, p.Kind) }) {
		t.Fatalf("%s: want one of %v at entry %d: %v", what, kinds, want, r.Problems)
	}
}

func TestVerifyNamesFlippedByteInBundle(t *testing.T) {
	t.Parallel()
	m := history(t, 600, 100)
	for _, name := range files(t, m, logPath(t, tileName), "/entries/") {
		data := readFile(t, m, name)
		base := uint64(0)
		if strings.Contains(name, "/001") {
			base = 256
		} else if strings.Contains(name, "/002") {
			base = 512
		}
		for at, entry := 0, base; at < len(data); entry++ {
			size := 2 + int(binary.BigEndian.Uint16(data[at:]))
			// Of some entries every byte (or every few, in a shorter run), of others the length, the first of the leaf, and one that moves along.
			var offsets []int
			switch {
			case entry%299 == 0:
				for i := 0; i < size; i += testrun.Stride(5) {
					offsets = append(offsets, i)
				}
			case entry%29 == 0:
				offsets = []int{0, 1, 2, 3 + int(entry)%(size-3)}
			}
			for _, i := range offsets {
				bad := slices.Clone(data)
				bad[at+i] ^= 1 << (at % 8)
				writeFile(t, m, name, bad)
				firstBad(t, m, name, entry, KindEntry, KindLeaf, KindMissing)
			}
			at += size
		}
		writeFile(t, m, name, data)
	}
	mustVerify(t, m, 600)
}

func TestVerifyNamesFlippedByteInTile(t *testing.T) {
	t.Parallel()
	m := history(t, 600, 100)
	for _, level := range []string{"0", "1"} {
		for _, name := range files(t, m, logPath(t, tileName+"/"+level), "") {
			base, span := uint64(0), uint64(1)
			if strings.Contains(name, "/001") {
				base = 256
			} else if strings.Contains(name, "/002") {
				base = 512
			}
			if level == "1" {
				base, span = 0, 256
			}
			data := readFile(t, m, name)
			for at := 0; at < len(data); at += 101 * testrun.Stride(3) {
				bad := slices.Clone(data)
				bad[at] ^= 0x10
				writeFile(t, m, name, bad)
				firstBad(t, m, name, base+uint64(at/32)*span, KindTile)
			}
			writeFile(t, m, name, data[:len(data)-1])
			firstBad(t, m, name+" cut", base+uint64(len(data)/32-1)*span, KindTile)
			writeFile(t, m, name, data)
		}
	}
	mustVerify(t, m, 600)
}

func TestVerifyNamesFlippedByteInCheckpoint(t *testing.T) {
	t.Parallel()
	m := history(t, 300, 100)
	name := logPath(t, checkpointName)
	data := readFile(t, m, name)
	for at := 0; at < len(data); at += every() {
		bad := slices.Clone(data)
		bad[at] ^= 1
		writeFile(t, m, name, bad)
		// The journal's signatures still prove all 300 entries.
		firstBad(t, m, name, 300, KindCheckpoint)
	}
	for at := 0; at < len(data); at += 9 {
		writeFile(t, m, name, data[:at])
		firstBad(t, m, name, 300, KindCheckpoint)
	}
	if err := m.Remove(name); err != nil {
		t.Fatal(err)
	}
	firstBad(t, m, "removed checkpoint", 300, KindCheckpoint)
}

func TestVerifyNamesFlippedByteInHistoryAndJournal(t *testing.T) {
	t.Parallel()
	m := history(t, 300, 100)
	for kind, dir := range map[Kind]string{KindCheckpoint: historyName, KindJournal: journalName} {
		for _, name := range files(t, m, logPath(t, dir), "") {
			data := readFile(t, m, name)
			for at := 0; at < len(data); at += 83 * every() {
				bad := slices.Clone(data)
				bad[at] ^= 4
				writeFile(t, m, name, bad)
				if r := verify(t, m); r.OK() && r.Torn && at >= len(data)-16 {
					continue // the mark of an orderly end, nothing that was signed
				}
				firstBad(t, m, name, 300, kind)
			}
			writeFile(t, m, name, data)
		}
	}
}

// attacker is somebody who can write the folder, knows the format, and has no key: it puts other entries in place and
// makes every tile fit them.
func attacker(t testing.TB, m durable.FS, size int, edit func(entries [][]byte) [][]byte) {
	t.Helper()
	f := folder{m, Dir(testKey(t, 1).NodeID())}
	var entries [][]byte
	for b := 0; b*tileWidth < size; b++ {
		list, _, err := f.readEntries(uint64(b), min(tileWidth, size-b*tileWidth))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			entries = append(entries, slices.Clone(e))
		}
	}
	entries = edit(entries)
	for _, name := range files(t, m, f.path(tileName), "") {
		if err := m.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	tr := &tree{}
	for i, e := range entries {
		tr.add(tlog.RecordHash(e), nil, func(level int, n uint64, hashes []tlog.Hash) {
			writeFile(t, m, f.tilePath(level, n, tileWidth), tileData(hashes))
		})
		if i%tileWidth == tileWidth-1 {
			writeFile(t, m, f.tilePath(entriesLevel, uint64(i/tileWidth), tileWidth), bundle(entries[i+1-tileWidth:i+1]))
		}
	}
	n := uint64(len(entries))
	for level := range levels(n) {
		width := int(levelCount(n, level) % tileWidth)
		if width == 0 {
			continue
		}
		if level == 0 {
			writeFile(t, m, f.tilePath(entriesLevel, n/tileWidth, width), bundle(entries[len(entries)-width:]))
		}
		writeFile(t, m, f.tilePath(level, levelCount(n, level)/tileWidth, width), tileData(tr.tiles[level]))
	}
}

func forged(t testing.TB, e Event) []byte {
	t.Helper()
	e.Time = time.Unix(1_800_000_000, 0)
	b, err := encodeLeaf(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAttackerRebuildsTiles(t *testing.T) {
	t.Parallel()
	orig := history(t, 1500, 200)
	// Checkpoints were made at 201, 401, … and the history keeps one each 256 entries at least.
	for _, k := range []int{0, 1, 200, 255, 256, 777, 1023, 1400, 1499} {
		m := clone(t, orig)
		attacker(t, m, 1500, func(entries [][]byte) [][]byte {
			e := event(k)
			e.Verdict = Denied
			entries[k] = forged(t, e)
			return entries
		})
		for _, noJournal := range []bool{false, true} {
			if noJournal {
				for _, name := range files(t, m, logPath(t, journalName), "") {
					m.Remove(name)
				}
			}
			r := verify(t, m)
			found := false
			for _, p := range r.Problems {
				if p.Kind == KindRange {
					found = true
					if uint64(k) < p.First || uint64(k) > p.Last || p.Last-p.First >= 2*historyEntries {
						t.Errorf("entry %d edited, report says %v", k, p)
					}
				}
			}
			if !found {
				t.Errorf("entry %d edited with all tiles rebuilt: %v", k, r.Problems)
			}
		}
		// Without journal and history only the checkpoint is left, and it is enough.
		for _, name := range files(t, m, logPath(t, historyName), "") {
			m.Remove(name)
		}
		r := verify(t, m)
		if first, bad := r.FirstBad(); !bad || first > uint64(k) || r.Problems[0].Kind != KindRange {
			t.Errorf("entry %d edited, only the checkpoint left: %v", k, r.Problems)
		}
		if _, err := Open(m, testKey(t, 1), testMesh, Options{}); err == nil {
			t.Errorf("entry %d edited: the node goes on and signs it", k)
		}
	}
}

func TestAttackerRemovesInsertsReorders(t *testing.T) {
	orig := history(t, 700, 100)
	edits := map[string]struct {
		edit  func(entries [][]byte) [][]byte
		first uint64
	}{
		"removed":   {func(e [][]byte) [][]byte { return slices.Delete(e, 300, 310) }, 300},
		"inserted":  {func(e [][]byte) [][]byte { return slices.Insert(e, 300, forged(t, event(1))) }, 300},
		"reordered": {func(e [][]byte) [][]byte { e[300], e[301] = e[301], e[300]; return e }, 300},
		"replaced":  {func(e [][]byte) [][]byte { e[300] = e[299]; return e }, 300},
		"cut":       {func(e [][]byte) [][]byte { return e[:650] }, 650},
		"all gone":  {func(e [][]byte) [][]byte { return nil }, 0},
	}
	for name, c := range edits {
		// With every tile rebuilt the place is known up to a step of the signatures left.
		m := clone(t, orig)
		attacker(t, m, 700, c.edit)
		first, bad := verify(t, m).FirstBad()
		if !bad || first > c.first || c.first-first > 2*historyEntries {
			t.Errorf("%s, tiles rebuilt: first bad %d, %v", name, first, bad)
		}
		// With only the bundles changed it is known exactly.
		tiles := clone(t, orig)
		attacker(t, tiles, 700, c.edit)
		for _, level := range []string{"0", "1"} {
			for _, file := range files(t, tiles, logPath(t, tileName+"/"+level), "") {
				tiles.Remove(file)
			}
			for _, file := range files(t, orig, logPath(t, tileName+"/"+level), "") {
				writeFile(t, tiles, file, readFile(t, orig, file))
			}
		}
		firstBad(t, tiles, name, c.first)
	}
}

// TestVerifyTellsTileFromEntry changes a tile, and further on an entry: each is named, and only these.
func TestVerifyTellsTileFromEntry(t *testing.T) {
	m := history(t, 1200, 100)
	f := folder{m, Dir(testKey(t, 1).NodeID())}
	flip := func(name string, at int) {
		b := readFile(t, m, name)
		b[at] ^= 1
		writeFile(t, m, name, b)
	}
	flip(f.tilePath(0, 0, tileWidth), 10*tlog.HashSize)
	entries, _, err := f.readEntries(2, tileWidth)
	if err != nil {
		t.Fatal(err)
	}
	flip(f.tilePath(entriesLevel, 2, tileWidth), len(bundle(entries[:88]))+30)
	flip(f.tilePath(0, 3, tileWidth), 32*tlog.HashSize)
	r := verify(t, m)
	var got []string
	for _, p := range r.Problems {
		if p.Kind != KindLeaf {
			got = append(got, fmt.Sprint(p.Kind, p.First, "-", p.Last))
		}
	}
	if want := "tile10-10 entry600-600 tile800-800"; strings.Join(got, " ") != want || r.Size != 1200 {
		t.Fatalf("%v, want %s", r.Problems, want)
	}
}

func TestVerifyNamesMissingFiles(t *testing.T) {
	orig := history(t, 700, 100)
	f := folder{orig, Dir(testKey(t, 1).NodeID())}
	for _, c := range []struct {
		name  string
		files []string
		first uint64
		kind  Kind
	}{
		{"bundle", []string{f.tilePath(entriesLevel, 1, 256)}, 256, KindMissing},
		{"last bundle", []string{f.tilePath(entriesLevel, 2, 188)}, 512, KindMissing},
		{"tile", []string{f.tilePath(0, 1, 256)}, 256, KindTile},
		{"upper tile", []string{f.tilePath(1, 0, 2)}, 0, KindTile},
		{"bundle and tile", []string{f.tilePath(entriesLevel, 1, 256), f.tilePath(0, 1, 256)}, 256, KindMissing},
		{"last bundle and tile", []string{f.tilePath(entriesLevel, 2, 188), f.tilePath(0, 2, 188)}, 512, KindMissing},
	} {
		m := clone(t, orig)
		for _, name := range c.files {
			if err := m.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		firstBad(t, m, c.name, c.first, c.kind)
	}
	// What follows a lost bundle is still proven.
	m := clone(t, orig)
	m.Remove(f.tilePath(entriesLevel, 1, 256))
	m.Remove(f.tilePath(0, 1, 256))
	r := verify(t, m)
	for _, p := range r.Problems {
		if p.Last > 511 {
			t.Errorf("one bundle is lost, the report says %v", p)
		}
	}
	if r.Size != 700 {
		t.Errorf("walked %d entries", r.Size)
	}
}

func TestVerifyNamesUnsignedEntries(t *testing.T) {
	for _, size := range []int{700, 512} {
		orig := history(t, size, 100)
		f := folder{orig, Dir(testKey(t, 1).NodeID())}
		more := forged(t, event(1))
		// Behind the last entry of the last bundle, and as a bundle of its own.
		m := clone(t, orig)
		width := size % tileWidth
		b := uint64(size / tileWidth)
		if width == 0 {
			b, width = b-1, tileWidth
		}
		name := f.tilePath(entriesLevel, b, width)
		writeFile(t, m, name, append(readFile(t, m, name), bundle([][]byte{more})...))
		firstBad(t, m, "behind the last entry", uint64(size), KindUnsigned)

		m = clone(t, orig)
		writeFile(t, m, f.tilePath(entriesLevel, uint64(size/tileWidth)+1, 1), bundle([][]byte{more}))
		firstBad(t, m, "a bundle more", uint64(size), KindUnsigned)
		if width < tileWidth {
			m = clone(t, orig)
			entries, _ := splitBundle(readFile(t, m, name), width)
			writeFile(t, m, f.tilePath(entriesLevel, b, width+1), bundle(append(entries, more)))
			firstBad(t, m, "a wider bundle", uint64(size), KindUnsigned)
		}
	}
}

func TestVerifyRefusesAnotherKey(t *testing.T) {
	m := history(t, 300, 100)
	f := folder{m, Dir(testKey(t, 1).NodeID())}
	cp, err := parseCheckpoint(readFile(t, m, f.path(checkpointName)), Origin(testMesh, testKey(t, 1).NodeID()), testKey(t, 1).NodeID())
	if err != nil {
		t.Fatal(err)
	}
	other, err := signCheckpoint(testKey(t, 2), cp.Origin, cp.Size, cp.Root, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, m, f.path(checkpointName), other.Note)
	firstBad(t, m, "checkpoint of another key", 300, KindCheckpoint)

	// Another mesh: the origin differs.
	r, err := Verify(m, testKey(t, 1).NodeID(), keys.MeshID{9})
	if err != nil || r.OK() {
		t.Fatalf("log of another mesh: %v, %v", r, err)
	}
	// Another node: there is no log.
	if r, err = Verify(m, testKey(t, 3).NodeID(), testMesh); err != nil || r.OK() {
		t.Fatalf("log of another node: %v, %v", r, err)
	}
	// Not a node.
	if _, err = Verify(m, keys.NodeID{1}, testMesh); !errors.Is(err, keys.ErrWeakKey) {
		t.Fatalf("weak node id: %v", err)
	}
}

func TestRollbackShows(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	fill(t, l, 300)
	checkpoint(t, l)
	old := clone(t, m)
	fill(t, l, 600)
	l.Close()
	newest := l.Status().Checkpoint
	dir := logPath(t, "")

	// As a whole it is consistent, and only a checkpoint kept elsewhere shows it.
	mustVerify(t, old, 301)
	r := verify(t, old, newest.Note)
	if first, bad := r.FirstBad(); !bad || first != 301 || r.Problems[0].Last != 900 || r.Problems[0].Kind != KindMissing {
		t.Errorf("rolled back, with the newest checkpoint known: %v", r.Problems)
	}
	if r := verify(t, m, newest.Note); !r.OK() {
		t.Errorf("not rolled back: %v", r.Problems)
	}
	// Any part that was not rolled back shows it, to Verify and to the node itself.
	for _, part := range []string{historyName, journalName, checkpointName} {
		c := clone(t, old)
		if part == checkpointName {
			writeFile(t, c, path.Join(dir, part), readFile(t, m, path.Join(dir, part)))
		} else {
			for _, name := range files(t, c, path.Join(dir, part), "") {
				c.Remove(name)
			}
			copyTree(t, m, c, path.Join(dir, part))
		}
		if part == journalName {
			// The newest journal has all the entries: nothing is lost, unless a commit is taken out.
			rewriteJournal(t, c, func(frames [][]byte) [][]byte {
				i := slices.IndexFunc(frames, func(b []byte) bool {
					f, err := parseFrame(b, testKey(t, 1).NodeID(), testMesh)
					return err != nil || f.First == 301
				})
				return slices.Delete(frames, i, i+1)
			})
		}
		if first, bad := verify(t, c).FirstBad(); !bad || first > 301 {
			t.Errorf("all but %s rolled back: first bad %d, %v", part, first, bad)
		}
		if _, err := Open(c, testKey(t, 1), testMesh, Options{}); err == nil {
			t.Errorf("all but %s rolled back: the node goes on", part)
		}
	}
}

func TestVerifyShowsFork(t *testing.T) {
	m := history(t, 300, 300)
	f := folder{m, Dir(testKey(t, 1).NodeID())}
	two, err := signCheckpoint(testKey(t, 1), Origin(testMesh, testKey(t, 1).NodeID()), 300, tlog.Hash{1}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	firstBad := func(r *Report) {
		t.Helper()
		if !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Kind == KindFork && p.First == 300 }) {
			t.Errorf("no fork: %v", r.Problems)
		}
	}
	firstBad(verify(t, m, two.Note))
	writeFile(t, m, f.path(checkpointName), two.Note)
	firstBad(verify(t, m))
}

func TestVerifyShowsNonCanonicalLeaf(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	mustAppend(t, l, 4)
	good := forged(t, event(1))
	// {1: 1, …} with the version written in two bytes: signed by the node itself, and still not a leaf.
	bad := append([]byte{good[0], 0x01, 0x18, 0x01}, good[3:]...)
	l.mu.Lock()
	l.enqueueLocked(bad)
	err := l.flushLocked()
	l.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	firstBad(t, clone(t, m), "in the journal", 5, KindLeaf)
	mustAppend(t, l, 3)
	l.Close()
	firstBad(t, m, "in a bundle", 5, KindLeaf)
	l = openLog(t, m)
	defer l.Close()
	recs, err := l.Read(4, 3)
	if err != nil || recs[0].Err != nil || !errors.Is(recs[1].Err, ErrLeaf) || recs[2].Err != nil {
		t.Fatalf("reading around it: %+v, %v", recs, err)
	}
}

func TestVerifyCountsGapsAndSignatures(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	mustAppend(t, l, 2)
	m.Crash()
	l = openLog(t, m)
	l.Close()
	r := verify(t, m)
	if !r.OK() || r.Recoveries != 1 || r.Signatures < 4 || r.Age(r.Checkpoint.Time.Add(time.Minute)) != time.Minute {
		t.Fatalf("%+v", r)
	}
	if bytes.Equal(r.Checkpoint.Note, nil) {
		t.Fatal("no checkpoint in the report")
	}
}

func TestReportKeepsTheFirstProblem(t *testing.T) {
	r := &Report{}
	for i := 3 * maxProblems; i > 0; i-- {
		r.add(Problem{Kind: KindLeaf, First: uint64(2 * i)})
	}
	r.sort()
	if first, _ := r.FirstBad(); first != 2 || len(r.Problems) != maxProblems || r.More != 2*maxProblems {
		t.Fatalf("first %d, %d problems, %d more", first, len(r.Problems), r.More)
	}
}
