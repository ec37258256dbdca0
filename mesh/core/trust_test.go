package core

import (
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// publish makes a change this host's own: it is in the log, and the core is told.
func (n *simNode) publish(changes ...trust.Change) {
	var own []trust.Change
	for _, c := range changes {
		own = append(own, n.s.f.apply(n.ledger, c.Frame))
	}
	n.step(TrustIn{Changes: own})
}

// sinceLog are a node's effects after its first i.
func (n *simNode) sinceLog(i int) (out []Effect) {
	for _, l := range n.log[i:] {
		out = append(out, l.e)
	}
	return out
}

// synced reports whether all nodes that run have the same view, but for those that nobody tells anything any more.
func (s *sim) synced() bool {
	for _, n := range s.nodes {
		if _, revoked := s.nodes[0].ledger.Current().Revoked(n.id); n.up && !revoked && n.ledger.Current().Digest() != s.nodes[0].ledger.Current().Digest() {
			return false
		}
	}
	return true
}

// A revocation that arrives is applied in the same step: the node's sockets are cut first, then it goes to every other session, ahead
// of other frames; it is at everybody's within 100 ms, and nobody has a session with the revoked node any more.
func TestRevocation(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		s := settledMesh(t, 5, seed)
		a, b, victim := s.nodes[0], s.nodes[1], s.nodes[3]
		ch := s.f.revocation(3)
		x := s.held(b, a)[0]
		mark := len(b.log)
		b.step(FrameIn{ID: x.id, Body: parsed(t, ch.Body), Raw: ch.Body})
		all := b.sinceLog(mark)
		cut := slices.IndexFunc(all, func(e Effect) bool { _, ok := e.(CutNode); return ok })
		if cut != 0 || all[cut].(CutNode).Node != victim.id || all[cut].(CutNode).Code != session.CodeRevoked {
			t.Fatalf("first effect: %+v", all[0])
		}
		var to []SessionID
		told := false
		for _, e := range all[1:] {
			switch e := e.(type) {
			case SendRaw:
				if told || !e.Urgent || e.ID == x.id {
					t.Fatalf("sent late, not urgently or to the source: %+v", e)
				}
				to = append(to, e.ID)
			case TrustChanged:
				told = true
				if e.From != a.id {
					t.Fatalf("change of %s", e.From.Short())
				}
			}
		}
		if len(to) != 2 || !told { // the other two
			t.Fatalf("pushed to %d sessions, told %v", len(to), told)
		}
		at := s.now
		s.runFor(100 * time.Millisecond)
		for _, n := range s.nodes {
			if n == victim {
				continue
			}
			if cuts, _ := effects[CutNode](n, at); len(cuts) != 1 || n.peer(victim).revoked != true || len(n.peer(victim).sessions) != 0 {
				t.Fatalf("node %d cut %d times", n.i, len(cuts))
			}
		}
		// It stays out, whatever it sends and however often it dials.
		since := s.now
		s.runFor(60 * second)
		for _, n := range s.nodes {
			if n == victim {
				if len(n.core.live) > 0 {
					t.Fatal("the revoked node has a session")
				}
				continue
			}
			e, _ := n.presences(victim, at)
			if len(e) < 2 || e[0].Presence != Stale || e[1].Presence != Pruned || e[len(e)-1].Presence >= Stale {
				t.Fatalf("said of the revoked node, whose beacons are no presence: %+v", e)
			}
			if d, _ := effects[Dial](n, since); slices.ContainsFunc(d, func(d Dial) bool { return d.Peer == victim.id }) {
				t.Fatalf("the revoked node was dialled by %d, seed %d", n.i, seed)
			}
		}
	}
}

func parsed(t *testing.T, raw []byte) session.Body {
	t.Helper()
	b, err := session.ParseBody(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A node revoked long ago, and forgotten, is not dialled because somebody names it.
func TestRevokedNodeIsNotDialledByName(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 1)
	a, b := s.nodes[0], s.nodes[1]
	ledger := s.f.ledger()
	s.f.apply(ledger, s.f.revocation(1).Frame)
	a.startWith(ledger)
	a.step(AddSeed{Peer: b.id, At: b.at})
	s.runFor(5 * second)
	if d, _ := effects[Dial](a, 0); len(d) > 0 {
		t.Fatal("dialled")
	}
}

// Dials to a node that is revoked are given up in the same step, those under way and those that wait.
func TestRevocationAbortsDials(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 1)
	s.handshake = func() time.Duration { return second }
	a, b := s.nodes[0], s.nodes[1]
	a.start()
	a.step(AddSeed{Peer: b.id, At: b.at})
	a.step(AddSeed{Peer: b.id, At: b.udp})
	s.runFor(220 * time.Millisecond)
	if len(a.core.dials) == 0 || a.peer(b).dialing != 2 {
		t.Fatalf("%d dials, %d planned", len(a.core.dials), a.peer(b).dialing)
	}
	a.publish(s.f.revocation(1))
	s.runFor(10 * second)
	if c, _ := effects[CancelDial](a, 0); len(c) == 0 || len(a.core.dials) > 0 || a.peer(b).dialing != 0 {
		t.Fatalf("%d given up, %d under way", len(c), len(a.core.dials))
	}
	if d, _ := effects[Dial](a, 300*time.Millisecond); len(d) > 0 {
		t.Fatal("dialled after the revocation")
	}
}

// A change made on one host is everywhere within 100 ms, and shows at its maker by the others' digests.
func TestChangeSpreads(t *testing.T) {
	for seed := range uint64(10) {
		s := settledMesh(t, 5, seed)
		s.nodes[2].publish(s.f.write(trust.OpGrant{GID: 1, Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: "web"}}))
		s.runFor(100 * time.Millisecond)
		if !s.synced() {
			t.Fatal("views differ")
		}
		s.runFor(150 * time.Millisecond)
		for _, x := range s.nodes[2].core.live {
			if x.theirs != s.nodes[2].ledger.Current().Digest() {
				t.Fatal("a peer has not shown that it has the change")
			}
		}
	}
}

// What is not pushed is found by the digests of heartbeats: two nodes agree within 12 s.
func TestDigestFindsWhatWasNotPushed(t *testing.T) {
	for seed := range uint64(10) {
		s := settledMesh(t, 2, seed)
		s.f.apply(s.nodes[seed%2].ledger, s.f.revocation(1).Frame) // nobody is told, not even the core
		s.nodes[seed%2].core.st = s.nodes[seed%2].ledger.Current()
		s.runFor(12 * second)
		if !s.synced() {
			t.Fatal("views differ")
		}
	}
}

// A node that was away learns at its return what was revoked, before anybody gets a stream from it.
func TestReturnAfterRevocation(t *testing.T) {
	for seed := range uint64(10) {
		s := settledMesh(t, 4, seed)
		away, victim := s.nodes[0], s.nodes[3]
		away.kill()
		s.runFor(2 * second)
		s.nodes[1].publish(s.f.revocation(3))
		s.runFor(2 * second)
		s.onStep = func(n *simNode) {
			for _, x := range n.core.live {
				if n == away && x.peer.id == victim.id && x.full() {
					t.Fatal("full with a revoked node")
				}
			}
		}
		away.startWith(s.f.ledger())
		s.runFor(1500 * time.Millisecond)
		if !s.synced() || len(away.core.live) != 2 {
			t.Fatalf("synced %v, %d sessions", s.synced(), len(away.core.live))
		}
	}
}

// While it syncs a node lets nobody be full: with two nodes the peer's own view counts, with more the views of min(2, others).
func TestSyncing(t *testing.T) {
	for _, c := range []struct{ n, views int }{{2, 1}, {3, 1}, {4, 2}, {6, 2}} {
		s := newSim(t, newFixture(t, c.n), 1)
		s.onStep = func(n *simNode) {
			for _, x := range n.core.live {
				seen := 0
				for _, id := range n.core.views {
					if id != x.peer.id || c.n == 2 {
						seen++
					}
				}
				if x.states.Local() == session.Full && !n.core.waited && seen < c.views {
					t.Fatalf("%d nodes: full with %d views", c.n, seen)
				}
				if x.unsynced {
					t.Fatal("flagged unsynced though the views were there")
				}
			}
		}
		for _, n := range s.nodes {
			n.start()
		}
		s.runFor(1500 * time.Millisecond)
		s.wantAllSessions()
		s.runFor(10 * second)
	}
}

// Of three nodes one is off: nobody else's view can be had, so full is given after the second in which everybody who is there can be
// heard, and that is flagged, in READY too. When the third comes, the next session is not.
func TestUnsynced(t *testing.T) {
	s := newSim(t, newFixture(t, 3), 2)
	a, b, c := s.nodes[0], s.nodes[1], s.nodes[2]
	a.start()
	b.start()
	s.runFor(990 * time.Millisecond)
	if x := s.shared(a, b); len(x) != 1 || x[0].states.Local() != session.Restricted {
		t.Fatal("full without views, before 1 s")
	}
	s.runFor(100 * time.Millisecond)
	s.wantAllSessions()
	for _, n := range []*simNode{a, b} {
		states, at := effects[SessionState](n, 0)
		last := states[len(states)-1]
		if last.State != session.Full || !last.Unsynced {
			t.Fatalf("%+v", last)
		}
		wantBetween(t, "full", at[len(at)-1], 1*second, 1100*time.Millisecond)
		sent, _ := effects[Send](n, 0)
		if !slices.ContainsFunc(sent, func(e Send) bool { return e.Body == session.Ready{State: session.Full, Unsynced: true} }) {
			t.Fatal("READY does not say so")
		}
	}
	c.start()
	s.runFor(5 * second)
	s.wantAllSessions()
	if x := s.shared(a, c)[0]; x.unsynced {
		t.Fatal("unsynced, though another node's view was seen")
	}
}

// Somebody who was heard and whose view has not come is waited for, 2 s in all: a peer that answers first must not get past a node that
// does not know of its revocation yet.
func TestHeardPeersAreWaitedFor(t *testing.T) {
	s := newSim(t, newFixture(t, 4), 2)
	a, b, c := s.nodes[0], s.nodes[1], s.nodes[2]
	s.onStep = func(n *simNode) {
		if sent, _ := effects[SendBeacon](c, 0); n == c && len(sent) > 0 {
			c.freeze() // it was heard, and says nothing more
		}
	}
	for _, n := range []*simNode{a, b, c} {
		n.start()
	}
	s.runTo(1900 * time.Millisecond)
	if x := s.shared(a, b); len(x) != 1 || x[0].states.Local() != session.Restricted {
		t.Fatal("full although a peer that was heard has shown no view yet")
	}
	s.runTo(2100 * time.Millisecond)
	if x := s.shared(a, b); len(x) != 1 || !x[0].full() || !x[0].unsynced {
		t.Fatal("not full, or not flagged, after 2 s")
	}
}

// A node that was alone while it waited waits for the view of the first peer that comes, and is not unsynced then.
func TestFirstPeerOfALonelyNode(t *testing.T) {
	s := newSim(t, newFixture(t, 2), 2)
	a, b := s.nodes[0], s.nodes[1]
	a.start()
	s.runFor(60 * second)
	b.start()
	s.runFor(1500 * time.Millisecond)
	s.wantAllSessions()
	for _, x := range a.core.live {
		if x.unsynced {
			t.Fatal("the first session of a node that was alone is unsynced")
		}
	}
}

// A view that can only be reached by what others send counts when it is reached.
func TestViewReachedThroughOthers(t *testing.T) {
	s := settledMesh(t, 4, 3)
	away := s.nodes[0]
	away.kill()
	for range 20 {
		s.nodes[1].publish(s.f.write(trust.OpRevokeNode{Node: keyOf("stranger %d", s.f.author.Current().Epoch()).NodeID(), Reason: 1}))
	}
	s.runFor(second)
	away.start()
	s.runFor(1500 * time.Millisecond)
	s.wantAllSessions()
	if !s.synced() {
		t.Fatal("views differ")
	}
	for _, x := range away.core.live {
		if x.unsynced {
			t.Fatal("unsynced")
		}
	}
}

// A certificate that ends under a session ends the session, and everything of the node, with code 6 within 5 s.
func TestExpiryUnderASession(t *testing.T) {
	for seed := range uint64(10) {
		s := newSim(t, newFixtureUntil(t, 3, 40), seed)
		for _, n := range s.nodes {
			n.start()
		}
		s.runFor(39 * second)
		s.wantAllSessions()
		s.runTo(45 * second)
		for _, n := range s.nodes {
			cuts, at := effects[CutNode](n, 0)
			if len(cuts) < 2 {
				t.Fatalf("%d cut", len(cuts))
			}
			for i := range 2 {
				wantBetween(t, "cut", at[i], 40*second, 45*second)
				if cuts[i].Code != session.CodeExpired {
					t.Fatalf("code %v", cuts[i].Code)
				}
			}
			for _, x := range n.core.live {
				if x.states.Local() >= session.Full {
					t.Fatal("full with an expired node")
				}
			}
		}
	}
}

// A renewal that is in the log before the end extends the session in place.
func TestRenewalExtendsTheSession(t *testing.T) {
	s := newSim(t, newFixtureUntil(t, 2, 40), 1)
	for _, n := range s.nodes {
		n.start()
	}
	s.runFor(30 * second)
	before := s.shared(s.nodes[0], s.nodes[1])[0]
	for i := range s.nodes {
		s.nodes[0].publish(s.f.write(trust.EnrollOp(s.f.certify(i, epoch0, epoch0+10*hour))))
	}
	s.runFor(120 * second)
	if after := s.shared(s.nodes[0], s.nodes[1]); len(after) != 1 || after[0] != before || !after[0].full() {
		t.Fatal("the session did not stay")
	}
	// And one revoked certificate of a node that has another does not end it either; the node's end is another op.
	s.nodes[0].publish(s.f.write(trust.OpRevokeCert{Issuer: s.f.issuer.Public(), Serial: s.nodes[1].cert.Serial, Reason: 1}))
	if s.shared(s.nodes[0], s.nodes[1])[0] != before {
		t.Fatal("a revoked old certificate ended the session")
	}
}

// The revocation of a node's only certificate ends it.
func TestRevokedCertificate(t *testing.T) {
	s := settledMesh(t, 3, 1)
	a, b := s.nodes[0], s.nodes[1]
	since := s.now
	a.publish(s.f.write(trust.OpRevokeCert{Issuer: s.f.issuer.Public(), Serial: b.cert.Serial, Reason: 1}))
	cuts, _ := effects[CutNode](a, since)
	if len(cuts) != 1 || cuts[0].Node != b.id || cuts[0].Code != session.CodeRevoked {
		t.Fatalf("cut %+v", cuts)
	}
}

// A newcomer whose enrolment is not in the log yet has a restricted session that becomes full with the entry.
func TestEnrolmentPromotes(t *testing.T) {
	f := newFixture(t, 3)
	s := newSim(t, f, 1)
	whole := f.ledger()
	f.history = nil
	f.t.Helper()
	a, b := s.nodes[0], s.nodes[1]
	a.startWith(f.ledger()) // knows nobody
	b.startWith(whole)
	b.step(AddSeed{Peer: a.id, At: a.at})
	s.runFor(3 * second)
	s.runFor(2 * second)
	if x := s.shared(a, b); len(x) != 1 || !x[0].full() || !a.peer(b).enrolled || len(a.core.candidates) != 0 {
		t.Fatalf("%d sessions; %d candidates", len(x), len(a.core.candidates))
	}
}

// An entry that enrols the node of a restricted session makes it full in the same step.
func TestEnrolmentPromotesAtOnce(t *testing.T) {
	f := newFixture(t, 3)
	s := newSim(t, f, 1)
	whole := f.history
	f.history = nil
	a, m := s.nodes[0], s.nodes[1]
	a.startWith(f.ledger())
	s.runFor(4 * second)
	a.meet(m, keys.RoleAcceptor, 1, 1)
	x := a.core.live[0]
	s.runFor(2 * second) // no view comes from it
	if x.states.Local() != session.Restricted {
		t.Fatalf("not in the log, and %s", x.states.Local())
	}
	since := s.now
	a.publish(trust.Change{Frame: whole[0]})
	if x.states.Local() != session.Full || !a.peer(m).enrolled {
		t.Fatalf("enrolled, and %s", x.states.Local())
	}
	sent, _ := effects[Send](a, since)
	if len(sent) == 0 || sent[0].Body.Kind() != session.KindReady {
		t.Fatal("the peer was not told")
	}
}

// A view counts at the moment it is reached, also when the last piece came from another peer.
func TestViewIsReachedByAnotherPeersEntry(t *testing.T) {
	s := newSim(t, newFixture(t, 3), 1)
	a := s.nodes[0]
	a.start()
	ch := s.f.write(trust.OpGrant{GID: 1, Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: "web"}})
	ahead := s.f.ledger()
	s.f.apply(ahead, ch.Frame)
	vec := trust.NewHub(ahead).NewSync(false).Vec(0)[0].Body
	one, two := a.meet(s.nodes[1], keys.RoleAcceptor, 1, 1), a.meet(s.nodes[2], keys.RoleAcceptor, 1, 1)
	for _, id := range []SessionID{one, two} {
		a.step(FrameIn{ID: id, Body: parsed(t, vec), Raw: vec})
	}
	if len(a.core.views) != 0 {
		t.Fatal("a view that is ahead counts")
	}
	a.step(FrameIn{ID: one, Body: parsed(t, ch.Body), Raw: ch.Body})
	if len(a.core.views) != 2 || a.core.byID[one].states.Local() != session.Full || a.core.byID[two].states.Local() != session.Full {
		t.Fatalf("%d views count", len(a.core.views))
	}
}

// The view of a node that is no live member counts for nothing.
func TestOnlyMembersViewsCount(t *testing.T) {
	s := newSim(t, newFixture(t, 3), 1)
	a := s.nodes[0]
	a.start()
	p := a.peer(s.nodes[1])
	a.core.views = []keys.NodeID{keyOf("stranger").NodeID(), keyOf("another").NodeID()}
	if a.core.seenEnough(p) {
		t.Fatal("two strangers' views are enough")
	}
	a.core.views = []keys.NodeID{s.nodes[2].id}
	if !a.core.seenEnough(p) {
		t.Fatal("the other member's view is not enough")
	}
}

// Two branches of a forked issuer stay two digests until a root decides. Once compared, they are no reason to send vectors with every
// heartbeat.
func TestKnownForkIsQuiet(t *testing.T) {
	s := settledMesh(t, 2, 3)
	f := s.f
	twin, err := trust.NewMemory(f.genesis, nil)
	f.check(err)
	for _, fr := range f.history {
		f.apply(twin, fr)
	}
	other, err := twin.AppendOwn(f.issuer, epoch0, trust.OpRevokeNode{Node: keyOf("x").NodeID(), Reason: 1})
	f.check(err)
	s.nodes[0].publish(f.write(trust.OpRevokeNode{Node: keyOf("y").NodeID(), Reason: 1}))
	s.nodes[1].publish(other)
	s.runFor(60 * second)
	for _, n := range s.nodes {
		if _, ok := n.ledger.Current().EvidenceOf(f.issuer.Public()); !ok {
			t.Fatalf("node %d has no evidence", n.i)
		}
	}
	if s.nodes[0].ledger.Current().Digest() == s.nodes[1].ledger.Current().Digest() {
		t.Fatal("both hold one branch: nothing is tested")
	}
	since := s.now
	s.runFor(180 * second)
	for _, n := range s.nodes {
		frames, _ := effects[SendRaw](n, since)
		vecs := 0
		for _, e := range frames {
			if parsed(t, e.Raw).Kind() == session.KindVec {
				vecs++
			}
		}
		if vecs > 7 {
			t.Fatalf("node %d sent %d vectors in three minutes", n.i, vecs)
		}
	}
}
