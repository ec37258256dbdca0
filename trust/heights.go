package trust

import "github.com/sovereignmesh/meshkey/keys"

// heights holds a sequence number per issuer. There are few, at most maxIssuers, and one for each session: a list is smaller than a map.
type heights []height

type height struct {
	issuer keys.PublicKey
	seq    uint64
}

// of returns an issuer's number, 0 without one.
func (h heights) of(issuer keys.PublicKey) uint64 {
	for i := range h {
		if h[i].issuer == issuer {
			return h[i].seq
		}
	}
	return 0
}

// set replaces an issuer's number. Beyond maxHeights it is dropped: anybody can sign an entry as an issuer that no root lists, and what the
// log holds of the others the peer's next VEC tells.
func (h *heights) set(issuer keys.PublicKey, seq uint64) {
	for i := range *h {
		if (*h)[i].issuer == issuer {
			(*h)[i].seq = seq
			return
		}
	}
	if len(*h) < maxHeights {
		*h = append(*h, height{issuer, seq})
	}
}

// put is m[k] = v for a map that may not have been made yet.
func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}
