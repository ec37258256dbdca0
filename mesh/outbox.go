package mesh

import (
	"slices"
	"sync"
	"time"

	"github.com/sovereignmesh/meshkey/session"
)

// outbox is what waits to be written to a link: revocations, and all else. While it is empty, which on an idle session is always, it holds
// no memory and has no writer.
type outbox struct {
	mu      sync.Mutex
	urgent  []outFrame // guarded by mu, as all that follows
	other   []outFrame
	writing bool // somebody takes what is put
	closed  bool // nothing is taken any more
}

type outFrame struct {
	kind session.RecordType
	body []byte
}

// put adds a record unless there are too many. It never blocks: the core waits for nobody. If nobody takes the records it calls start,
// which begins to in another goroutine; that the link has not ended before start returns, start may rely on.
func (o *outbox) put(f outFrame, urgent bool, start func()) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return true
	}
	q, limit := &o.other, linkQueue
	if urgent {
		q, limit = &o.urgent, linkUrgent
	}
	if len(*q) >= limit {
		return false
	}
	*q = append(*q, f)
	if !o.writing {
		o.writing = true
		start()
	}
	return true
}

// take removes the next record, revocations first. When it reports false there is none, and the caller has stopped to be the writer.
func (o *outbox) take() (outFrame, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, q := range []*[]outFrame{&o.urgent, &o.other} {
		if len(*q) == 0 {
			continue
		}
		f := (*q)[0]
		if *q = slices.Delete(*q, 0, 1); len(*q) == 0 {
			*q = nil
		}
		return f, true
	}
	o.writing = false
	return outFrame{}, false
}

// drained waits until everything put before is written, or for so long.
func (o *outbox) drained(within time.Duration) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(within); time.Now().Before(late); <-tick.C {
		o.mu.Lock()
		idle := !o.writing || o.closed
		o.mu.Unlock()
		if idle {
			return
		}
	}
}

// close drops what waits; nothing is taken in any more.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed, o.urgent, o.other = true, nil, nil
}
