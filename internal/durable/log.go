package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
)

// ErrFailed marks a log whose disk failed it: frames from [Log.Durable] on are lost or uncertain, nothing more is
// accepted. [Log.Reopen] starts a new segment and says what to append again.
var ErrFailed = errors.New("the log has failed and must be reopened")

// Log is an append-only file of frames, each with an index from 0. Its methods are safe for concurrent use.
//
// A log has no goroutine of its own: whoever calls Sync first becomes the leader, flushes all that has been appended,
// and meanwhile the next group forms behind it.
type Log struct {
	// immutable
	fsys     FS
	name     string
	maxFrame int

	mu   sync.Mutex
	cond *sync.Cond // a flush has ended, or failed, or the log was closed

	// guarded by mu
	file     File // the last segment; Sync is called on it without mu, by the one leader
	segs     []segment
	end      int64  // offset after the last record of the last segment
	size     int64  // of the file: end and the zeros behind it
	next     uint64 // index of the next frame
	synced   int64  // offset in the last segment: everything before it is durable
	durable  uint64 // index: every frame before it is durable
	covered  int64  // offset up to which marks in the file vouch for
	group    int    // frames appended since the last flush began
	bytes    int64  // bytes appended since the last flush began
	flushing bool   // a leader is in Sync
	closed   bool
	failed   error // sticky until Reopen
	buf      []byte
}

// Append writes a frame of 1 to maxFrame bytes to the operating system and returns its index. The frame survives the
// end of this process but not a power loss, until Sync. Append waits for a flush when a group is full.
//
// If the disk is full ([IsNoSpace]) the log is as it was and goes on working. After any other write error it has failed.
func (l *Log) Append(payload []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	index, _, err := l.appendLocked(payload)
	return index, err
}

// AppendSync appends a frame and returns when it is durable. Frames of concurrent callers share a flush.
func (l *Log) AppendSync(payload []byte) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	index, number, err := l.appendLocked(payload)
	if err != nil {
		return 0, err
	}
	if err := l.syncLocked(index+1, number); err != nil {
		return 0, err
	}
	return index, nil
}

// Sync returns when every frame appended before the call is durable.
func (l *Log) Sync() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.usableLocked(); err != nil {
		return err
	}
	return l.syncLocked(l.next, l.lastLocked().number)
}

// Len returns the number of frames appended, which is the index of the next one.
func (l *Log) Len() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next
}

// Durable returns the number of frames known to be durable.
func (l *Log) Durable() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable
}

func (l *Log) lastLocked() *segment { return &l.segs[len(l.segs)-1] }

func (l *Log) usableLocked() error {
	if l.closed {
		return fmt.Errorf("log %s: %w", l.name, fs.ErrClosed)
	}
	return l.failed
}

// appendLocked returns the index of the new frame and the number of its segment. It may let mu go to wait for a flush.
func (l *Log) appendLocked(payload []byte) (uint64, uint32, error) {
	if len(payload) == 0 || len(payload) > l.maxFrame {
		return 0, 0, fmt.Errorf("log %s: a frame of %d bytes, allowed are 1 to %d", l.name, len(payload), l.maxFrame)
	}
	need := int64(recordHeader + len(payload))
	for {
		if err := l.usableLocked(); err != nil {
			return 0, 0, err
		}
		full := l.group >= groupFrames || l.group > 0 && l.bytes+need+markSize > groupBytes
		if !full {
			break
		}
		// The bound of a group bounds what a crash can tear, so it holds for Append without Sync too.
		if l.flushing {
			l.cond.Wait()
		} else {
			l.flushLocked()
		}
	}

	seg := l.lastLocked()
	l.buf = l.buf[:0]
	at := l.end
	if l.synced > l.covered {
		// The first record after a flush says that the flush succeeded: recovery then knows that damage before that
		// point is no torn write.
		l.buf = appendMark(l.buf, seg.number, at, l.synced)
		at += markSize
	}
	l.buf = appendFrame(l.buf, seg.number, at, payload)
	if err := l.writeLocked(l.buf); err != nil {
		return 0, 0, err
	}
	if at > l.end {
		l.covered = l.synced
		if l.synced == l.end {
			l.covered = at
		}
	}
	l.group++
	l.bytes += int64(len(l.buf))
	l.end += int64(len(l.buf))
	index := l.next
	l.next++
	seg.note(index, at)
	return index, seg.number, nil
}

// writeLocked writes records at the end of the log.
//
// The file is first filled with zeros some way ahead, then records are written over the zeros: running out of space
// meets zeros, which recovery reads as the clean end, and never half a record; and most flushes change no metadata.
func (l *Log) writeLocked(records []byte) error {
	need := l.end + int64(len(records))
	if need > l.size {
		if err := l.growLocked(need); err != nil {
			return err
		}
	}
	if _, err := l.file.WriteAt(records, l.end); err != nil {
		// The records may stand there, in whole or part. Only if they are gone again may others take their place:
		// a shorter record over a longer one would leave its rest.
		l.size = l.end
		truncErr := l.file.Truncate(l.end)
		if truncErr == nil && IsNoSpace(err) {
			return fmt.Errorf("log %s: %w", l.name, err)
		}
		return l.failLocked(errors.Join(err, truncErr))
	}
	return nil
}

// growLocked extends the file by zeros to a multiple of growStep that holds need, or if there is no room for that, to
// need alone.
func (l *Log) growLocked(need int64) error {
	target := (need + growStep - 1) / growStep * growStep
	zeros := make([]byte, target-l.size)
	_, err := l.file.WriteAt(zeros, l.size)
	if IsNoSpace(err) && target > need {
		target = need
		_, err = l.file.WriteAt(zeros[:need-l.size], l.size)
	}
	if err == nil {
		l.size = target
		return nil
	}
	if IsNoSpace(err) {
		// Whatever was written is zeros behind the end: harmless, and written again next time.
		return fmt.Errorf("log %s: %w", l.name, err)
	}
	return l.failLocked(err)
}

// syncLocked waits until the frames before index are durable, the last of which was appended to the segment with this
// number, and leads a flush if there is no leader.
func (l *Log) syncLocked(index uint64, number uint32) error {
	for {
		if l.lastLocked().number != number {
			// Reopened meanwhile, perhaps more than once: what was not durable the first time is void, and its index
			// may belong to another frame now.
			next := slices.IndexFunc(l.segs, func(s segment) bool { return s.number > number })
			if l.segs[next].base >= index {
				return nil
			}
			return fmt.Errorf("log %s: %w: it was reopened without frame %d", l.name, ErrFailed, index-1)
		}
		if l.durable >= index {
			return nil
		}
		if l.failed != nil {
			return l.failed
		}
		if l.flushing {
			l.cond.Wait()
		} else {
			l.flushLocked()
		}
	}
}

// flushLocked is one flush by its leader: it lets mu go while the disk works, so that the next group can form.
func (l *Log) flushLocked() {
	file, synced, durable := l.file, l.end, l.next
	l.flushing = true
	l.group, l.bytes = 0, 0
	l.mu.Unlock()
	err := file.Sync()
	l.mu.Lock()
	l.flushing = false
	if err != nil {
		// Never again on this descriptor: the kernel may have dropped the pages and call them clean, so that the
		// next Sync would succeed about bytes that are not there.
		_ = l.failLocked(err)
	} else if l.failed == nil {
		l.synced, l.durable = synced, durable
	}
	l.cond.Broadcast()
}

func (l *Log) failLocked(cause error) error {
	if l.failed == nil {
		l.failed = fmt.Errorf("log %s: %w: %w", l.name, ErrFailed, cause)
	}
	l.cond.Broadcast()
	return l.failed
}

// Reopen makes a failed log usable again and returns the index of the next frame: frames from there on were never
// acknowledged, are void, and must be appended again if they are still wanted. On a log that has not failed it changes
// nothing.
//
// It opens a new segment whose base is that index. Once the new segment is durable, whatever the disk kept of the old
// one from that index on is void, whether it got there or not; before that, the old segment is the last one and its
// tail is read like one left by a crash. So Reopen can fail, or die, at any step and be repeated.
func (l *Log) Reopen() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.flushing {
		l.cond.Wait()
	}
	if l.closed {
		return 0, fmt.Errorf("log %s: %w", l.name, fs.ErrClosed)
	}
	if l.failed == nil {
		return l.next, nil
	}
	seg, file, err := createSegment(l.fsys, l.name, l.lastLocked().number+1, l.durable)
	if err != nil {
		return 0, fmt.Errorf("reopening log %s: %w", l.name, err)
	}
	// The descriptor failed; its Close can tell nothing that matters.
	_ = l.file.Close()
	l.file = file
	l.next = l.durable
	l.useSegmentLocked(seg)
	l.failed = nil
	l.cond.Broadcast()
	return l.next, nil
}

// useSegmentLocked makes an empty, durable segment the last one.
func (l *Log) useSegmentLocked(seg segment) {
	l.segs = append(l.segs, seg)
	l.end, l.size = segmentHeader, segmentHeader
	l.synced, l.covered = segmentHeader, segmentHeader
	l.group, l.bytes = 0, 0
}

// Close flushes the log, marks it as closed in order, and gives the file back. A log that has failed stays as it is on
// disk and Close returns why it failed. Appends and reads that come later fail with [fs.ErrClosed].
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.flushing {
		l.cond.Wait()
	}
	if l.closed {
		return nil
	}
	l.closed = true
	l.cond.Broadcast()
	err := l.failed
	if err == nil {
		err = l.sealLocked()
	}
	if closeErr := l.file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// sealLocked makes everything durable, then writes a mark that says so, without the zeros behind it. If the power goes
// before the mark is durable, the frames are, and the log is recovered as one that was not closed.
func (l *Log) sealLocked() error {
	if l.durable < l.next {
		l.flushLocked()
		if l.failed != nil {
			return l.failed
		}
	}
	if l.covered >= l.end {
		return nil
	}
	l.buf = appendMark(l.buf[:0], l.lastLocked().number, l.end, l.synced)
	if err := l.writeLocked(l.buf); err != nil {
		// The frames are durable; a log without its last mark costs a slower start and a weaker check, no data.
		if IsNoSpace(err) {
			return nil
		}
		return err
	}
	l.end += markSize
	if err := l.file.Truncate(l.end); err != nil {
		return err
	}
	return l.file.Sync()
}
