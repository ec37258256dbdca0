package audit

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// anchor is something the node signed: with size entries the root is root.
type anchor struct {
	size uint64
	root tlog.Hash
}

// verifyTries is how often Verify starts again when the log moved under it.
const verifyTries = 3

// liveTries is how often a log that looks damaged is read.
const liveTries = 4

// Verify checks a node's log, or a copy of it, with the node id alone. It reads every entry and holds one bundle at a time. The
// error is about the question, not the log: what is wrong with the log is in the report.
//
// known are signed checkpoints of this log that were kept elsewhere, by a witness, a peer or a person: a log that was replaced
// as a whole by an older copy of itself is consistent, and only they show what is missing.
func Verify(fsys durable.FS, node keys.NodeID, mesh keys.MeshID, known ...[]byte) (*Report, error) {
	if fsys == nil || node.IsZero() || mesh.IsZero() {
		return nil, errors.New("audit: Verify without file system, node or mesh")
	}
	if err := keys.CheckPublicKey(node); err != nil {
		return nil, err
	}
	var outside []anchor
	for _, b := range known {
		c, err := parseCheckpoint(b, Origin(mesh, node), node)
		if err != nil {
			return nil, fmt.Errorf("the known checkpoint: %w", err)
		}
		outside = append(outside, anchor{c.Size, c.Root})
	}
	return verifyWith(fsys, node, mesh, outside), nil
}

func verifyWith(fsys durable.FS, node keys.NodeID, mesh keys.MeshID, outside []anchor) *Report {
	f := folder{fsys, Dir(node)}
	var r *Report
	for range verifyTries {
		before := f.edition()
		w := newWalker(f, node, mesh)
		w.anchors = slices.Clone(outside)
		w.collect()
		w.walk()
		r = w.report
		// A running daemon replaces partial tiles and journals at each checkpoint: what was read across one is two logs.
		if r.OK() || before == f.edition() {
			break
		}
	}
	return r
}

// edition tells whether a log went on to another checkpoint or journal.
func (f folder) edition() string {
	cp, err := durable.ReadFile(f.fsys, f.path(checkpointName), maxNote)
	journals, listErr := f.numbered(journalName)
	return fmt.Sprint(string(cp), err, journals, listErr)
}

// collect reads everything that is signed: the checkpoint, the history, the commits of the journals.
func (w *walker) collect() {
	r := w.report
	if b, err := durable.ReadFile(w.fsys, w.path(checkpointName), maxNote); err != nil {
		w.unsigned(KindCheckpoint, w.path(checkpointName), err)
	} else if c, err := parseCheckpoint(b, w.origin, w.node); err != nil {
		w.unsigned(KindCheckpoint, w.path(checkpointName), err)
	} else {
		r.Checkpoint, w.area, w.closed = *c, c.Size, true
		w.anchors = append(w.anchors, anchor{c.Size, c.Root})
		r.Signatures++
	}
	w.readNumbered(historyName, KindCheckpoint, func(file string, _ uint64, b []byte) {
		c, err := parseCheckpoint(b, w.origin, w.node)
		if err != nil {
			w.unsigned(KindCheckpoint, file, err)
			return
		}
		w.anchors = append(w.anchors, anchor{c.Size, c.Root})
		r.Signatures++
	})
	w.readNumbered(journalName, KindJournal, func(file string, _ uint64, b []byte) {
		f, err := parseFrame(b, w.node, w.mesh)
		if err != nil {
			w.unsigned(KindJournal, file, err)
			return
		}
		w.anchors = append(w.anchors, anchor{f.size(), f.Root})
		r.Signatures++
	})
	w.sortAnchors()
	// Now it is known how much the signatures that are left prove.
	for _, p := range w.pending {
		p.First, p.Last = r.Signed, r.Signed
		r.add(p)
	}
}

// refresh looks for a newer checkpoint than the one the tiles were read by.
func (w *walker) refresh() bool {
	b, err := durable.ReadFile(w.fsys, w.path(checkpointName), maxNote)
	if err != nil {
		return false
	}
	c, err := parseCheckpoint(b, w.origin, w.node)
	if err != nil || c.Size <= w.area {
		return false
	}
	w.report.Checkpoint, w.area = *c, c.Size
	w.report.Signatures++
	w.anchors = append(w.anchors, anchor{c.Size, c.Root})
	w.sortAnchors()
	clear(w.cache)
	return true
}

// sortAnchors puts everything that was signed in order.
func (w *walker) sortAnchors() {
	r := w.report
	slices.SortStableFunc(w.anchors, func(a, b anchor) int { return cmp.Compare(a.size, b.size) })
	for i := 1; i < len(w.anchors); i++ {
		if a, b := w.anchors[i-1], w.anchors[i]; a.size == b.size && a.root != b.root {
			r.add(Problem{Kind: KindFork, First: a.size, Detail: "the node signed two different logs of this size"})
		}
	}
	w.anchors = slices.Compact(w.anchors)
	if n := len(w.anchors); n > 0 {
		r.Signed = w.anchors[n-1].size
	}
}

// unsigned notes a signed statement that is not there or not right.
func (w *walker) unsigned(kind Kind, file string, err error) {
	detail := err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		detail = "it is missing"
	}
	if len(w.pending) < maxProblems {
		w.pending = append(w.pending, Problem{Kind: kind, File: file, Detail: detail})
	}
}

// readNumbered reads the durable logs of a sub-folder in order.
func (w *walker) readNumbered(name string, kind Kind, fn func(file string, i uint64, payload []byte)) {
	list, err := w.numbered(name)
	if err != nil {
		w.unsigned(KindUnreadable, w.path(name), err)
	}
	if len(list) == 0 && err == nil {
		w.unsigned(kind, w.path(name), fs.ErrNotExist)
	}
	limit := maxFrame
	if name == historyName {
		limit = maxNote
	}
	for _, n := range list {
		file := w.numberedPath(name, n)
		rec, err := w.readLog(name, n, limit, fn)
		if err != nil {
			w.unsigned(kind, file, err)
		} else if rec.Torn != nil {
			w.report.Torn = true
		}
	}
}

// readLog reads one durable log. The node may write to it: what was half-written when we looked is whole the next time, and a
// journal that was removed is none. Damage stays.
func (w *walker) readLog(name string, n uint64, limit int, fn func(file string, i uint64, payload []byte)) (*durable.Recovery, error) {
	file := w.numberedPath(name, n)
	var rec *durable.Recovery
	var err error
	for range liveTries {
		rec, err = durable.ReadLog(w.fsys, file, limit, func(i uint64, payload []byte) error {
			fn(file, i, payload)
			return nil
		})
		if err == nil {
			return rec, nil
		}
		if list, listErr := w.numbered(name); listErr == nil && !slices.Contains(list, n) {
			return &durable.Recovery{}, nil
		}
	}
	return nil, err
}
