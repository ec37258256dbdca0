package audit

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// ErrDegraded means that the log cannot be written: the event was not recorded, or not provably. What must be recorded before
// it takes effect must not take effect. The state lasts until [Log.Run] has written a record of the gap.
var ErrDegraded = errors.New("the audit log cannot be written")

// ErrClosed means that the log was closed.
var ErrClosed = errors.New("the audit log is closed")

// A DamageError says that a log on disk is not what its node signed, and that it cannot be continued without contradicting
// a signed checkpoint.
type DamageError struct {
	First  uint64 // the first entry that is missing or does not fit
	Reason string
}

func (e *DamageError) Error() string {
	return fmt.Sprintf("the audit log is damaged at entry %d: %s; look with: meshkey audit verify, then restore the folder from a backup, or move it away, whereupon a new log begins",
		e.First, e.Reason)
}

// Options are the choices of [Open]; the zero value is right for a daemon.
type Options struct {
	// Previous is the node id whose log, in the same folder, a new log follows: its last checkpoint becomes part of the
	// first entry. Zero: the log follows none.
	Previous keys.NodeID
	// AllowDegraded makes Open return a degraded log instead of an error when the folder cannot be read or written, or is
	// damaged; Run keeps trying. A daemon that must stay up for revocations sets it.
	AllowDegraded bool
	// Logger gets degradation, recovery and failed checkpoints. Nil: nothing is logged.
	Logger *slog.Logger
}

// Log is a node's audit log, opened for writing. One process opens it at a time: the caller holds the lock of the state
// directory. Its methods are safe for concurrent use.
type Log struct {
	// immutable
	folder
	key    *keys.SigningKey
	node   keys.NodeID
	mesh   keys.MeshID
	origin string
	opts   Options
	log    *slog.Logger
	kick   chan struct{} // Run looks at its deadlines again
	done   chan struct{} // closed by Close

	mu   sync.Mutex
	cond *sync.Cond // busy or saving ended, a batch is done, Run ended

	// owned by whoever set busy
	tree    *tree
	journal *durable.Log // nil: not loaded
	history *durable.Log
	dirs    map[string]bool // known to exist; owned by whoever set saving, or busy while not saving

	// guarded by mu
	busy       bool // one goroutine works on tree and journal
	saving     bool // one goroutine writes a checkpoint
	queue      []*batch
	queued     int       // bytes in queue
	waiting    int       // entries in queue
	laterSince time.Time // when the oldest event of Later that is still queued came; zero: none
	size       uint64    // durable entries
	root       tlog.Hash
	tail       [][]byte // entries from tailStart on: not yet in complete bundles
	tailStart  uint64
	full       []fullTile // hash tiles completed since the last checkpoint
	saved      *Checkpoint
	savedAt    time.Time  // when the last attempt for a checkpoint was made
	saveErr    error      // of that attempt
	rewrite    bool       // partial tiles on disk are not to be trusted
	kept       Checkpoint // last checkpoint in the history: size and time
	journals   []journalFile
	journalLen int64 // bytes written to the current journal
	failed     error // sticky: wraps ErrDegraded and cause
	cause      error
	since      time.Time
	retryAt    time.Time
	lost       uint64
	stuck      *stuckFrame
	denials    denials
	changed    chan struct{} // closed and replaced at every commit
	running    bool
	closed     bool
}

// fullTile is a completed hash tile that waits for the next checkpoint.
type fullTile struct {
	level  int
	n      uint64
	hashes []tlog.Hash
}

// journalFile is a journal on disk and where it ends.
type journalFile struct {
	n   uint64
	end uint64
}

// stuckFrame is a commit that failed: it may or may not be on disk. It is written again, byte for byte, before anything else,
// so that no index is ever signed with two contents.
type stuckFrame struct {
	batch *batch
	raw   []byte
	full  []fullTile
}

// Open opens the log of a node, or makes it; the file system is the folder of all logs. It repairs what a crash leaves and
// records that it did. It starts nothing: [Log.Run] makes checkpoints and keeps the promise of [Log.Later].
func Open(fsys durable.FS, key *keys.SigningKey, mesh keys.MeshID, opts Options) (*Log, error) {
	if fsys == nil || key == nil || mesh.IsZero() {
		return nil, errors.New("audit: Open without file system, key or mesh")
	}
	node := key.NodeID()
	l := &Log{
		folder: folder{fsys, Dir(node)}, key: key, node: node, mesh: mesh, origin: Origin(mesh, node), opts: opts,
		log: opts.Logger, kick: make(chan struct{}, 1), done: make(chan struct{}), changed: make(chan struct{}),
		dirs: make(map[string]bool), denials: denials{actors: make(map[string]*window), alike: repeats{m: make(map[Event]*repeat), kinds: make(map[string]int)}},
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	l.cond = sync.NewCond(&l.mu)
	if err := l.load(); err != nil {
		l.closeFiles()
		if !opts.AllowDegraded {
			return nil, fmt.Errorf("opening the audit log: %w", err)
		}
		l.mu.Lock()
		l.failLocked(err)
		l.mu.Unlock()
	}
	return l, nil
}

// Status is the state of a log for people and metrics.
type Status struct {
	Size       uint64     // durable entries
	Checkpoint Checkpoint // the last one; zero before the first
	SaveError  error      // why the last attempt for a checkpoint failed
	Degraded   error      // wraps ErrDegraded; nil if the log can be written
	Since      time.Time  // when it became degraded
	Lost       uint64     // events not recorded since then
}

// Status returns the state of the log. Only Checkpoint is for other hosts: what lies beyond it is not yet published.
func (l *Log) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{Size: l.size, SaveError: l.saveErr, Degraded: l.failed, Since: l.since, Lost: l.lost}
	if l.saved != nil {
		s.Checkpoint = *l.saved
	}
	return s
}

// Size returns the number of durable entries.
func (l *Log) Size() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// Origin returns the log's name in checkpoints.
func (l *Log) Origin() string { return l.origin }

func (l *Log) closeFiles() {
	// The frames are durable or known not to be; a failed seal costs a slower start.
	if l.journal != nil {
		_ = l.journal.Close()
	}
	if l.history != nil {
		_ = l.history.Close()
	}
	l.journal, l.history = nil, nil
}
