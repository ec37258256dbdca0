package audit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var errRunning = errors.New("audit: Run is running already")

// Run makes checkpoints each 60 s, keeps the promise of Later, writes the records of counted denials and tries to leave the
// degraded state. It returns nil after ctx has ended or the log was closed, with a last checkpoint made.
func (l *Log) Run(ctx context.Context) error {
	l.mu.Lock()
	if l.running || l.closed {
		defer l.mu.Unlock()
		if l.closed {
			return ErrClosed
		}
		return errRunning
	}
	l.running = true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.running = false
		l.cond.Broadcast()
		l.mu.Unlock()
	}()
	for {
		timer := time.NewTimer(time.Until(l.next()))
		select {
		case <-ctx.Done():
			timer.Stop()
			l.stop()
			return nil
		case <-l.done:
			timer.Stop()
			return nil // Close makes the last checkpoint
		case <-l.kick:
		case <-timer.C:
		}
		timer.Stop()
		l.work()
	}
}

// next is when Run has to do something.
func (l *Log) next() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.retryAt
	}
	at := l.savedAt.Add(checkpointEvery)
	sooner := func(t time.Time) {
		if t.Before(at) {
			at = t
		}
	}
	if l.saveErr != nil {
		sooner(l.savedAt.Add(retryEvery))
	} else if len(l.tail) >= unsavedSoon {
		sooner(l.savedAt)
	}
	if !l.laterSince.IsZero() {
		sooner(l.laterSince.Add(laterWithin))
	}
	if t, ok := l.denials.pending(); ok {
		sooner(t)
	}
	return at
}

// work does what is due. Errors are kept in the state that Status shows, and logged where they arise.
func (l *Log) work() {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.failed != nil {
		if !now.Before(l.retryAt) {
			l.mu.Unlock()
			err := l.resume()
			l.mu.Lock()
			if err != nil {
				l.log.Debug("audit log still cannot be written", "error", err)
			}
		}
		return
	}
	l.drainDenialsLocked(false)
	if len(l.queue) == 0 {
		l.laterSince = time.Time{}
	} else if len(l.queue) > 1 || now.Sub(l.laterSince) >= laterWithin {
		_ = l.flushLocked()
	}
	due := l.savedAt.Add(checkpointEvery)
	if l.saveErr != nil {
		due = l.savedAt.Add(retryEvery)
	} else if len(l.tail) >= unsavedSoon {
		due = now
	}
	if now.Before(due) {
		return
	}
	for l.failed == nil && (l.busy || l.saving) {
		l.cond.Wait()
	}
	if l.failed == nil {
		_ = l.saveLocked()
		l.savedAt = now // also if there was nothing to do
	}
}

// stop makes everything durable and signed, or returns why it could not.
func (l *Log) stop() error {
	if err := l.resume(); err != nil {
		return err
	}
	l.mu.Lock()
	l.drainDenialsLocked(true)
	err := l.flushLocked()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = l.Checkpoint()
	return err
}

// Close makes a last checkpoint, ends Run and gives the files back. Events recorded later fail with ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.mu.Unlock()
	err := l.stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	// What came between stop and here: durable, and signed in the journal.
	if ferr := l.flushLocked(); err == nil && ferr != nil {
		err = ferr
	}
	l.closed = true
	close(l.done)
	l.cond.Broadcast()
	for l.running || l.busy || l.saving {
		l.cond.Wait()
	}
	l.closeFiles()
	close(l.changed)
	if err != nil {
		return fmt.Errorf("closing the audit log: %w", err)
	}
	return nil
}
