package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// service is what every node offers, to everybody.
const service = "echo"

const (
	tcpPort = 7477
	udpPort = 7478

	// segmentSize is how many hosts stand on one link unless told otherwise.
	segmentSize = 250
	// nearMin and nearMax are the latency on a link, one way; siteMedian is the median of that between two links.
	nearMin    = 200 * time.Microsecond
	nearMax    = time.Millisecond
	siteMedian = 25 * time.Millisecond
	// maxFlow bounds the lines kept for people; maxBroken the broken invariants.
	maxFlow   = 4096
	maxBroken = 16
)

// Config says what to simulate. The zero value of a field without a remark is none.
type Config struct {
	Seed      uint64
	Nodes     int
	Segment   int           // hosts on one link; 0: 250
	Issuers   int           // 0: 1
	Newcomers int           // the last of the nodes, which neither run nor are enrolled at the beginning
	Loss      float64       // share of beacons that is lost
	Late      float64       // share of records that come 200 ms late
	NoFlood   bool          // what is pushed is lost; only digests and vectors spread
	Wall      time.Duration // added to every wall clock
	Life      time.Duration // of certificates; 0: 30 days
	Since     time.Duration // for which certificates have been in force; 0: an hour
	Quiet     bool          // keep no flow for people: for large meshes
}

// World is a mesh under simulation.
type World struct {
	// immutable
	cfg Config
	law *law
	rng *rand.Rand

	now   time.Duration
	queue queue
	nodes []*Node
	trace hash.Hash
	steps uint64

	segments [][]*Node
	at       map[netip.AddrPort]*Node
	sites    map[[2]int]time.Duration
	silent   []time.Duration // by segment: until when no beacon is heard there
	cuts     []*cut
	cutAt    time.Duration // when the newest cut began or ended
	seedless bool          // no configuration names a seed any more

	envelopes  map[place][]byte
	records    map[string]core.BeaconIn
	digests    map[*trust.State][8]byte
	reference  *trust.Memory // everything that was ever signed and does not contradict
	signed     []*trust.Entry
	forked     []trust.Change // by the second issuer, until a root decides
	forkedOnce bool
	newcomers  int // still to come
	follows    []*follow

	count       int // members of
	countOf     *trust.State
	falsePrunes int
	closes      map[session.Code]int // what cores ended, by the reason given

	sabotage func(n *Node, e core.Effect) bool // in tests of the invariants: effects that are not carried out

	flow   []line
	broken []string
	pairs  map[[2]int]time.Duration // in a full mesh: since when a pair that can have a session has none
}

// New founds a mesh; nothing runs yet.
func New(cfg Config) (*World, error) {
	l, err := found(cfg)
	if err != nil {
		return nil, err
	}
	return newWorld(cfg, l), nil
}

func newWorld(cfg Config, l *law) *World {
	if cfg.Segment == 0 {
		cfg.Segment = segmentSize
	}
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], cfg.Seed)
	copy(seed[8:], "meshkey simulation")
	w := &World{
		cfg: cfg, law: l, rng: rand.New(rand.NewChaCha8(seed)), trace: sha256.New(), at: map[netip.AddrPort]*Node{},
		sites: map[[2]int]time.Duration{}, envelopes: map[place][]byte{}, records: map[string]core.BeaconIn{},
		digests: map[*trust.State][8]byte{}, pairs: map[[2]int]time.Duration{}, closes: map[session.Code]int{}, reference: l.beginning(), newcomers: cfg.Newcomers,
	}
	for i := range cfg.Nodes {
		n := &Node{w: w, i: i, id: l.nodes[i].NodeID(), key: l.nodes[i], cert: l.certs[i], segment: i / cfg.Segment, powered: true, disk: l.beginning()}
		n.joined = i < cfg.Nodes-cfg.Newcomers
		if n.segment == len(w.segments) {
			w.segments = append(w.segments, nil)
			w.silent = append(w.silent, 0)
		}
		w.segments[n.segment] = append(w.segments[n.segment], n)
		n.place()
		w.nodes = append(w.nodes, n)
	}
	w.in(checkEvery, w.look)
	return w
}

// Nodes returns the nodes, in the order of their ids.
func (w *World) Nodes() []*Node { return w.nodes }

// Node returns one of them.
func (w *World) Node(i int) *Node { return w.nodes[i] }

// Segments is the number of links.
func (w *World) Segments() int { return len(w.segments) }

// Now is the virtual time.
func (w *World) Now() time.Duration { return w.now }

// Steps is how many steps the cores have made.
func (w *World) Steps() uint64 { return w.steps }

// Broken returns the invariants that were broken.
func (w *World) Broken() []string { return w.broken }

// Start starts every node within the given time.
func (w *World) Start(within time.Duration) {
	for _, n := range w.nodes[:len(w.nodes)-w.cfg.Newcomers] {
		w.in(w.between(0, within), n.Start)
	}
}

// RunFor lets time pass.
func (w *World) RunFor(d time.Duration) { w.RunTo(w.now + d) }

// RunTo lets everything up to a time happen.
func (w *World) RunTo(at time.Duration) {
	for w.queue.len() > 0 && w.queue.heap[0].at <= at {
		e := w.queue.pop()
		w.now = e.at
		e.do()
	}
	w.now = at
}

// RunUntil lets time pass until something holds, looked at every 10 ms, and returns how long that took; -1: longer than the limit.
func (w *World) RunUntil(limit time.Duration, holds func() bool) time.Duration {
	const look = 10 * time.Millisecond
	for began := w.now; ; w.RunFor(look) {
		switch {
		case holds():
			return w.now - began
		case w.now-began >= limit:
			return -1
		}
	}
}

func (w *World) in(d time.Duration, do func()) { w.queue.push(w.now+max(d, 0), do) }

func (w *World) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// latency is the time one way from one node to another, of one record.
func (w *World) latency(a, b *Node) time.Duration {
	if a.segment == b.segment {
		return w.between(nearMin, nearMax)
	}
	return w.site(a.segment, b.segment) + w.between(0, nearMax)
}

// site is the latency between two segments, fixed by the seed: lognormal, with a median of 25 ms.
func (w *World) site(a, b int) time.Duration {
	pair := [2]int{min(a, b), max(a, b)}
	if d, ok := w.sites[pair]; ok {
		return d
	}
	normal := rand.New(rand.NewPCG(w.cfg.Seed, uint64(pair[0])<<32|uint64(pair[1]))).NormFloat64()
	d := time.Duration(math.Exp(0.5*min(max(normal, -2), 2)) * float64(siteMedian))
	w.sites[pair] = d
	return d
}

// digest is the digest of a state that many nodes share.
func (w *World) digest(s *trust.State) [8]byte {
	d, ok := w.digests[s]
	if !ok {
		if len(w.digests) > 1024 {
			clear(w.digests)
		}
		d = s.Digest()
		w.digests[s] = d
	}
	return d
}
