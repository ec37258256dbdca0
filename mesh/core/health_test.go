package core

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/session"
)

// healths counts the summaries a node has passed on since a time.
func (n *simNode) healths(since time.Duration) (list []string) {
	sent, _ := effects[Send](n, since)
	for _, s := range sent {
		if o, ok := s.Body.(session.Object); ok && o.K == session.KindHealth {
			list = append(list, string(o.Raw))
		}
	}
	return list
}

// A summary that was told goes on with its node's record: by FIND, and to a new session. It is no sign of life of its node, and of a node
// of which nothing is known it is forgotten.
func TestHealthGoesWithTheRecord(t *testing.T) {
	s := mesh(t, 4, 7)
	s.runFor(30 * second)
	me, of, asker, late := s.nodes[0], s.nodes[1], s.nodes[2], s.nodes[3]
	of.cutPower()
	late.kill()
	s.runFor(2 * time.Minute)
	p := me.core.peers[of.id]
	before, was := p.lastPresence(), p.presence
	me.step(HealthIn{Node: of.id, Envelope: []byte("first")})
	me.step(HealthIn{Node: of.id, Envelope: []byte("second")})
	if p.lastPresence() != before || p.presence != was {
		t.Fatal("a summary counted as a sign of life")
	}
	var x *sess
	for _, l := range me.core.live {
		if l.peer.id == asker.id {
			x = l
		}
	}
	since := s.now
	s.runFor(second)
	me.step(FrameIn{ID: x.id, Body: session.Find{K: session.KindFind, Node: of.id}})
	if got := me.healths(since); len(got) != 1 || got[0] != "second" {
		t.Fatalf("an answer carries %q", got)
	}
	since = s.now
	late.start()
	s.runFor(5 * second)
	if got := me.healths(since); len(got) == 0 || got[0] != "second" {
		t.Fatalf("a new session is told %q", got)
	}
	stranger := keyOf("stranger").NodeID()
	me.step(HealthIn{Node: stranger, Envelope: []byte("x")})
	if me.core.peers[stranger] != nil {
		t.Fatal("a summary made a peer")
	}
}
