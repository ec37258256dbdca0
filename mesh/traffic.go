package mesh

import (
	"sync"

	"github.com/sovereignmesh/meshkey/keys"
)

// Traffic is what streams have carried since the node began: In is what this node received.
type Traffic struct {
	Streams uint64 // begun
	In, Out uint64 // bytes of applications
}

// PeerTraffic is a peer's part.
type PeerTraffic struct {
	Traffic
	Sessions uint64 // begun, by handshake
	Rekeys   uint64 // of them, in band
}

// tally adds up what streams carried. A stream counts while it runs, and stays counted when it has ended.
type tally struct {
	mu       sync.Mutex
	live     map[*Conn]struct{}
	peers    map[keys.NodeID]*PeerTraffic // the zero id: those beyond maxTallied
	services map[string]*Traffic          // of this node; "": those beyond
}

// place is where k is counted: by itself, or, in a full table, with the others under the zero key.
func place[K comparable, V any](table *map[K]*V, k K) *V {
	if v := (*table)[k]; v != nil {
		return v
	}
	if len(*table) >= maxTallied {
		var others K
		if k = others; (*table)[k] != nil {
			return (*table)[k]
		}
	}
	if *table == nil {
		*table = map[K]*V{}
	}
	v := new(V)
	(*table)[k] = v
	return v
}

func (t *tally) peerLocked(id keys.NodeID) *PeerTraffic { return place(&t.peers, id) }

func (t *tally) serviceLocked(name string) *Traffic { return place(&t.services, name) }

// began counts a stream.
func (t *tally) began(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.live == nil {
		t.live = map[*Conn]struct{}{}
	}
	t.live[c] = struct{}{}
	t.peerLocked(c.entry.peer).Streams++
	if c.entry.inbound {
		t.serviceLocked(c.service).Streams++
	}
}

// ended counts what a stream carried, once, and no longer looks at it.
func (t *tally) ended(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, c)
	c.addTo(t.peerLocked, t.serviceLocked)
}

// addTo adds what the stream has carried until now.
func (c *Conn) addTo(peer func(keys.NodeID) *PeerTraffic, service func(string) *Traffic) {
	in, out := c.Moved()
	p := peer(c.entry.peer)
	p.In, p.Out = p.In+in, p.Out+out
	if c.entry.inbound {
		s := service(c.service)
		s.In, s.Out = s.In+in, s.Out+out
	}
}

func (t *tally) session(id keys.NodeID) {
	t.mu.Lock()
	t.peerLocked(id).Sessions++
	t.mu.Unlock()
}

func (t *tally) rekey(id keys.NodeID) {
	t.mu.Lock()
	t.peerLocked(id).Rekeys++
	t.mu.Unlock()
}

// Traffic returns what was carried to and from each peer, and for each service of this node, streams that are open included. Under the
// zero id and the empty name is what there was no place for.
func (n *Node) Traffic() (peers map[keys.NodeID]PeerTraffic, services map[string]Traffic) {
	t := &n.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := tally{peers: make(map[keys.NodeID]*PeerTraffic, len(t.peers)), services: make(map[string]*Traffic, len(t.services))}
	for id, p := range t.peers {
		sum.peers[id] = new(*p)
	}
	for name, s := range t.services {
		sum.services[name] = new(*s)
	}
	for c := range t.live {
		c.addTo(sum.peerLocked, sum.serviceLocked)
	}
	peers, services = map[keys.NodeID]PeerTraffic{}, map[string]Traffic{}
	for id, p := range sum.peers {
		peers[id] = *p
	}
	for name, s := range sum.services {
		services[name] = *s
	}
	return peers, services
}
