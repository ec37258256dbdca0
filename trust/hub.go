package trust

import (
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Hub is the sync of one node with all its peers: it sees to it that what is missing is asked of one peer at a time. A Hub and its
// Syncs belong to one goroutine; they do no I/O but through their Log, and know no clock: mono is any monotonic time.
type Hub struct {
	log    Log
	claims map[keys.PublicKey]claim // who is being asked for a chain
	tokens bucket                   // entries that may still be asked for
}

type claim struct {
	by    *Sync
	until time.Duration
}

// NewHub returns the sync of a node.
func NewHub(log Log) *Hub {
	return &Hub{log: log, claims: map[keys.PublicKey]claim{}, tokens: newBucket(requestRate, maxWants*wantSpan*2)}
}

// SetRate changes how many entries per second are asked for, before anything is: HurryRate for a newcomer, which does nothing else and
// serves nobody.
func (h *Hub) SetRate(perSecond float64) { h.tokens = newBucket(perSecond, maxWants*wantSpan*2) }
