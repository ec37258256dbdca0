package core

import (
	"fmt"
	"slices"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// beginSync starts comparing views. Until enough peers have been compared with, or syncWait has passed, no session is full: a
// revoked peer must not win a race against a node that has not heard of it.
func (c *Core) beginSync() {
	c.views, c.waited, c.listened = nil, false, false
	c.syncFrom = c.now.Mono
	c.syncT.stop()
	c.syncT = c.after(listenTime, func() {
		c.listened = true
		if c.comparedAll(); c.waited {
			return
		}
		c.syncT = c.after(syncWait-listenTime, c.endSync)
	})
}

func (c *Core) endSync() {
	c.syncT.stop()
	c.waited = true
	c.reviewAll()
}

// comparedAll ends the wait for views early: whoever is there has been heard by now, and all of them have been compared with, so
// nothing more will come. Members that are off the network are not waited for.
func (c *Core) comparedAll() {
	if c.waited || !c.listened || len(c.views) == 0 {
		return
	}
	missing := 0
	for _, p := range c.order {
		if p.enrolled && p.lastPresence() >= c.syncFrom && !slices.Contains(c.views, p.id) {
			missing++
		}
	}
	if missing == 0 || len(c.views) >= 2 {
		c.endSync()
	}
}

// seenEnough reports whether this node's view of the log is fresh enough to let p in: compared with min(2, other live nodes) peers,
// p itself counting only where there is no other.
func (c *Core) seenEnough(p *peer) bool {
	seen := 0
	for _, id := range c.views {
		if _, live := c.st.LiveMember(id, c.now.Trust); live && id != p.id {
			seen++
		}
	}
	if seen >= 2 {
		return true
	}
	others := 0
	for m := range c.st.Members() {
		if m.Node == c.cfg.Self || m.Node == p.id || !m.Live(c.now.Trust) {
			continue
		}
		if others++; others > seen {
			return false
		}
	}
	return others > 0 || slices.Contains(c.views, p.id)
}

// sawView notes that p's view was compared with this node's and nothing is missing here.
func (c *Core) sawView(p *peer) {
	if slices.Contains(c.views, p.id) {
		return
	}
	c.views = append(c.views, p.id)
	if len(c.views) == 1 || !c.waited {
		c.reviewAll()
	}
	c.comparedAll()
}

// lookAtViews notes the peers whose view this node has reached by what others sent.
func (c *Core) lookAtViews() {
	for _, s := range slices.Clone(c.live) {
		if s.sync != nil && s.sync.Synced() {
			c.sawView(s.peer)
		}
	}
}

// startSync begins to exchange trust with a peer once both have said READY.
func (c *Core) startSync(s *sess) {
	s.sync = c.hub.NewSync(s.states.Local() == session.SyncOnly)
	if s.states.Peer() == session.SyncOnly {
		c.sendFrames(s, s.sync.PushRoots(s.rootVer))
	}
	c.sendFrames(s, s.sync.Vec(c.now.Mono))
	c.syncTick(s)
}

func (c *Core) syncTick(s *sess) {
	s.vecT = c.after(vecMin, func() {
		if s.states.Peer() != session.SyncOnly {
			c.sendFrames(s, s.sync.Tick(c.now.Mono))
		}
		c.syncTick(s)
	})
}

func (c *Core) sendFrames(s *sess, frames []trust.Frame) {
	for _, f := range frames {
		if s.states.Peer() == session.SyncOnly && f.Kind == trust.KindWant {
			continue // the peer takes what we have and sends nothing until it knows our issuer
		}
		c.emit(SendRaw{ID: s.id, Raw: f.Body, Urgent: f.Urgent})
	}
}

// syncFrame hands a trust frame to the session's sync, applies what it brings, and passes that on at once.
func (c *Core) syncFrame(s *sess, kind session.Kind, raw []byte) {
	if s.sync == nil {
		return
	}
	if kind == session.KindVec && !s.vecs.take(c.now.Mono, vecRate, vecBurst) {
		s.surplus++
		c.countFlood(s, kind)
		return
	}
	r, err := s.sync.Receive(trust.Frame{Kind: uint8(kind), Body: raw}, c.now.Mono, c.now.Trust)
	if err != nil {
		c.misbehaved(s, kind, err.Error())
		return
	}
	for _, q := range r.Quarantined {
		// The peer only passed on what this program fails on: the session stays.
		c.emit(TrustRejected{From: s.peer.id, Kind: q.String(), Why: "put in quarantine: " + q.Why})
	}
	// Removals and everything else new leave for the other peers before the answers to this one.
	c.spread(s, r.Changes)
	if c.byID[s.id] == nil {
		return
	}
	c.sendFrames(s, r.Send)
	if s.sync.Synced() {
		c.sawView(s.peer)
		c.noteBranch(s)
	}
	if c.byID[s.id] != nil {
		c.countFlood(s, kind)
	}
}

// misbehaved ends a session whose peer sent what no honest node sends, and has nothing to do with it for a while.
func (c *Core) misbehaved(s *sess, kind session.Kind, why string) {
	c.emit(TrustRejected{From: s.peer.id, Kind: kind.String(), Why: why})
	s.peer.paused = c.now.Mono + invalidPause
	c.close(s, session.CodeProtocol, why)
}

// countFlood ends a session on which far more had to be dropped unseen than an honest peer behind a slow path can pile up.
func (c *Core) countFlood(s *sess, kind session.Kind) {
	dropped := s.sync.Dropped() + s.surplus
	if c.now.Mono-s.floodFrom >= floodWindow {
		s.floodFrom, s.floodBase = c.now.Mono, dropped
	}
	if dropped-s.floodBase > floodLimit {
		c.misbehaved(s, kind, "a flood of unsolicited frames")
	}
}

// spread lets a node whose key changes revoke be cut off, pushes the changes to every session but their source, and then lets
// everybody they concern be judged by the new state.
func (c *Core) spread(from *sess, changes []trust.Change) {
	if len(changes) == 0 {
		return
	}
	c.st = c.ledger.Current()
	c.judgeRemoved(changes)
	for _, ch := range changes {
		for _, s := range c.live {
			// What is pushed beyond the rate a receiver takes would be dropped there; the next VEC tells it instead.
			if s != from && s.sync != nil && (s.pushes.take(c.now.Mono, pushRate, pushBurst) || ch.Urgent) {
				c.sendFrames(s, s.sync.Push(ch))
			}
		}
	}
	if slices.ContainsFunc(changes, func(ch trust.Change) bool { return ch.Kind != trust.KindHead }) { // a head is in no digest
		for _, s := range c.live {
			c.showView(s)
		}
	}
	var source keys.NodeID
	if from != nil {
		source = from.peer.id
	}
	for _, ch := range changes {
		c.emit(TrustChanged{From: source, What: describe(ch), Change: ch})
	}
	c.judgeNamed(changes)
	c.lookAtViews()
}

// showView tells a peer at once, by the digest of a heartbeat, that this node holds a change: whoever made it waits to know. A flood of
// changes is shown once per showEvery.
func (c *Core) showView(s *sess) {
	if s.sync == nil || s.showT.pending() {
		return
	}
	wait := max(0, s.shown+showEvery-c.now.Mono)
	s.showT = c.after(wait, func() {
		s.shown = c.now.Mono
		c.beat(s, 0, 0)
	})
}

// describe names a change for people and the audit log.
func describe(ch trust.Change) string {
	switch ch.Kind {
	case trust.KindRoot:
		return fmt.Sprintf("root %d", ch.Seq)
	case trust.KindEntry:
		return fmt.Sprintf("entry %d of issuer %s", ch.Seq, ch.Issuer.String()[:16])
	case trust.KindHead:
		return fmt.Sprintf("head %d of issuer %s", ch.Seq, ch.Issuer.String()[:16])
	case trust.KindEvidence:
		return fmt.Sprintf("evidence against issuer %s at %d", ch.Issuer.String()[:16], ch.Seq)
	}
	return "nothing"
}

// noteBranch remembers the digest of a view that differs from this node's by branches of forked issuers alone. Until a root decides
// that is no news, and neither vectors nor dials will change it.
func (c *Core) noteBranch(s *sess) {
	digest, ok := s.sync.OtherBranch()
	if !ok {
		return
	}
	if c.branchesOf != c.st {
		c.branches, c.branchesOf = nil, c.st
	}
	if len(c.branches) < maxBranches && !slices.Contains(c.branches, digest) {
		c.branches = append(c.branches, digest)
	}
}

// knowsBranch reports whether a digest is one of those, as of the log of now.
func (c *Core) knowsBranch(digest [8]byte) bool {
	return c.branchesOf == c.st && slices.Contains(c.branches, digest)
}

// digestHint compares a peer's digest with this node's; if they still differ after a little while, in which the cause often arrives
// by itself, the peer is sent this node's vector.
func (c *Core) digestHint(s *sess, digest [8]byte) {
	s.theirs = digest
	if digest == c.digestNow() || digest == [8]byte{} || s.sync == nil || s.pullT.pending() || c.knowsBranch(digest) {
		return
	}
	s.pullT = c.after(c.jitter(0, pullJitter), func() {
		if s.states.Peer() != session.SyncOnly && s.theirs != c.digestNow() {
			c.sendFrames(s, s.sync.Vec(c.now.Mono))
		}
	})
}

// tellPeers tells a peer that has become full where this node and some of the others it knows can be reached: in the order of ids
// from a random place on, so that in a large mesh everybody is told of somewhere.
func (c *Core) tellPeers(s *sess) {
	c.emit(TellSelf{ID: s.id})
	most := peerRecords
	if c.crowded() {
		most = crowdRecords
	}
	c.tellSome(s, most, true)
}

// tellSome tells a peer the newest records of some others, with or without their health.
func (c *Core) tellSome(s *sess, most int, health bool) {
	if len(c.order) == 0 {
		return
	}
	begin := c.rng.IntN(len(c.order))
	for i := 0; i < len(c.order) && most > 0; i++ {
		p := c.order[(begin+i)%len(c.order)]
		if p.record != nil && p != s.peer && p.enrolled && !p.revoked {
			c.tell(s, p, health)
			most--
		}
	}
}

// tell passes a peer's record on, and what it last said of itself where that is wanted.
func (c *Core) tell(s *sess, p *peer, health bool) {
	c.send(s, session.Object{K: session.KindPeer, Raw: p.record})
	if health && p.health != nil {
		c.send(s, session.Object{K: session.KindHealth, Raw: p.health})
	}
}
