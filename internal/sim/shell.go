package sim

import (
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// What package mesh does around its core, in the same order, over what this package has instead of sockets.

// step makes one step of the core and carries out its effects. What a peer takes only on a session that is full comes last.
func (n *Node) step(ev core.Event) {
	w := n.w
	w.steps++
	f, frame := ev.(core.FrameIn)
	n.asked = frame && f.Body.Kind() == session.KindWant
	before := n.ledger.Current()
	if _, own := ev.(core.TrustIn); own {
		before = nil
	}
	w.traceEvent(n, ev)
	effects := n.core.Step(n.clock(), ev)
	n.checkCause(before, ev, f)
	if len(effects) > maxEffects {
		w.fail("I5: one step of node %d had %d effects", n.i, len(effects))
	}
	after := 0
	for _, e := range effects {
		w.traceEffect(n, e)
		if afterReady(e) {
			after++
			continue
		}
		n.effect(e)
	}
	for i := 0; i < len(effects) && after > 0; i++ {
		if afterReady(effects[i]) {
			after--
			n.effect(effects[i])
		}
	}
}

func afterReady(e core.Effect) bool {
	switch e := e.(type) {
	case core.TellSelf:
		return true
	case core.Send:
		return e.Body.Kind() == session.KindPeer || e.Body.Kind() == session.KindHealth || e.Body.Kind() == session.KindFind
	}
	return false
}

func (n *Node) effect(e core.Effect) {
	if n.w.sabotage != nil && n.w.sabotage(n, e) {
		return
	}
	switch e := e.(type) {
	case core.SetTimer:
		n.setTimer(e)
	case core.SendBeacon:
		n.sendBeacon(e)
	case core.Dial:
		n.dial(e)
	case core.CancelDial:
		delete(n.dials, e.ID)
	case core.Send:
		n.sendBody(e.ID, e.Body)
	case core.SendRaw:
		if !n.w.cfg.NoFlood || n.asked || !isEntry(e.Raw) {
			n.transmit(e.ID, e.Raw)
		}
	case core.Heartbeat:
		n.sendHeartbeat(e)
	case core.TellSelf:
		n.sendBody(e.ID, session.Object{K: session.KindPeer, Raw: n.envelope()})
		n.sendBody(e.ID, session.Object{K: session.KindHealth, Raw: n.summary()})
	case core.SessionState:
		n.sessionState(e)
	case core.CloseSession:
		n.w.noteClose(n, e)
		n.closeEnd(e.ID, e.Code)
	case core.CutNode:
		n.cutNode(e)
	case core.TrustChanged:
		n.trustChanged(e)
	case core.TrustRejected:
		n.w.fail("node %d takes what %s sent for invalid: %s: %s", n.i, n.w.name(e.From), e.Kind, e.Why)
	case core.PeerChanged:
		if e.Presence == core.Pruned {
			n.pruned(e)
		}
	case core.Persist:
		n.later(syncTime, func() { n.known = e })
	case core.Alarm:
		n.w.note(n, "alarm %s: %s", e.Code, e.Text)
	}
}

// isEntry reports whether a frame carries an entry: with flooding off those come only as answers.
func isEntry(raw []byte) bool {
	k, err := wire.Kind(raw)
	return err == nil && session.Kind(k) == session.KindEntry
}

func (n *Node) setTimer(e core.SetTimer) {
	n.timer++
	timer, run := n.timer, n.run
	n.w.queue.push(max(n.started+n.slept+e.At, n.w.now), func() {
		if n.timer == timer && n.run == run && n.awake() {
			n.step(core.Timer{})
		}
	})
}

func (n *Node) sendBody(id core.SessionID, b session.Body) {
	raw, err := session.Encode(b)
	if err != nil {
		n.w.fail("node %d sends what cannot be encoded: %v", n.i, err)
		return
	}
	n.transmit(id, raw)
}

// transmit sends a control record. The receiver hands it to its core, and then looks whether it is the shell's.
func (n *Node) transmit(id core.SessionID, raw []byte) {
	n.send(id, func(to *end) {
		b, err := session.ParseBody(raw)
		if err != nil {
			to.n.w.fail("node %d got what it cannot read: %v", to.n.i, err)
			to.n.closeEnd(to.id, session.CodeProtocol)
			return
		}
		to.n.step(core.FrameIn{ID: to.id, Body: b, Raw: raw})
		if o, ok := b.(session.Object); ok && o.K == session.KindPeer && to.usable() {
			to.n.peerRecord(o.Raw)
		} else if ok && o.K == session.KindHealth && to.usable() {
			to.n.healthTold(o.Raw)
		}
	})
}

// summary stands for the node's signed summary of itself: who and when.
func (n *Node) summary() []byte {
	return wire.MustMarshal([]uint64{uint64(n.i), uint64(n.w.now)})
}

// healthTold takes what a member says of itself, told by anybody, if it is newer than what was told before.
func (n *Node) healthTold(raw []byte) {
	var of []uint64
	if err := wire.Unmarshal(raw, &of); err != nil || len(of) != 2 || of[0] >= uint64(len(n.w.nodes)) {
		n.w.fail("node %d got a summary it cannot read", n.i)
		return
	}
	m, at := n.w.nodes[of[0]], time.Duration(of[1])
	if _, member := n.ledger.Current().Member(m.id); !member || m == n || at <= n.told[m.i] {
		return
	}
	if n.told == nil {
		n.told = map[int]time.Duration{}
	}
	n.told[m.i] = at
	n.step(core.HealthIn{Node: m.id, Envelope: raw})
}

// peerRecord takes another node's signed beacon, told by a peer: an address hint, never presence.
func (n *Node) peerRecord(raw []byte) {
	r, ok := n.w.record(raw)
	if !ok || r.Node == n.id {
		return
	}
	if _, revoked := n.ledger.Current().Revoked(r.Node); !revoked {
		n.step(r)
	}
}

func (n *Node) sendHeartbeat(e core.Heartbeat) {
	raw, err := session.EncodeHeartbeat(session.Heartbeat{Digest: e.Digest, Degree: e.Degree, Ping: e.Ping, Pong: e.Pong})
	if err != nil {
		n.w.fail("node %d sends a heartbeat that cannot be encoded: %v", n.i, err)
		return
	}
	n.send(e.ID, func(to *end) {
		h, _, err := session.ParseHeartbeat(raw)
		if err != nil {
			to.n.w.fail("node %d got a heartbeat it cannot read: %v", to.n.i, err)
			return
		}
		if to.usable() {
			to.n.peerTime(to.peer.n) // its health summary says what its clock says
		}
		to.n.step(core.HeartbeatIn{ID: to.id, Digest: h.Digest, Degree: h.Degree, Ping: h.Ping, Pong: h.Pong})
	})
}

// usable reports whether both sides have said full, and the session has not ended.
func (e *end) usable() bool {
	return !e.closed && (e.state == session.Full || e.state == session.Draining)
}

func (n *Node) sessionState(e core.SessionState) {
	if x := n.ends[e.ID]; x != nil {
		first := x.state != e.State && e.State == session.Full
		x.state = e.State
		if first {
			n.w.note(n, "has session %d with %d", x.id, x.peer.n.i)
			n.sessionFull(x)
		}
	}
}

func (n *Node) cutNode(e core.CutNode) {
	n.w.note(n, "cuts off %s: %s", n.w.name(e.Node), e.Why)
	n.cutStreams(func(s *stream) bool { return s.other(n).id == e.Node })
	for _, x := range n.sortedEnds() {
		if x.peer.n.id == e.Node {
			n.closeEnd(x.id, e.Code)
		}
	}
}

// trustChanged authorises every stream again; the log is durable some time after that.
func (n *Node) trustChanged(e core.TrustChanged) {
	if n.w.flows() {
		n.w.note(n, "applies %s", e.What)
	}
	n.w.applied(n, e.Change)
	if e.Change.Entry != nil {
		n.raise(e.Change.Entry.Time)
		for _, o := range e.Change.Entry.Ops {
			if r, ok := o.(trust.OpRevokeNode); ok {
				n.expectGone(r.Node)
			}
		}
	}
	n.sweepStreams()
	if !n.syncing {
		n.syncing = true
		n.later(syncTime, func() { n.syncing, n.disk = false, n.ledger.Clone() })
	}
}
