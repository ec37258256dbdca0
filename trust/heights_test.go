package trust

import (
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
)

// TestHeights: whoever makes up issuers gets no memory for them, and costs none of those that are known.
func TestHeights(t *testing.T) {
	var h heights
	id := func(i int) keys.PublicKey { return keys.PublicKey{byte(i), byte(i >> 8)} }
	for i := range 2 * maxHeights {
		h.set(id(i), uint64(i)+1)
	}
	if len(h) != maxHeights {
		t.Fatalf("%d issuers remembered, at most %d", len(h), maxHeights)
	}
	h.set(id(3), 100)
	if h.of(id(3)) != 100 || h.of(id(4)) != 5 || h.of(id(maxHeights)) != 0 {
		t.Fatal(h.of(id(3)), h.of(id(4)), h.of(id(maxHeights)))
	}
}
