package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// invitePSK is the handshake's question whether an invite deserves an answer.
func (n *Node) invitePSK(id identity.InviteID) (keys.PSK, bool) {
	issuer := n.issuer.Load()
	if issuer == nil {
		return keys.PSK{}, false
	}
	return issuer.PSK(id)
}

// SetIssuer makes a running node enrol with an issuer's key that was made after its start.
func (n *Node) SetIssuer(i *enroll.Issuer) { n.issuer.Store(i) }

// serveEnrolment is the issuer's side of an enrolment session:
//
//	→ ROOT 1..n, VEC           the newcomer checks genesis and root against its invite
//	← VEC, WANT                it asks for what it lacks of the log
//	→ ENTRY…
//	← ENROLL[csr] | PENDING    once it has verified this node's membership; PENDING asks what became of an earlier request
//	→ ENTRY (its enrolment), GRANTED | REFUSED | PENDING
func (n *Node) serveEnrolment(ctx context.Context, conn net.Conn, res *handshake.Result, src netip.AddrPort) {
	ctl := session.NewControl(conn, res.Keys, res.Role)
	defer ctl.Release()
	defer ctl.Reset()
	// Deadlines of reads do not bound a newcomer that does not take what it asked for.
	late := time.AfterFunc(enrolTime, ctl.Reset)
	defer late.Stop()
	if err := conn.SetReadDeadline(time.Now().Add(enrolTime + confirmTime)); err != nil {
		return
	}
	// Before a word about the mesh: somebody else may have found a used invite.
	if err := n.issuer.Load().May(res.Invite, res.Peer.Node); err != nil {
		ctl.Close(n.refuseEnrolment(ctl, res, src, err))
		return
	}
	gone := n.atTheDoor(res, src)
	code, err := n.enrolPeer(ctl, late, res, src)
	gone()
	if err != nil {
		n.atDoor("enrolment failed", "from", src, "invite", res.Invite, "err", err)
	}
	ctl.Close(code)
}

// refuseEnrolment records a refusal and tells it: whoever knows an invite's secret may know why.
func (n *Node) refuseEnrolment(ctl *session.Control, res *handshake.Result, src netip.AddrPort, why error) session.Code {
	n.auditLater(audit.Event{
		Code: audit.InviteRefuse, Actor: src.Addr().String(), Target: res.Peer.Node.Compact(), Verdict: audit.Denied, Reason: why.Error(),
		Session: res.Invite.String(),
	})
	if err := ctl.SendBody(session.Refused{Code: refusalCode(why)}); err != nil {
		return session.CodeNormal
	}
	return session.CodeNotAdmitted
}

// enrolPeer is one enrolment's copy of the trust exchange, fed from a log that others change: it reads, and applies nothing. Once the
// newcomer has begun to learn, late waits for a person there while nothing is to be sent.
func (n *Node) enrolPeer(ctl *session.Control, late *time.Timer, res *handshake.Result, src netip.AddrPort) (session.Code, error) {
	hub := trust.NewHub(readOnly{n.store})
	sync := hub.NewSync(false)
	start := time.Now()
	mono := func() time.Duration { return time.Since(start) }
	send := func(frames []trust.Frame) error {
		for _, f := range frames {
			if err := ctl.Send(session.RecordControl, f.Body); err != nil {
				return err
			}
		}
		return nil
	}
	if err := send(sync.PushRoots(0)); err != nil {
		return session.CodeNormal, err
	}
	if err := send(sync.Vec(mono())); err != nil {
		return session.CodeNormal, err
	}
	states := session.NewStates(start, true)
	patience := enrolTime
	for {
		late.Reset(patience)
		t, body, err := ctl.Receive()
		late.Reset(enrolTime)
		if err != nil {
			code := session.CodeAborted // not an end that anybody meant
			if errors.Is(err, os.ErrDeadlineExceeded) {
				code = session.CodeLimit
			}
			return code, fmt.Errorf("waiting for the request: %w", err)
		}
		switch t {
		case session.RecordHeartbeat:
			continue
		case session.RecordClose:
			return session.CodeNormal, n.declined(body, res, src)
		case session.RecordControl:
		default:
			return session.CodeProtocol, session.ErrProtocol
		}
		b, err := session.ParseBody(body)
		if err != nil {
			return session.CodeProtocol, err
		}
		if err := states.Received(b, len(body)); err != nil {
			return session.CodeProtocol, err
		}
		switch k := b.Kind(); k {
		case session.KindVec, session.KindWant:
			r, err := sync.Receive(trust.Frame{Kind: uint8(k), Body: body}, mono(), n.trustNow())
			if err != nil {
				return session.CodeProtocol, err
			}
			if err := send(r.Send); err != nil {
				return session.CodeNormal, err
			}
			patience = confirmTime
		case session.KindEnroll:
			return n.grantEnrolment(ctl, b.(session.Object).Raw, res, src, send)
		case session.KindPending:
			return n.fetchEnrolment(ctl, res, src, send)
		}
	}
}

// grantEnrolment judges one request and answers it.
func (n *Node) grantEnrolment(ctl *session.Control, raw []byte, res *handshake.Result, src netip.AddrPort, send func([]trust.Frame) error) (session.Code, error) {
	csr, err := identity.ParseCSR(raw, n.mesh, res.Keys.Hash)
	if err != nil {
		return session.CodeProtocol, err
	}
	if csr.Node != res.Peer.Node {
		return session.CodeProtocol, errors.New("the request is for another node than the one proved in the handshake")
	}
	g, err := n.issuer.Load().Spend(res.Invite, csr, n.recordEnrolment(res, res.Keys.Hash))
	switch {
	case errors.Is(err, enroll.ErrWaiting):
		return n.askApproval(ctl, csr, res, src)
	case err != nil:
		return n.refuseEnrolment(ctl, res, src, err), err
	}
	return n.sendGrant(ctl, g, src, send)
}

// entriesFrom returns this issuer's newest entries, enough for a newcomer that was in step when it asked.
func (n *Node) entriesFrom(last uint64) []trust.Frame {
	issuer := n.issuer.Load().Key.Public()
	first := uint64(1)
	if last > tailEntries {
		first = last - tailEntries + 1
	}
	var out []trust.Frame
	for seq := first; seq <= last; seq++ {
		if raw := n.store.Entry(issuer, seq); raw != nil {
			body := wire.MustMarshal(logObject{Kind: trust.KindEntry, Raw: raw})
			out = append(out, trust.Frame{Kind: trust.KindEntry, Body: body})
		}
	}
	return out
}

// peerRecords are this node's own record and some of those of the peers it heard: any, since a newcomer needs only one that answers, and
// choosing would mean to look through all of them with the node's lock held.
func (n *Node) peerRecords() [][]byte {
	var out [][]byte
	if r := n.record.Load(); r != nil {
		out = append(out, *r)
	} else if d, env, err := n.announcer.Announce(beacon.Facts{UnicastPort: n.packets.Port(), Issuer: true}, 0, n.secrets.beaconKeys(), time.Now()); err == nil {
		_ = d
		out = append(out, env)
	}
	st := n.State()
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, r := range n.records {
		if len(out) >= maxGrantedPeers {
			break
		}
		if _, revoked := st.Revoked(id); !revoked {
			out = append(out, r)
		}
	}
	return out
}

// refusalCode is what a newcomer is told. It holds a valid invite's secret, so it may know why.
func refusalCode(err error) session.Code {
	switch {
	case errors.Is(err, enroll.ErrRevoked):
		return session.CodeRevoked
	case errors.Is(err, enroll.ErrExpired):
		return session.CodeExpired
	case errors.Is(err, enroll.ErrUsed), errors.Is(err, enroll.ErrRemoved), errors.Is(err, enroll.ErrUnknown), errors.Is(err, enroll.ErrDenied),
		errors.Is(err, enroll.ErrNoRequest), errors.Is(err, enroll.ErrNoMember):
		return session.CodeNotAdmitted
	case errors.Is(err, enroll.ErrNameTaken), errors.Is(err, enroll.ErrOtherName), errors.Is(err, enroll.ErrKnownKey):
		return session.CodeDuplicate
	case errors.Is(err, enroll.ErrMayNot), errors.Is(err, enroll.ErrOtherTags), errors.Is(err, enroll.ErrTooMany),
		errors.Is(err, enroll.ErrTooOften):
		return session.CodeLimit
	}
	return session.CodeDegraded
}

// readOnly is a trust log that a newcomer is read from and that takes nothing of it.
type readOnly struct{ *trust.Store }

// ApplyEntry implements trust.Log by refusing.
func (readOnly) ApplyEntry(*trust.Entry, int64) (trust.Change, error) {
	return trust.Change{}, trust.ErrVoid
}

// ApplyFrame implements trust.Log by refusing.
func (readOnly) ApplyFrame(trust.Frame, int64) (trust.Change, error) {
	return trust.Change{}, trust.ErrVoid
}
