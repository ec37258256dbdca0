package sim

import (
	"fmt"
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
)

// cut is a part of the network that is gone for others.
type cut struct {
	blocks func(from, to *Node) bool
}

// blocked reports whether nothing gets from one node to another now.
func (w *World) blocked(from, to *Node) bool {
	if !to.powered || to.asleep {
		return true
	}
	for _, c := range w.cuts {
		if c.blocks(from, to) {
			return true
		}
	}
	return false
}

// Cut cuts nodes off from others, as blocks says, until the function it returns is called.
func (w *World) Cut(what string, blocks func(from, to *Node) bool) (heal func()) {
	c := &cut{blocks: blocks}
	w.cuts = append(w.cuts, c)
	w.cutAt = w.now
	w.note(nil, "cut: %s", what)
	return func() {
		for i, o := range w.cuts {
			if o == c {
				w.cuts = append(w.cuts[:i:i], w.cuts[i+1:]...)
				w.cutAt = w.now
				w.note(nil, "healed: %s", what)
				return
			}
		}
	}
}

// Partition cuts nodes off from each other for a while.
func (w *World) Partition(d time.Duration, what string, blocks func(from, to *Node) bool) {
	w.in(d, w.Cut(what, blocks))
}

// PartitionSegments cuts a link off from all others for a while.
func (w *World) PartitionSegments(d time.Duration, segment int) {
	w.Partition(d, fmt.Sprintf("segment %d is alone", segment), func(from, to *Node) bool {
		return (from.segment == segment) != (to.segment == segment)
	})
}

// Silence loses every beacon of a segment for a while: a burst of loss, or a switch that stops broadcasts.
func (w *World) Silence(segment int, d time.Duration) {
	w.note(nil, "no beacon is heard in segment %d for %v", segment, d)
	w.silent[segment] = max(w.silent[segment], w.now+d)
}

// NoSeeds takes the seeds out of every configuration: who starts from now on has beacons, and what it kept itself.
func (w *World) NoSeeds() { w.seedless = true }

// Stall keeps a node from running for a while; what comes waits for it.
func (n *Node) Stall(d time.Duration) {
	if !n.awake() {
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
	n.calm = n.w.now
	work := n.backlog
	n.backlog = nil
	n.step(core.Timer{})
	for i, do := range work {
		if !n.awake() {
			n.backlog = append(work[i:], n.backlog...)
			return
		}
		do()
	}
}

// Sleep suspends the host: its monotonic clock stops too, and it acknowledges nothing.
func (n *Node) Sleep(d time.Duration) {
	if !n.awake() {
		return
	}
	n.w.note(n, "sleeps for %v", d)
	n.asleep = true
	run := n.run
	n.w.in(d, func() {
		if n.asleep && n.run == run {
			n.w.note(n, "wakes")
			n.asleep = false
			n.slept += d
			n.thaw()
		}
	})
}

// Kill ends the daemon; the kernel closes its connections. What was not on its disk is gone.
func (n *Node) Kill() {
	if !n.up || n.asleep {
		return
	}
	n.w.note(n, "is killed")
	n.gone()
	for _, e := range n.sortedEnds() {
		e.reset()
	}
	n.endStreams()
}

// gone ends the run of the daemon.
func (n *Node) gone() {
	n.up, n.stalled = false, false
	n.run++
	n.backlog = nil
}

// CutPower ends the host; nobody is told.
func (n *Node) CutPower() {
	if !n.powered {
		return
	}
	n.w.note(n, "loses power")
	if n.up {
		n.gone()
	}
	n.streams = nil
	n.powered, n.asleep = false, false
}

// Power brings the host back, and its daemon with it.
func (n *Node) Power() {
	n.powered = true
	n.Start()
}

// LoseDisk takes everything from the node but its key: it starts again with what its enrolment brought it.
func (n *Node) LoseDisk() {
	n.Kill()
	n.w.note(n, "loses its disk")
	n.disk, n.floor, n.audit, n.known = n.w.law.beginning(), 0, nil, core.Persist{}
}

// SetClock makes the node's wall clock wrong by d.
func (n *Node) SetClock(d time.Duration) {
	if n.wall == d {
		return
	}
	n.w.note(n, "has its clock set wrong by %v", d)
	n.wall, n.wallAt = d, n.w.now
}

// Move gives the node another address; its connections are dead, and nobody says so.
func (n *Node) Move() {
	if !n.awake() {
		return
	}
	n.moves++
	n.place()
	n.w.note(n, "moves to %v", n.addr)
	for _, e := range n.ends {
		e.gone, e.peer.gone = true, true
	}
	n.calm = n.w.now
	n.step(core.NetChange{Prefixes: n.prefixes()})
}
