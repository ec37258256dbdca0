package handshake

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
)

// errQueue means that as many handshakes as may wait for a processor already do.
var errQueue = errors.New("queue for a processor is full")

// work bounds concurrent asymmetric cryptography: half of the processors, so that handshakes never starve the sessions that
// exist, and a short queue, so that waiting never outlasts the deadlines by much.
type work struct {
	slots   chan struct{}
	waiting atomic.Int64
}

func newWork() *work {
	return &work{slots: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
}

// acquire takes a processor, waiting in the queue until ctx ends.
func (w *work) acquire(ctx context.Context) error {
	select {
	case w.slots <- struct{}{}:
		return nil
	default:
	}
	if w.waiting.Add(1) > workQueue {
		w.waiting.Add(-1)
		return errQueue
	}
	defer w.waiting.Add(-1)
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release gives the processor back.
func (w *work) release() { <-w.slots }
