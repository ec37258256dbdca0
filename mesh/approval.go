package mesh

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// recordEnrolment makes an enrolment's record durable before the node is a member: one that nobody can see afterwards does not happen.
func (n *Node) recordEnrolment(res *handshake.Result, channel keys.Hash) enroll.Record {
	return func(cert *identity.SignedCertificate, again bool) error {
		words := identity.Words(channel)
		e := audit.Event{
			Time: time.Now(), Code: audit.InviteSpend, Actor: res.Peer.Node.Compact(), Target: cert.Name, Verdict: audit.Allowed,
			Session: res.Invite.String(), After: fmt.Sprintf("serial %d, words %s %s %s", cert.Serial, words[0], words[1], words[2]),
		}
		if r, ok := n.issuer.Load().RotationOf(res.Invite); ok {
			e.Code, e.Actor, e.Target = audit.NodeRotate, r.Old.Compact(), r.New.Compact()
		}
		if again {
			e.Reason = "answered again"
		}
		return n.recorded(e)
	}
}

func (n *Node) recorded(e audit.Event) error {
	if _, err := n.audit.Append(e); err != nil && n.cfg.Unrecorded != UnrecordedAllow {
		return fmt.Errorf("not done, because it could not be recorded: %w", err)
	}
	return nil
}

// sendGrant tells a newcomer that it is a member.
func (n *Node) sendGrant(ctl *session.Control, g *enroll.Grant, src netip.AddrPort, send func([]trust.Frame) error) (session.Code, error) {
	c := g.Certificate
	n.log.Info("enrolled", "node", c.Name, "id", c.Node.Short(), "words", identity.Words(g.Channel), "from", src, "again", g.Again)
	n.notify(Event{Kind: EventTrust, Node: c.Node, Text: "enrolled " + c.Name})
	// The newcomer checks its own enrolment in the log before it believes the certificate.
	if seq, _, ok := n.State().Position(n.issuer.Load().Key.Public()); ok {
		if err := send(n.entriesFrom(seq)); err != nil {
			return session.CodeNormal, err
		}
	}
	secret, peers := n.Introduction()
	return session.CodeNormal, ctl.SendBody(session.Granted{
		Certificate: c.Raw(), GroupGen: secret.Generation, GroupSecret: [32]byte(secret.Bytes()), Peers: peers,
	})
}

// Introduction is what a newcomer is given beside its certificate: the newest group secret, and records of peers to begin with.
func (n *Node) Introduction() (keys.GroupSecret, [][]byte) {
	return n.secrets.Newest(), n.peerRecords()
}

// askApproval notes a request for a person, and tells the newcomer to come back.
func (n *Node) askApproval(ctl *session.Control, csr *identity.SignedCSR, res *handshake.Result, src netip.AddrPort) (session.Code, error) {
	q, err := n.issuer.Load().Ask(res.Invite, csr, src.Addr().String(), func(q enroll.Request) error {
		w := q.Words()
		return n.recorded(audit.Event{
			Time: time.Now(), Code: audit.RequestAdd, Actor: q.Node.Compact(), Target: q.Name, Session: q.Invite.String(), Before: q.Address,
			After: fmt.Sprintf("words %s %s %s", w[0], w[1], w[2]),
		})
	})
	if err != nil {
		return n.refuseEnrolment(ctl, res, src, err), err
	}
	n.log.Info("a machine waits for approval: meshkey pending", "request", q.ID, "id", q.Node.Short(), "words", q.Words(), "from", src)
	return session.CodeNormal, ctl.SendBody(session.Plain{K: session.KindPending})
}

// fetchEnrolment answers a newcomer that asked before. The handshake has proved its node key and the invite, so nothing is to be signed.
func (n *Node) fetchEnrolment(ctl *session.Control, res *handshake.Result, src netip.AddrPort, send func([]trust.Frame) error) (session.Code, error) {
	g, err := n.issuer.Load().Fetch(res.Invite, res.Peer.Node)
	switch {
	case errors.Is(err, enroll.ErrWaiting):
		return session.CodeNormal, ctl.SendBody(session.Plain{K: session.KindPending})
	case err != nil:
		return n.refuseEnrolment(ctl, res, src, err), err
	}
	return n.sendGrant(ctl, g, src, send)
}
