package core

import (
	"slices"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// Two nodes may dial each other at the same moment, or again after one of them restarted. The rule below leaves exactly one
// session, never none. It is applied when the later of two sessions has brought the peer's READY:
//
//  1. different boot ids: the peer restarted, the session on the fresh READY wins;
//  2. same initiator: the higher conn_seq wins; both ends know it and come to the same end;
//  3. otherwise only the lower id decides. The older session is suspect: the new one wins. Five duplicates refused within 60 s: the newest wins. The older session was silent for
//     3 s: it is asked, and without an answer within 2 s the new one wins. Else the one dialled by the lower id wins.
//
// "Newest wins", "oldest wins" and "give up my dial when another comes in" each have an interleaving that ends with no session; so
// has a rule by which both ends judge the other's silence.

// resolveDuplicates is called at the peer's first READY on s. It reports whether s is still there.
func (c *Core) resolveDuplicates(s *sess) bool {
	for _, old := range slices.Clone(s.peer.sessions) {
		switch {
		case old == s || old.draining || c.byID[old.id] == nil:
		case old.ready(), old.boot != s.boot && old.up < s.up: // the latter will never be ready: its peer is gone
			c.settle(old, s)
		}
		if c.byID[s.id] == nil {
			return false
		}
	}
	return true
}

// settle ends one of two sessions with the same peer, or leaves that to the peer or to the answer to a ping.
func (c *Core) settle(old, s *sess) {
	switch {
	case old.boot != s.boot:
		c.lose(old, "the peer restarted")
	case old.role == s.role && s.connSeq > old.connSeq:
		c.lose(old, "replaced by a newer session")
	case old.role == s.role:
		c.lose(s, "a newer session exists")
	case less(s.peer.id, c.cfg.Self):
		// The lower id decides.
	case old.suspect:
		c.lose(old, "it was silent, and a newer session works")
	case c.tooManyRejected(s.peer):
		c.lose(old, "several newer sessions were refused for it")
	case c.now.Mono-old.lastRecv > silentForPing:
		c.ask(old, func(alive bool) {
			switch {
			case c.byID[s.id] == nil:
			case alive:
				c.preferOwn(old, s)
			default:
				c.lose(old, "no answer to a ping")
			}
		})
	default:
		c.preferOwn(old, s)
	}
}

// preferOwn keeps the one of two sessions that this node, the lower id, dialled.
func (c *Core) preferOwn(old, s *sess) {
	if s.role == keys.RoleDialer {
		c.lose(old, "the session dialled by the lower id won")
		return
	}
	s.peer.rejected = append(s.peer.rejected, c.now.Mono)
	c.lose(s, "the session dialled by the lower id won")
}

// tooManyRejected reports that a peer has tried for long to replace a session that seems healthy from here: it knows better.
func (c *Core) tooManyRejected(p *peer) bool {
	p.rejected = slices.DeleteFunc(p.rejected, func(at time.Duration) bool { return c.now.Mono-at >= dupWindow })
	if len(p.rejected) < dupLimit {
		return false
	}
	p.rejected = nil
	return true
}

// lose takes new streams off a session at once. Its tags stay valid a little, its running streams go on, and the peer is told with
// CLOSE{duplicate}.
func (c *Core) lose(s *sess, why string) {
	s.draining, s.loser = true, true
	c.publish(s)
	c.close(s, session.CodeDuplicate, why)
}

// countBoot notices the same identity alive on two hosts: its boot id alternates.
func (c *Core) countBoot(p *peer, boot identity.BootID) {
	if boot == p.lastBoot {
		return
	}
	p.lastBoot = boot
	p.boots = slices.DeleteFunc(p.boots, func(b bootChange) bool { return c.now.Mono-b.at >= dupWindow })
	if len(p.boots) >= maxBoots {
		p.boots = slices.Delete(p.boots, 0, 1)
	}
	// A restart shows a boot id that was not there before; two hosts come back to the same ones.
	returns := 0
	p.boots = append(p.boots, bootChange{at: c.now.Mono, boot: boot})
	for i := range p.boots {
		if slices.ContainsFunc(p.boots[:i], func(b bootChange) bool { return b.boot == p.boots[i].boot }) {
			returns++
		}
	}
	if returns >= cloneLimit {
		p.boots = nil
		c.emit(Alarm{Code: "clone.suspect", Peer: p.id, Text: "two hosts seem to run with this node's key"})
	}
}
