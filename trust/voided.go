package trust

import (
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
)

// Voided is what a cutoff would take back.
type Voided struct {
	// Removals are the revocations and ungrants nobody else has made: after the cutoff they would be undone. Another issuer can
	// repeat them first.
	Removals []Op
	Members  []Member // whose enrolment would not count any more
	Grants   []Grant  // that would not count any more
}

// Voided tells what a cutoff of the issuer's chain behind entry seq would take back of what counts now.
func (s *State) Voided(issuer keys.PublicKey, seq uint64) (v Voided) {
	c, ok := s.chain(issuer)
	if !ok {
		return v
	}
	gone := func(list []removal) (reason uint64, any bool) {
		for _, r := range list {
			if r.issuer != c.index || !r.stray && r.seq <= seq {
				return 0, false
			}
			reason, any = r.reason, true
		}
		return reason, any
	}
	added := func(index int, at uint64) bool { return index == c.index && at > seq }
	for id, f := range s.nodes.all() {
		if reason, ok := gone(f.removals()); ok {
			v.Removals = append(v.Removals, OpRevokeNode{Node: keys.NodeID(id), Reason: reason})
		}
		if m, ok := s.Member(keys.NodeID(id)); ok && !s.otherwise(f, c.index, seq) {
			v.Members = append(v.Members, m)
		}
	}
	for k, list := range s.certs.all() {
		if reason, ok := gone(list); ok {
			v.Removals = append(v.Removals, OpRevokeCert{Issuer: k.issuer, Serial: k.number, Reason: reason})
		}
	}
	for k, f := range s.grants.all() {
		if reason, ok := gone(f.removals); ok && !(f.seq != 0 && added(f.issuer, f.seq)) {
			v.Removals = append(v.Removals, OpUngrant{Issuer: k.issuer, GID: k.number, Reason: reason})
		}
	}
	for g := range s.Grants() {
		if f, ok := s.grants.get(factKey{g.Ref.Issuer, g.Ref.GID}); ok && g.Removed == nil && added(f.issuer, f.seq) {
			v.Grants = append(v.Grants, g)
		}
	}
	return v
}

// otherwise reports whether an enrolment of the node would still count.
func (s *State) otherwise(f nodeFacts, issuer int, seq uint64) bool {
	for x := f.enrolments; x != nil; x = x.next {
		if s.counts(int(x.issuer), x.seq) && !s.certRevoked(x) && (int(x.issuer) != issuer || x.seq <= seq) {
			return true
		}
	}
	return false
}

// RepeatOps splits removals into entries that fit: an own chain takes each list as one entry.
func RepeatOps(ops []Op) [][]Op { return slices.Collect(slices.Chunk(ops, MaxOps)) }
