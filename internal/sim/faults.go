package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
)

// Stall keeps a node from running for a while; what comes waits for it.
func (n *Node) Stall(d time.Duration) {
	if !n.up || n.stalled || n.asleep {
		return
	}
	n.w.note(n, "stalls for %v", d)
	n.stalled = true
	run := n.run
	n.w.in(d, func() {
		if n.run == run && n.stalled {
			n.stalled = false
			n.thaw()
		}
	})
}

// thaw lets the daemon go on: its timers are late, and what came meanwhile waits in the kernel.
func (n *Node) thaw() {
	work := n.backlog
	n.backlog = nil
	n.step(core.Timer{})
	for _, do := range work {
		n.do(do)
	}
}

// Sleep suspends the host: its monotonic clock stops too, and what comes is lost.
func (n *Node) Sleep(d time.Duration) {
	if !n.up || n.stalled || n.asleep {
		return
	}
	n.w.note(n, "sleeps for %v", d)
	n.asleep = true
	run := n.run
	n.w.in(d, func() {
		if n.run == run {
			n.asleep = false
			n.lost += d
			n.thaw()
		}
	})
}

// Kill ends the daemon; the kernel closes its connections. What was not on its disk is gone.
func (n *Node) Kill() {
	if !n.up {
		return
	}
	n.w.note(n, "is killed")
	n.up = false
	for _, id := range n.sortedEnds() {
		e := n.ends[id]
		n.w.in(n.w.latency(n, e.peer.n), func() {
			if !n.w.blocked(n, e.peer.n) {
				e.peer.down(0)
			}
		})
	}
	n.endStreams()
	n.run++
}

// CutPower ends the host; nobody is told.
func (n *Node) CutPower() {
	n.w.note(n, "loses power")
	n.endStreams()
	n.up, n.powered = false, false
	n.run++
}

// Power brings the host back, and its daemon with it.
func (n *Node) Power() {
	n.powered = true
	n.Start()
}

func (n *Node) endStreams() {
	all := n.streams
	n.streams = nil
	for _, s := range all {
		o := s.other(n)
		n.w.in(n.w.latency(n, o), func() {
			if o.up && slices.Contains(o.streams, s) {
				o.leave(s)
			}
		})
	}
}

// SetClock makes the node's wall clock wrong by d.
func (n *Node) SetClock(d time.Duration) {
	n.w.note(n, "has its clock set wrong by %v", d)
	n.wall = d
}

// Move gives the node another address; its connections are dead, and nobody says so.
func (n *Node) Move(nth byte) {
	if !n.up {
		return
	}
	n.move(nth)
	n.w.note(n, "moves to %v", n.addr)
	for _, id := range n.sortedEnds() {
		e := n.ends[id]
		e.lost, e.peer.lost = true, true
	}
	n.step(core.NetChange{Prefixes: n.prefixes()})
}

// Partition cuts nodes off from each other for a while, as blocks says.
func (w *World) Partition(d time.Duration, what string, blocks func(from, to *Node) bool) {
	c := &cut{blocks: blocks}
	w.cuts = append(w.cuts, c)
	w.note(nil, "cut for %v: %s", d, what)
	w.in(d, func() {
		c.over = true
		w.note(nil, "healed: %s", what)
	})
}

// Fault is one fault of a scenario.
type Fault struct {
	At   time.Duration
	Kind int
	A, B int
	For  time.Duration
}

// The kinds of faults.
const (
	faultStall = iota
	faultSleep
	faultKill
	faultPower
	faultClock
	faultPartition
	faultOneWay
	faultRevoke
	faultStream
	faultKinds
)

// String is the fault as a sentence.
func (f Fault) String() string {
	what := [...]string{
		"node %d stalls", "node %d sleeps", "node %d is killed", "node %d loses power", "node %d has a wrong clock",
		"nodes below and above %d are cut off from each other", "node %d cannot send", "node %d is revoked", "node %d opens a stream",
	}[f.Kind]
	return fmt.Sprintf("%v: "+what+" (%d), for %v", f.At.Round(time.Millisecond), f.A, f.B, f.For.Round(time.Millisecond))
}

func (w *World) inject(f Fault) {
	a, b := w.nodes[f.A%len(w.nodes)], w.nodes[f.B%len(w.nodes)]
	switch f.Kind {
	case faultStall:
		a.Stall(min(f.For, 3*time.Second))
	case faultSleep:
		a.Sleep(f.For)
	case faultKill:
		a.Kill()
		w.in(f.For, a.Start)
	case faultPower:
		a.CutPower()
		w.in(f.For, a.Power)
	case faultClock:
		if a.i != 0 {
			a.SetClock(time.Duration(f.B%3-1) * 100 * time.Second)
		}
	case faultPartition:
		edge := max(1, f.A%len(w.nodes))
		w.Partition(f.For, fmt.Sprintf("below and above %d", edge), func(from, to *Node) bool { return from.i < edge != (to.i < edge) })
	case faultOneWay:
		w.Partition(f.For, fmt.Sprintf("%d cannot send", a.i), func(from, _ *Node) bool { return from == a })
	case faultRevoke:
		if at := w.nodes[0]; b.i != 0 && at.up && !at.asleep && !at.stalled && len(w.nodes) > 3 {
			if _, gone := w.law.books[0].Current().Revoked(b.id); !gone {
				w.Revoke(at, b)
			}
		}
	case faultStream:
		a.Open(b)
	}
}
