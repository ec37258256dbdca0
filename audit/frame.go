package audit

import (
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// frame is one group commit in the journal: the entries from index First on, the root of the tree with them, and the node's
// signature under the label "audit" over [1, size, root], size = First + len(Leaves). A frame without entries opens every
// journal, so that each journal says by itself where it continues.
type frame struct {
	_      struct{} `cbor:",toarray"`
	First  uint64
	Leaves [][]byte
	Root   [32]byte
	Sig    [64]byte
}

// commitment is what the signature of a frame covers.
type commitment struct {
	_    struct{} `cbor:",toarray"`
	Kind uint64
	Size uint64
	Root [32]byte
}

const commitmentKind = 1

var errFrame = errors.New("not a journal frame")

func (f *frame) size() uint64 { return f.First + uint64(len(f.Leaves)) }

func (f *frame) signed() []byte {
	return wire.MustMarshal(&commitment{Kind: commitmentKind, Size: f.size(), Root: f.Root})
}

// newFrame signs a commit. leaves has at most batchEntries entries.
func newFrame(key *keys.SigningKey, mesh keys.MeshID, first uint64, leaves [][]byte, root tlog.Hash) []byte {
	f := &frame{First: first, Leaves: leaves, Root: root}
	f.Sig = key.Sign(keys.LabelAudit, mesh, f.signed())
	return wire.MustMarshal(f)
}

// parseFrame reads a frame strictly and verifies its signature: nobody without the node's key adds to the tail of a log.
func parseFrame(b []byte, node keys.NodeID, mesh keys.MeshID) (*frame, error) {
	if len(b) > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes", errFrame, len(b))
	}
	var f frame
	if err := wire.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	if len(f.Leaves) > batchEntries || f.First > 1<<62 {
		return nil, fmt.Errorf("%w: out of bounds", errFrame)
	}
	for _, leaf := range f.Leaves {
		if len(leaf) > maxLeaf {
			return nil, fmt.Errorf("%w: a leaf of %d bytes", errFrame, len(leaf))
		}
	}
	if !node.Public().Verify(keys.LabelAudit, mesh, f.signed(), f.Sig) {
		return nil, fmt.Errorf("%w: not signed by the node", errFrame)
	}
	return &f, nil
}
