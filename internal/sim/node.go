package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/trust"
)

const (
	// syncTime is how long what a node has applied takes to its disk.
	syncTime = 10 * time.Millisecond
	// clockSlack is how far a clock may be off, in seconds, as in package trust.
	clockSlack = 300
)

// Node is a host and the daemon on it.
type Node struct {
	// immutable
	w       *World
	i       int
	id      keys.NodeID
	key     *keys.SigningKey
	cert    *identity.SignedCertificate
	segment int

	// the host
	addr            netip.Addr
	moves           byte
	disk            *trust.Memory // as of the last sync
	floor           int64         // of trusted time, in seconds; on the disk as well
	known           core.Persist  // what it kept of where others are; on the disk as well
	audit           []record      // durable before its effect
	wall            time.Duration // its clock's error
	wallAt          time.Duration // when it was last set
	powered, asleep bool
	joined          bool   // it has been enrolled; before, there is nothing to run
	epoch           uint64 // counts the runs of the daemon, in its beacons

	// of one run of the daemon
	core    *core.Core
	ledger  *trust.Memory
	boot    identity.BootID
	run     int // counts what interrupts it; what was meant for an earlier one is lost
	up      bool
	stalled bool
	started time.Duration
	calm    time.Duration // since when it runs without a fault of its own
	slept   time.Duration // in this run: its monotonic clock stood still
	counter uint64        // of beacons
	connSeq uint64
	lastID  core.SessionID
	timer   int           // counts what was asked for; only the newest rings
	every   time.Duration // between beacons, as announced
	crowd   int
	dials   map[core.DialID]bool
	ends    map[core.SessionID]*end
	streams []*stream
	told    map[int]time.Duration // when others last said of themselves how they are, as far as this node was told
	data    map[int]bool          // peers it wanted a stream to, or had one with
	backlog []func()              // what came while it did not run
	sweeps  int                   // of the streams
	syncing bool
	asked   bool // this step answers a WANT
}

// ID is the node's number, in the order of ids.
func (n *Node) ID() int { return n.i }

// Up reports whether the daemon runs.
func (n *Node) Up() bool { return n.up }

// State is the trust state the node holds.
func (n *Node) State() *trust.State { return n.ledger.Current() }

func (n *Node) tcp() netip.AddrPort { return netip.AddrPortFrom(n.addr, tcpPort) }
func (n *Node) udp() netip.AddrPort { return netip.AddrPortFrom(n.addr, udpPort) }

func (n *Node) rootVersion() uint64 { return n.ledger.Current().Root().Version }

// place gives the node the address of its place, after so many moves.
func (n *Node) place() {
	if n.w.at[n.tcp()] == n {
		delete(n.w.at, n.tcp())
	}
	local := n.i % n.w.cfg.Segment
	n.addr = netip.AddrFrom4([4]byte{10 + n.moves, byte(n.segment), byte(local >> 8), byte(local)})
	n.w.at[n.tcp()] = n
}

func (n *Node) prefixes() []netip.Prefix {
	p, err := n.addr.Prefix(16)
	if err != nil {
		panic(err) // of an IPv4 address
	}
	return []netip.Prefix{p}
}

// Start begins a run of the daemon, with what is on its disk.
func (n *Node) Start() {
	if n.up || !n.powered || n.asleep || !n.joined {
		return
	}
	w := n.w
	n.run++
	n.epoch++
	n.ledger = n.disk.Clone()
	n.up, n.stalled, n.backlog, n.syncing = true, false, nil, false
	n.started, n.calm, n.slept = w.now, w.now, 0
	n.counter, n.connSeq, n.lastID, n.every, n.crowd = 0, 0, 0, core.Interval, 0
	binary.BigEndian.PutUint64(n.boot[:], w.rng.Uint64())
	n.dials, n.ends = map[core.DialID]bool{}, map[core.SessionID]*end{}
	n.streams, n.data, n.told = nil, nil, nil
	var seed [32]byte
	for i := 0; i < len(seed); i += 8 {
		binary.BigEndian.PutUint64(seed[i:], w.rng.Uint64())
	}
	n.core = core.New(core.Config{
		Self: n.id, Boot: n.boot, Seed: seed, Ledger: n.ledger, Known: n.known.Known, Anchor: n.known.Anchor,
	})
	w.note(n, "starts")
	n.step(core.NetChange{Prefixes: n.prefixes()})
	n.step(core.Start{})
	for _, p := range n.seeds() {
		n.step(core.AddSeed{Peer: p.id, At: p.tcp()})
	}
}

// seeds are the nodes that this one's configuration names: a member in the next segment, and one in any other. People keep such a list
// free of nodes they have revoked.
func (n *Node) seeds() (list []*Node) {
	w := n.w
	if len(w.segments) < 2 || w.seedless {
		return nil
	}
	for _, s := range []int{n.segment + 1, n.segment + 1 + w.rng.IntN(len(w.segments)-1)} {
		var members []*Node
		for _, m := range w.segments[s%len(w.segments)] {
			if w.member(m) {
				members = append(members, m)
			}
		}
		if len(members) > 0 {
			list = append(list, members[w.rng.IntN(len(members))])
		}
	}
	return list
}

// learn gives the node an entry as if it had been written there.
func (n *Node) learn(c trust.Change) {
	got, err := n.ledger.ApplyEntry(c.Entry, n.clock().Trust)
	n.took(got, err)
}

// took makes what was signed on this host durable, and then known.
func (n *Node) took(c trust.Change, err error) {
	if err != nil {
		n.w.note(n, "cannot take its own object: %v", err)
		return
	}
	n.disk = n.ledger.Clone()
	n.step(core.TrustIn{Changes: []trust.Change{c}})
}

// clock is what the node's clocks say. Trusted time never goes back behind the floor, less some slack.
func (n *Node) clock() core.Now {
	wall := epoch0*1000 + (n.w.now + n.wall + n.w.cfg.Wall).Milliseconds()
	return core.Now{Mono: n.w.now - n.started - n.slept, Wall: wall, Trust: max(wall/1000, n.floor-clockSlack)}
}

// raise lifts the time floor to what is signed and not from the future of this clock.
func (n *Node) raise(to int64) {
	if to <= n.clock().Wall/1000+clockSlack {
		n.floor = max(n.floor, to)
	}
}

// peerTime lifts it to the local clock where a peer's agrees.
func (n *Node) peerTime(m *Node) {
	mine, theirs := n.clock().Wall/1000, m.clock().Wall/1000
	if mine-theirs <= clockSlack && theirs-mine <= clockSlack {
		n.floor = max(n.floor, mine)
	}
}

// awake reports whether the daemon runs now.
func (n *Node) awake() bool { return n.up && !n.asleep && !n.stalled }

// do runs something at the daemon, or when it runs again; what comes to one that is gone or asleep is lost.
func (n *Node) do(f func()) {
	switch {
	case !n.up || n.asleep:
	case n.stalled:
		n.backlog = append(n.backlog, f)
	default:
		f()
	}
}

// later runs something of the daemon's own, in this run of it; sleep only delays it.
func (n *Node) later(d time.Duration, f func()) {
	run := n.run
	n.w.in(d, func() {
		switch {
		case n.run != run:
		case n.asleep:
			n.backlog = append(n.backlog, f)
		default:
			n.do(f)
		}
	})
}

// sortedEnds are the node's connections in a fixed order.
func (n *Node) sortedEnds() []*end {
	list := make([]*end, 0, len(n.ends))
	for _, e := range n.ends {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *end) int { return int(int64(a.id) - int64(b.id)) })
	return list
}

// index is the number of a node; -1: there is none of this id.
func (w *World) index(id keys.NodeID) int {
	i, ok := slices.BinarySearchFunc(w.nodes, id, func(n *Node, id keys.NodeID) int { return bytes.Compare(n.id[:], id[:]) })
	if !ok {
		return -1
	}
	return i
}

// name is a node's number, for people.
func (w *World) name(id keys.NodeID) string {
	if i := w.index(id); i >= 0 {
		return fmt.Sprint(i)
	}
	return id.Short()
}
