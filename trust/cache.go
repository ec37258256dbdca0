package trust

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"log/slog"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// Cache lets a Store keep the state it computed, so that the next start verifies only what came after. The log alone is the truth: a
// cached state counts only if this node signed it, in the same program, and it was computed from the very frames the log begins with.
// In doubt the log is replayed and Log is told why.
type Cache struct {
	Key     *keys.SigningKey // the node's
	Program string           // what computed it: another one may read an entry in another way
	Log     *slog.Logger     // nil: nobody is told
}

// cacheVersion stands for the layout of the file and for what State makes of entries: raise it when either changes.
const cacheVersion = 1

// cache is the part of a Store that keeps its state. Everything is owned by Open, then by Run, then by Close.
type cache struct {
	Cache
	sum    hash.Hash // of the frames before summed
	summed uint64
	frames uint64 // that the cached state on disk was computed from; 0: there is none
	failed uint64 // frames there were when it could not be written: not tried again before as many are new again
}

func newCache(c Cache) *cache {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Program = c.Program[:min(len(c.Program), maxProgram)]
	return &cache{Cache: c, sum: sha256.New()}
}

// add hashes the next frame.
func (c *cache) add(body []byte) {
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(body)))
	c.sum.Write(n[:])
	c.sum.Write(body)
	c.summed++
}

func (c *cache) hash() (h keys.Hash) {
	c.sum.Sum(h[:0])
	return h
}

// cached is a state read from the cache, believed as soon as the log is found to begin with the frames it came from.
type cached struct {
	state   *State
	entries map[keys.PublicKey][]place
	frames  uint64
	log     keys.Hash
}

// errProgram: what this program makes of the log may be something else.
var errProgram = cacheErrorf("it was computed by another program")

// errUnfit: the log does not begin with the frames that the cached state came from.
var errUnfit = cacheErrorf("it was computed from another log")

// read returns what the cache holds; nil with nil: there is none.
func (c *cache) read(fsys durable.FS, mesh keys.MeshID) (*cached, error) {
	f, err := durable.Open(fsys, cacheName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := openCache(f, mesh, c.Key.Public())
	switch {
	case err != nil:
		return nil, err
	case r.head.Version != cacheVersion || r.head.Program != c.Program:
		return nil, fmt.Errorf("%w, %.60q", errProgram, r.head.Program)
	}
	s, entries, err := readState(r)
	if err != nil {
		return nil, err
	}
	if s.mesh != mesh {
		return nil, cacheErrorf("of another mesh")
	}
	return &cached{s, entries, r.head.Frames, r.head.Log}, nil
}

// OpenCached is Open with the state of the last run. The caller holds the lock of the directory.
func OpenCached(fsys durable.FS, mesh keys.MeshID, with Cache) (*Store, error) {
	c := newCache(with)
	// A crash while the state was written may have left one as large as the log.
	if err := durable.Sweep(fsys, "."); err != nil {
		return nil, fmt.Errorf("trust log: %w", err)
	}
	held, err := c.read(fsys, mesh)
	if held != nil {
		s, openErr := open(fsys, mesh, c, held, nil)
		if !errors.Is(openErr, errUnfit) {
			return s, openErr
		}
		c, err = newCache(with), openErr
	}
	level := slog.LevelWarn
	if errors.Is(err, errProgram) {
		level = slog.LevelInfo // every upgrade comes here once
	}
	if err != nil {
		c.Log.Log(context.Background(), level, "the cached state of the trust log is not used; the log is verified from its beginning", "err", err)
	}
	return open(fsys, mesh, c, nil, nil)
}

// take begins with a cached state.
func (s *Store) take(c *cached) {
	s.rep = newReplica(c.state)
	s.rep.entries = c.entries
	s.rep.again = func() { s.twice = true }
	s.cache.frames = c.frames
}

// keepState writes the cached state if it lacks that many frames. An error costs the next start time, and nothing else.
func (s *Store) keepState(least uint64) {
	c := s.cache
	if c == nil || s.log.Durable() < max(c.frames, c.failed)+least {
		return
	}
	st, entries, frames := s.snapshot()
	if st == nil {
		return
	}
	err := s.sumTo(frames)
	if err == nil {
		h := cacheHead{Version: cacheVersion, Program: c.Program, Frames: frames, Log: c.hash()}
		err = writeCache(s.fsys, st.mesh, c.Key, h, func(w *cacheWriter) { writeState(w, st, entries) })
	}
	if err != nil {
		// Perhaps the disk is full: filling it again each minute could cost a revocation its place.
		c.failed = frames
		c.Log.Warn("the state of the trust log could not be kept; the next start takes longer", "err", err)
		return
	}
	c.frames = frames
}

// snapshot returns the state, if it is all that is in the log and nothing else, and if nothing in it is in doubt.
func (s *Store) snapshot() (*State, map[keys.PublicKey][]place, uint64) {
	// An own entry is in the log before it is in the state.
	s.own.Lock()
	defer s.own.Unlock()
	s.write.Lock()
	defer s.write.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.rep.state
	if len(s.queue) > 0 || len(s.unsynced) > 0 || len(s.rep.quarantine.list) > 0 || !st.settled() {
		return nil, nil, 0
	}
	entries := map[keys.PublicKey][]place{}
	for _, c := range st.issuers {
		entries[c.id] = append([]place(nil), s.rep.entries[c.id][:c.seq]...)
	}
	return st, entries, s.log.Len()
}

// errEnough ends a scan.
var errEnough = errors.New("enough")

// sumTo hashes the frames before this one.
func (s *Store) sumTo(frames uint64) error {
	c := s.cache
	if c.summed > frames {
		return fmt.Errorf("the log has become shorter, %d frames instead of %d", frames, c.summed)
	}
	if c.summed == frames {
		return nil
	}
	err := s.log.Scan(c.summed, func(i uint64, body []byte) error {
		if i == frames {
			return errEnough
		}
		c.add(body)
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return nil
}
