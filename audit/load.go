package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
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

// openFiles opens history and journal for writing, and checks that the history does not know of more than there is.
func (l *Log) openFiles(d *loaded) error {
	if err := l.openHistory(d); err != nil {
		return err
	}
	if d.kept.Size > d.tree.size {
		return &DamageError{First: d.tree.size, Reason: fmt.Sprintf("the node signed a checkpoint of %d entries", d.kept.Size)}
	}
	number := uint64(1)
	if n := len(d.journals); n > 0 {
		number = d.journals[n-1].n
	}
	j, rec, err := durable.OpenLog(l.fsys, l.numberedPath(journalName, number), maxFrame, nil)
	if err != nil {
		return err
	}
	d.journal, d.clean = j, rec.Clean
	if rec.Torn != nil {
		d.repairs = append(d.repairs, fmt.Sprintf("%d torn bytes cut off and kept in %s", rec.Torn.Size, path.Base(rec.Torn.Copy)))
	}
	if len(d.journals) == 0 {
		d.journals = []journalFile{{number, d.tree.size}}
	}
	if rec.Frames == 0 {
		raw := newFrame(l.key, l.mesh, d.tree.size, nil, d.tree.root())
		if _, err := j.AppendSync(raw); err != nil {
			return err
		}
		d.journalLen = int64(len(raw))
	}
	return nil
}

// openHistory opens the last history that can be written. A damaged one stays as it is, for Verify to show, and another is
// begun: the history narrows the place of damage, nothing is continued from it.
func (l *Log) openHistory(d *loaded) error {
	list, err := l.numbered(historyName)
	if err != nil {
		return err
	}
	number := uint64(1)
	if len(list) > 0 {
		number = list[len(list)-1]
	}
	for {
		var last []byte
		h, _, err := durable.OpenLog(l.fsys, l.numberedPath(historyName, number), maxNote, func(_ uint64, b []byte) error {
			last = append(last[:0], b...)
			return nil
		})
		var corrupt *durable.CorruptError
		if errors.As(err, &corrupt) && !slices.Contains(list, number+1) {
			d.repairs = append(d.repairs, "the history of checkpoints is damaged")
			list = append(list, number)
			number++
			continue
		}
		if err != nil {
			return err
		}
		d.history = h
		if cp, err := parseCheckpoint(last, l.origin, l.node); err == nil {
			d.kept = *cp
		}
		return nil
	}
}

// begin writes the first record of a log, or the one that says how a start found it, and publishes the result.
func (l *Log) begin(d *loaded) error {
	var e Event
	switch {
	case d.fresh:
		before, err := l.predecessor()
		if err != nil {
			return err
		}
		e = Event{Code: AuditOpen, Actor: l.node.Compact(), Target: l.origin, Before: before}
	case !d.clean || len(d.repairs) > 0:
		behind := uint64(0)
		if d.base != nil {
			behind = d.base.Size
		}
		reason := "not closed in order"
		if len(d.repairs) > 0 {
			reason += "; " + strings.Join(d.repairs, "; ")
		}
		e = Event{Code: AuditRecover, Actor: l.node.Compact(), Reason: reason, Count: d.tree.size - behind}
	default:
		return nil
	}
	e.Time = time.Now()
	leaf, err := encodeLeaf(e)
	if err != nil {
		return err
	}
	s, root, err := l.write(&batch{leaves: [][]byte{leaf}, bytes: len(leaf)})
	if err != nil {
		return err
	}
	s.batch.done = true
	l.mu.Lock()
	l.acceptLocked(s, root)
	snap := l.snapshotLocked()
	l.mu.Unlock()
	cp, err := l.save(snap)
	if err != nil {
		return err
	}
	if err := l.keep(cp); err != nil {
		return err
	}
	l.mu.Lock()
	l.savedLocked(snap, cp)
	l.mu.Unlock()
	return nil
}

// predecessor is the checkpoint of the log that this one follows: "<node id> <size> <root>".
func (l *Log) predecessor() (string, error) {
	prev := l.opts.Previous
	if prev.IsZero() || prev == l.node {
		return "", nil
	}
	file := path.Join(Dir(prev), checkpointName)
	b, err := durable.ReadFile(l.fsys, file, maxNote)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	cp, err := parseCheckpoint(b, Origin(l.mesh, prev), prev)
	if err != nil {
		// The old log is damaged; the new one says so instead of not starting.
		return Dir(prev) + " damaged", nil
	}
	return predecessorText(prev, cp), nil
}

func predecessorText(prev keys.NodeID, cp *Checkpoint) string {
	return fmt.Sprintf("%s %d %s", prev.Compact(), cp.Size, cp.Root)
}
