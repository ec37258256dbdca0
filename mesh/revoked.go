package mesh

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// RevokedBy returns the peers that have ended a session since then because this node's key is revoked, as they proved to be who says so, and
// have had no full session with it afterwards; what was said longer than refusalLife ago counts no more. It is their word and no more: the entry that revokes a node is not shown to it, for it is no
// member, and any peer can say so.
func (n *Node) RevokedBy(since time.Time) (ids []keys.NodeID) {
	n.mu.Lock()
	if old := time.Now().Add(-refusalLife); since.Before(old) {
		since = old
	}
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

// IssuersSayRevoked returns those of RevokedBy whose beacons say that they issue: they would know. Which members issue is their own claim.
func (n *Node) IssuersSayRevoked() []keys.NodeID {
	ids := n.RevokedBy(time.Time{})
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.DeleteFunc(ids, func(id keys.NodeID) bool { return !n.presence[id].issues })
}

// Refuses reports whether a peer, asked now, says that this node's key is revoked. Only that peer's own word counts. What it said a moment
// ago is its answer, for the core does not dial it so soon again; after that it is dialled, since a root may have voided the revocation.
func (n *Node) Refuses(ctx context.Context, id keys.NodeID) bool {
	if !slices.Contains(n.RevokedBy(time.Time{}), id) {
		return false
	}
	if slices.Contains(n.RevokedBy(time.Now().Add(-core.ShutOutFirst)), id) {
		return true
	}
	_, err := n.waitLink(ctx, id)
	return errors.Is(err, ErrNotAdmitted)
}

// issuersRefuse reports whether there are issuers and each has said since then that this node's key is revoked; by is one of them.
func (n *Node) issuersRefuse(since time.Time) (by keys.NodeID, all bool) {
	says := n.RevokedBy(since)
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, p := range n.presence {
		if !p.issues {
			continue
		}
		if !slices.Contains(says, id) {
			return by, false
		}
		by, all = id, true
	}
	return by, all
}
