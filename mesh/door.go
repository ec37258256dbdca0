package mesh

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// Newcomer is a machine in the middle of an enrolment: it has proved an invite and its key, and somebody there compares the words.
type Newcomer struct {
	Invite identity.InviteID
	Node   keys.NodeID
	From   netip.AddrPort
	Since  time.Time
	Words  [3]string // its screen shows the same, unless somebody is in between
}

// atTheDoor shows a newcomer in [Node.Newcomers] until gone is called. Their number is that of the enrolments served at a time.
func (n *Node) atTheDoor(res *handshake.Result, src netip.AddrPort) (gone func()) {
	c := &Newcomer{Invite: res.Invite, Node: res.Peer.Node, From: src, Since: time.Now(), Words: identity.Words(res.Keys.Hash)}
	n.mu.Lock()
	n.newcomers[c] = struct{}{}
	n.mu.Unlock()
	return func() {
		n.mu.Lock()
		delete(n.newcomers, c)
		n.mu.Unlock()
	}
}

// Newcomers lists the enrolments under way at this node, the longest first.
func (n *Node) Newcomers() []Newcomer {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []Newcomer
	for c := range n.newcomers {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Newcomer) int {
		if d := a.Since.Compare(b.Since); d != 0 {
			return d
		}
		return bytes.Compare(a.Node[:], b.Node[:])
	})
	return out
}

// declined is a newcomer's end before its request. A normal one is a no of the person there, and leaves the invite unused.
func (n *Node) declined(body []byte, res *handshake.Result, src netip.AddrPort) error {
	code, err := session.ParseClose(body)
	if err != nil {
		return err
	}
	if code != session.CodeNormal {
		return fmt.Errorf("the newcomer ended it: %s", code)
	}
	n.atDoor("an enrolment was not confirmed at the newcomer", "from", src, "invite", res.Invite)
	// The address, not the key, is who acts: a key costs nothing, and denials are counted by who acts.
	n.auditLater(audit.Event{
		Code: audit.InviteDecline, Actor: src.Addr().String(), Target: res.Peer.Node.Compact(), Verdict: audit.Denied, Reason: "not confirmed at the newcomer",
		Session: res.Invite.String(),
	})
	return nil
}

// atDoor logs what became of a newcomer, not every time: whoever holds an unused invite may come as often as connections are taken, and
// spends nothing by it.
func (n *Node) atDoor(what string, args ...any) {
	if n.doorLog.of(rate.Every(doorLogPause), doorLogBurst).Allow() {
		n.log.Info(what, args...)
	}
}
