package mesh

import (
	"maps"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// told is a member's signed summary of itself, as others pass it on, verified; it is read when somebody looks. Guarded by Node.mu.
type told struct {
	raw []byte
	ms  uint64 // when it was made, by the member's own clock
}

// ownHealth is this node's summary, signed to be passed on; one made a moment ago serves every session that is told of it.
func (n *Node) ownHealth() []byte {
	now := time.Now()
	n.mu.Lock()
	raw, at := n.signed, n.signedAt
	n.mu.Unlock()
	if raw != nil && now.Sub(at) < core.Interval {
		return raw
	}
	summary, err := session.EncodeHeartbeat(session.Heartbeat{Health: n.health()})
	if err != nil {
		n.log.Error("health summary not made", "err", err)
		return nil
	}
	h := beacon.Health{Node: n.self, TimeMS: uint64(max(now.UnixMilli(), 0)), Summary: summary}
	raw, err = h.Sign(n.mesh, n.cfg.Key)
	if err != nil {
		n.log.Error("health summary not signed", "err", err)
		return nil
	}
	n.mu.Lock()
	n.signed, n.signedAt = raw, now
	n.mu.Unlock()
	return raw
}

// healthTold takes a member's summary of itself from whoever passes it on: nobody but the member can have made it. It is no sign of life
// and gives no address.
func (n *Node) healthTold(l *link, raw []byte) {
	now := time.Now()
	if !l.records.of(recordsPerSecond, recordsBurst).AllowN(now, 1) {
		n.count("health.flood")
		return
	}
	h, err := beacon.ParseHealth(raw, n.mesh)
	if err != nil {
		n.count("health.invalid")
		return
	}
	body, _, err := session.ParseHeartbeat(h.Summary)
	if err != nil || body.Health == nil {
		n.count("health.invalid")
		return
	}
	if h.Node == n.self || !h.Fresh(now) || !n.isMember(h.Node) {
		n.count("health.old")
		return
	}
	n.mu.Lock()
	if len(n.told) >= maxEndpointPeers {
		maps.DeleteFunc(n.told, func(id keys.NodeID, _ told) bool { return !n.isMember(id) })
	}
	old, held := n.told[h.Node]
	newer := !held && len(n.told) < maxEndpointPeers || held && h.TimeMS > old.ms
	if newer {
		n.told[h.Node] = told{raw, h.TimeMS}
	}
	n.mu.Unlock()
	if newer {
		n.post(core.HealthIn{Node: h.Node, Envelope: raw})
	} else {
		n.count("health.old")
	}
}

// healthOf fills in what is known of a peer's health: its own word of the last heartbeat, or, without a session, what others pass on of it.
func (i *PeerInfo) healthOf(l *link, t told, now time.Time) {
	if l != nil && l.health.Load() != nil {
		i.Health, i.HealthAt = l.health.Load(), time.Unix(0, l.healthAt.Load())
		return
	}
	if t.raw == nil {
		return
	}
	h, err := beacon.ReadHealth(t.raw)
	if err != nil || !h.Fresh(now) {
		return
	}
	if body, _, err := session.ParseHeartbeat(h.Summary); err == nil && body.Health != nil {
		i.Health, i.HealthAt, i.HealthTold = body.Health, h.Time(), true
	}
}
