package mesh

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// Target is a resolved "node/service".
type Target struct {
	Node    keys.NodeID
	Service string
}

// ErrAmbiguousID: an id was given by its beginning, and another key begins so, too.
var ErrAmbiguousID = errors.New("more than one node begins so; write more of its id")

// Resolve finds the member a target names, by name or by id. Names are pinned to a node id at their first use.
func (n *Node) Resolve(target string) (Target, error) { return resolve(target, n.ResolveNode) }

// Lookup is Resolve for a question: it remembers nothing.
func (n *Node) Lookup(target string) (Target, error) {
	return resolve(target, func(who string) (keys.NodeID, error) {
		id, _, err := n.findNode(who)
		return id, err
	})
}

// resolve reads "node/service" and finds the node.
func resolve(target string, find func(who string) (keys.NodeID, error)) (Target, error) {
	who, svc, ok := cutLast(target, '/')
	if !ok {
		return Target{}, fmt.Errorf("%q is not of the form node/service", target)
	}
	if err := identity.CheckName(svc); err != nil {
		return Target{}, fmt.Errorf("service: %w", err)
	}
	id, err := find(who)
	if err != nil {
		return Target{}, err
	}
	return Target{Node: id, Service: svc}, nil
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == sep {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// ResolveNode finds a live member by name, by id or by an id's beginning, and remembers what a name meant at its first use.
func (n *Node) ResolveNode(who string) (keys.NodeID, error) {
	id, named, err := n.findNode(who)
	if err != nil || !named {
		return id, err
	}
	was, err := n.pins.check(who, id, n.follows)
	if err != nil {
		return keys.NodeID{}, err
	}
	if !was.IsZero() {
		n.auditLater(audit.Event{Code: audit.NamePin, Actor: n.self.Compact(), Target: id.Compact(), Before: was.Compact(), After: who, Reason: "follows by itself", Verdict: audit.Allowed})
	}
	return id, nil
}

// findNode finds a live member, and says whether it was by its name.
func (n *Node) findNode(who string) (id keys.NodeID, named bool, err error) {
	st, now := n.State(), n.trustNow()
	if id, err := keys.ParseNodeID(who); err == nil {
		if _, ok := st.LiveMember(id, now); ok {
			return id, false, nil
		}
		return keys.NodeID{}, false, fmt.Errorf("%w: %s", ErrUnknownNode, id.Short())
	}
	nameErr := identity.CheckName(who)
	var ids []keys.NodeID
	if nameErr == nil {
		ids = st.ByName(who, now)
	}
	named = len(ids) > 0
	if p, err := keys.ParseNodePrefix(who); err == nil {
		// Revoked keys count as well: else somebody whose key begins as another's would be meant as soon as that one is gone. But what is a
		// member's name now is that, whatever keys of the past begin so: the log keeps those for ever, and takes any id as revoked.
		held := len(ids)
		for _, id := range st.ByPrefix(p) {
			if _, live := st.LiveMember(id, now); (live || !named) && !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		if len(ids) > max(held, 1) {
			return keys.NodeID{}, false, fmt.Errorf("%w: %s", ErrAmbiguousID, who)
		}
	}
	switch {
	case len(ids) == 0 && nameErr != nil:
		return keys.NodeID{}, false, fmt.Errorf("%w: %w", ErrUnknownNode, nameErr)
	case len(ids) == 0:
		return keys.NodeID{}, false, fmt.Errorf("%w: %s", ErrUnknownNode, who)
	case len(ids) > 1:
		return keys.NodeID{}, false, fmt.Errorf("%w: %s", ErrNameConflict, who)
	}
	if _, ok := st.LiveMember(ids[0], now); !ok {
		return keys.NodeID{}, false, fmt.Errorf("%w: %s", ErrUnknownNode, ids[0].Short())
	}
	return ids[0], named, nil
}
