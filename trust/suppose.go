package trust

import (
	"errors"

	"github.com/sovereignmesh/meshkey/keys"
)

// Suppose returns the State as it would be if an issuer's next entry said this, whatever its length. It is for questions before a change, so
// that they are answered by what decides after it: nothing of it is signed or kept, and no entry can follow it.
func (s *State) Suppose(issuer keys.PublicKey, now int64, ops ...Op) (*State, error) {
	c, ok := s.chain(issuer)
	is, listed := s.Root().Issuer(issuer)
	if !ok || !listed {
		return nil, ErrNotIssuer
	}
	for _, o := range ops {
		if _, unknown := o.(OpUnknown); unknown {
			return nil, errors.New("an op of a later version")
		}
		if err := o.check(); err != nil {
			return nil, err
		}
	}
	root := s.Root()
	return s.take(c, &Entry{Issuer: issuer, Seq: c.seq + 1, Prev: c.hash, Time: max(now, c.time), RootVersion: root.Version, Ops: ops}, root, is), nil
}
