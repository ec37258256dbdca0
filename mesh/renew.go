package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// A node renews its own certificate when two thirds of its life are over: it asks any member whose beacon says that it issues, over a
// session of whatever standing that allows it. Name, tags and length of life come from the log, so that the request is worth nothing but
// the proof of the key. The new certificate is on disk before it is shown to anybody.

// renewal is the state of asking. It belongs to the housekeeping goroutine, but for what arrives.
type renewal struct {
	next  time.Time // no request before
	tries int
}

// keepRenewed asks for a new certificate if one is due.
func (n *Node) keepRenewed(ctx context.Context, r *renewal, now time.Time) {
	cert := n.cert.Load()
	if n.trustNow() < enroll.Due(&cert.Certificate) || n.trustNow() > cert.RenewUntil || cert.NotAfter >= cert.RenewUntil {
		*r = renewal{}
		return
	}
	if now.Before(r.next) {
		return
	}
	r.tries++
	pause := min(renewFirst<<min(r.tries-1, renewMaxShift), renewCap)
	r.next = now.Add(pause/2 + rand.N(pause/2))
	if n.issuer.Load() != nil && enroll.Issues(n.State(), n.issuer.Load().Key.Public(), n.trustNow()) {
		n.renewSelf()
		return
	}
	l := n.issuerLink()
	if l == nil {
		for _, id := range n.issuers() {
			n.post(core.Want{Peer: id})
		}
		r.next = now.Add(renewLook) // as soon as there is a session
		r.tries--
		return
	}
	if err := n.askRenewal(ctx, l); err != nil {
		n.log.Warn("a new certificate could not be asked for", "of", n.nameOf(l.peer.Node), "err", err)
	}
}

// issuers are the members whose newest beacon says that they issue, in random order, a few at most.
func (n *Node) issuers() []keys.NodeID {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ids []keys.NodeID
	for _, id := range sortedKeys(n.presence) {
		if n.presence[id].issues {
			ids = append(ids, id)
		}
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids[:min(len(ids), maxIssuersWanted)]
}

// issuerLink is a session with a member that issues; a random one, so that one that does not answer is not asked for ever.
func (n *Node) issuerLink() *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*link
	for _, l := range n.links {
		if s := session.State(l.state.Load()); n.presence[l.peer.Node].issues && s != 0 && s != session.Closed {
			all = append(all, l)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[rand.IntN(len(all))]
}

// askRenewal sends RENEW. The request's nonce is the session's channel binding: it is good in this session only.
func (n *Node) askRenewal(ctx context.Context, l *link) error {
	cert := n.cert.Load()
	csr, err := identity.SignCSR(identity.CSR{Mesh: n.mesh, Node: n.self, Name: cert.Name, Tags: cert.Tags, Nonce: l.hash}, n.cfg.Key)
	if err != nil {
		return err
	}
	n.passBarrier(ctx) // behind the READY of this side
	n.queueBody(l.id, session.Object{K: session.KindRenew, Raw: csr.Raw()})
	n.count("renew.asked")
	return nil
}

// renewSelf renews the certificate of a node that is an issuer itself.
func (n *Node) renewSelf() {
	csr, err := identity.SignCSR(identity.CSR{Mesh: n.mesh, Node: n.self, Name: n.cert.Load().Name}, n.cfg.Key)
	if err == nil {
		var cert *identity.SignedCertificate
		if cert, err = n.issuer.Load().Renew(csr, n.recordRenewal); err == nil {
			err = n.takeCertificate(cert)
		}
	}
	if err != nil {
		n.log.Error("this node's own certificate is due and was not renewed", "err", err)
	}
}

// answerRenewal is the issuer's side. It comes on sessions that may do nothing else, so it is bounded by itself.
func (n *Node) answerRenewal(l *link, raw []byte) error {
	if n.issuer.Load() == nil || !l.renewals.of(rate.Every(renewPause), renewBurst).Allow() || !n.renewals.Allow() {
		n.count("renew.ignored")
		return nil
	}
	csr, err := identity.ParseCSR(raw, n.mesh, l.hash)
	if err != nil {
		return err
	}
	if csr.Node != l.peer.Node {
		return errors.New("a renewal for another node than the one proved in the handshake")
	}
	cert, err := n.issuer.Load().Renew(csr, n.recordRenewal)
	if err != nil {
		n.auditLater(audit.Event{
			Code: audit.CertRenew, Actor: l.peer.Node.Compact(), Target: l.peer.Node.Compact(), Verdict: audit.Denied, Reason: err.Error(),
		})
		n.log.Info("not renewed", "peer", n.nameOf(l.peer.Node), "err", err)
		return nil
	}
	n.queueBody(l.id, session.Object{K: session.KindCertUpdate, Raw: cert.Raw()})
	return nil
}

// recordRenewal is durable before the certificate is signed into the log: a renewal that nobody can see afterwards does not happen.
func (n *Node) recordRenewal(cert *identity.SignedCertificate) error {
	e := audit.Event{
		Time: time.Now(), Code: audit.CertRenew, Target: cert.Node.Compact(), Verdict: audit.Allowed,
		After: "not_after " + strconv.FormatInt(cert.NotAfter, 10) + ", serial " + strconv.FormatUint(cert.Serial, 10),
	}
	if m, ok := n.State().Member(cert.Node); ok {
		e.Before = "not_after " + strconv.FormatInt(m.NotAfter, 10)
	}
	if _, err := n.audit.Append(e); err != nil && n.cfg.Unrecorded != UnrecordedAllow {
		return fmt.Errorf("not renewed, because it could not be recorded: %w", err)
	}
	return nil
}

// certificateUpdate takes a certificate a peer sent. What is not a longer life for this node from an issuer of the root is ignored: any
// peer may send anything.
func (n *Node) certificateUpdate(raw []byte) error {
	cert, err := identity.ParseCertificate(raw, n.mesh)
	if err != nil {
		return err
	}
	old := n.cert.Load()
	switch {
	case cert.Node != n.self, cert.NotAfter <= old.NotAfter, !enroll.Issues(n.State(), cert.Issuer, n.trustNow()):
		n.count("renew.useless")
		return nil
	case cert.Name != old.Name:
		if m, ok := n.State().Member(n.self); !ok || m.Name != cert.Name || !slices.Equal(m.Tags, cert.Tags) {
			n.count("renew.useless")
			return nil
		}
	}
	return n.takeCertificate(cert)
}

// takeCertificate puts a certificate into use: first to disk.
func (n *Node) takeCertificate(cert *identity.SignedCertificate) error {
	n.taking.Lock()
	defer n.taking.Unlock()
	if cert.NotAfter <= n.cert.Load().NotAfter {
		return nil
	}
	if n.cfg.Save != nil {
		if err := n.cfg.Save(cert); err != nil {
			n.log.Error("the new certificate cannot be kept; the old one stays in use", "err", err)
			return nil
		}
	}
	n.cert.Store(cert)
	n.log.Info("certificate renewed", "until", time.Unix(cert.NotAfter, 0).UTC().Format(time.RFC3339))
	n.auditLater(audit.Event{
		Code: audit.CertRenew, Target: n.self.Compact(), Verdict: audit.Allowed, After: "not_after " + strconv.FormatInt(cert.NotAfter, 10),
	})
	return nil
}

// issues is this node's claim in its beacons: it answers RENEW.
func (n *Node) issues() bool {
	return n.issuer.Load() != nil && enroll.Issues(n.State(), n.issuer.Load().Key.Public(), n.trustNow())
}

// noteIssuer remembers whether a member's beacon says that it issues.
func (n *Node) noteIssuer(id keys.NodeID, f beacon.Flags) {
	if !n.isMember(id) {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.presence[id]
	p.issues = f.Has(beacon.FlagIssuer)
	n.presence[id] = p
}
