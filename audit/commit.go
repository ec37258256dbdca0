package audit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// batch is a group of entries that one flush makes durable.
type batch struct {
	leaves [][]byte
	bytes  int
	first  uint64 // index of leaves[0], once done
	done   bool
	err    error
}

// Append records an event and returns its index when it is durable. Concurrent callers share one flush.
//
// A denial beyond denialsPerSecond of its actor is counted instead: the index returned is then that of the actor's last
// denial that was written, and one record with the count follows within about a second. So is one of a kind that came repeatsPlain times
// within repeatWindow; its count follows when that ends.
func (l *Log) Append(e Event) (uint64, error) {
	e, leaf, err := l.prepare(e)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	at, counted := l.denials.countLocked(e)
	if counted {
		l.lingerLocked()
		return at.index(), nil
	}
	if err := l.roomLocked(); err != nil {
		l.lost++
		return 0, err
	}
	b, n := l.enqueueLocked(leaf)
	for !b.done {
		if l.busy {
			l.cond.Wait()
		} else {
			l.commitLocked()
		}
	}
	if b.err != nil {
		return 0, b.err
	}
	index := b.first + uint64(n)
	at.wrote(index)
	return index, nil
}

// Later records an event that will be durable within a second, while [Log.Run] runs, and no later than the next Append that
// follows it. The order of events is kept.
//
// It never waits for the disk: whoever calls it serves revocations too. If more than maxQueue waits, the disk has not kept up for
// long, or hangs; then the log becomes degraded as after a failed write, and what waited is lost and counted in the gap.
func (l *Log) Later(e Event) error {
	e, leaf, err := l.prepare(e)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, counted := l.denials.countLocked(e); counted {
		l.lingerLocked()
		return nil
	}
	if l.closed {
		return ErrClosed
	}
	if l.failed == nil && l.queued+len(leaf) > maxQueue {
		l.failLocked(errBehind)
	}
	if l.failed != nil {
		l.lost++
		return l.failed
	}
	l.enqueueLocked(leaf)
	l.lingerLocked()
	if len(l.queue) > 1 {
		l.wake() // a whole commit waits: no reason to linger, and the bound is far
	}
	return nil
}

// errBehind is why the log is degraded when the disk is too slow, or hangs without an error.
var errBehind = fmt.Errorf("the disk takes records too slowly: more than %d MiB wait", maxQueue>>20)

// Flush returns when everything recorded before the call is durable, but for denials that are still being counted: whoever reads the log
// would else end their window, and choose how many records they become.
func (l *Log) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.flushLocked()
}

func (l *Log) prepare(e Event) (Event, []byte, error) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	leaf, err := encodeLeaf(e)
	return e, leaf, err
}

// lingerLocked makes Run flush in time.
func (l *Log) lingerLocked() {
	if l.laterSince.IsZero() {
		l.laterSince = time.Now()
		l.wake()
	}
}

func (l *Log) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// roomLocked fails if nothing may be enqueued, and makes a checkpoint first if too much is held in memory for want of one.
func (l *Log) roomLocked() error {
	for l.failed == nil && !l.closed && len(l.tail)+l.waiting >= maxUnsaved {
		switch {
		case l.busy || l.saving:
			l.cond.Wait()
		case l.waiting > 0 && len(l.tail) < maxUnsaved:
			l.commitLocked()
		default:
			l.mustSaveLocked()
		}
	}
	if l.closed {
		return ErrClosed
	}
	return l.failed
}

// mustSaveLocked makes a checkpoint without which too much would be held in memory. busy and saving must be false.
func (l *Log) mustSaveLocked() {
	if err := l.saveLocked(); err != nil {
		l.failLocked(err)
	}
}

func (l *Log) enqueueLocked(leaf []byte) (*batch, int) {
	var b *batch
	if n := len(l.queue); n > 0 {
		b = l.queue[n-1]
	}
	if b == nil || len(b.leaves) == batchEntries || b.bytes+len(leaf) > batchBytes {
		b = &batch{}
		l.queue = append(l.queue, b)
	}
	b.leaves = append(b.leaves, leaf)
	b.bytes += len(leaf)
	l.queued += len(leaf)
	l.waiting++
	return b, len(b.leaves) - 1
}

// commitLocked makes the first batch of the queue durable. busy must be false; mu is let go while the disk works, so that the
// next batch fills meanwhile.
func (l *Log) commitLocked() {
	b := l.queue[0]
	l.queue = l.queue[1:]
	l.queued -= b.bytes
	l.waiting -= len(b.leaves)
	if len(l.queue) == 0 {
		l.laterSince = time.Time{}
	}
	l.busy = true
	l.mu.Unlock()
	s, root, err := l.write(b)
	l.mu.Lock()
	l.busy = false
	if err != nil {
		l.stuck = s
		l.failLocked(err)
		b.err = l.failed
	} else {
		l.acceptLocked(s, root)
	}
	b.done = true
	l.cond.Broadcast()
}

// write adds a batch to the tree and writes its frame. The caller has set busy.
//
// The tree moves on even if the write fails: the frame may be on disk, signed, so the same bytes are written again before
// anything else (stuckFrame). If the process dies before that, the next one finds the frame or does not; nothing in it was
// acknowledged, and nothing that leaves the host was said about it.
func (l *Log) write(b *batch) (*stuckFrame, tlog.Hash, error) {
	s := &stuckFrame{batch: b}
	b.first = l.tree.size
	for _, leaf := range b.leaves {
		l.tree.add(tlog.RecordHash(leaf), nil, func(level int, n uint64, hashes []tlog.Hash) {
			s.full = append(s.full, fullTile{level, n, hashes})
		})
	}
	root := l.tree.root()
	s.raw = newFrame(l.key, l.mesh, b.first, b.leaves, root)
	_, err := l.journal.AppendSync(s.raw)
	return s, root, err
}

// acceptLocked makes a durable batch visible.
func (l *Log) acceptLocked(s *stuckFrame, root tlog.Hash) {
	l.tail = append(l.tail, s.batch.leaves...)
	l.full = append(l.full, s.full...)
	l.size, l.root = s.batch.first+uint64(len(s.batch.leaves)), root
	l.journalLen += int64(len(s.raw))
	if n := len(l.journals); n > 0 {
		l.journals[n-1].end = l.size
	}
	close(l.changed)
	l.changed = make(chan struct{})
	if len(l.tail) >= unsavedSoon {
		l.wake()
	}
}

func (l *Log) flushLocked() error {
	for l.failed == nil && (l.busy || len(l.queue) > 0) {
		switch {
		case l.busy || l.saving && len(l.tail) >= maxUnsaved:
			l.cond.Wait()
		case len(l.tail) >= maxUnsaved:
			l.mustSaveLocked() // Later has no such bound of its own
		default:
			l.commitLocked()
		}
	}
	return l.failed
}

// failLocked enters the degraded state. What waits in the queue is lost, and counted.
func (l *Log) failLocked(cause error) {
	now := time.Now()
	if l.failed == nil {
		l.failed, l.cause = fmt.Errorf("%w: %w", ErrDegraded, cause), cause
		l.since = now
		l.log.Error("audit log cannot be written", "error", cause)
	}
	l.retryAt = now.Add(retryEvery)
	for _, b := range l.queue {
		b.done, b.err = true, l.failed
		l.lost += uint64(len(b.leaves))
	}
	l.queue, l.queued, l.waiting, l.laterSince = nil, 0, 0, time.Time{}
	l.cond.Broadcast()
	l.wake()
}

// resume tries to leave the degraded state: it writes the stuck frame again, then a record of the gap. It changes nothing
// that it cannot finish later.
func (l *Log) resume() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.busy || l.saving {
		l.cond.Wait()
	}
	if l.failed == nil || l.closed {
		return nil
	}
	l.busy = true
	l.mu.Unlock()
	err := l.repair()
	l.mu.Lock()
	l.busy = false
	defer l.cond.Broadcast()
	if err != nil {
		l.retryAt = time.Now().Add(retryEvery)
		if _, damaged := errors.AsType[*DamageError](err); damaged {
			l.retryAt = time.Now().Add(damagedEvery) // each try reads the whole log
		}
		return err
	}
	l.failed, l.retryAt = nil, time.Time{}
	l.log.Info("audit log can be written again", "after", time.Since(l.since))
	l.since = time.Time{}
	if l.lost > 0 { // while the record of the gap was being written
		if leaf, err := encodeLeaf(l.gapEvent(l.lost, time.Now(), "lost while the gap was recorded", "")); err == nil {
			l.lost = 0
			l.enqueueLocked(leaf)
			l.lingerLocked()
		}
	}
	return nil
}

func (l *Log) gapEvent(lost uint64, since time.Time, reason, unacknowledged string) Event {
	now := time.Now()
	return Event{
		Time: now, Code: AuditGap, Actor: l.node.Compact(), Verdict: Failed, Reason: reason, Count: lost,
		Duration: max(0, now.Sub(since)), Before: unacknowledged,
	}
}

// repair does the work of resume with busy set and without mu.
func (l *Log) repair() error {
	if l.journal == nil {
		if err := l.load(); err != nil {
			l.closeFiles()
			return err
		}
	}
	if _, err := l.journal.Reopen(); err != nil {
		return err
	}
	var unacknowledged string
	if s := l.stuck; s != nil {
		if _, err := l.journal.AppendSync(s.raw); err != nil {
			return err
		}
		first, n := s.batch.first, uint64(len(s.batch.leaves))
		unacknowledged = "entries " + strconv.FormatUint(first, 10) + "-" + strconv.FormatUint(first+n-1, 10) + " were not acknowledged"
		l.mu.Lock()
		l.acceptLocked(s, l.tree.root())
		l.stuck = nil
		l.mu.Unlock()
	}
	l.mu.Lock()
	if len(l.tail) >= unsavedSoon {
		snap := l.snapshotLocked()
		l.mu.Unlock()
		cp, err := l.save(snap)
		if err != nil {
			return err
		}
		l.mu.Lock()
		l.savedLocked(snap, cp)
	}
	lost, since, cause := l.lost, l.since, l.cause
	l.mu.Unlock()

	leaf, err := encodeLeaf(l.gapEvent(lost, since, strings.ReplaceAll(cause.Error(), l.dir+"/", ""), unacknowledged))
	if err != nil {
		return err
	}
	s, root, err := l.write(&batch{leaves: [][]byte{leaf}, bytes: len(leaf)})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost -= lost // those are in the record; what was lost while it was written is in the next one
	if err != nil {
		l.stuck = s
		return err
	}
	s.batch.done = true
	l.acceptLocked(s, root)
	return nil
}
