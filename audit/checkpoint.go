package audit

import (
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// snapshot is what a checkpoint of size entries has to write. Its slices are prefixes of ones that are only appended to.
type snapshot struct {
	size, from uint64 // from: size of the last checkpoint
	root       tlog.Hash
	tail       [][]byte // entries from tailStart to size
	tailStart  uint64
	full       []fullTile
	partial    [][]tlog.Hash // per level
	all        bool          // write every partial tile, also one that should be there already
}

// snapshotLocked needs busy to be false, or set by the caller.
func (l *Log) snapshotLocked() *snapshot {
	s := &snapshot{
		size: l.size, root: l.root, tail: l.tail[:l.size-l.tailStart], tailStart: l.tailStart, full: l.full[:len(l.full):len(l.full)],
		partial: slices.Clone(l.tree.tiles), all: l.rewrite,
	}
	if l.saved != nil {
		s.from = l.saved.Size
	}
	return s
}

// Checkpoint signs and publishes the log as it is, and returns the checkpoint. It does nothing if nothing was added since
// the last one.
func (l *Log) Checkpoint() (Checkpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.failed == nil && (l.busy || l.saving) {
		l.cond.Wait()
	}
	if l.failed != nil {
		return Checkpoint{}, l.failed
	}
	if err := l.saveLocked(); err != nil {
		return Checkpoint{}, err
	}
	if l.saved == nil {
		return Checkpoint{}, nil
	}
	return *l.saved, nil
}

// saveLocked makes a checkpoint. busy and saving must be false; mu is let go while the disk works.
func (l *Log) saveLocked() error {
	if l.journal == nil || l.saved != nil && l.saved.Size == l.size && !l.rewrite {
		return nil
	}
	snap := l.snapshotLocked()
	l.saving, l.savedAt = true, time.Now()
	l.mu.Unlock()
	cp, err := l.save(snap)
	var keepErr error
	if err == nil {
		keepErr = l.keep(cp)
	}
	l.mu.Lock()
	l.saving = false
	if err == nil {
		l.savedLocked(snap, cp)
		l.tidyLocked(snap)
		err = keepErr
	}
	l.saveErr = err
	if err != nil {
		l.log.Error("audit checkpoint failed", "error", err)
	}
	l.cond.Broadcast()
	return err
}

// save writes a checkpoint and what it stands on. If we crash
//
//	before the checkpoint has its name: the old one stands, with its tiles; the journal still has every entry after it,
//	and the next attempt writes the same tiles with the same content;
//	after it: its tiles are all there, since they were synced first; tidyLocked only removes what they replace.
func (l *Log) save(s *snapshot) (*Checkpoint, error) {
	write := func(level int, n uint64, width int, data []byte) error {
		name := l.tilePath(level, n, width)
		if err := l.mkdir(path.Dir(name)); err != nil {
			return err
		}
		return durable.WriteFile(l.fsys, name, data)
	}
	for n := s.tailStart / tileWidth; n < s.size/tileWidth; n++ {
		at := n*tileWidth - s.tailStart
		if err := write(entriesLevel, n, tileWidth, bundle(s.tail[at:at+tileWidth])); err != nil {
			return nil, err
		}
	}
	for _, t := range s.full {
		if err := write(t.level, t.n, tileWidth, tileData(t.hashes)); err != nil {
			return nil, err
		}
	}
	for level := range levels(s.size) {
		count := levelCount(s.size, level)
		width := int(count % tileWidth)
		if width == 0 || count == levelCount(s.from, level) && !s.all {
			continue
		}
		if level == 0 {
			at := s.size - uint64(width) - s.tailStart
			if err := write(entriesLevel, count/tileWidth, width, bundle(s.tail[at:])); err != nil {
				return nil, err
			}
		}
		if err := write(level, count/tileWidth, width, tileData(s.partial[level])); err != nil {
			return nil, err
		}
	}
	cp, err := signCheckpoint(l.key, l.origin, s.size, s.root, time.Now())
	if err != nil {
		return nil, err
	}
	if err := durable.WriteFile(l.fsys, l.path(checkpointName), cp.Note); err != nil {
		return nil, err
	}
	return cp, nil
}

// keep puts a checkpoint into the history if the last one kept is far enough behind.
func (l *Log) keep(cp *Checkpoint) error {
	if cp.Size-l.kept.Size < historyEntries && cp.Time.Sub(l.kept.Time) < historyEvery && l.kept.Note != nil {
		return nil
	}
	if _, err := l.history.Reopen(); err != nil {
		return err
	}
	if _, err := l.history.AppendSync(cp.Note); err != nil {
		return err
	}
	l.kept = *cp
	return nil
}

// mkdir makes a directory durably, once per run.
func (l *Log) mkdir(dir string) error {
	if l.dirs[dir] {
		return nil
	}
	if err := durable.MkdirAll(l.fsys, dir); err != nil {
		return err
	}
	if len(l.dirs) >= maxDirs {
		clear(l.dirs)
	}
	l.dirs[dir] = true
	return nil
}

// savedLocked drops from memory what the checkpoint holds.
func (l *Log) savedLocked(s *snapshot, cp *Checkpoint) {
	start := s.size / tileWidth * tileWidth
	l.tail = slices.Clone(l.tail[start-l.tailStart:])
	l.tailStart = start
	l.full = slices.Clone(l.full[len(s.full):])
	l.saved, l.rewrite, l.saveErr = cp, false, nil
}

// tidyLocked removes what the checkpoint made useless, and starts a new journal if the old one has grown. Nothing depends on
// its success. mu is let go while the disk works.
func (l *Log) tidyLocked(s *snapshot) {
	if l.busy || l.failed != nil {
		return // next time
	}
	l.busy = true
	journals := l.journals
	grown := l.journalLen > journalBytes
	l.mu.Unlock()

	l.removePartials(s)
	var next *durable.Log
	var number uint64
	var raw []byte
	var err error
	if grown {
		number = journals[len(journals)-1].n + 1
		next, raw, err = l.newJournal(number, l.tree)
	}
	kept := journals[:0:0]
	for i, j := range journals {
		if i < len(journals)-1 && j.end <= s.size && l.removeJournal(j.n) == nil {
			continue
		}
		kept = append(kept, j)
	}

	if next != nil && err == nil {
		_ = l.journal.Close() // all of it is durable
		l.journal = next
	}

	l.mu.Lock()
	l.busy = false
	if next != nil && err == nil {
		l.journalLen = int64(len(raw))
		kept = append(kept, journalFile{number, l.size})
	} else if err != nil {
		l.log.Warn("audit journal could not be replaced", "error", err)
	}
	l.journals = kept
	l.cond.Broadcast()
}

// newJournal makes a journal whose first frame says where it continues. If we crash before that frame, the next start finds
// an empty journal behind one that holds everything, and writes the frame then.
func (l *Log) newJournal(number uint64, t *tree) (*durable.Log, []byte, error) {
	j, _, err := durable.OpenLog(l.fsys, l.numberedPath(journalName, number), maxFrame, nil)
	if err != nil {
		return nil, nil, err
	}
	raw := newFrame(l.key, l.mesh, t.size, nil, t.root())
	if _, err := j.AppendSync(raw); err != nil {
		_ = j.Close()
		return nil, nil, err
	}
	return j, raw, nil
}

// removeJournal removes the files of a journal, last segment first: what a crash leaves is a shorter journal, not a hole.
// Copies of torn ends stay, as evidence.
func (l *Log) removeJournal(number uint64) error {
	prefix := path.Base(l.numberedPath(journalName, number)) + "."
	names, err := l.list(journalName)
	if err != nil {
		return err
	}
	slices.Reverse(names)
	for _, name := range names {
		segment, ok := strings.CutPrefix(name, prefix)
		if !ok || len(segment) != 6 {
			continue
		}
		if err := l.fsys.Remove(l.path(path.Join(journalName, name))); err != nil {
			return err
		}
		if err := l.fsys.SyncDir(l.path(journalName)); err != nil {
			return err
		}
	}
	return nil
}

// removePartials removes the partial tiles of the last checkpoint that the new one replaced.
func (l *Log) removePartials(s *snapshot) {
	for level := range levels(s.from) {
		old, now := levelCount(s.from, level), levelCount(s.size, level)
		width := int(old % tileWidth)
		if width == 0 || old == now {
			continue
		}
		names := []string{l.tilePath(level, old/tileWidth, width)}
		if level == 0 {
			names = append(names, l.tilePath(entriesLevel, old/tileWidth, width))
		}
		for _, name := range names {
			if err := l.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.log.Warn("audit: old partial tile stays", "file", name, "error", err)
			}
			if now/tileWidth > old/tileWidth {
				dir := path.Dir(name)
				delete(l.dirs, dir)
				_ = l.fsys.Remove(dir) // if it is empty
			}
		}
	}
}
