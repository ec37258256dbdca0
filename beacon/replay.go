package beacon

import (
	"math/rand/v2"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// sighting is what is remembered of a node whose beacon was verified.
type sighting struct {
	epoch, counter uint64
	last           time.Duration
	budget         bucket
	at             int // index in memory.ids
}

// memory remembers sightings of at most limit nodes. A full one forgets a node at random, so that whoever invents nodes cannot
// choose which.
type memory struct {
	// immutable
	limit int
	rand  *rand.Rand

	nodes map[keys.NodeID]*sighting
	ids   []keys.NodeID
}

func newMemory(limit int, r *rand.Rand) *memory {
	return &memory{limit: limit, rand: r, nodes: make(map[keys.NodeID]*sighting)}
}

// find returns what is remembered of the node, nil if nothing is or it was silent too long.
func (m *memory) find(id keys.NodeID, now time.Duration) *sighting {
	s := m.nodes[id]
	if s != nil && now-s.last > replayMemory {
		m.forget(id)
		return nil
	}
	return s
}

// add begins to remember a node that is not remembered.
func (m *memory) add(id keys.NodeID, s *sighting) {
	if len(m.ids) >= m.limit {
		m.forget(m.ids[m.rand.IntN(len(m.ids))])
	}
	s.at = len(m.ids)
	m.ids = append(m.ids, id)
	m.nodes[id] = s
}

func (m *memory) forget(id keys.NodeID) {
	s := m.nodes[id]
	if s == nil {
		return
	}
	last := len(m.ids) - 1
	m.ids[s.at] = m.ids[last]
	m.nodes[m.ids[s.at]].at = s.at
	m.ids = m.ids[:last]
	delete(m.nodes, id)
}

// sweep forgets everybody who was silent too long.
func (m *memory) sweep(now time.Duration) {
	for id, s := range m.nodes {
		if now-s.last > replayMemory {
			m.forget(id)
		}
	}
}
