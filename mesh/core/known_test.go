package core

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// allOff ends every host at once; nobody is told, and from then on no beacon is heard.
func (s *sim) allOff() {
	for _, n := range s.nodes {
		n.cutPower()
		n.powered = true
	}
	s.mute = func(_, _ *simNode) bool { return true }
	s.runFor(60 * second)
}

// knows returns what a node has kept of another.
func (n *simNode) knows(m *simNode) (Known, bool) {
	i := slices.IndexFunc(n.kept.Known, func(k Known) bool { return k.Peer == m.id })
	if i < 0 {
		return Known{}, false
	}
	return n.kept.Known[i], true
}

// After a restart of everybody without a beacon, a node that has kept the others' addresses has its sessions within 2 s; without them
// nobody ever meets.
func TestKnownPeersAreDialledAtTheStart(t *testing.T) {
	for _, kept := range []bool{true, false} {
		s := mesh(t, 5, 1)
		s.runFor(60 * second)
		me := s.nodes[3]
		for _, m := range s.nodes {
			if _, ok := me.knows(m); m != me && !ok {
				t.Fatalf("node %d is not kept after a minute: %v", m.i, me.kept)
			}
		}
		s.allOff()
		for _, n := range s.nodes {
			if n != me || !kept {
				n.kept = Persist{}
			}
			n.start()
		}
		s.runFor(2 * second)
		switch got := me.core.degree(); {
		case kept && got != 4:
			t.Fatalf("%d sessions 2 s after the start", got)
		case !kept && got != 0:
			t.Fatal("found without an address: the test shows nothing")
		}
	}
}

// A node that never dialled, because the others' ids are lower, knows where they are all the same: they told it.
func TestAnnouncedAddressesAreKept(t *testing.T) {
	s := mesh(t, 3, 2)
	s.runFor(60 * second)
	last := s.nodes[2]
	for _, m := range s.nodes[:2] {
		k, _ := last.knows(m)
		if len(k.Places) != 1 || k.Places[0].At != m.at {
			t.Fatalf("of node %d it keeps %v", m.i, k)
		}
	}
	if k, _ := s.nodes[0].knows(last); len(k.Places) != 1 || k.Places[0].Good < epoch0 || k.Places[0].Good > epoch0+60 {
		t.Fatalf("the one that dialled keeps %v", k)
	}
}

// In a large mesh a node that knows one address, its anchor's, is in the mesh within 5 s of a start without beacons.
func TestAnchorBringsANodeBack(t *testing.T) {
	t.Parallel()
	s := mesh(t, 20, 3)
	s.runFor(2 * time.Minute)
	me := s.nodes[4]
	anchor := me.kept.Anchor
	if anchor.IsZero() {
		s.runFor(5 * time.Minute)
		anchor = me.kept.Anchor
	}
	k, ok := me.knows(s.nodeOf(anchor))
	if !ok || k.Places[0].Good == 0 {
		t.Fatalf("the anchor is one this node has dialled: %v", k)
	}
	me.cutPower()
	me.powered = true
	s.mute = func(_, _ *simNode) bool { return true }
	s.runFor(60 * second)
	me.at = netip.AddrPortFrom(netip.MustParseAddr("10.0.9.9"), 7477) // nobody else can find it
	me.kept.Known = []Known{k}
	me.start()
	if first, _ := effects[Dial](me, s.now); len(first) != 1 || first[0].Peer != anchor {
		t.Fatalf("it dials %v first", first)
	}
	s.runFor(5 * second)
	if me.core.degree() == 0 {
		t.Fatal("not in the mesh")
	}
	s.runFor(60 * second)
	if got := me.core.degree(); got < degreeMin {
		t.Fatalf("%d sessions a minute later", got)
	}
}

func (s *sim) nodeOf(id keys.NodeID) *simNode {
	return s.nodes[slices.IndexFunc(s.nodes, func(n *simNode) bool { return n.id == id })]
}

// The anchor stays as long as it can be reached now and then, is not shed, and is replaced after an hour without it.
func TestAnchorStaysAndIsReplaced(t *testing.T) {
	t.Parallel()
	s := mesh(t, 12, 4)
	s.runFor(10 * time.Minute)
	me := s.nodes[0]
	first := s.nodeOf(me.core.anchor)
	s.runFor(30 * time.Minute)
	if me.core.anchor != first.id || me.core.peers[first.id].working() == nil {
		t.Fatal("another anchor, or no session with it, though nothing happened")
	}
	first.cutPower()
	s.runFor(anchorGone - time.Minute)
	if me.core.anchor != first.id {
		t.Fatal("given up too early")
	}
	s.runFor(3 * time.Minute)
	if me.core.anchor == first.id || me.core.anchor.IsZero() {
		t.Fatalf("not replaced: %v", me.core.anchor)
	}
	s.runFor(persistEvery)
	if me.kept.Anchor != me.core.anchor {
		t.Fatal("the new anchor is not kept")
	}
}

// Of too many sessions the one with the anchor is not the one that is shed, however many its peer has.
func TestAnchorIsNotShed(t *testing.T) {
	t.Parallel()
	s := mesh(t, 40, 8)
	s.runFor(2 * time.Minute)
	me := s.nodes[7]
	anchor := me.core.peers[me.core.anchor].working()
	if anchor == nil {
		t.Fatal("no session with the anchor")
	}
	s.onStep = func(n *simNode) {
		if n == me {
			for _, x := range me.core.live {
				x.degree = degreeMax
			}
			anchor.degree = 1000
		}
	}
	for _, n := range s.nodes {
		if n != me && n.core.peers[me.id] != nil && n.core.peers[me.id].working() == nil {
			n.core.choose(n.core.peers[me.id])
			n.step(NetChange{})
		}
	}
	s.runFor(5 * second)
	many := me.core.degree()
	s.runFor(3 * time.Minute)
	if got := me.core.degree(); many <= degreeMax+3 || got > degreeMax {
		t.Fatalf("%d sessions, then %d: nothing was shed", many, got)
	}
	if me.core.byID[anchor.id] != anchor {
		t.Fatal("the session with the anchor was shed")
	}
}

// Writes are rare: one for what a start brings, then none while nothing is news, and one at the stop only if something is.
func TestPersistIsRare(t *testing.T) {
	t.Parallel()
	s := mesh(t, 6, 5)
	s.runFor(persistDelay + 5*second)
	me := s.nodes[1]
	writes := func(since time.Duration) int { list, _ := effects[Persist](me, since); return len(list) }
	if got := writes(0); got != 1 {
		t.Fatalf("%d writes after the start", got)
	}
	since := s.now
	for range 20 { // a neighbour that comes back twenty times
		s.nodes[2].kill()
		s.runFor(second)
		s.nodes[2].start()
		s.runFor(29 * second)
	}
	if got := writes(since); got > 3 {
		t.Fatalf("%d writes in ten minutes", got)
	}
	s.runFor(2 * persistEvery)
	since = s.now
	s.runFor(time.Hour)
	if got := writes(since); got != 0 {
		t.Fatalf("%d writes in an hour without news", got)
	}
	me.step(Stop{})
	if got := writes(since); got != 0 {
		t.Fatal("written at the stop without news")
	}
	s.nodes[3].step(NetChange{}) // and one that has news
	s.nodes[3].core.persistSoon()
	since = s.now
	s.nodes[3].step(Stop{})
	if list, _ := effects[Persist](s.nodes[3], since); len(list) != 1 {
		t.Fatal("news are lost at the stop")
	}
}

// What is kept is bounded whatever the file says and whoever has sessions; the anchor is not pushed out; who was revoked goes, and
// neither this node itself nor a link-local address is dialled.
func TestKnownIsBounded(t *testing.T) {
	f := newFixture(t, maxKept+20)
	s := newSim(t, f, 6)
	me := s.nodes[0]
	var many []Known
	for _, n := range s.nodes {
		k := Known{Peer: n.id}
		for i := range 2 * maxPlaces {
			k.Places = append(k.Places, Place{At: netip.AddrPortFrom(n.at.Addr(), uint16(1+i)), Good: 1})
		}
		many = append(many, k)
	}
	odd := Known{Peer: s.nodes[maxKept].id, Places: []Place{{At: netip.MustParseAddrPort("[fe80::1%eth0]:7477"), Good: 1}, {}}}
	stranger := Known{Peer: keyOf("stranger").NodeID(), Places: many[5].Places}
	me.kept = Persist{Known: append([]Known{odd, stranger}, many...), Anchor: s.nodes[1].id}
	me.start()
	if me.core.peers[stranger.Peer] != nil {
		t.Fatal("somebody who is no member is dialled")
	}
	if got := len(me.core.kept); got > maxKept {
		t.Fatalf("%d are kept", got)
	}
	for _, k := range me.core.kept {
		if k.Peer == me.id || k.Peer == odd.Peer || len(k.Places) > maxPlaces {
			t.Fatalf("kept: %v", k)
		}
	}
	var order []*Known
	for _, k := range me.core.kept {
		if k.Peer != s.nodes[1].id {
			order = append(order, k)
		}
	}
	anchor := *me.core.kept[slices.IndexFunc(me.core.kept, func(k *Known) bool { return k.Peer == s.nodes[1].id })]
	me.core.kept = append(order, &anchor)
	for _, n := range s.nodes[maxKept+1:] {
		p := me.core.peerFor(n.id)
		me.core.remember(&sess{peer: p, addr: &address{at: n.at}})
	}
	if got := len(me.core.kept); got > maxKept || !slices.ContainsFunc(me.core.kept, func(k *Known) bool { return k.Peer == s.nodes[1].id }) {
		t.Fatalf("%d are kept, or the anchor is not among them", got)
	}
	gone := s.nodes[maxKept+1]
	s.nodes[0].publish(s.f.revocation(gone.i))
	me.core.out = nil
	me.core.persist()
	last := me.core.out[len(me.core.out)-1].(Persist)
	if slices.ContainsFunc(last.Known, func(k Known) bool { return k.Peer == gone.id }) {
		t.Fatal("a revoked member is kept")
	}
}
