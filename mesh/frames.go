package mesh

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// shellFrame handles the control bodies that are not the core's: peer records, services, the group secret, stream coordination.
// They count only on a session that is full. The peer may send them right behind the READY that makes it so, which the core may
// not have seen yet: then the reader waits until it has.
func (n *Node) shellFrame(ctx context.Context, l *link, b session.Body) error {
	if !ofShell(b) {
		return nil
	}
	if o, ok := b.(session.Object); ok && o.K == session.KindRenew {
		return n.answerRenewal(l, o.Raw) // also on a session that may do nothing else
	} else if ok && o.K == session.KindCertUpdate {
		return n.certificateUpdate(o.Raw)
	} else if a, ok := b.(session.Answer); ok {
		n.lifeAnswered(l, a)
		return nil
	}
	if !l.usable() {
		n.passBarrier(ctx)
		if !l.usable() {
			n.count("control.too-early")
			return nil
		}
	}
	switch b := b.(type) {
	case session.Object:
		switch b.K {
		case session.KindPeer:
			n.peerRecord(l, b.Raw)
		case session.KindHealth:
			n.healthTold(l, b.Raw)
		case session.KindReceipt:
			return n.receiptIn(l, b.Raw)
		case session.KindLeave:
			return n.answerLeave(l, b.Raw)
		}
	case session.Services:
		old := l.services.Load()
		if old != nil && b.Seq <= old.Seq {
			return nil
		}
		l.services.Store(&b)
		n.notify(Event{Kind: EventService, Node: l.peer.Node})
	case session.Number:
		switch b.K {
		case session.KindGroupGet:
			n.sendGroupSecret(l, b.N)
		case session.KindDial:
			n.dialBack(l, b.N)
		case session.KindSkip:
			return n.tags.Skip(l.ring, b.N, time.Now())
		}
	case session.Group:
		return n.groupSecret(b)
	case session.Plain:
		n.rekeyAsked(l)
	case session.Rotate:
		return n.answerRotate(l, b)
	case session.Unknown:
		n.count("control.unknown-kind")
	}
	return nil
}

// ofShell names the bodies that shellFrame handles.
func ofShell(b session.Body) bool {
	switch b := b.(type) {
	case session.Object:
		return b.K == session.KindPeer || b.K == session.KindHealth || b.K == session.KindReceipt || b.K == session.KindRenew ||
			b.K == session.KindCertUpdate || b.K == session.KindLeave
	case session.Number:
		return b.K == session.KindGroupGet || b.K == session.KindSkip || b.K == session.KindDial
	case session.Plain:
		return b.K == session.KindRekeyAsk
	case session.Services, session.Group, session.Rotate, session.Answer, session.Unknown:
		return true
	}
	return false
}

// passBarrier returns when the core has seen every event posted before.
func (n *Node) passBarrier(ctx context.Context) {
	b := barrier{passed: make(chan struct{})}
	n.post(b)
	select {
	case <-b.passed:
	case <-ctx.Done():
	case <-n.ctx.Done():
	}
}

// groupSecret takes a secret a peer sent. One of another generation than the log's newest was asked for before the log moved on, or
// not at all; one that the log does not commit to is a lie, and ends the session.
func (n *Node) groupSecret(b session.Group) error {
	g, err := keys.GroupSecretFromBytes(b.Generation, b.Secret[:])
	if err != nil {
		return err
	}
	switch err := n.secrets.Add(n.State(), g); {
	case err == nil:
		n.GroupSecretLearnt(g.Generation)
		return nil
	case errors.Is(err, errGeneration):
		n.count("group-secret.other-generation")
		return nil
	case errors.Is(err, errCommitment):
		n.count("group-secret.wrong")
		return err
	default:
		// Not the peer's fault: it is asked for again later.
		n.log.Error("a new group secret cannot be kept", "err", err)
		return nil
	}
}

// peerRecord takes another node's signed beacon, told by a peer: an address hint, never presence.
func (n *Node) peerRecord(l *link, raw []byte) {
	if !l.records.of(recordsPerSecond, recordsBurst).Allow() {
		n.count("peer-record.flood")
		return
	}
	a, err := beacon.ParseEnvelope(raw, n.mesh)
	if err != nil {
		n.count("peer-record.invalid")
		return
	}
	if a.Node == n.self {
		return
	}
	if _, revoked := n.State().Revoked(a.Node); revoked {
		return
	}
	var from netip.Addr
	if a.Node == l.peer.Node {
		from = l.remote.Addr()
	}
	eps := a.Addresses(from, 0)
	if !n.noteRecord(a.Node, order{a.Epoch, a.Counter}, eps) {
		n.count("peer-record.old")
		return
	}
	n.noteIssuer(a.Node, a.Flags)
	n.post(core.BeaconIn{
		Node: a.Node, Endpoints: eps, Digest: a.Digest, Boot: a.Boot, Interval: a.Interval(), Epoch: a.Epoch, Counter: a.Counter,
		AES: a.Flags.Has(beacon.FlagAES), Envelope: raw, Told: true,
	})
}

// wantGroupSecret asks a peer for the generation the log commits to, if this node does not hold it.
func (n *Node) wantGroupSecret(l *link) {
	gen, _ := n.State().GroupCommit()
	if _, have := n.secrets.get(gen); !have && gen != 0 && l.open() {
		n.queueBody(l.id, session.Number{K: session.KindGroupGet, N: gen})
	}
}

// askGroupSecret asks a full peer for a generation that a change of trust has announced.
func (n *Node) askGroupSecret() {
	gen, _ := n.State().GroupCommit()
	if _, have := n.secrets.get(gen); have || gen == 0 {
		return
	}
	n.mu.Lock()
	links := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	n.mu.Unlock()
	for _, l := range links {
		n.wantGroupSecret(l)
	}
}

// sendGroupSecret answers a peer that asks for the newest generation. If this node does not hold it yet, it answers when it does: the
// question runs ahead of the secret, for both follow the same entry.
func (n *Node) sendGroupSecret(l *link, generation uint64) {
	l.asked.Store(generation)
	n.answerGroupSecret(l)
}

func (n *Node) answerGroupSecret(l *link) {
	generation := l.asked.Load()
	gen, _ := n.State().GroupCommit()
	if g, ok := n.secrets.get(generation); ok && generation == gen && l.open() && l.asked.CompareAndSwap(generation, 0) {
		n.queueBody(l.id, session.Group{Generation: g.Generation, Secret: [32]byte(g.Bytes())})
	}
}

// GroupSecretLearnt passes a generation that this node holds from now on to the peers that have asked for it, and seals beacons with it.
func (n *Node) GroupSecretLearnt(generation uint64) {
	n.mu.Lock()
	links := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		links = append(links, l)
	}
	n.mu.Unlock()
	for _, l := range links {
		if l.asked.Load() == generation {
			n.answerGroupSecret(l)
		}
	}
}

// sendHeartbeat writes the heartbeat the core asked for, with the newest health summary.
func (n *Node) sendHeartbeat(e core.Heartbeat) {
	n.mu.Lock()
	l := n.links[e.ID]
	n.mu.Unlock()
	if l == nil {
		return
	}
	h := session.Heartbeat{Digest: e.Digest, Degree: e.Degree, Ping: e.Ping, Pong: e.Pong}
	if l.open() {
		h.Health = n.health()
	}
	if h.Ping == 0 && h.Pong == 0 && l.pinged.CompareAndSwap(0, time.Now().UnixNano()) {
		h.Ping = uint64(time.Now().UnixNano()) // an ordinary beat measures the round trip
	}
	body, err := session.EncodeHeartbeat(h)
	if err != nil {
		n.log.Error("heartbeat not made", "err", err)
		return
	}
	n.queue(e.ID, outFrame{session.RecordHeartbeat, body}, false)
}

// health is this node's summary of itself.
func (n *Node) health() *session.Health {
	h := &session.Health{
		Seq: n.healthSeq.Add(1), Version: n.cfg.Version, Uptime: uint64(time.Since(n.start) / time.Second),
		Expiry: uint64(max(n.cert.Load().NotAfter, 0)), Audit: session.AuditHealthy, AuditSize: n.audit.Size(),
		Time: uint64(max(time.Now().UnixMilli(), 0)),
	}
	if n.audit.Status().Degraded != nil {
		h.Audit = session.AuditDegraded
	}
	if n.cfg.Health != nil {
		host := n.cfg.Health()
		h.Load, h.DiskFree = host.Load, host.DiskFree
	}
	return h
}

// servicesChangedLocked plans telling every peer what it may use, within a second. Called with svcMu held.
func (n *Node) servicesChangedLocked() {
	n.svcSeq++
	select {
	case n.svcKick <- struct{}{}:
	default:
	}
}

// servicesMayHaveChanged is for changes of trust: who may use what may be different now.
func (n *Node) servicesMayHaveChanged() {
	n.svcMu.Lock()
	defer n.svcMu.Unlock()
	n.servicesChangedLocked()
}

// tellServices sends each peer its list if it differs from what was sent last.
func (n *Node) tellServices() {
	n.mu.Lock()
	links := make([]*link, 0, len(n.links))
	for _, l := range n.links {
		if l.open() {
			links = append(links, l)
		}
	}
	n.mu.Unlock()
	for _, l := range links {
		n.sendServices(l)
	}
}

// sendServices tells a peer the services it may use, and nothing of the others.
func (n *Node) sendServices(l *link) {
	st, now := n.State(), n.trustNow()
	n.svcMu.Lock()
	body := session.Services{Seq: n.svcSeq + 1}
	for _, name := range sortedKeys(n.services) {
		s := n.services[name]
		if len(body.List) < maxServicesTold && st.Decide(l.peer.Node, n.self, name, now).Allowed {
			state := session.ServiceUp
			if !s.state.Up {
				state = session.ServiceDown
			}
			body.List = append(body.List, session.Service{
				Name: name, Proto: s.proto, State: state, Since: uint64(s.state.Since.Unix()), Reason: s.state.Reason,
			})
		}
	}
	n.svcMu.Unlock()
	n.queueBody(l.id, body)
}
