package mesh

import (
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// RevokedBy returns the peers that have ended a session since then because this node's key is revoked, as they proved to be who says so, and
// have had no full session with it afterwards. It is their word and no more: the entry that revokes a node is not shown to it, for it is no
// member, and any peer can say so.
func (n *Node) RevokedBy(since time.Time) (ids []keys.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, id := range sortedKeys(n.refusals) {
		if r := n.refusals[id]; r.code == session.CodeRevoked && !r.at.Before(since) {
			ids = append(ids, id)
		}
	}
	return ids
}

// ShutOut reports whether peers say that this node's key is revoked and nobody has a full session with it.
func (n *Node) ShutOut() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		if l.open() {
			return false
		}
	}
	for _, r := range n.refusals {
		if r.code == session.CodeRevoked {
			return true
		}
	}
	return false
}
