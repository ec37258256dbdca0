package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// syncTime is how long what a node has applied takes to its disk.
const syncTime = 10 * time.Millisecond

// Node is a host and the daemon on it.
type Node struct {
	// immutable
	w       *World
	i       int
	id      keys.NodeID
	cert    *identity.SignedCertificate
	segment int

	addr netip.Addr
	disk *trust.Memory // as of the last sync
	wall time.Duration // its clock's error

	// of one run of the daemon
	core    *core.Core
	ledger  *trust.Memory
	boot    identity.BootID
	run     int // counts the runs; what was meant for an earlier one is lost
	started time.Duration
	lost    time.Duration // monotonic time not counted, in sleep
	epoch   uint64
	counter uint64
	connSeq uint64
	lastID  core.SessionID
	timer   int
	every   time.Duration // between beacons, as announced
	crowd   int
	dials   map[core.DialID]bool
	ends    map[core.SessionID]*end
	streams []*stream
	data    map[int]bool // peers it wanted a stream to, or had one with
	audit   []record

	asked           bool // this step answers a WANT
	up, powered     bool
	stalled, asleep bool
	backlog         []func()
	syncing         bool
	removed         map[keys.NodeID]bool // nodes whose revocation was applied here
}

// ID is the node's number, in the order of ids.
func (n *Node) ID() int { return n.i }

// Up reports whether the daemon runs.
func (n *Node) Up() bool { return n.up }

func (n *Node) tcp() netip.AddrPort { return netip.AddrPortFrom(n.addr, 7477) }
func (n *Node) udp() netip.AddrPort { return netip.AddrPortFrom(n.addr, 7478) }

// move gives the node an address; nth counts the moves.
func (n *Node) move(nth byte) {
	delete(n.w.at, n.tcp())
	local := n.i % n.w.cfg.Segment
	n.addr = netip.AddrFrom4([4]byte{10 + nth, byte(n.segment), byte(local >> 8), byte(local)})
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
	if n.up || !n.powered {
		return
	}
	n.run++
	n.ledger = n.disk.Clone()
	n.started, n.lost, n.stalled, n.asleep, n.backlog = n.w.now, 0, false, false, nil
	binary.BigEndian.PutUint64(n.boot[:], n.w.rng.Uint64())
	n.epoch++
	n.counter, n.up, n.every, n.crowd = 0, true, core.Interval, 0
	n.dials, n.ends, n.streams = map[core.DialID]bool{}, map[core.SessionID]*end{}, nil
	n.data = map[int]bool{}
	n.removed = map[keys.NodeID]bool{}
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], n.w.rng.Uint64())
	n.core = core.New(core.Config{Self: n.id, Boot: n.boot, Seed: seed, Ledger: n.ledger})
	n.w.note(n, "starts")
	n.step(core.NetChange{Prefixes: n.prefixes()})
	n.step(core.Start{})
	if len(n.w.segments) > 1 {
		// Seeds: one in the next segment, and one anywhere.
		for _, s := range []int{(n.segment + 1) % len(n.w.segments), n.w.rng.IntN(len(n.w.segments))} {
			if p := n.w.segments[s][n.w.rng.IntN(len(n.w.segments[s]))]; p.segment != n.segment {
				n.step(core.AddSeed{Peer: p.id, At: p.tcp()})
			}
		}
	}
}

// learn gives the node an entry as if it had been written there.
func (n *Node) learn(c trust.Change) {
	e, err := trust.ParseEntry(objectOf(c.Body), n.w.law.mesh)
	if err != nil {
		panic(fmt.Sprintf("sim: own entry: %v", err))
	}
	got, err := n.ledger.ApplyEntry(e, n.clock().Trust)
	if err != nil {
		n.w.note(n, "cannot take its own entry: %v", err)
		return
	}
	n.disk = n.ledger.Clone() // own entries are durable before anybody is sent them
	n.step(core.TrustIn{Changes: []trust.Change{got}})
}

// objectOf is the object in a frame [kind, object].
func objectOf(body []byte) []byte {
	var f struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		Raw  []byte
	}
	if err := wire.Unmarshal(body, &f); err != nil {
		panic(fmt.Sprintf("sim: a frame of this program: %v", err))
	}
	return f.Raw
}

func (n *Node) clock() core.Now {
	wall := epoch0*1000 + (n.w.now + n.wall + n.w.cfg.Wall).Milliseconds()
	return core.Now{Mono: n.w.now - n.started - n.lost, Wall: wall, Trust: (wall - n.w.cfg.Wall.Milliseconds()) / 1000}
}

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

// step makes one step of the core and carries out its effects as package mesh does: what may follow only READY comes last.
func (n *Node) step(ev core.Event) {
	n.w.steps++
	f, frame := ev.(core.FrameIn)
	n.asked = frame && f.Body.Kind() == session.KindWant
	effects := n.core.Step(n.clock(), ev)
	for _, e := range effects {
		n.w.traceEffect(n, e)
	}
	after := 0
	for _, e := range effects {
		if afterReady(e) {
			after++
			continue
		}
		n.effect(e)
	}
	if after > 0 {
		for _, e := range effects {
			if afterReady(e) {
				n.effect(e)
			}
		}
	}
}

func afterReady(e core.Effect) bool {
	switch e := e.(type) {
	case core.TellSelf:
		return true
	case core.Send:
		return e.Body.Kind() == session.KindPeer || e.Body.Kind() == session.KindFind
	}
	return false
}

func (n *Node) effect(e core.Effect) {
	switch e := e.(type) {
	case core.SetTimer:
		n.setTimer(e.At)
	case core.SendBeacon:
		n.sendBeacon(e)
	case core.Dial:
		n.dial(e)
	case core.CancelDial:
		delete(n.dials, e.ID)
	case core.Send:
		n.sendBody(e)
	case core.SendRaw:
		if !n.w.cfg.NoFlood || n.asked || !isEntry(e.Raw) {
			n.transmit(e.ID, e.Raw)
		}
	case core.Heartbeat:
		n.send(e.ID, func(to *end) {
			to.n.step(core.HeartbeatIn{ID: to.id, Digest: e.Digest, Degree: e.Degree, Ping: e.Ping, Pong: e.Pong})
		})
	case core.TellSelf:
		n.tell(e.ID, n.announce())
	case core.SessionState:
		if x := n.ends[e.ID]; x != nil {
			x.state = e.State
		}
	case core.CloseSession:
		n.closeEnd(e.ID, e.Code)
	case core.CutNode:
		n.cutNode(e)
	case core.TrustChanged:
		n.trustChanged(e)
	case core.PeerChanged:
		n.w.note(n, "says %s is %s: %s", n.w.name(e.Peer), e.Presence, e.Why)
	}
}

// isEntry reports whether a frame carries an entry: with flooding off those come only as answers.
func isEntry(raw []byte) bool {
	k, err := wire.Kind(raw)
	return err == nil && session.Kind(k) == session.KindEntry
}

func (n *Node) setTimer(at time.Duration) {
	n.timer++
	timer, run := n.timer, n.run
	n.w.queue.push(max(n.started+n.lost+at, n.w.now), func() {
		if n.timer == timer && n.run == run && n.up && !n.stalled && !n.asleep {
			n.step(core.Timer{})
		}
	})
}

func (n *Node) cutNode(e core.CutNode) {
	for _, id := range n.sortedEnds() {
		if n.ends[id].peer.n.id == e.Node {
			n.closeEnd(id, e.Code)
		}
	}
	n.cutStreams(func(s *stream) bool { return s.other(n).id == e.Node })
}

func (n *Node) trustChanged(e core.TrustChanged) {
	if e.Change.Entry != nil {
		for _, o := range e.Change.Entry.Ops {
			if r, ok := o.(trust.OpRevokeNode); ok {
				n.removed[r.Node] = true
			}
		}
	}
	n.sweepStreams()
	n.checkRevoked()
	if !n.syncing {
		n.syncing = true
		n.later(syncTime, func() { n.syncing, n.disk = false, n.ledger.Clone() })
	}
}

func (n *Node) sortedEnds() []core.SessionID {
	ids := make([]core.SessionID, 0, len(n.ends))
	for id := range n.ends {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (w *World) name(id keys.NodeID) string {
	i, ok := slices.BinarySearchFunc(w.law.nodes, id, func(a, b keys.NodeID) int { return slices.Compare(a[:], b[:]) })
	if !ok {
		return id.Short()
	}
	return fmt.Sprint(i)
}

// announce makes this node's next beacon.
func (n *Node) announce() core.BeaconIn {
	n.counter++
	env := wire.MustMarshal([]uint64{uint64(n.i), n.epoch, n.counter})
	a := core.BeaconIn{
		Node: n.id, Endpoints: []netip.AddrPort{n.tcp()}, ReplyTo: n.udp(), Interface: 1, Digest: n.ledger.Current().Digest(),
		Boot: beacon.Boot(n.boot[:8]), Interval: n.every, Epoch: n.epoch, Counter: n.counter, Envelope: env,
	}
	return a
}
