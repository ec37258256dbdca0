package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Create makes the log of a mesh this node founded or joined. It fails if there is one. frames is what is known at the beginning:
// Memory.History of a newcomer.
func Create(fsys durable.FS, genesis []byte, pins []identity.IssuerHead, frames []Frame) error {
	if _, err := Genesis(genesis); err != nil {
		return err
	}
	log, rec, err := durable.OpenLog(fsys, logName, MaxFrame, nil)
	if err != nil {
		return fmt.Errorf("trust log: %w", err)
	}
	if rec.Frames > 0 {
		return errors.Join(fmt.Errorf("trust log: there is one already: %w", fs.ErrExist), log.Close())
	}
	// A crash in between leaves a log that begins with its genesis and lacks the rest, which sync brings; or an empty one, which
	// counts as none.
	bodies := [][]byte{rawFrame(KindRoot, genesis).Body}
	for _, p := range pins {
		bodies = append(bodies, wire.MustMarshal(pinWire{Kind: framePin, Issuer: p.Issuer, Seq: p.Seq, Hash: p.Hash}))
	}
	for _, f := range frames {
		bodies = append(bodies, f.Body)
	}
	for _, b := range bodies {
		if _, err := log.Append(b); err != nil {
			return errors.Join(fmt.Errorf("trust log: %w", err), log.Close())
		}
	}
	if err := log.Sync(); err != nil {
		return errors.Join(fmt.Errorf("trust log: %w", err), log.Close())
	}
	return log.Close()
}

// Open replays the log of the mesh. Nothing runs until Run.
func Open(fsys durable.FS, mesh keys.MeshID) (*Store, error) {
	return open(fsys, mesh, nil, nil, nil)
}

// open replays the log, behind the frames of a cached state if there is one.
func open(fsys durable.FS, mesh keys.MeshID, c *cache, held *cached, testApply func(*Entry)) (*Store, error) {
	s := &Store{fsys: fsys, cache: c, wake: make(chan struct{}, 1), changed: make(chan struct{})}
	var pins []identity.IssuerHead
	reached := func() error { // the end of what is cached
		if held.log != c.hash() {
			return errUnfit
		}
		s.take(held)
		pins, held = slices.Clone(held.state.pins), nil
		return nil
	}
	log, rec, err := durable.OpenLog(fsys, logName, MaxFrame, func(i uint64, body []byte) error {
		if held != nil && i == held.frames {
			if err := reached(); err != nil {
				return err
			}
		}
		if c != nil {
			c.add(body)
		}
		switch {
		case held != nil:
			return nil
		case i == 0:
			err := s.replayGenesis(body, mesh)
			s.rep.testApply = testApply
			return err
		}
		return s.replay(i, body, &pins)
	})
	if err != nil {
		return nil, fmt.Errorf("trust log: %w", err)
	}
	s.log = log
	if held != nil {
		err := errUnfit
		if rec.Frames == held.frames {
			err = reached()
		}
		if err != nil {
			return nil, errors.Join(err, log.Close())
		}
	}
	s.rep.read, s.rep.again = s.readRecord, s.reapply
	if rec.Frames == 0 {
		return nil, errors.Join(ErrEmpty, log.Close())
	}
	if s.twice {
		s.reapply()
	}
	if err := s.loadFloor(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if err := s.loadHeads(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return s, nil
}

func (s *Store) replayGenesis(body []byte, mesh keys.MeshID) error {
	raw, err := parseRaw(body, KindRoot, MaxRoot)
	if err != nil {
		return err
	}
	st, err := Genesis(raw)
	if err != nil {
		return err
	}
	if st.mesh != mesh {
		return fmt.Errorf("it is of mesh %s, not %s", st.mesh.Short(), mesh.Short())
	}
	s.rep = newReplica(st)
	// The log cannot be read while it is opened: what a root fork sets free is applied again at the end.
	s.rep.again = func() { s.twice = true }
	return nil
}

// replay applies one frame of the log. What is void, held, or refused by this version is passed over: it was applied once, and what
// it means now is State's to say. Bytes that are no frame at all are an error with the position.
func (s *Store) replay(i uint64, body []byte, pins *[]identity.IssuerHead) error {
	kind, err := wire.Kind(body)
	if err != nil {
		return fmt.Errorf("frame %d: %w", i, err)
	}
	body = append([]byte(nil), body...) // valid during the call only
	switch kind {
	case KindEntry:
		raw, err := parseRaw(body, KindEntry, MaxEntry)
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		e, err := ParseEntry(raw, s.rep.state.mesh)
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		_, rec, err := s.rep.applyEntry(e)
		if rec != nil {
			s.rep.stored(e.Issuer, e.Seq, rec, i)
		}
		if errors.Is(err, ErrInvalid) {
			return fmt.Errorf("frame %d: %w", i, err)
		}
	case KindRoot, KindEvidence:
		if _, err := s.rep.applyFrame(Frame{Kind: uint8(kind), Body: body}, 0); errors.Is(err, ErrInvalid) {
			return fmt.Errorf("frame %d: %w", i, err)
		}
	case framePin:
		w, err := parseBody[pinWire](body, framePin)
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		*pins = append(*pins, identity.IssuerHead{Issuer: w.Issuer, Seq: w.Seq, Hash: w.Hash})
		s.rep.state = s.rep.state.WithPins(*pins)
	case frameAccept:
		w, err := parseBody[acceptWire](body, frameAccept)
		if err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
		if n, err := s.rep.state.AcceptRoot(w.Hash); err == nil {
			s.rep.state, s.twice = n, true
		}
	default:
		return fmt.Errorf("frame %d: of kind %d, which this version does not know", i, kind)
	}
	return nil
}

// reapply applies everything of the log once more, after a root fork or its end set free what had been void. Errors are what stays
// void.
func (s *Store) reapply() {
	waiting := append(append([]queued(nil), s.unsynced...), s.queue...)
	again := func(i uint64, body []byte, rec *record) {
		switch kind, _ := wire.Kind(body); kind {
		case KindEntry:
			raw, err := parseRaw(body, KindEntry, MaxEntry)
			if err != nil {
				return
			}
			e, err := ParseEntry(raw, s.rep.state.mesh)
			if err != nil {
				return
			}
			if c, got, err := s.rep.applyEntry(e); err == nil && got != nil && !c.Stray {
				if rec != nil {
					s.rep.entries[e.Issuer][e.Seq-1] = place{rec: rec}
				} else {
					s.rep.stored(e.Issuer, e.Seq, got, i)
				}
			}
		case KindEvidence:
			_, _ = s.rep.applyFrame(Frame{Kind: KindEvidence, Body: body}, 0)
		}
	}
	end := s.log.Len()
	if len(s.unsynced) > 0 {
		end = s.unsynced[0].index
	}
	_ = s.log.Scan(1, func(i uint64, body []byte) error {
		if i < end {
			again(i, append([]byte(nil), body...), nil)
		}
		return nil
	})
	for _, q := range waiting {
		if q.own == nil {
			again(0, q.body, q.rec)
		}
	}
}
