package beacon

import (
	"iter"
	"sync/atomic"
)

// Drop is why a datagram was dropped: the error of [Receiver.Receive]. A drop is never an event to report by itself, as strangers
// cause any number of them; they are counted.
type Drop uint8

// The reasons, in the order of the checks.
const (
	DropSize      Drop = iota // 1: not one of the four lengths
	DropSource                // 2: the source address is over its rate
	DropGlobal                // 2: all sources together are over the rate
	DropSealed                // 3: no key of ours opens it
	DropOlder                 // 3: neither current nor previous key opens it, and there is no budget to try older ones
	DropMalformed             // 4: sealed by a member, but not one canonical announcement of its generation
	DropOwn                   // 5: our own
	DropRevoked               // 5: of a revoked node
	DropReplay                // 6: not newer than the newest verified one
	DropPair                  // 7: this node id from this source is over its rate
	DropSignature             // 8: not signed by the node it names
	DropNode                  // 8: the proven node is over its rate
	drops                     // the number of reasons
)

var dropNames = [drops]string{
	"size", "source_rate", "global_rate", "sealed", "older_rate", "malformed", "own", "revoked", "replay", "pair_rate",
	"signature", "node_rate",
}

// Error names the reason as metrics do.
func (d Drop) Error() string {
	if d < drops {
		return "beacon dropped: " + dropNames[d]
	}
	return "beacon dropped"
}

// Counters is what a receiver counted since it was made.
type Counters struct {
	Received uint64 // datagrams of any kind
	Heard    uint64 // passed every check
	Older    uint64 // of those, opened with a generation older than the previous one
	Skewed   uint64 // of those, with a clock more than two minutes off
	Answered uint64 // answers allowed
	Dropped  [drops]uint64
}

// Drops yields every reason by name with its count.
func (c Counters) Drops() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for d, n := range c.Dropped {
			if !yield(dropNames[d], n) {
				return
			}
		}
	}
}

// counters are written by the one goroutine that receives and read by any.
type counters struct {
	received, heard, older, skewed, answered atomic.Uint64
	dropped                                  [drops]atomic.Uint64
}

func (c *counters) drop(d Drop) error {
	c.dropped[d].Add(1)
	return d
}

func (c *counters) snapshot() Counters {
	out := Counters{
		Received: c.received.Load(), Heard: c.heard.Load(), Older: c.older.Load(), Skewed: c.skewed.Load(),
		Answered: c.answered.Load(),
	}
	for i := range c.dropped {
		out.Dropped[i] = c.dropped[i].Load()
	}
	return out
}
