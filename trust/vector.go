package trust

import (
	"bytes"
	"slices"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// GroupCommit returns the newest generation of the group secret and its commitment; generation 0: none yet. Of two commitments to
// one generation the one made under the newer root counts, then the one of the lower issuer id.
func (s *State) GroupCommit() (gen uint64, commit keys.Hash) {
	var best *groupFact
	var by keys.PublicKey
	for i, c := range s.issuers {
		g := c.group
		for g != nil && g.seq > s.adds[i] {
			g = g.next
		}
		if g == nil {
			continue
		}
		if best == nil || g.op.Generation > best.op.Generation || g.op.Generation == best.op.Generation &&
			(g.rootVersion > best.rootVersion || g.rootVersion == best.rootVersion && bytes.Compare(c.id[:], by[:]) < 0) {
			best, by = g, c.id
		}
	}
	if best == nil {
		return 0, keys.Hash{}
	}
	return best.op.Generation, best.op.Commit
}

// GroupSince returns the time of the entry that committed to the newest generation of the group secret; 0: none yet.
func (s *State) GroupSince() int64 {
	gen, commit := s.GroupCommit()
	for _, c := range s.issuers {
		for g := c.group; g != nil; g = g.next {
			if g.op.Generation == gen && g.op.Commit == commit {
				l, _ := c.linkOf(g.seq)
				return l.time
			}
		}
	}
	return 0
}

// LastRevocation returns the time of the newest entry that removed a node; 0: there was none.
func (s *State) LastRevocation() (newest int64) {
	for _, r := range s.RevokedNodes() {
		newest = max(newest, r.Time)
	}
	return newest
}

// Vector is what VEC says of a state.
type Vector struct {
	RootVersion uint64
	RootHash    keys.Hash
	Issuers     []Position // sorted by issuer
	GroupGen    uint64
}

// Position is one issuer's line of a Vector.
type Position struct {
	_        struct{} `cbor:",toarray"`
	Issuer   keys.PublicKey
	Seq      uint64
	Hash     keys.Hash
	HeadTime int64
	Forked   uint8
}

// Vector describes the state for comparison with a peer's.
func (s *State) Vector() Vector {
	v := Vector{RootVersion: s.Root().Version, RootHash: s.Root().hash}
	v.GroupGen, _ = s.GroupCommit()
	for i := range s.Root().Issuers {
		c, _ := s.chain(s.Root().Issuers[i].ID)
		p := Position{Issuer: c.id, Seq: c.seq, Hash: c.hash}
		if c.head != nil {
			p.HeadTime = c.head.Time
		}
		if c.forked() {
			p.Forked = 1
		}
		v.Issuers = append(v.Issuers, p)
	}
	return v
}

// Digest is the hint that rides on beacons and heartbeats: H(VEC with every head_time 0)[:8].
func (s *State) Digest() [8]byte {
	v := s.Vector()
	return v.Digest()
}

// Digest is the digest of the state the vector describes.
func (v *Vector) Digest() [8]byte {
	w := vecWire{Kind: KindVec, Version: v.RootVersion, Hash: v.RootHash, Issuers: slices.Clone(v.Issuers), Group: v.GroupGen}
	for i := range w.Issuers {
		w.Issuers[i].HeadTime = 0
	}
	h := keys.Sum(wire.MustMarshal(w))
	return [8]byte(h[:8])
}

// differsByForks reports whether the view v differs from this state, and only in the branches of issuers that both know to be forked:
// that stays so until a root decides.
func (s *State) differsByForks(v *Vector) bool {
	mine := s.Vector()
	if v.RootVersion != mine.RootVersion || v.RootHash != mine.RootHash || len(v.Issuers) != len(mine.Issuers) {
		return false
	}
	differs := false
	for i, p := range v.Issuers {
		m := mine.Issuers[i]
		switch {
		case p.Issuer != m.Issuer || p.Forked != m.Forked:
			return false
		case p.Seq == m.Seq && p.Hash == m.Hash:
		case p.Forked == 0:
			return false
		default:
			differs = true
		}
	}
	return differs
}
