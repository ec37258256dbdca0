package mesh

import (
	"slices"
	"sync"

	"github.com/sovereignmesh/meshkey/session"
)

// outbox is what waits to be written to a link: revocations, and all else. Unlike a channel it holds no memory while it is empty, which
// on an idle session is always.
type outbox struct {
	more chan struct{} // capacity 1: something was put

	mu     sync.Mutex
	urgent []outFrame // guarded by mu
	other  []outFrame // guarded by mu
}

type outFrame struct {
	kind session.RecordType
	body []byte
}

func newOutbox() *outbox { return &outbox{more: make(chan struct{}, 1)} }

// put adds a record unless there are too many. It never blocks: the core waits for nobody.
func (o *outbox) put(f outFrame, urgent bool) bool {
	o.mu.Lock()
	q, limit := &o.other, linkQueue
	if urgent {
		q, limit = &o.urgent, linkUrgent
	}
	if len(*q) >= limit {
		o.mu.Unlock()
		return false
	}
	*q = append(*q, f)
	o.mu.Unlock()
	select {
	case o.more <- struct{}{}:
	default:
	}
	return true
}

// take removes the next record, revocations first. It reports false when there is none.
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
	return outFrame{}, false
}
