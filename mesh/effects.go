package mesh

import (
	"context"
	"hash/maphash"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// effect carries out one effect of the core. It runs in the loop and must not block.
func (n *Node) effect(ctx context.Context, e core.Effect) {
	switch e := e.(type) {
	case core.SendBeacon:
		n.sendBeacon(e)
	case core.Dial:
		n.startDial(ctx, e)
	case core.CancelDial:
		n.cancelDial(e.ID)
	case core.Send:
		body, err := session.Encode(e.Body)
		if err != nil {
			n.log.Error("control record not sent", "err", err)
			n.count("control.unsendable")
			return
		}
		n.queue(e.ID, outFrame{session.RecordControl, body}, false)
	case core.SendRaw:
		n.queue(e.ID, outFrame{session.RecordControl, e.Raw}, e.Urgent)
	case core.Heartbeat:
		n.sendHeartbeat(e)
	case core.TellSelf:
		n.tellSelf(e.ID)
	case core.SessionState:
		n.sessionState(e)
	case core.CloseSession:
		n.closeSession(e)
	case core.CutNode:
		n.cutNode(e)
	case core.TrustChanged:
		n.trustChanged(e)
	case core.TrustRejected:
		n.auditLater(audit.Event{
			Code: audit.EntryReject, Actor: e.From.Compact(), Reason: e.Why, Verdict: audit.Denied, Target: e.Kind,
		})
	case core.PeerChanged:
		n.peerChanged(e)
	case core.Persist:
		n.known.keep(e)
	case core.Alarm:
		n.alarm(e)
	case core.PollNetwork:
		n.count("network.poll")
	case core.SetTimer:
		n.timer.Reset(max(0, e.At-time.Since(n.start)))
	}
}

// queue hands a record to a link's writer, and starts one if there is none. A peer that does not take its records is cut off.
func (n *Node) queue(id core.SessionID, f outFrame, urgent bool) {
	n.mu.Lock()
	l := n.links[id]
	n.mu.Unlock()
	if l == nil {
		return
	}
	// The link has not ended while the writer starts, so the node still waits for its goroutines.
	if !l.out.put(f, urgent, func() { n.wg.Go(func() { n.writeLink(l) }) }) {
		n.count("control.queue-full")
		l.ctl.Reset()
	}
}

func (n *Node) queueBody(id core.SessionID, b session.Body) {
	body, err := session.Encode(b)
	if err != nil {
		n.log.Error("control record not sent", "err", err)
		return
	}
	n.queue(id, outFrame{session.RecordControl, body}, false)
}

// sendBeacon makes one beacon and sends it everywhere, or to one address.
func (n *Node) sendBeacon(e core.SendBeacon) {
	n.interval.Store(int64(e.Interval))
	if !e.To.IsValid() {
		n.crowd.Store(int64(e.Crowd))
	}
	d, ok := n.announce(e.Flags)
	if !ok {
		return
	}
	var err error
	if e.To.IsValid() {
		err = n.packets.Unicast(e.To, d)
	} else {
		err = n.packets.Broadcast(d)
	}
	if err != nil {
		n.count("beacon.send-failed")
		n.log.Debug("beacon not sent", "err", err)
		return
	}
	n.count("beacon.sent")
}

// tellSelf tells peers where this node accepts connections: a record made now, for the last beacon may be from before the addresses
// were known.
func (n *Node) tellSelf(ids ...core.SessionID) {
	if eps := n.endpointsA.Load(); eps == nil || len(*eps) == 0 || len(ids) == 0 {
		return
	}
	if _, ok := n.announce(0); !ok {
		return
	}
	health := n.ownHealth()
	for _, id := range ids {
		n.queueBody(id, session.Object{K: session.KindPeer, Raw: *n.record.Load()})
		if health != nil {
			n.queueBody(id, session.Object{K: session.KindHealth, Raw: health})
		}
	}
}

// announce makes the next beacon.
func (n *Node) announce(flags beacon.Flags) ([]byte, bool) {
	f := beacon.Facts{
		Digest: n.State().Digest(), AES: n.aes, Issuer: n.issues(), Interval: max(time.Duration(n.interval.Load()), core.Interval), UnicastPort: n.packets.Port(),
	}
	if eps := n.endpointsA.Load(); eps != nil {
		f.Endpoints = *eps
	}
	d, env, err := n.announcer.Announce(f, flags, n.secrets.beaconKeys(), time.Now())
	if err != nil {
		n.log.Error("beacon not made", "err", err)
		return nil, false
	}
	n.record.Store(&env)
	return d, true
}

// datagram takes one received UDP datagram through the beacon checks.
func (n *Node) datagram(p beacon.Packet) {
	defer func() {
		if v := recover(); v != nil {
			n.panicked("beacon", v)
		}
	}()
	elsewhere := n.elsewhere(p)
	if elsewhere && !p.Unicast {
		n.count("beacon.drop.elsewhere")
		return
	}
	now := time.Now()
	h, err := n.receiver.Receive(p, now)
	if err != nil {
		return // counted by the receiver
	}
	if elsewhere && h.Kind != beacon.Reply { // an answer was asked for, on whatever way there was to its node
		n.count("beacon.drop.elsewhere")
		return
	}
	if h.Asks && n.mayAnswer(h) && n.receiver.Answer(h, now) {
		if d, ok := n.announce(beacon.FlagReply); ok {
			if n.packets.Unicast(h.ReplyTo(), d) != nil {
				n.count("beacon.send-failed")
			}
		}
	}
	if !n.noteBeacon(h) {
		n.count("beacon.old")
		return
	}
	n.post(core.BeaconIn{
		Node: h.Node, Endpoints: h.Dialable(), ReplyTo: h.ReplyTo(), Interface: h.Interface, Digest: h.Digest, Boot: h.Boot,
		Interval: h.Interval(), Epoch: h.Epoch, Counter: h.Counter, AES: h.Flags.Has(beacon.FlagAES), Skewed: h.ClockSkew,
		Envelope: h.Envelope,
	})
}

// mayAnswer lets a newcomer on a crowded link be answered by some of those who heard it, not by all at once.
func (n *Node) mayAnswer(h *beacon.Heard) bool {
	crowd := uint64(max(n.crowd.Load(), 0))
	return h.Kind == beacon.Probe || crowd <= solicitAnswers || maphash.Bytes(n.lots, h.Envelope)%crowd < solicitAnswers
}

// sessionState publishes what a session may do: the tags of its streams are valid exactly while it is full or draining.
func (n *Node) sessionState(e core.SessionState) {
	n.mu.Lock()
	l := n.links[e.ID]
	n.mu.Unlock()
	if l == nil {
		return
	}
	l.life.Lock()
	defer l.life.Unlock()
	if l.over {
		return
	}
	// What a full session is good for is in place before anybody can see that it is full.
	if e.Local == session.Full && l.registered.CompareAndSwap(false, true) {
		n.tags.Register(l.ring, l, time.Now())
	}
	first := e.State == session.Full && l.wasFull.CompareAndSwap(false, true)
	if first {
		n.streams.sessionFull(l.peer.Node, l.peer.Boot)
	}
	n.mu.Lock()
	l.state.Store(uint32(e.State))
	if first {
		n.fullAddrs[l.remote.Addr().WithZone("")]++
		delete(n.dialErrs, l.peer.Node)
		delete(n.refusals, l.peer.Node)
	}
	n.wakeLocked()
	n.mu.Unlock()
	if !first {
		return
	}
	n.greet = append(n.greet, l)
	// A clock that an admitted peer agrees with may lift the floor below which time does not fall back.
	n.store.PeerTime(time.Now().Unix(), l.told)
	reason := ""
	if e.Unsynced {
		reason = "unsynced: no other node's view was seen since the start"
	}
	n.auditLater(audit.Event{
		Code: audit.SessionOpen, Actor: l.peer.Node.Compact(), Target: l.remote.String(), Session: l.name(), Reason: reason,
	})
}

// wake tells everybody who waits for a session or a peer's view to look again.
func (n *Node) wake() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.wakeLocked()
}

func (n *Node) wakeLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// closeSession ends a session: CLOSE if it can be written without blocking, else RST.
func (n *Node) closeSession(e core.CloseSession) {
	n.mu.Lock()
	l := n.links[e.ID]
	if l != nil && l.code == 0 {
		l.code, l.why = e.Code, e.Why
	}
	n.mu.Unlock()
	if l == nil {
		return
	}
	if e.Code == session.CodeDuplicate {
		l.duplicate.Store(true)
	}
	l.state.Store(uint32(session.Closed))
	n.log.Debug("session closed", "peer", n.nameOf(l.peer.Node), "code", e.Code, "why", e.Why)
	n.wg.Go(func() { l.ctl.Close(e.Code) })
}

// cutNode resets every socket of a node. The streams go first: they move data.
func (n *Node) cutNode(e core.CutNode) {
	cut := n.streams.cutPeer(e.Node, e.Why, e.Code)
	n.mu.Lock()
	var hit []*link
	for _, l := range n.links {
		if l.peer.Node == e.Node {
			hit = append(hit, l)
			if l.code == 0 {
				l.code, l.why = e.Code, e.Why
			}
		}
	}
	n.mu.Unlock()
	for _, l := range hit {
		l.state.Store(uint32(session.Closed))
		n.tags.Unregister(l.ring, 0, time.Now())
		n.wg.Go(func() { l.ctl.Close(e.Code) })
	}
	// Its entry may be one that this host has written and not published yet: a sweep in between sees it first.
	if e.Code == session.CodeRevoked && len(n.cutCounts) < maxCutCounts {
		n.cutCounts[e.Node] = cutCount{sessions: len(hit), streams: cut}
	}
	n.log.Info("peer cut off", "peer", e.Node.Short(), "why", e.Why, "sessions", len(hit), "streams", cut)
}

// trustChanged sweeps every stream against the new state at once; the trust log is made durable after that, for entries of others
// are applied and passed on before they are on disk.
func (n *Node) trustChanged(e core.TrustChanged) {
	if e.Change.Kind == trust.KindHead {
		n.notify(Event{Kind: EventTrust, Node: e.From, Text: e.What})
		return // they come every five minutes, say how fresh the view is, and change nobody's rights
	}
	began := time.Now()
	cut := n.sweep()
	n.sessionsSwept(e, cut, time.Since(began))
	n.receipt(e, cut)
	select {
	case n.trustKick <- struct{}{}:
	default:
	}
	n.askGroupSecret()
	n.servicesMayHaveChanged()
	n.notify(Event{Kind: EventTrust, Node: e.From, Text: e.What})
}

func (n *Node) peerChanged(e core.PeerChanged) {
	if n.isMember(e.Peer) {
		n.mu.Lock()
		p := n.presence[e.Peer]
		p.is, p.since = e.Presence, time.Now()
		n.presence[e.Peer] = p
		n.mu.Unlock()
	}
	if e.Presence == core.Pruned {
		n.auditLater(audit.Event{
			Code: audit.PeerPrune, Target: e.Peer.Compact(), Reason: e.Why, Duration: e.Silent, Count: 0,
			Before: plural(e.Probes, "unanswered probe"),
		})
		n.log.Info("peer pruned", "peer", n.nameOf(e.Peer), "silent", e.Silent.Round(time.Millisecond), "probes", e.Probes)
	}
	n.notify(Event{Kind: EventPeer, Node: e.Peer, Text: e.Presence.String()})
}

func (n *Node) alarm(e core.Alarm) {
	ev := audit.Event{Code: audit.Code(e.Code), Reason: e.Text}
	if !e.Peer.IsZero() {
		ev.Target = e.Peer.Compact()
	}
	if e.Interface != 0 {
		ev.Target = n.setMute(e.Interface, e.Code == string(audit.InterfaceMute))
	}
	n.auditLater(ev)
	n.notify(Event{Kind: EventAlarm, Node: e.Peer, Text: e.Text})
}
