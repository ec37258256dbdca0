package trust

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
)

// ApplyRoot adds a root: the successor of the current one, or one that contradicts a root accepted before. In the second case the
// result is the state of the last root both agree on, with RootFork set; entries that this sets free again have to be applied
// again. The errors are ErrHave, ErrGap, ErrInvalid, ErrVoid (the operator chose another root) and ErrFull.
func (s *State) ApplyRoot(raw []byte) (*State, error) {
	r, err := parseRoot(raw)
	if err != nil {
		return nil, invalid(err)
	}
	last := s.Root().Version
	if r.Mesh != s.mesh {
		return nil, invalidf("root: of another mesh")
	}
	if r.Version > last+1 {
		return nil, fmt.Errorf("root %d: %d is the last one held: %w", r.Version, last, ErrGap)
	}
	same := func(o *Root) bool { return o.hash == r.hash }
	if held, ok := s.RootAt(r.Version); ok && same(held) || slices.ContainsFunc(s.pending, same) {
		return nil, fmt.Errorf("root %d: %w", r.Version, ErrHave)
	}
	prev, _ := s.RootAt(r.Version - 1) // held: version 1 of this mesh is only the one held
	if err := errors.Join(r.checkFollows(prev), r.checkSignatures(prev)); err != nil {
		return nil, invalid(err)
	}
	if h, ok := s.chosen[r.Version]; ok && h != r.hash {
		return nil, fmt.Errorf("root %d: %w", r.Version, ErrVoid)
	}
	switch {
	case r.Version <= last:
		held, _ := s.RootAt(r.Version)
		return s.forkRoots(held, r), nil
	case len(s.pending) >= maxForkRoots:
		return nil, fmt.Errorf("root %d: %w", r.Version, ErrFull)
	case len(s.pending) > 0:
		return s.forkRoots(r), nil
	}
	return s.adopt(r), nil
}

// AcceptRoot ends a root fork: the operator chose the root with this hash.
func (s *State) AcceptRoot(hash keys.Hash) (*State, error) {
	for _, r := range s.pending {
		if r.hash == hash {
			n := s.edit()
			n.chosen = map[uint64]keys.Hash{r.Version: hash}
			for v, h := range s.chosen {
				n.chosen[v] = h
			}
			n.pending = nil
			return n.adopt(r), nil
		}
	}
	return nil, errors.New("no root with this hash waits to be accepted")
}

func (s *State) adopt(r *Root) *State {
	n := s.edit()
	n.roots = append(slices.Clone(s.roots), r)
	n.takeIssuers(r)
	n.limit()
	return n
}
