package audit

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// Words that stand in the first entry of a log in place of the checkpoint it follows.
const (
	beforeMissing = "missing"
	beforeDamaged = "damaged"
)

// Followed is the log that another one follows: that of the key before a rotation.
type Followed struct {
	Node keys.NodeID
	// State is "" if the follower names a checkpoint, and else why it could not: missing or damaged when it began.
	State string
	size  uint64
	root  tlog.Hash
}

// parseBefore reads the field before of the first entry of a log; nil: the log follows none.
func parseBefore(s string) (*Followed, error) {
	if s == "" {
		return nil, nil
	}
	id, rest, _ := strings.Cut(s, " ")
	node, err := keys.ParseNodeID(id)
	if err != nil {
		return nil, fmt.Errorf("the log it follows: %w", err)
	}
	f := &Followed{Node: node}
	if rest == beforeMissing || rest == beforeDamaged {
		f.State = rest
		return f, nil
	}
	size, root, _ := strings.Cut(rest, " ")
	if f.size, err = strconv.ParseUint(size, 10, 64); err == nil {
		f.root, err = tlog.ParseHash(root)
	}
	if err != nil || predecessorText(node, &Checkpoint{Size: f.size, Root: f.root}) != s {
		return nil, fmt.Errorf("the log it follows is not told by node, size and root: %q", s)
	}
	return f, nil
}

// VerifyChain verifies a node's log and those of the keys it had before, newest first: each is held against what the first entry of the next
// one says of its last checkpoint. A log that had been missing or damaged when its follower began ends the chain: its follower says so,
// and nothing is to be proven of it.
func VerifyChain(fsys durable.FS, node keys.NodeID, mesh keys.MeshID, known ...[]byte) ([]*Report, error) {
	r, err := Verify(fsys, node, mesh, known...)
	if err != nil {
		return nil, err
	}
	reports, seen := []*Report{r}, []keys.NodeID{node}
	for len(reports) < maxChain {
		f, err := parseBefore(r.before)
		switch {
		case err != nil:
			r.add(Problem{Kind: KindLeaf, Detail: err.Error()})
			return reports, nil
		case f == nil:
			return reports, nil
		case slices.Contains(seen, f.Node):
			r.add(Problem{Kind: KindLeaf, Detail: "the log follows itself"})
			return reports, nil
		}
		r.Follows = f
		if f.State != "" {
			return reports, nil
		}
		r = verifyWith(fsys, f.Node, mesh, []anchor{{f.size, f.root}})
		reports, seen = append(reports, r), append(seen, f.Node)
	}
	return reports, nil
}
