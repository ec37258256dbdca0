package sim

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"reflect"
	"time"

	"github.com/sovereignmesh/meshkey/mesh/core"
)

// Trace is the hash of everything that happened at every node so far: when, where, what kind, and what was in it. What wall clocks say
// is in none of it.
func (w *World) Trace() [32]byte { return [32]byte(w.trace.Sum(nil)) }

// mark is one line of the trace.
type mark struct {
	at   time.Duration
	node int
	kind byte
	id   uint64
	what [16]byte
}

func (w *World) put(m mark) {
	var b [40]byte
	binary.BigEndian.PutUint64(b[:], uint64(m.at))
	binary.BigEndian.PutUint32(b[8:], uint32(m.node))
	b[12] = m.kind
	binary.BigEndian.PutUint64(b[16:], m.id)
	copy(b[24:], m.what[:])
	w.trace.Write(b[:])
}

func hashOf(b []byte) [16]byte {
	h := sha256.Sum256(b)
	return [16]byte(h[:16])
}

func (w *World) traceEvent(n *Node, ev core.Event) {
	m := mark{at: w.now, node: n.i}
	switch ev := ev.(type) {
	case core.Timer:
		m.kind = 1
	case core.BeaconIn:
		m.kind, m.id = 2, ev.Counter
		copy(m.what[:], ev.Node[:])
	case core.FrameIn:
		m.kind, m.id, m.what = 3, uint64(ev.ID), hashOf(ev.Raw)
	case core.HeartbeatIn:
		m.kind, m.id = 4, uint64(ev.ID)
		copy(m.what[:], ev.Digest[:])
		m.what[8], m.what[9], m.what[10] = byte(ev.Ping), byte(ev.Pong), byte(ev.Degree)
	case core.SessionUp:
		m.kind, m.id = 5, uint64(ev.ID)
		copy(m.what[:], ev.Peer[:])
	case core.SessionDown:
		m.kind, m.id = 6, uint64(ev.ID)
		m.what[0] = byte(ev.Code)
	case core.DialFailed:
		m.kind, m.id = 7, uint64(ev.ID)
	default:
		m.kind, m.what = 8, hashOf([]byte(reflect.TypeOf(ev).Name()))
	}
	w.put(m)
}

func (w *World) traceEffect(n *Node, e core.Effect) {
	m := mark{at: w.now, node: n.i}
	switch e := e.(type) {
	case core.SetTimer:
		m.kind, m.id = 64, uint64(e.At)
	case core.SendRaw:
		m.kind, m.id, m.what = 65, uint64(e.ID), hashOf(e.Raw)
	case core.Heartbeat:
		m.kind, m.id = 66, uint64(e.ID)
		copy(m.what[:], e.Digest[:])
		m.what[8], m.what[9], m.what[10] = byte(e.Ping), byte(e.Pong), byte(e.Degree)
	case core.Send:
		m.kind, m.id = 67, uint64(e.ID)
		m.what[0] = byte(e.Body.Kind())
	case core.Dial:
		m.kind, m.id = 68, uint64(e.ID)
		copy(m.what[:], e.Peer[:])
	case core.CloseSession:
		m.kind, m.id = 69, uint64(e.ID)
		m.what[0] = byte(e.Code)
	case core.SessionState:
		m.kind, m.id = 70, uint64(e.ID)
		m.what[0], m.what[1] = byte(e.State), byte(e.Local)
	case core.PeerChanged:
		m.kind, m.id = 71, uint64(e.Presence)
		copy(m.what[:], e.Peer[:])
	case core.CutNode:
		m.kind = 72
		copy(m.what[:], e.Node[:])
	case core.SendBeacon:
		m.kind, m.id = 73, uint64(e.Flags)
	default:
		m.kind, m.what = 74, hashOf([]byte(reflect.TypeOf(e).Name()))
	}
	w.put(m)
}

// line is one line of the flow.
type line struct {
	at   time.Duration
	node int // -1: the mesh
	text string
}

// flows reports whether anybody will read the flow.
func (w *World) flows() bool { return !w.cfg.Quiet }

// note adds a line to the flow. The oldest half goes when it is full.
func (w *World) note(n *Node, format string, args ...any) {
	if !w.flows() {
		return
	}
	i := -1
	if n != nil {
		i = n.i
	}
	switch {
	case len(w.flow) < maxFlow:
	case len(w.broken) > 0:
		return // what led there is kept
	default:
		w.flow = append(w.flow[:0], w.flow[maxFlow/2:]...)
	}
	w.flow = append(w.flow, line{w.now, i, fmt.Sprintf(format, args...)})
}

// noteClose counts the end of a session, and adds it to the flow.
func (w *World) noteClose(n *Node, e core.CloseSession) {
	w.closes[e.Code]++
	if x := n.ends[e.ID]; x != nil && w.flows() {
		w.note(n, "closes session %d with %d: %s", e.ID, x.peer.n.i, e.Why)
	}
}

// fail notes a broken invariant.
func (w *World) fail(format string, args ...any) {
	if len(w.broken) < maxBroken {
		text := fmt.Sprintf(format, args...)
		w.broken = append(w.broken, fmt.Sprintf("%v: %s", w.now, text))
		w.note(nil, "BROKEN %s", text)
	}
}
