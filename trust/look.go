package trust

import (
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// ReadState computes the state of a log and changes nothing: for looking at a copy, or at the log of a membership that has ended. Everything is
// verified as at a start. It is for names, not for decisions: of a log in which a root fork was decided it may lack what that set free.
func ReadState(fsys durable.FS, mesh keys.MeshID) (*State, error) {
	s := &Store{fsys: fsys, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	var pins []identity.IssuerHead
	rec, err := durable.ReadLog(fsys, logName, MaxFrame, func(i uint64, body []byte) error {
		if i == 0 {
			return s.replayGenesis(append([]byte(nil), body...), mesh)
		}
		return s.replay(i, body, &pins)
	})
	if err != nil {
		return nil, fmt.Errorf("trust log: %w", err)
	}
	if rec.Frames == 0 {
		return nil, ErrEmpty
	}
	return s.rep.state, nil
}
