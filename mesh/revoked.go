package mesh

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// RevokedBy returns the peers that have ended a session since then because this node's key is revoked, as they proved to be who says so, and
// have had no full session with it afterwards. It is their word and no more: the entry that revokes a node is not shown to it, for it is no
// member, and any peer can say so.
func (n *Node) RevokedBy(since time.Time) (ids []keys.NodeID) {
	n.mu.Lock()
	for _, id := range sortedKeys(n.refusals) {
		if r := n.refusals[id]; r.code == session.CodeRevoked && !r.at.Before(since) {
			ids = append(ids, id)
		}
	}
	n.mu.Unlock()
	// Who is no member any more has no say.
	return slices.DeleteFunc(ids, func(id keys.NodeID) bool { return !n.isMember(id) })
}

// ShutOut reports whether peers say that this node's key is revoked and nobody has a full session with it.
func (n *Node) ShutOut() bool {
	if len(n.RevokedBy(time.Time{})) == 0 {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		if l.open() {
			return false
		}
	}
	return true
}
