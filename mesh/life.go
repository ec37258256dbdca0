package mesh

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// What a member asks an issuer about its own key: to let a new one follow it, or to revoke it. It asks over a session, with a signature
// that is good in this session only; the issuer answers with a code and has done it, or has not.

// ErrNoIssuer: nobody who could do it has a session with this node.
var ErrNoIssuer = errors.New("no issuer of the mesh can be reached that does this")

// RefusedError is an issuer's no.
type RefusedError struct {
	By   keys.NodeID
	Code session.Code
}

// Error says why, as far as a code can.
func (e *RefusedError) Error() string {
	switch e.Code {
	case session.CodeRevoked:
		return "this node's key is revoked"
	case session.CodeExpired:
		return "this node's certificate has ended; renew it first"
	case session.CodeNotAdmitted:
		return "the issuer does not know this node as a member"
	case session.CodeDuplicate:
		return "the name or the new key belongs to another member"
	case session.CodeLimit:
		return "the issuer may not do this, or was asked too often"
	case session.CodeDegraded:
		return "the issuer cannot do it now; its log says why"
	}
	return fmt.Sprintf("the issuer refused it (%s)", e.Code)
}

// elsewhere reports whether another issuer may say something else. That this node is revoked may be a lie: a member that only claims to issue
// must not keep it from those that do.
func (e *RefusedError) elsewhere() bool {
	return e.Code == session.CodeLimit || e.Code == session.CodeDegraded || e.Code == session.CodeRevoked
}

// AskRotation asks the issuers this node has a session with to let next follow its own key, and returns the invite by which next enrols:
// only then is the own key revoked. It waits for a session until ctx ends.
func (n *Node) AskRotation(ctx context.Context, next *keys.SigningKey) (*identity.Invite, error) {
	a, by, err := n.askIssuers(ctx, session.KindRotation, func(l *link) (session.Body, error) {
		csr, err := identity.SignCSR(identity.CSR{Mesh: n.mesh, Node: next.NodeID(), Name: n.cert.Load().Name, Nonce: l.hash}, next)
		if err != nil {
			return nil, err
		}
		return session.Rotate{Request: csr.Raw(), Signature: trust.RotateSignature(n.mesh, n.cfg.Key, next.NodeID())}, nil
	})
	if err != nil {
		return nil, err
	}
	inv, err := identity.ParseInvite(string(a.Raw))
	if err != nil {
		return nil, fmt.Errorf("the answer of %s: %w", n.nameOf(by), err)
	}
	if inv.Mesh != n.mesh || inv.IssuerNode != by {
		return nil, fmt.Errorf("%w: %s answered with another one's invite", ErrWrongMesh, n.nameOf(by))
	}
	return inv, nil
}

// AskLeave asks the issuers this node has a session with to revoke its own key, and returns who has done it, by an entry of the log.
func (n *Node) AskLeave(ctx context.Context) (keys.NodeID, error) {
	a, by, err := n.askIssuers(ctx, session.KindLeft, func(l *link) (session.Body, error) {
		raw, err := identity.SignLeave(identity.Leave{Mesh: n.mesh, Node: n.self, Nonce: l.hash}, n.cfg.Key)
		return session.Object{K: session.KindLeave, Raw: raw}, err
	})
	if err != nil {
		return by, err
	}
	// Anybody may call itself an issuer in its beacons, and a yes that is none would leave a key alive that nobody watches.
	e, err := trust.ParseEntry(a.Raw, n.mesh)
	if err != nil {
		return by, fmt.Errorf("%s says that it is done and does not prove it: %w", n.nameOf(by), err)
	}
	if is, ok := n.State().Root().Issuer(e.Issuer); !ok || !is.Caps.Has(trust.CapRevoke) || !slices.ContainsFunc(e.Ops, n.revokesSelf) {
		return by, fmt.Errorf("%s says that it is done, and what it shows does not revoke this node", n.nameOf(by))
	}
	return by, nil
}

func (n *Node) revokesSelf(o trust.Op) bool {
	r, ok := o.(trust.OpRevokeNode)
	return ok && r.Node == n.self
}

// askIssuers asks one issuer after the other until one says yes, or a no that holds for all.
func (n *Node) askIssuers(ctx context.Context, want session.Kind, ask func(*link) (session.Body, error)) (session.Answer, keys.NodeID, error) {
	tick := time.NewTicker(lifePoll)
	defer tick.Stop()
	asked := map[core.SessionID]bool{}
	began := time.Now()
	var last error
	for {
		if l := n.lifeLink(asked); l != nil {
			asked[l.id] = true
			a, err := n.askOne(ctx, l, want, ask)
			switch r, no := errors.AsType[*RefusedError](err); {
			case err == nil:
				return a, l.peer.Node, nil
			case ctx.Err() != nil:
				return a, l.peer.Node, err
			case no && !r.elsewhere():
				return a, l.peer.Node, err
			}
			last = err
			continue
		}
		if last != nil && len(asked) > 0 {
			return session.Answer{}, keys.NodeID{}, last
		}
		if by, all := n.issuersRefuse(began.Add(-core.ShutOutFirst)); all {
			return session.Answer{}, by, &RefusedError{By: by, Code: session.CodeRevoked}
		}
		for _, id := range n.issuers() {
			n.post(core.Want{Peer: id})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return session.Answer{}, keys.NodeID{}, ErrNoIssuer
		case <-n.ctx.Done():
			return session.Answer{}, keys.NodeID{}, ErrClosed
		}
	}
}

// lifeLink is a session, not asked yet, with a member that issues and answers such questions.
func (n *Node) lifeLink(asked map[core.SessionID]bool) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*link
	for _, l := range n.links {
		if !asked[l.id] && l.open() && l.may(session.FeatureLife) && n.presence[l.peer.Node].issues {
			all = append(all, l)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[rand.IntN(len(all))]
}

// askOne asks over one session and waits for the answer, the session's end or lifeAnswer.
func (n *Node) askOne(ctx context.Context, l *link, want session.Kind, ask func(*link) (session.Body, error)) (session.Answer, error) {
	body, err := ask(l)
	if err != nil {
		return session.Answer{}, err
	}
	answer := make(chan session.Answer, 1)
	n.mu.Lock()
	n.lifeAsked[l.id] = lifeQuestion{want, answer}
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		delete(n.lifeAsked, l.id)
		n.mu.Unlock()
	}()
	n.passBarrier(ctx) // behind the READY of this side
	n.queueBody(l.id, body)
	ctx, cancel := context.WithTimeout(ctx, lifeAnswer)
	defer cancel()
	tick := time.NewTicker(lifePoll)
	defer tick.Stop()
	for {
		select {
		case a := <-answer:
			if a.Code != 0 {
				return a, &RefusedError{By: l.peer.Node, Code: a.Code}
			}
			return a, nil
		case <-tick.C:
		case <-ctx.Done():
			return session.Answer{}, fmt.Errorf("%s does not answer: %w", n.nameOf(l.peer.Node), ctx.Err())
		case <-n.ctx.Done():
			return session.Answer{}, ErrClosed
		}
		n.mu.Lock()
		_, alive := n.links[l.id]
		code := l.code
		n.mu.Unlock()
		if alive || len(answer) > 0 {
			continue
		}
		if code == session.CodeRevoked {
			return session.Answer{}, &RefusedError{By: l.peer.Node, Code: code}
		}
		return session.Answer{}, fmt.Errorf("the session with %s ended before it answered", n.nameOf(l.peer.Node))
	}
}

// lifeQuestion is what this node waits for on a session.
type lifeQuestion struct {
	want   session.Kind
	answer chan session.Answer
}

// lifeAnswered takes an answer somebody waits for; others are nobody's.
func (n *Node) lifeAnswered(l *link, a session.Answer) {
	n.mu.Lock()
	q, ok := n.lifeAsked[l.id]
	n.mu.Unlock()
	if !ok || q.want != a.K {
		n.count("life.unasked")
		return
	}
	select {
	case q.answer <- a:
	default:
	}
}

// answerRotate is the issuer's side of ROTATE. An error ends the session: nobody who follows the protocol sends that.
func (n *Node) answerRotate(l *link, r session.Rotate) error {
	if !l.may(session.FeatureLife) {
		return errors.New("a rotation that was not offered")
	}
	no := func(err error) {
		n.auditLater(audit.Event{
			Code: audit.NodeRotate, Actor: l.peer.Node.Compact(), Verdict: audit.Denied, Reason: err.Error(), Session: l.name(),
		})
		n.log.Info("no rotation", "peer", n.nameOf(l.peer.Node), "err", err)
		n.queueBody(l.id, session.Answer{K: session.KindRotation, Code: refusalCode(err)})
	}
	issuer := n.issuer.Load()
	if issuer == nil || !l.renewals.of(rate.Every(renewPause), renewBurst).Allow() || !n.renewals.Allow() {
		n.count("rotate.ignored")
		n.queueBody(l.id, session.Answer{K: session.KindRotation, Code: session.CodeLimit})
		return nil
	}
	csr, err := identity.ParseCSR(r.Request, n.mesh, l.hash)
	if err != nil {
		return err
	}
	if !trust.RotateSigned(n.mesh, l.peer.Node, csr.Node, r.Signature) {
		return fmt.Errorf("rotation: %w", enroll.ErrNotSigned)
	}
	v, err := issuer.Rotate(l.peer.Node, csr, r.Signature, func() error {
		return n.recorded(audit.Event{
			Code: audit.NodeRotate, Actor: l.peer.Node.Compact(), Target: csr.Node.Compact(), Verdict: audit.Allowed, Reason: "asked for", Session: l.name(),
		})
	})
	if err != nil {
		no(err)
		return nil
	}
	inv := n.InviteFor(issuer, v)
	if len(inv.Endpoints) == 0 {
		no(errors.New("this node has no address the new key could reach"))
		return nil
	}
	n.queueBody(l.id, session.Answer{K: session.KindRotation, Raw: []byte(inv.Encode())})
	return nil
}

// answerLeave is the issuer's side of LEAVE. The answer goes out between the writing of the entry and its effect, which cuts the session.
func (n *Node) answerLeave(l *link, raw []byte) error {
	if !l.may(session.FeatureLife) {
		return errors.New("a leave that was not offered")
	}
	leave, err := identity.ParseLeave(raw, n.mesh, l.hash)
	if err != nil {
		return err
	}
	if leave.Node != l.peer.Node {
		return errors.New("a leave for another node than the one proved in the handshake")
	}
	answer := func(c session.Code, entry []byte) {
		n.queueBody(l.id, session.Answer{K: session.KindLeft, Code: c, Raw: entry})
	}
	if n.cfg.Leaving == nil || !n.issues() || !n.renewals.Allow() {
		n.count("leave.ignored")
		answer(session.CodeLimit, nil)
		return nil
	}
	err = n.cfg.Leaving(leave.Node, func(entry []byte) {
		answer(0, entry)
		l.out.drained(leaveFlush)
	})
	if err != nil {
		n.log.Warn("a node that wants to leave was not revoked", "peer", n.nameOf(leave.Node), "err", err)
		answer(session.CodeDegraded, nil)
	}
	return nil
}

// InviteFor is the invite a newcomer gets: how to reach this node, and how to know the mesh.
func (n *Node) InviteFor(issuer *enroll.Issuer, v *enroll.Invite) *identity.Invite {
	st := n.State()
	inv := &identity.Invite{
		Mesh: n.mesh, ID: v.ID, Secret: issuer.Secret(v.ID), RootVersion: st.Root().Version, RootHash: st.Root().Hash(), IssuerNode: n.self,
		Expiry: v.Expiry, Name: v.Name,
	}
	for _, is := range st.Root().Issuers {
		if seq, hash, ok := st.Position(is.ID); ok && seq > 0 && len(inv.Heads) < identity.MaxInviteHeads {
			inv.Heads = append(inv.Heads, identity.IssuerHead{Issuer: is.ID, Seq: seq, Hash: hash})
		}
	}
	for _, ep := range n.Endpoints() {
		if len(inv.Endpoints) < identity.MaxEndpoints {
			inv.Endpoints = append(inv.Endpoints, identity.EndpointOf(ep))
		}
	}
	return inv
}

// features is what a session with this peer may use.
func (n *Node) features(p *handshake.Peer) session.Features {
	return session.Common(uint64(n.offers()), p.Features)
}
