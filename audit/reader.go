package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// Reader reads a log nobody has open: that of a key before a rotation, or a copy. It believes what the tiles say; whether they are what was
// signed is told by Verify.
type Reader struct {
	folder
	node  keys.NodeID
	mesh  keys.MeshID
	saved uint64   // entries in bundles, by the checkpoint
	tail  [][]byte // those that only the journals have
}

// NewReader opens the log of a node below fsys for reading. One that is not there is fs.ErrNotExist.
func NewReader(fsys durable.FS, node keys.NodeID, mesh keys.MeshID) (*Reader, error) {
	r := &Reader{folder: folder{fsys, Dir(node)}, node: node, mesh: mesh}
	b, err := durable.ReadFile(fsys, r.path(checkpointName), maxNote)
	switch {
	case err == nil:
		cp, err := parseCheckpoint(b, Origin(mesh, node), node)
		if err != nil {
			return nil, fmt.Errorf("the audit log %s: its checkpoint: %w", Origin(mesh, node), err)
		}
		r.saved = cp.Size
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	journals, err := r.numbered(journalName)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, n := range journals {
		_, err := durable.ReadLog(fsys, r.numberedPath(journalName, n), maxFrame, func(_ uint64, payload []byte) error {
			f, err := parseFrame(payload, node, mesh)
			if err != nil {
				return err
			}
			for i, leaf := range f.Leaves {
				// In order, each once: journals overlap with the tiles and with each other.
				if f.First+uint64(i) == r.Size() {
					r.tail = append(r.tail, slices.Clone(leaf))
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("the audit log %s: %w", Origin(mesh, node), err)
		}
	}
	if r.Size() == 0 {
		return nil, &fs.PathError{Op: "open", Path: r.path(checkpointName), Err: fs.ErrNotExist}
	}
	return r, nil
}

// Origin names the log.
func (r *Reader) Origin() string { return Origin(r.mesh, r.node) }

// Size is how many entries the log has.
func (r *Reader) Size() uint64 { return r.saved + uint64(len(r.tail)) }

// Query is Log.Query.
func (r *Reader) Query(ctx context.Context, f Filter) iter.Seq2[Record, error] {
	return query(ctx, f, r.Size(), r.around)
}

// around is Log.around.
func (r *Reader) around(index uint64) ([][]byte, uint64, error) {
	switch {
	case index >= r.Size():
		return nil, 0, nil
	case index >= r.saved:
		return r.tail, r.saved, nil
	}
	b := index / tileWidth
	want := int(min(tileWidth, r.saved-b*tileWidth))
	entries, file, err := r.readEntries(b, want)
	if err != nil {
		return nil, 0, fmt.Errorf("reading the audit log: %s: %w", file, err)
	}
	for len(entries) < want {
		entries = append(entries, nil)
	}
	return entries[:want], b * tileWidth, nil
}

// Follows returns the log that this one follows; nil: it is a node's first.
func (r *Reader) Follows() (*Followed, error) {
	entries, _, err := r.around(0)
	if err != nil {
		return nil, err
	}
	e, err := parseLeaf(entries[0])
	if err != nil || e.Code != AuditOpen {
		return nil, fmt.Errorf("the audit log %s: its first entry does not open it", r.Origin())
	}
	return parseBefore(e.Before)
}

// Earlier opens the log of a key that a node had before, back rotations ago, or the one that is picked. What is missing on the way is
// fs.ErrNotExist.
func Earlier(fsys durable.FS, node keys.NodeID, mesh keys.MeshID, picked func(back int, node keys.NodeID) bool) (*Reader, error) {
	for back := range maxChain {
		r, err := NewReader(fsys, node, mesh)
		if err != nil {
			return nil, err
		}
		if picked(back, node) {
			return r, nil
		}
		f, err := r.Follows()
		if err != nil {
			return nil, err
		}
		if f == nil {
			break
		}
		node = f.Node
	}
	return nil, fmt.Errorf("no log of such a key: %w", fs.ErrNotExist)
}
