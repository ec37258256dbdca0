package trust

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/internal/wire"
)

// ErrTooLong: a history has more bytes than were asked for.
var ErrTooLong = errors.New("the trust log is longer than that")

// errFull ends a scan.
var errFull = errors.New("full")

// History returns the genesis root and everything applied after it, in order, of at most so many bytes: what a newcomer's log begins
// with when it cannot ask a peer. What waits to be written is written first.
func (s *Store) History(most int) (genesis []byte, frames []Frame, err error) {
	if err := s.Flush(); err != nil {
		return nil, nil, err
	}
	err = s.log.Scan(0, func(i uint64, body []byte) error {
		kind, err := wire.Kind(body)
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		if most -= len(body); most < 0 {
			return errFull
		}
		body = append([]byte(nil), body...) // valid during the call only
		switch {
		case i == 0:
			genesis, err = parseRaw(body, KindRoot, MaxRoot)
			return err
		case kind == KindRoot, kind == KindEntry, kind == KindEvidence:
			frames = append(frames, Frame{Kind: uint8(kind), Body: body})
		}
		return nil // pins and decisions of this host's operator are no part of the mesh's truth
	})
	if errors.Is(err, errFull) {
		return nil, nil, ErrTooLong
	}
	if err != nil {
		return nil, nil, err
	}
	return genesis, frames, nil
}

// Replay applies one frame of another node's History to a log. What does not count there does not count here, so only what is no valid
// object of the mesh is an error: [ErrInvalid].
func Replay(log Log, f Frame, now int64) error {
	var err error
	if f.Kind == KindEntry {
		var raw []byte
		if raw, err = parseRaw(f.Body, KindEntry, MaxEntry); err != nil {
			return invalid(err)
		}
		e, perr := ParseEntry(raw, log.Current().Mesh())
		if perr != nil {
			return invalid(perr)
		}
		_, err = log.ApplyEntry(e, now)
	} else {
		_, err = log.ApplyFrame(f, now)
	}
	if errors.Is(err, ErrInvalid) {
		return err
	}
	return nil
}
