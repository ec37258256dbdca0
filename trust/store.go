package trust

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// The files of a Store, below the directory it is given.
const (
	logName   = "log"
	headsName = "heads"
	floorName = "floor"
	cacheName = "cache"
)

// The kinds of log frames that are not sync frames.
const (
	framePin    = 200 // [200, issuer, seq, hash]
	frameAccept = 201 // [201, hash of a root]
)

type (
	pinWire struct {
		_      struct{} `cbor:",toarray"`
		Kind   uint64
		Issuer keys.PublicKey
		Seq    uint64
		Hash   keys.Hash
	}
	acceptWire struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		Hash keys.Hash
	}
	floorWire struct {
		_       struct{} `cbor:",toarray"`
		Version uint64
		Floor   int64
	}
)

// ErrEmpty: there is no trust log in the directory; make one with Create.
var ErrEmpty = errors.New("no trust log here; this machine is in no mesh yet")

// retryPause is how long Run waits after the disk refused a write.
const retryPause = time.Second

// Store is the durable Log of one mesh. Its methods are safe for concurrent use.
//
// What others sent is applied and announced at once and written by Run; what this node's issuer says is durable before anybody sees
// it. Reload is a replay of the log in the order of application, with every signature verified again.
type Store struct {
	// immutable
	fsys  durable.FS
	log   *durable.Log
	cache *cache        // nil: the state is not kept
	wake  chan struct{} // something waits to be written; capacity 1

	write sync.Mutex // held by the one that writes to log; taken before mu
	own   sync.Mutex // held while an own entry is made; taken before write

	mu sync.Mutex

	// guarded by mu
	rep       replica
	changed   chan struct{} // closed and replaced at each change
	queue     []queued      // not yet appended to log, in order of application
	unsynced  []queued      // appended, not yet known to be durable
	headsNew  bool
	floor     int64
	floorDisk int64
	twice     bool // the log has to be applied once more, while it is opened
	uncertain *ownWrite
	failed    error // the last error of writing; nil once a write succeeded again
}

// queued is a frame on its way to the log.
type queued struct {
	body   []byte
	issuer keys.PublicKey // of an entry
	seq    uint64
	rec    *record // of an entry of a chain: given up when it is written
	own    *ownWrite
	index  uint64
}

// ownWrite is an own entry's way to the disk. Exactly one of the two is set in the end.
type ownWrite struct {
	durable, void bool
	index         uint64 // of its frame, if durable
}

// readRecord reads an entry's envelope from the log. A disk that cannot be read answers nothing; the peer asks another.
func (s *Store) readRecord(frame uint64) []byte {
	body, err := s.log.Read(frame)
	if err != nil {
		s.failed = fmt.Errorf("reading the trust log: %w", err)
		return nil
	}
	raw, err := parseRaw(body, KindEntry, MaxEntry)
	if err != nil {
		return nil
	}
	return raw
}

// Current implements Log.
func (s *Store) Current() *State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rep.state
}

// Changed returns a channel that is closed at the next change of Current.
func (s *Store) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Entry implements Log.
func (s *Store) Entry(issuer keys.PublicKey, seq uint64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rep.entry(issuer, seq)
}

// ApplyEntry implements Log: the entry counts when this returns, and is written by Run.
func (s *Store) ApplyEntry(e *Entry, now int64) (Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxUnwritten && !e.removes() {
		return Change{}, fmt.Errorf("entry: %d wait for the disk: %w", len(s.queue), ErrFull)
	}
	c, rec, err := s.rep.applyEntry(e)
	if err != nil {
		return c, err
	}
	s.raiseLocked(e.Time, now)
	s.tookLocked(c, rec)
	return c, nil
}

// ApplyFrame implements Log.
func (s *Store) ApplyFrame(f Frame, now int64) (Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.rep.applyFrame(f, now)
	if err != nil {
		return c, err
	}
	if f.Kind == KindHead {
		h, _, _ := s.rep.state.HeadOf(c.Issuer)
		s.raiseLocked(h.Time, now)
	}
	s.tookLocked(c, nil)
	return c, nil
}

// AcceptRoot ends a root fork by the operator's word, durably.
func (s *Store) AcceptRoot(hash keys.Hash) (Change, error) {
	s.mu.Lock()
	n, err := s.rep.state.AcceptRoot(hash)
	if err != nil {
		s.mu.Unlock()
		return Change{}, err
	}
	s.rep.state = n
	s.reapply()
	s.queue = append(s.queue, queued{body: wire.MustMarshal(acceptWire{Kind: frameAccept, Hash: hash})})
	s.announceLocked()
	c := rootChange(n.Root())
	s.mu.Unlock()
	return c, s.Flush()
}

// TakeRoot applies the successor of the current root by the operator's word. What would contradict a root held is refused here: coming
// from a peer it would be a fork, from this node's own operator it is a mistake. With a Change beside an error the root counts, but
// is not on disk yet.
func (s *Store) TakeRoot(raw []byte) (Change, error) {
	s.mu.Lock()
	if _, err := s.rep.state.CheckNext(raw); err != nil {
		s.mu.Unlock()
		return Change{}, err
	}
	c, err := s.rep.root(raw)
	if err != nil {
		s.mu.Unlock()
		return Change{}, err
	}
	s.tookLocked(c, nil)
	s.mu.Unlock()
	return c, s.Flush()
}

// tookLocked queues what was applied and tells of it.
func (s *Store) tookLocked(c Change, rec *record) {
	switch c.Kind {
	case KindHead:
		s.headsNew = true // kept in a file of its own: they come each 300 s, and only the newest counts
	case 0:
	default:
		s.queue = append(s.queue, queued{body: c.Body, issuer: c.Issuer, seq: c.Seq, rec: rec})
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	s.announceLocked()
}

func (s *Store) announceLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Err is why the last write failed; nil if it did not. What is not written yet counts all the same.
func (s *Store) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Run writes what was received until ctx ends, then once more. It returns nil, or why the last write failed.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(floorStep * time.Second)
	defer tick.Stop()
	s.keepState(cacheStep)
	for {
		select {
		case <-s.wake:
			if s.Flush() != nil {
				select {
				case <-time.After(retryPause):
				case <-ctx.Done():
				}
				select {
				case s.wake <- struct{}{}:
				default:
				}
			}
		case <-tick.C:
			s.note(s.saveSmall())
			s.keepState(cacheStep)
		case <-ctx.Done():
			return errors.Join(s.Flush(), s.saveSmall())
		}
	}
}

// Flush makes everything applied so far durable.
func (s *Store) Flush() error {
	s.write.Lock()
	defer s.write.Unlock()
	err := s.flush()
	s.note(err)
	return err
}

func (s *Store) note(err error) {
	s.mu.Lock()
	s.failed = err
	s.mu.Unlock()
}

// Close closes the log, after Run has returned.
func (s *Store) Close() error {
	err := errors.Join(s.Flush(), s.saveSmall())
	s.keepState(cacheEnd)
	return errors.Join(err, s.log.Close())
}
