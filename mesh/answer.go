package mesh

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// answer waits for the issuer's yes, no or not yet.
func (j *joiner) answer(offer Offer) (*session.Granted, error) {
	for {
		b, raw, err := j.receive()
		if err != nil {
			return nil, fmt.Errorf("waiting for the issuer's answer: %w; run the same command again, the invite is still yours", err)
		}
		switch b := b.(type) {
		case session.Granted:
			return &b, nil
		case session.Refused:
			return nil, j.refused(b.Code)
		case session.Plain:
			if b.K != session.KindPending {
				return nil, session.ErrProtocol
			}
			channel := j.res.Keys.Hash
			if w := j.cfg.Waiting; w != nil {
				channel = *w
			}
			return nil, &WaitingError{Channel: channel, Offer: offer}
		}
		switch k := b.Kind(); k {
		case session.KindRoot, session.KindEntry, session.KindEvidence, session.KindHead, session.KindVec:
			if err := j.trustFrame(k, raw); err != nil {
				return nil, err
			}
		}
	}
}

func (j *joiner) refused(code session.Code) error {
	if j.cfg.Waiting != nil && code == session.CodeNotAdmitted {
		return ErrRequestDenied
	}
	return refusedBy(code)
}

func refusedBy(code session.Code) error {
	switch code {
	case session.CodeExpired:
		return ErrInviteExpired
	case session.CodeNotAdmitted:
		return ErrInviteRefused
	case session.CodeDuplicate:
		return ErrInviteName
	case session.CodeRevoked:
		return ErrInviteRevoked
	case session.CodeLimit:
		return ErrInviteIssuer
	}
	return fmt.Errorf("the issuer could not enrol this machine now (%s); run the same command again", code)
}

// accept believes the answer only as far as the log confirms it.
func (j *joiner) accept(g *session.Granted, offer Offer) (*Membership, error) {
	st := j.memory.Current()
	cert, err := identity.ParseCertificate(g.Certificate, j.cfg.Invite.Mesh)
	if err != nil {
		return nil, fmt.Errorf("the issuer's answer: %w", err)
	}
	// The name is the issuer's to give: one of several, or another one by who approved.
	if cert.Node != j.cfg.Key.NodeID() {
		return nil, errors.New("the issuer's answer is a certificate for another machine")
	}
	if standing, why := st.Admit(cert, st.Root().Version, j.cfg.Now().Unix()); standing != trust.Full && why != trust.ReasonStale {
		return nil, fmt.Errorf("the issuer's answer is not in the log (%s); run the same command again", why)
	}
	secret, err := keys.GroupSecretFromBytes(g.GroupGen, g.GroupSecret[:])
	if err != nil {
		return nil, err
	}
	if gen, commit := st.GroupCommit(); gen != secret.Generation || commit != secret.Commitment(j.cfg.Invite.Mesh) {
		return nil, errors.New("the issuer's answer carries a group secret the log does not commit to")
	}
	members := 0
	for range st.Members() {
		members++
	}
	genesis, _ := st.RootAt(1)
	return &Membership{
		MeshName: st.Root().Name, Certificate: cert, Secret: secret, Genesis: genesis.Raw(), Frames: j.memory.History(),
		Peers: g.Peers, Offer: offer, Members: members,
	}, nil
}
