package trust

import (
	"iter"
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
)

// What a name has meant, and what a key was called. These answer for people who look at the past: nothing is let in by them.

// Nodes walks every node id the log has named, revoked ones included, in the order of the ids.
func (s *State) Nodes() iter.Seq[keys.NodeID] {
	return func(yield func(keys.NodeID) bool) {
		for id := range s.nodes.all() {
			if !yield(keys.NodeID(id)) {
				return
			}
		}
	}
}

// EverNamed returns every node that was ever enrolled under the name, whether or not that counts now, in the order of their ids.
func (s *State) EverNamed(name string) (ids []keys.NodeID) {
	f, ok := s.names.get(nameKey(name))
	if !ok {
		return nil
	}
	if f.all == nil {
		return []keys.NodeID{f.first.node}
	}
	for id := range f.all.all() {
		ids = append(ids, keys.NodeID(id))
	}
	return ids
}

// NameOf returns the name a node has or had last, revoked and ended ones included: of its enrolments that count, the newest; of one
// of which none counts, the newest of all.
func (s *State) NameOf(id keys.NodeID) (string, bool) {
	f, ok := s.nodes.get(nodeKey(id))
	if !ok {
		return "", false
	}
	if x := s.best(f, nil); x != nil {
		return x.name, true
	}
	var best *enrolment
	for x := f.enrolments; x != nil; x = x.next {
		if best == nil || s.newer(x, best) {
			best = x
		}
	}
	if best == nil {
		return "", false
	}
	return best.name, true
}

// ByPrefix returns every node the log has named whose id begins so, revoked ones included: a beginning that fits a key of the past as well
// is no name of the present one.
func (s *State) ByPrefix(p keys.NodePrefix) (ids []keys.NodeID) {
	for id := range s.Nodes() {
		if p.Matches(id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// Heir is the key that has a node's place now: its own, or that of the last rotation.
func (s *State) Heir(id keys.NodeID) keys.NodeID {
	for range MaxRotations {
		next, ok := s.SuccessorOf(id)
		if !ok {
			return id
		}
		id = next
	}
	return id
}

// Lineage returns a node, the rotated keys whose place it has taken, and those that have taken its own.
func (s *State) Lineage(id keys.NodeID) []keys.NodeID {
	last := id
	for range maxSuccession {
		next, ok := s.SuccessorOf(last)
		if !ok || next == id {
			break
		}
		last = next
	}
	ids := s.Predecessors(last)
	if !slices.Contains(ids, id) {
		return []keys.NodeID{id}
	}
	return ids
}
