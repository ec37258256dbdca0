package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// loaded is a log as it was found on disk.
type loaded struct {
	tree       *tree
	tail       [][]byte
	tailStart  uint64
	full       []fullTile
	base       *Checkpoint // what the tiles hold; nil: nothing was ever published
	rewrite    bool
	fresh      bool
	clean      bool
	repairs    []string
	history    *durable.Log
	kept       Checkpoint
	journal    *durable.Log
	journalLen int64
	journals   []journalFile
}

// load reads what is needed to go on: the last checkpoint, the tiles at the right edge, and the journals. It authenticates
// all of it. The time it takes does not depend on the size of the log, unless something is damaged.
//
// What it may find after a crash, in the order of the writes (commit: a frame; checkpoint: bundles and tiles, then the
// checkpoint, then the history, then a new journal, then the removal of what is obsolete):
//
//	a torn frame: cut off, it was not acknowledged;
//	tiles without their checkpoint: ignored, and written again with the same content;
//	a checkpoint that is not in the history: the history has gaps by design;
//	an empty journal behind a full one: continued;
//	obsolete journals and tiles: the journals' entries are skipped, being in the tiles.
func (l *Log) load() error {
	l.dirs = make(map[string]bool)
	for _, dir := range []string{l.dir, l.path(journalName), l.path(historyName)} {
		if err := l.mkdir(dir); err != nil {
			return err
		}
		if err := durable.Sweep(l.fsys, dir); err != nil {
			return err
		}
	}
	d, err := l.read()
	if err == nil {
		err = l.openFiles(d)
	}
	if err != nil {
		if d != nil {
			l.history, l.journal = d.history, d.journal // for closeFiles
		}
		return err
	}
	l.mu.Lock()
	l.tree, l.tail, l.tailStart, l.full = d.tree, d.tail, d.tailStart, d.full
	l.size, l.root = d.tree.size, d.tree.root()
	l.saved, l.rewrite = d.base, d.rewrite
	l.history, l.kept = d.history, d.kept
	l.journal, l.journalLen, l.journals = d.journal, d.journalLen, d.journals
	l.savedAt = time.Now()
	l.mu.Unlock()
	return l.begin(d)
}

// read finds a state of the tiles that the node signed, and adds what the journals have beyond it.
func (l *Log) read() (*loaded, error) {
	b, err := durable.ReadFile(l.fsys, l.path(checkpointName), maxNote)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return nil, err
	}
	var why error
	if !missing {
		cp, err := parseCheckpoint(b, l.origin, l.node)
		if err != nil {
			why = err
		} else {
			d, err := l.edge(cp)
			if err == nil {
				if err := l.sweep(cp.Size); err != nil {
					return nil, err
				}
				return d, l.replay(d)
			}
			why = err
		}
	}
	if missing {
		// A new log, or one whose first checkpoint was not finished: then the journal has everything.
		d := &loaded{tree: &tree{}, rewrite: true}
		if err := l.replay(d); err == nil {
			d.fresh = d.tree.size == 0
			return d, l.notRolledBack(d)
		}
		why = errors.New("the checkpoint is missing")
	}
	return l.rebuild(why)
}

// edge loads the tree of a checkpoint from the last tile of each level.
func (l *Log) edge(cp *Checkpoint) (*loaded, error) {
	tiles := make([][]tlog.Hash, levels(cp.Size))
	for level := range tiles {
		count := levelCount(cp.Size, level)
		width := int(count % tileWidth)
		if width == 0 {
			continue
		}
		hashes, file, err := l.readHashes(level, count/tileWidth, width)
		if err != nil {
			return nil, err
		}
		if len(hashes) < width {
			return nil, fmt.Errorf("%s is missing or too short", file)
		}
		tiles[level] = hashes
	}
	t := treeFromTiles(cp.Size, tiles)
	if t.root() != cp.Root {
		return nil, errors.New("the tiles do not fit the checkpoint")
	}
	d := &loaded{tree: t, base: cp, tailStart: cp.Size / tileWidth * tileWidth}
	if width := int(cp.Size % tileWidth); width > 0 {
		entries, file, err := l.readEntries(cp.Size/tileWidth, width)
		if err != nil {
			return nil, err
		}
		if len(entries) < width {
			return nil, fmt.Errorf("%s is missing or too short", file)
		}
		for i, e := range entries {
			if tlog.RecordHash(e) != tiles[0][i] {
				return nil, fmt.Errorf("%s: entry %d is not the one that was signed", file, d.tailStart+uint64(i))
			}
		}
		d.tail = entries
	}
	return d, nil
}

// rebuild is the slow way: it walks through the whole log as Verify does and takes the last state that fits a signature.
// What is damaged stays damaged, for Verify to show; what can be continued is continued.
func (l *Log) rebuild(why error) (*loaded, error) {
	w := newWalker(l.folder, l.node, l.mesh)
	w.keep = true
	w.collect()
	w.check()
	w.walkTiles()
	if w.goodTree == nil {
		return nil, l.damage(why)
	}
	size := w.goodTree.size
	d := &loaded{
		tree: w.goodTree, rewrite: true, tailStart: size / tileWidth * tileWidth, repairs: []string{why.Error()},
		base: &Checkpoint{Origin: l.origin, Size: size, Root: w.goodTree.root()},
	}
	for i := range int(size - d.tailStart) {
		// An entry that cannot be read keeps its place: its hash is in the tree.
		var e []byte
		if i < len(w.goodTail) {
			e = w.goodTail[i]
		}
		d.tail = append(d.tail, e)
	}
	if err := l.replay(d); err != nil {
		return nil, l.damage(err)
	}
	return d, l.notRolledBack(d)
}

// damage names the first bad entry.
func (l *Log) damage(why error) error {
	first := uint64(0)
	reason := why.Error()
	if r, err := Verify(l.fsys, l.node, l.mesh); err == nil {
		if n, bad := r.FirstBad(); bad {
			first, reason = n, r.Problems[0].Detail
		}
	}
	return &DamageError{First: first, Reason: reason}
}

// replay adds the commits of the journals that lie behind the tiles.
func (l *Log) replay(d *loaded) error {
	list, err := l.numbered(journalName)
	if err != nil {
		return err
	}
	for _, n := range list {
		size := int64(0)
		_, err := durable.ReadLog(l.fsys, l.numberedPath(journalName, n), maxFrame, func(_ uint64, b []byte) error {
			size += int64(len(b))
			f, err := parseFrame(b, l.node, l.mesh)
			if err != nil {
				return err
			}
			return d.apply(f)
		})
		if err != nil {
			var damage *DamageError
			if errors.As(err, &damage) {
				return damage
			}
			var corrupt *durable.CorruptError
			if errors.As(err, &corrupt) || errors.Is(err, errFrame) {
				return &DamageError{First: d.tree.size, Reason: fmt.Sprintf("%v; if the %d entries before it are enough, move %s.* elsewhere",
					err, d.tree.size, l.numberedPath(journalName, n))}
			}
			return err
		}
		d.journalLen = size
		d.journals = append(d.journals, journalFile{n, d.tree.size})
	}
	return nil
}

// apply adds a commit, or skips one that is in the tiles.
func (d *loaded) apply(f *frame) error {
	switch {
	case f.size() < d.tree.size || f.size() == d.tree.size && len(f.Leaves) > 0:
		return nil
	case f.First > d.tree.size:
		return &DamageError{First: d.tree.size, Reason: fmt.Sprintf("entries up to %d are missing", f.First-1)}
	case f.First < d.tree.size:
		return &DamageError{First: f.First, Reason: "a commit that is only in part in the tiles"}
	}
	for _, leaf := range f.Leaves {
		leaf = slices.Clone(leaf)
		d.tree.add(tlog.RecordHash(leaf), nil, func(level int, n uint64, hashes []tlog.Hash) {
			d.full = append(d.full, fullTile{level, n, hashes})
		})
		d.tail = append(d.tail, leaf)
	}
	if d.tree.root() != f.Root {
		return &DamageError{First: f.First, Reason: "the commit does not continue the log"}
	}
	return nil
}

// notRolledBack checks a state that does not come from the published checkpoint against everything that was signed.
func (l *Log) notRolledBack(d *loaded) error {
	w := newWalker(l.folder, l.node, l.mesh)
	w.collect()
	if w.report.Signed > d.tree.size {
		return &DamageError{First: d.tree.size, Reason: fmt.Sprintf("the node signed %d entries", w.report.Signed)}
	}
	// The journal comes before the tiles: tiles alone are what is left of a log.
	if names, err := l.list(tileName); err != nil || d.tree.size == 0 && len(names) > 0 {
		return errors.Join(err, &DamageError{Reason: "there are tiles, but nothing that is signed"})
	}
	return nil
}

// sweep removes what a crash during a checkpoint leaves at the right edge: temporary files, and partial tiles that were never
// published.
func (l *Log) sweep(size uint64) error {
	for level := entriesLevel; level < levels(size); level++ {
		count := levelCount(size, max(level, 0))
		partials := path.Dir(l.tilePath(level, count/tileWidth, 1))
		for _, dir := range []string{partials, path.Dir(partials)} {
			if err := durable.Sweep(l.fsys, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		widths, err := l.widths(level, count/tileWidth)
		if err != nil {
			return err
		}
		for _, width := range widths {
			if width == int(count%tileWidth) {
				continue
			}
			if err := l.fsys.Remove(l.tilePath(level, count/tileWidth, width)); err != nil {
				return err
			}
		}
	}
	return nil
}
