package mesh

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// local is what this node presents in handshakes now.
func (n *Node) local() handshake.Local {
	l := *n.presented.Load()
	st := n.State()
	l.Certificate = n.cert.Load().Raw()
	l.RootVersion = st.Root().Version
	l.Digest = st.Digest()
	l.GroupGen = n.secrets.Newest().Generation
	return l
}

// rebind makes a fresh Noise static key and signs it with the node's key. Running sessions keep theirs.
func (n *Node) rebind(now time.Time) error {
	static := handshake.NewStatic()
	b, err := identity.IssueBinding(identity.Binding{
		Mesh: n.mesh, Node: n.self, Static: static.Public(), NotBefore: now.Unix(), NotAfter: now.Unix() + bindingLife,
		Boot: n.cfg.Boot,
	}, n.cfg.Key)
	if err != nil {
		return err
	}
	n.presented.Store(&handshake.Local{Mesh: n.mesh, Node: n.self, Static: static, Binding: b.Raw(), Features: uint64(n.offers())})
	return nil
}

// verifyPeer is the half of "verify peer" that asks the trust log.
func (n *Node) verifyPeer(p *handshake.Peer, now int64) (session.State, session.Code) {
	standing, why := n.State().Admit(p.Certificate, p.RootVersion, now)
	if standing == trust.Refused {
		code := session.Code(why.Code())
		if code == 0 {
			code = session.CodeNotAdmitted
		}
		return 0, code
	}
	n.mu.Lock()
	have := 0
	for _, l := range n.links {
		if l.peer.Node == p.Node {
			have++
		}
	}
	total := len(n.links)
	n.mu.Unlock()
	if have >= maxSessionsPeer || total >= maxSessions {
		return 0, session.CodeLimit
	}
	return core.StateOf(standing), 0
}

// beaconStanding tells the receiver what the log says of a beacon's sender.
func (n *Node) beaconStanding(id keys.NodeID) beacon.Standing {
	st := n.State()
	if _, revoked := st.Revoked(id); revoked {
		return beacon.Revoked
	}
	if _, ok := st.LiveMember(id, n.trustNow()); ok {
		return beacon.Enrolled
	}
	return beacon.Stranger
}

// Publish spreads a change of trust made on this host, durable already: every peer is sent it at once, and everything here is
// judged by it.
func (n *Node) Publish(changes ...trust.Change) { n.post(core.TrustIn{Changes: changes}) }

// housekeeping does what is due now and then.
func (n *Node) housekeeping(ctx context.Context) error {
	tick := time.NewTicker(housekeepingEvery)
	defer tick.Stop()
	rebind := time.NewTicker(rebindEvery)
	defer rebind.Stop()
	next := n.nextTrustChange()
	defer next.Stop()
	renew := time.NewTicker(renewLook)
	defer renew.Stop()
	var asking renewal
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			n.sweep()
			n.drainUnrecorded()
			n.renewKeys(time.Now())
			n.coolDown(time.Now())
			n.checkPaths(time.Now())
			n.tags.Sweep(time.Now())
			n.askGroupSecret() // what could not be answered or kept before
		case now := <-renew.C:
			n.keepRenewed(ctx, &asking, now)
		case <-next.C:
			n.sweep()
			n.servicesMayHaveChanged()
			next.Stop()
			next = n.nextTrustChange()
		case <-n.trustKick:
			next.Stop()
			next = n.nextTrustChange()
		case <-n.svcKick:
			n.tellServicesSoon(ctx)
		case now := <-rebind.C:
			if err := n.rebind(now); err != nil {
				return err
			}
		}
	}
}

// drainUnrecorded ends streams that run while nothing can be recorded, as the configuration wants.
func (n *Node) drainUnrecorded() {
	s := n.audit.Status()
	if s.Degraded == nil || n.cfg.Unrecorded == UnrecordedAllow {
		return
	}
	if n.cfg.Unrecorded == UnrecordedStop || time.Since(s.Since) >= unrecordedGrace {
		n.streams.cutAll(func(*entry) bool { return true }, "the audit log cannot be written", session.CodeDegraded)
	}
}

// nextTrustChange fires when the passing of time changes an answer of the trust state.
func (n *Node) nextTrustChange() *time.Timer {
	now := n.trustNow()
	at := n.State().NextChange(now)
	if at == 0 {
		return time.NewTimer(time.Hour)
	}
	return time.NewTimer(min(time.Duration(at-now)*time.Second, time.Hour))
}

func (n *Node) tellServicesSoon(ctx context.Context) {
	select {
	case <-time.After(servicesDelay):
	case <-ctx.Done():
		return
	}
	select {
	case <-n.svcKick:
	default:
	}
	n.tellServices()
}

// renewKeys replaces keys that are due: in band, or, where the peer does not know that, by a successor of each session this node
// dialled, make before break. Sessions whose keys were due for too long are closed.
func (n *Node) renewKeys(now time.Time) {
	for _, l := range n.allLinks() {
		u, busy := l.usage(now)
		if at := l.rekey.half.Load(); at != 0 && u.Overdue(now.Sub(time.Unix(0, at))) {
			n.post(core.Retire{ID: l.id}) // the peer began and does not finish; the keys it gave look new
			continue
		}
		if !u.Due(busy, l.jitter) {
			l.due.Store(0)
			continue
		}
		if l.due.CompareAndSwap(0, now.UnixNano()) {
			n.count("session.due")
		}
		switch since := now.Sub(time.Unix(0, l.due.Load())); {
		case u.Overdue(since):
			n.post(core.Retire{ID: l.id})
		case !l.may(session.FeatureRekey):
			if l.role == keys.RoleDialer && l.open() {
				n.post(core.Replace{ID: l.id})
			}
		case l.role == keys.RoleDialer:
			n.beginRekey(l)
		default:
			n.askRekey(l)
		}
	}
}

// allLinks returns every session.
func (n *Node) allLinks() []*link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Values(n.links))
}

// nameOf is the name a person knows a node by, or its short id.
func (n *Node) nameOf(id keys.NodeID) string {
	if name := n.trustedName(id); name != "" {
		return name
	}
	return id.Short()
}

// trustedName is the logged name of a live node, or nothing where two live nodes hold it.
func (n *Node) trustedName(id keys.NodeID) string {
	st, now := n.State(), n.trustNow()
	m, ok := st.LiveMember(id, now)
	if !ok || st.NameConflict(m.Name, now) {
		return ""
	}
	return m.Name
}

// sessionsSwept records what a change of trust did here.
func (n *Node) sessionsSwept(e core.TrustChanged, streams int, took time.Duration) {
	if streams > 0 {
		n.log.Info("trust changed", "what", e.What, "streams cut", streams, "took", took)
	}
	ev := audit.Event{Code: audit.EntryApply, Target: e.What, Count: 0}
	if !e.From.IsZero() {
		ev.Actor = e.From.Compact()
	}
	if streams > 0 {
		ev.After = plural(streams, "stream") + " cut"
	}
	n.auditLater(ev)
}
