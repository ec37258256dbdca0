package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"math"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/trust"
)

// service is what every node offers, to everybody.
const service = "echo"

// Config says what to simulate. The zero value of a field without a remark is none.
type Config struct {
	Seed     uint64
	Nodes    int
	Segment  int           // hosts on one link; 0: 250
	Issuers  int           // 0: 1
	Loss     float64       // of beacons
	Late     float64       // share of records that come 200 ms late
	NoFlood  bool          // what is pushed is lost; only digests and vectors spread
	Wall     time.Duration // added to every wall clock
	Quiet    bool          // keep no flow for people: for large meshes
	noChecks bool
}

// World is a mesh under simulation.
type World struct {
	cfg   Config
	law   *law
	rng   *rand.Rand
	now   time.Duration
	queue queue
	nodes []*Node
	trace hash.Hash
	steps uint64

	segments [][]*Node
	at       map[netip.AddrPort]*Node
	cuts     []*cut

	flow   []line
	broken []string
}

// line is one line of the flow.
type line struct {
	at   time.Duration
	node int
	text string
}

// cut is a part of the network that is gone for others.
type cut struct {
	blocks func(from, to *Node) bool
	over   bool
}

// New founds a mesh; nothing runs yet.
func New(cfg Config) (*World, error) {
	if cfg.Segment == 0 {
		cfg.Segment = 250
	}
	l, err := found(cfg.Nodes, max(cfg.Issuers, 1))
	if err != nil {
		return nil, err
	}
	w := &World{
		cfg: cfg, law: l, rng: rand.New(rand.NewPCG(cfg.Seed, 0x6d65736868)), trace: sha256.New(), at: map[netip.AddrPort]*Node{},
	}
	for i := range cfg.Nodes {
		n := &Node{w: w, i: i, id: l.nodes[i], cert: l.certs[i], segment: i / cfg.Segment, powered: true, disk: l.beginning()}
		if n.segment == len(w.segments) {
			w.segments = append(w.segments, nil)
		}
		w.segments[n.segment] = append(w.segments[n.segment], n)
		n.move(0)
		w.nodes = append(w.nodes, n)
	}
	return w, nil
}

// Nodes returns the nodes, in the order of their ids.
func (w *World) Nodes() []*Node { return w.nodes }

// Now is the virtual time.
func (w *World) Now() time.Duration { return w.now }

// Steps is how many steps the cores have made.
func (w *World) Steps() uint64 { return w.steps }

// Trace is the hash of everything every core did so far.
func (w *World) Trace() [32]byte { return [32]byte(w.trace.Sum(nil)) }

// Start starts every node within the given time.
func (w *World) Start(within time.Duration) {
	for _, n := range w.nodes {
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

func (w *World) in(d time.Duration, do func()) { w.queue.push(w.now+max(d, 0), do) }

func (w *World) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)+1))
}

func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// latency is the time one way from one node to another, of one record.
func (w *World) latency(a, b *Node) time.Duration {
	if a.segment == b.segment {
		return w.between(200*time.Microsecond, time.Millisecond)
	}
	return w.site(a.segment, b.segment) + w.between(0, time.Millisecond)
}

// site is the latency between two segments, fixed by the seed: lognormal, with a median of 25 ms.
func (w *World) site(a, b int) time.Duration {
	var key [24]byte
	binary.BigEndian.PutUint64(key[:], w.cfg.Seed)
	binary.BigEndian.PutUint64(key[8:], uint64(min(a, b)))
	binary.BigEndian.PutUint64(key[16:], uint64(max(a, b)))
	h := sha256.Sum256(key[:])
	normal := rand.New(rand.NewPCG(binary.BigEndian.Uint64(h[:]), binary.BigEndian.Uint64(h[8:]))).NormFloat64()
	ms := 25 * math.Exp(0.5*min(max(normal, -2), 2))
	return time.Duration(ms * float64(time.Millisecond))
}

// blocked reports whether nothing gets from one node to another.
func (w *World) blocked(from, to *Node) bool {
	if !to.powered {
		return true
	}
	for _, c := range w.cuts {
		if !c.over && c.blocks(from, to) {
			return true
		}
	}
	return false
}

// note adds a line to the flow.
func (w *World) note(n *Node, format string, args ...any) {
	if w.cfg.Quiet {
		return
	}
	i := -1
	if n != nil {
		i = n.i
	}
	w.flow = append(w.flow, line{w.now, i, fmt.Sprintf(format, args...)})
}

// fail notes a broken invariant.
func (w *World) fail(format string, args ...any) {
	if w.cfg.noChecks {
		return
	}
	if len(w.broken) < 16 {
		w.broken = append(w.broken, fmt.Sprintf("%v: ", w.now)+fmt.Sprintf(format, args...))
	}
}

// Broken returns the invariants that were broken.
func (w *World) Broken() []string { return w.broken }

// traceEffect puts one effect of one node into the trace. Times of the wall are left out: they differ by configuration.
func (w *World) traceEffect(n *Node, e core.Effect) {
	var b [40]byte
	binary.BigEndian.PutUint64(b[:], uint64(w.now))
	binary.BigEndian.PutUint32(b[8:], uint32(n.i))
	switch e := e.(type) {
	case core.SendRaw:
		h := sha256.Sum256(e.Raw)
		copy(b[20:], h[:16])
		b[12] = 1
		binary.BigEndian.PutUint32(b[13:], uint32(e.ID))
	case core.Dial:
		b[12] = 2
		binary.BigEndian.PutUint32(b[13:], uint32(e.ID))
		copy(b[20:], e.Peer[:16])
	case core.CloseSession:
		b[12] = 3
		binary.BigEndian.PutUint32(b[13:], uint32(e.ID))
		b[20] = byte(e.Code)
	case core.Heartbeat:
		b[12] = 4
		binary.BigEndian.PutUint32(b[13:], uint32(e.ID))
		copy(b[20:], e.Digest[:])
	case core.SessionState:
		b[12] = 5
		binary.BigEndian.PutUint32(b[13:], uint32(e.ID))
		b[20], b[21] = byte(e.State), byte(e.Local)
	case core.PeerChanged:
		b[12] = 6
		b[13] = byte(e.Presence)
		copy(b[20:], e.Peer[:16])
	case core.CutNode:
		b[12] = 7
		copy(b[20:], e.Node[:16])
	case core.SendBeacon:
		b[12] = 8
		b[13] = byte(e.Flags)
	case core.SetTimer:
		b[12] = 9
		binary.BigEndian.PutUint64(b[20:], uint64(e.At))
	case core.Send:
		b[12] = 10
		binary.BigEndian.PutUint32(b[13:], uint32(e.ID))
		b[20] = byte(e.Body.Kind())
	default:
		b[12] = 11
		copy(b[13:], fmt.Sprintf("%T", e))
	}
	w.trace.Write(b[:])
}

// Publish writes ops as an issuer and gives the entry to a node, as its own admin would.
func (w *World) Publish(at *Node, issuer int, ops ...trust.Op) trust.Change {
	c, err := w.law.books[issuer].AppendOwn(w.law.issuers[issuer], epoch0+int64(w.now/time.Second), ops...)
	if err != nil {
		panic(fmt.Sprintf("sim: own entry: %v", err)) // the scenario is wrong
	}
	at.learn(c)
	return c
}

// Revoke revokes a member at a node.
func (w *World) Revoke(at, gone *Node) trust.Change {
	w.note(at, "revokes %d", gone.i)
	return w.Publish(at, 0, trust.OpRevokeNode{Node: gone.id, Reason: 1})
}
