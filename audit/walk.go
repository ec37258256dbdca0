package audit

import (
	"bytes"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/keys"
)

// walker reads a log from its first entry to its last and holds it against what the node signed.
//
// It builds two trees side by side: one from the entries, one from the hashes in the level 0 tiles. At every size that was
// signed it compares both roots. If only one fits, the other side is wrong at the first place where they differ, and is
// corrected by the good one. If neither fits, entries and tiles were changed together since the last size that did.
type walker struct {
	// immutable
	folder
	node   keys.NodeID
	mesh   keys.MeshID
	origin string

	report  *Report
	pending []Problem // found before it was known how much is signed
	anchors []anchor  // by size
	area    uint64    // how many entries the tiles have, if closed: else as many as are found
	closed  bool
	keep    bool // keep the last good state

	entries, hashes *tree
	emitted         [2][]treeNode
	mismatch        uint64 // first place where they differ since the last anchor
	differ          bool
	next            int // anchor
	good            uint64
	broken          bool // nothing more can be compared
	goodTree        *tree
	goodTail        [][]byte
	tail            [][]byte // of the bundle being read
	cache           map[int]cachedTile
}

type cachedTile struct {
	n      uint64
	hashes []tlog.Hash
	file   string
}

func newWalker(f folder, node keys.NodeID, mesh keys.MeshID) *walker {
	origin := Origin(mesh, node)
	return &walker{
		folder: f, node: node, mesh: mesh, origin: origin, report: &Report{Node: node, Mesh: mesh, Origin: origin},
		entries: &tree{}, hashes: &tree{}, cache: make(map[int]cachedTile),
	}
}

func (w *walker) walk() {
	w.check() // an anchor of size 0
	w.walkTiles()
	// A log that is written to has moved on meanwhile, and may have dropped the journal with what came next.
	for w.closed && !w.broken && w.refresh() {
		w.walkTiles()
	}
	if !w.broken {
		w.walkJournals()
	}
	r := w.report
	r.Size = w.entries.size
	if w.differ && !w.broken {
		r.add(Problem{Kind: KindEntry, First: w.mismatch, Detail: "entry and tile differ, and no signature tells which is right"})
	}
	if !w.broken && r.Size < r.Signed {
		r.add(Problem{
			Kind: KindMissing, First: r.Size, Last: r.Signed - 1,
			Detail: fmt.Sprintf("removed: the node signed %d entries", r.Signed),
		})
	}
	w.extra()
	r.sort()
}

// walkTiles reads bundles and tiles, from where it ended before.
func (w *walker) walkTiles() {
	done := w.entries.size
	for b := done / tileWidth; !w.broken; b++ {
		limit := w.area
		if !w.closed {
			limit = w.report.Signed
		}
		if max(b*tileWidth, done) >= limit {
			return
		}
		want := int(min(tileWidth, limit-b*tileWidth))
		entries := w.bundleAt(b, want)
		hashes, file, err := w.readHashes(0, b, want)
		if err != nil {
			w.report.add(Problem{Kind: KindUnreadable, First: b * tileWidth, File: file, Detail: err.Error()})
		}
		have := max(len(entries), len(hashes))
		if have < want && !w.closed {
			want = have // the journal has the rest, or it is missing
		}
		if have < want {
			w.skip(b, have, want)
			continue
		}
		w.tail = entries
		for i := int(max(done, b*tileWidth) - b*tileWidth); i < want; i++ {
			w.step(b*tileWidth+uint64(i), i, entries, hashes, file)
		}
		w.upper()
		if want < tileWidth {
			return
		}
	}
}

// bundleAt reads the entries of a bundle and checks what can be checked without the rest.
func (w *walker) bundleAt(b uint64, want int) [][]byte {
	data, file, err := w.readWide(entriesLevel, b, want)
	if err != nil {
		w.report.add(Problem{Kind: KindUnreadable, First: b * tileWidth, File: file, Detail: err.Error()})
		return nil
	}
	entries, rest := splitBundle(data, want)
	exact := file == w.tilePath(entriesLevel, b, want)
	if len(entries) == want && len(rest) > 0 && exact {
		w.report.add(Problem{Kind: KindUnsigned, First: b*tileWidth + uint64(want), File: file, Detail: "bytes behind the last entry"})
	}
	if len(entries) < want && w.closed {
		at := b*tileWidth + uint64(len(entries))
		detail := "removed from the bundle"
		if data == nil {
			detail = "the bundle is missing"
		} else if len(rest) > 0 {
			detail = "the bundle cannot be read from here on"
		}
		w.report.add(Problem{Kind: KindMissing, First: at, Last: b*tileWidth + uint64(want) - 1, File: file, Detail: detail})
	}
	for i, e := range entries {
		event, err := parseLeaf(e)
		if err != nil {
			w.report.add(Problem{Kind: KindLeaf, First: b*tileWidth + uint64(i), File: file, Detail: err.Error()})
		}
		w.count(event)
	}
	return entries
}

func (w *walker) count(e Event) {
	switch e.Code {
	case AuditOpen:
		w.report.before = e.Before
	case AuditGap:
		w.report.Gaps++
	case AuditRecover:
		w.report.Recoveries++
	}
}

// step takes one entry that is in the bundle, in the tile, or in both.
func (w *walker) step(index uint64, i int, entries [][]byte, hashes []tlog.Hash, file string) {
	var eh, th tlog.Hash
	if i < len(hashes) {
		th = hashes[i]
	}
	if i < len(entries) {
		eh = tlog.RecordHash(entries[i])
	} else {
		eh = th
	}
	if i >= len(hashes) {
		th = eh
		if i == len(hashes) && w.closed {
			w.report.add(Problem{Kind: KindTile, First: index, File: file, Detail: "the hash tile is missing or too short"})
		}
	}
	w.add(index, eh, th)
}

func (w *walker) add(index uint64, eh, th tlog.Hash) {
	if eh != th && !w.differ {
		w.mismatch, w.differ = index, true
	}
	w.entries.add(eh, w.gained(0), nil)
	w.hashes.add(th, w.gained(1), nil)
	w.check()
}

// gained collects the hashes that one of the trees gained above level 0.
func (w *walker) gained(side int) func(treeNode) {
	return func(n treeNode) {
		if n.level > 0 {
			w.emitted[side] = append(w.emitted[side], n)
		}
	}
}

// check compares the trees with what was signed at their size.
func (w *walker) check() {
	size := w.entries.size
	for ; !w.broken && w.next < len(w.anchors) && w.anchors[w.next].size <= size; w.next++ {
		if w.anchors[w.next].size < size {
			continue // in a bundle that was skipped
		}
		root := w.anchors[w.next].root
		entriesFit, hashesFit := w.entries.root() == root, w.hashes.root() == root
		switch {
		case entriesFit && hashesFit:
		case entriesFit:
			w.report.add(Problem{Kind: KindTile, First: w.mismatch, Detail: "its hash in the tile is not the one that was signed; the entry is"})
			w.hashes = w.entries.clone()
		case hashesFit:
			w.report.add(Problem{Kind: KindEntry, First: w.mismatch, Detail: "it is not the entry that was signed"})
			w.entries = w.hashes.clone()
		default:
			w.report.add(Problem{
				Kind: KindRange, First: w.good, Last: max(w.good, size-min(size, 1)),
				Detail: fmt.Sprintf("changed together with their hashes: the log of %d entries fits what was signed, that of %d does not", w.good, size),
			})
			w.broken = true
			continue
		}
		w.differ, w.good = false, size
		if w.keep {
			w.goodTree = w.entries.clone()
			w.goodTail = w.tail
		}
	}
}

// skip passes over a bundle of which neither the entries nor the hashes are whole, by its hash in the tile above.
func (w *walker) skip(b uint64, have, want int) {
	above, file, err := w.readHashes(1, b/tileWidth, int(b%tileWidth)+1)
	if err != nil || want < tileWidth || len(above) <= int(b%tileWidth) || w.entries.size != b*tileWidth {
		w.report.add(Problem{
			Kind: KindMissing, First: b*tileWidth + uint64(have), Last: max(w.report.Signed, 1) - 1, File: file,
			Detail: "entries and hashes are missing, what follows cannot be proven",
		})
		w.broken = true
		return
	}
	w.report.add(Problem{Kind: KindTile, First: b*tileWidth + uint64(have), File: w.tilePath(0, b, tileWidth), Detail: "the hash tile is missing or too short"})
	h := above[b%tileWidth]
	w.entries.addTile(h, nil, nil)
	w.hashes.addTile(h, nil, nil)
	w.check()
}

// upper compares the hashes that the tiles above level 0 gained with the files.
func (w *walker) upper() {
	for k := range min(len(w.emitted[0]), len(w.emitted[1])) {
		e, t := w.emitted[0][k], w.emitted[1][k]
		count := levelCount(w.area, e.level)
		if !w.closed || e.n >= count {
			continue
		}
		first := e.n << (tileHeight * e.level)
		tile, ok := w.cache[e.level]
		if !ok || tile.n != e.n/tileWidth {
			want := int(min(tileWidth, count-e.n/tileWidth*tileWidth))
			hashes, file, err := w.readHashes(e.level, e.n/tileWidth, want)
			if err != nil {
				w.report.add(Problem{Kind: KindUnreadable, First: first, File: file, Detail: err.Error()})
			}
			tile = cachedTile{e.n / tileWidth, hashes, file}
			w.cache[e.level] = tile
		}
		at := int(e.n % tileWidth)
		switch {
		case at >= len(tile.hashes):
			if at == len(tile.hashes) {
				w.report.add(Problem{Kind: KindTile, First: first, File: tile.file, Detail: "the hash tile is missing or too short"})
			}
		case tile.hashes[at] != e.hash && tile.hashes[at] != t.hash:
			w.report.add(Problem{Kind: KindTile, First: first, File: tile.file, Detail: "a hash of the tile does not fit the entries below it"})
		}
	}
	w.emitted = [2][]treeNode{w.emitted[0][:0], w.emitted[1][:0]}
}

// walkJournals reads the entries that came after the checkpoint, and compares those that are in tiles already.
func (w *walker) walkJournals() {
	var at uint64 // bundle in memory
	var entries [][]byte
	var hashes []tlog.Hash
	loaded := false
	w.readAgain(func(file string, f *frame) {
		for i, leaf := range f.Leaves {
			index := f.First + uint64(i)
			size := w.entries.size
			switch {
			case w.broken:
				return
			case index > size:
				w.report.add(Problem{Kind: KindMissing, First: size, Last: index - 1, File: file, Detail: "between the tiles and the journal"})
				w.broken = true
			case index == size:
				event, err := parseLeaf(leaf)
				if err != nil {
					w.report.add(Problem{Kind: KindLeaf, First: index, File: file, Detail: err.Error()})
				}
				w.count(event)
				h := tlog.RecordHash(leaf)
				w.add(index, h, h)
				w.emitted = [2][]treeNode{w.emitted[0][:0], w.emitted[1][:0]}
			default:
				if b := index / tileWidth; !loaded || b != at {
					want := int(min(tileWidth, max(w.area, size)-b*tileWidth))
					entries, _, _ = w.readEntries(b, want)
					hashes, _, _ = w.readHashes(0, b, want)
					at, loaded = b, true
				}
				k := int(index % tileWidth)
				same := k < len(entries) && bytes.Equal(entries[k], leaf) || k < len(hashes) && hashes[k] == tlog.RecordHash(leaf)
				if !same && (k < len(entries) || k < len(hashes)) {
					w.report.add(Problem{Kind: KindJournal, First: index, File: file, Detail: "the journal has another entry than the tiles"})
				}
			}
		}
	})
}

// readAgain goes through the commits whose signatures verified.
func (w *walker) readAgain(fn func(file string, f *frame)) {
	pending := len(w.pending)
	w.readNumbered(journalName, KindJournal, func(file string, _ uint64, b []byte) {
		// Commits that came after collect are the next Verify's.
		if f, err := parseFrame(b, w.node, w.mesh); err == nil && f.size() <= w.report.Signed {
			fn(file, f)
		}
	})
	w.pending = w.pending[:pending] // collect has them already
}

// extra looks for entries behind the last one that was signed.
func (w *walker) extra() {
	signed := w.report.Signed
	b := signed / tileWidth
	unsigned := func(file string) {
		again := newWalker(w.folder, w.node, w.mesh)
		again.collect()
		if again.report.Signed > signed {
			return // they came while we read; the next Verify reads them
		}
		w.report.add(Problem{Kind: KindUnsigned, First: signed, File: file, Detail: "there are entries behind the last one that was signed"})
	}
	if entries, file, err := w.readEntries(b, tileWidth); err == nil && uint64(len(entries)) > signed-b*tileWidth {
		unsigned(file)
		return
	}
	if data, file, err := w.readWide(entriesLevel, b+1, tileWidth); err == nil && data != nil {
		unsigned(file)
	}
}
