package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

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

// predecessor is the checkpoint of the log that this one follows: "<node id> <size> <root>", or a word in place of both numbers.
func (l *Log) predecessor() (string, error) {
	prev := l.opts.Previous
	if prev.IsZero() || prev == l.node {
		return "", nil
	}
	file := path.Join(Dir(prev), checkpointName)
	b, err := durable.ReadFile(l.fsys, file, maxNote)
	if errors.Is(err, fs.ErrNotExist) {
		return prev.Compact() + " " + beforeMissing, nil
	}
	if err != nil {
		return "", err
	}
	cp, err := parseCheckpoint(b, Origin(l.mesh, prev), prev)
	if err != nil {
		// The old log is damaged; the new one says so instead of not starting.
		return prev.Compact() + " " + beforeDamaged, nil
	}
	return predecessorText(prev, cp), nil
}

func predecessorText(prev keys.NodeID, cp *Checkpoint) string {
	return fmt.Sprintf("%s %d %s", prev.Compact(), cp.Size, cp.Root)
}
