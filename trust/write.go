package trust

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// flush appends what waits and syncs. write is held.
//
// Recovery: frames are appended in the order they were applied, so whatever a crash leaves is a prefix of what this node knew,
// and sync brings the rest. After a failed sync the log is reopened; what it then calls void is certainly void and goes back
// to the queue, except for own entries: nobody has seen them, so they are given up and their number is free again.
func (s *Store) flush() error {
	var full error
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.mu.Unlock()
			break
		}
		q := s.queue[0]
		s.mu.Unlock()
		index, err := s.log.Append(q.body)
		if errors.Is(err, durable.ErrFailed) {
			return s.recover(err)
		}
		if err != nil {
			full = err // the disk is full: the log is as it was, and what was appended before is synced
			break
		}
		q.index = index
		s.mu.Lock()
		s.queue[0] = queued{}
		s.queue = s.queue[1:]
		s.unsynced = append(s.unsynced, q)
		s.mu.Unlock()
	}
	s.mu.Lock()
	idle := len(s.unsynced) == 0
	s.mu.Unlock()
	if idle {
		return full
	}
	if err := s.log.Sync(); err != nil {
		return s.recover(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.unsynced {
		s.writtenLocked(q)
	}
	s.unsynced = nil
	return full
}

// writtenLocked notes that a frame is durable; its bytes need not be kept in memory.
func (s *Store) writtenLocked(q queued) {
	if q.own != nil {
		q.own.durable, q.own.index = true, q.index
	}
	if q.rec != nil {
		s.rep.stored(q.issuer, q.seq, q.rec, q.index)
	}
}

// recover reopens a log that failed.
func (s *Store) recover(cause error) error {
	next, err := s.log.Reopen()
	if err != nil {
		return errors.Join(cause, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var back []queued
	for _, q := range s.unsynced {
		switch {
		case q.index < next:
			s.writtenLocked(q)
		case q.own != nil:
			q.own.void = true
		default:
			back = append(back, q)
		}
	}
	s.unsynced = nil
	s.queue = append(back, s.queue...)
	return cause
}

// AppendOwn signs the next entry of the issuer's chain on this host and applies it. It is durable before it is applied, and so
// before anybody can be sent it: a crash never makes an issuer contradict itself. now is the trusted time.
func (s *Store) AppendOwn(issuer *keys.SigningKey, now int64, ops ...Op) (Change, error) {
	s.own.Lock()
	defer s.own.Unlock()
	s.mu.Lock()
	if u := s.uncertain; u != nil && !u.void {
		s.mu.Unlock()
		return Change{}, fmt.Errorf("the last entry may or may not be on disk: repair the disk, then restart: %w", durable.ErrUncertain)
	}
	e, err := s.nextOwnLocked(issuer, now, ops)
	if err != nil {
		s.mu.Unlock()
		return Change{}, err
	}
	w := &ownWrite{}
	s.queue = append(s.queue, queued{body: rawFrame(KindEntry, e.raw).Body, own: w})
	s.uncertain = w
	s.mu.Unlock()

	s.write.Lock()
	err = s.flush()
	s.write.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = err
	if !w.durable {
		return Change{}, s.giveUpLocked(w, err)
	}
	s.uncertain = nil
	c, rec, err := s.rep.applyEntry(e)
	if err != nil {
		return Change{}, fmt.Errorf("own entry: %w", err)
	}
	s.raiseLocked(e.Time, now)
	if c.Kind != KindEntry {
		// Somebody with the same key was faster. The pair is evidence against it, and has to be kept.
		s.tookLocked(c, nil)
		return c, fmt.Errorf("own entry: %w; is the issuer key in use on another machine?", ErrFork)
	}
	s.rep.stored(e.Issuer, e.Seq, rec, w.index)
	s.announceLocked()
	return c, nil
}

// nextOwnLocked makes the next entry of the own chain. One that this program cannot apply is not made: it would fail everywhere.
func (s *Store) nextOwnLocked(issuer *keys.SigningKey, now int64, ops []Op) (e *Entry, err error) {
	defer func() {
		if p := recover(); p != nil {
			e, err = nil, fmt.Errorf("own entry: this program fails on it: %w: %.200v", ErrQuarantined, p)
		}
	}()
	return s.rep.state.nextEntry(issuer, now, ops)
}

// giveUpLocked decides what is known of an own entry whose write failed: not on disk, so that its number is free again, or unknown.
func (s *Store) giveUpLocked(w *ownWrite, cause error) error {
	waits := func(q queued) bool { return q.own == w }
	if slices.ContainsFunc(s.unsynced, waits) {
		return fmt.Errorf("own entry: %w: %w", durable.ErrUncertain, cause)
	}
	s.queue = slices.DeleteFunc(s.queue, waits)
	s.uncertain = nil
	return fmt.Errorf("own entry, not written: %w", cause)
}

// The time floor and the heads are small files that are replaced: losing the last minute of them costs nothing but freshness.

const (
	floorVersion = 1
	maxFloorFile = 64
	maxHeadsFile = maxIssuers*(MaxHead+3) + 8
)

func (s *Store) loadFloor() error {
	b, err := durable.ReadFile(s.fsys, floorName, maxFloorFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("time floor: %w", err)
	}
	var w floorWire
	if err := wire.Unmarshal(b, &w); err != nil || w.Version != floorVersion || !validTime(w.Floor) {
		return fmt.Errorf("the file %s is damaged: remove it if this machine's clock is right", floorName)
	}
	s.floor, s.floorDisk = w.Floor, w.Floor
	return nil
}

// loadHeads takes the heads of the last run. One that no longer holds is passed over: heads are only freshness.
func (s *Store) loadHeads() error {
	b, err := durable.ReadFile(s.fsys, headsName, maxHeadsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("heads: %w", err)
	}
	var raws [][]byte
	if err := wire.Unmarshal(b, &raws); err != nil {
		return nil // a lost head is sent again
	}
	for _, raw := range raws {
		// They were judged by a clock when they came.
		if n, err := s.rep.state.ApplyHead(raw, maxTime); err == nil {
			s.rep.state = n
		}
	}
	return nil
}

// saveSmall writes the heads and the time floor if they have changed enough.
func (s *Store) saveSmall() error {
	s.mu.Lock()
	heads, floor := s.headsNew, s.floor
	lift := floor >= s.floorDisk+floorStep || floor < s.floorDisk
	var raws [][]byte
	for _, c := range s.rep.state.issuers {
		if c.headRaw != nil {
			raws = append(raws, c.headRaw)
		}
	}
	s.headsNew = false
	s.mu.Unlock()
	var errs error
	if heads {
		if err := durable.WriteFile(s.fsys, headsName, wire.MustMarshal(raws)); err != nil {
			errs = fmt.Errorf("heads: %w", err)
			s.mu.Lock()
			s.headsNew = true
			s.mu.Unlock()
		}
	}
	if lift {
		if err := durable.WriteFile(s.fsys, floorName, wire.MustMarshal(floorWire{Version: floorVersion, Floor: floor})); err != nil {
			return errors.Join(errs, fmt.Errorf("time floor: %w", err))
		}
		s.mu.Lock()
		s.floorDisk = floor
		s.mu.Unlock()
	}
	return errs
}

// raiseLocked lifts the time floor to a time another signed, unless that is ahead of this clock: such a time may be anybody's wish.
func (s *Store) raiseLocked(signed, local int64) {
	if signed <= local+clockSlack {
		s.floor = max(s.floor, signed)
	}
}

// Now is the time for every question of trust: the local clock, or, if that was set back, the time floor less its slack.
func (s *Store) Now(local int64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(local, s.floor-clockSlack)
}

// PeerTime lifts the time floor to the local clock if the authenticated time of a peer agrees with it: a single clock in 2099 must
// not expire the mesh.
func (s *Store) PeerTime(local, peer int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if validTime(local, peer) && local-peer <= clockSlack && peer-local <= clockSlack {
		s.floor = max(s.floor, local)
	}
}

// ClockBehind reports whether the local clock stands before what the mesh has signed.
func (s *Store) ClockBehind(local int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return local < s.floor-clockSlack
}

// Floor is the time floor, 0 if there is none yet.
func (s *Store) Floor() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.floor
}

// ResetFloor sets the time floor to the local clock, on the word of the operator.
func (s *Store) ResetFloor(local int64) error {
	if !validTime(local) {
		return errors.New("the clock is out of range")
	}
	if err := durable.WriteFile(s.fsys, floorName, wire.MustMarshal(floorWire{Version: floorVersion, Floor: local})); err != nil {
		return fmt.Errorf("time floor: %w", err)
	}
	s.mu.Lock()
	s.floor, s.floorDisk = local, local
	s.mu.Unlock()
	return nil
}
