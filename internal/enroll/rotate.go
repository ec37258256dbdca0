package enroll

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Errors of a rotation.
var (
	// ErrNotSigned: the old key did not sign the hand-over to this new key.
	ErrNotSigned = errors.New("the old key has not signed the hand-over to this new key")
	// ErrKnownKey: the new key is in the log already.
	ErrKnownKey = errors.New("the new key is known to the log already; a rotation needs a fresh one")
	// ErrTooOften: more rotations than a member needs.
	ErrTooOften = fmt.Errorf("a member's key is rotated at most %d times a day and %d times in all; later, or revoke it and enrol it anew", maxRotationsDay, trust.MaxRotations)
)

// Rotation is the hand-over of a member's name and grants from its key to a new one. Sig is by the old key: label rotate, old || new.
type Rotation struct {
	Old, New keys.NodeID
	Sig      keys.Signature
}

// Rotate notes a hand-over and returns the invite by which the new key enrols: only that key, and in the entry that enrols it the old one
// is revoked. Until then nothing has happened to the old key. The request is made by the new key, which proves its possession; asked again
// with the same key it is the same invite, and with another one it takes the place of what was not used. recorded, which may be nil, is
// told before anything is written; its error ends the rotation with nothing done.
//
// A member writes two keys and one answer, an issuer one spend and one entry, and either may die between any two. An invite makes that
// the enrolment it is: whoever asks again gets the same answer, as long as the new key is a member.
func (i *Issuer) Rotate(old keys.NodeID, csr *identity.SignedCSR, sig keys.Signature, recorded func() error) (*Invite, error) {
	b := i.Book
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := i.repairLocked(); err != nil {
		return nil, err
	}
	r, now := Rotation{Old: old, New: csr.Node, Sig: sig}, i.Now()
	if !trust.RotateSigned(i.Mesh, r.Old, r.New, r.Sig) {
		return nil, ErrNotSigned
	}
	if v := i.handedLocked(&r); v != nil {
		return v, nil // done before, and the answer was lost
	}
	p, err := i.planRotation(&r, now)
	if err != nil {
		return nil, err
	}
	made, tries := i.rotationsLocked(old, now)
	if made != nil && made.Rotation.New == r.New {
		return made, nil
	}
	if tries >= maxRotationsDay {
		return nil, ErrTooOften
	}
	if recorded != nil {
		if err := recorded(); err != nil {
			return nil, err
		}
	}
	if made != nil {
		if err := b.writeLocked(&record{Kind: kindRemoved, ID: made.ID, Time: now}); err != nil {
			return nil, err
		}
	}
	id := identity.NewInviteID()
	if b.invites[id] != nil {
		return nil, fmt.Errorf("invite %s exists already", id)
	}
	if err := b.writeLocked(&record{
		Kind: kindCreated, ID: id, Time: now, Name: p.name, Tags: p.tags, Expiry: now + rotationLife, Uses: 1, Life: p.life,
		RenewUntil: p.renewUntil, Node: r.New[:], Old: r.Old[:], Sig: r.Sig[:],
	}); err != nil {
		return nil, err
	}
	return b.invites[id], nil
}

// handedLocked finds the invite by which this very hand-over has happened.
func (i *Issuer) handedLocked(r *Rotation) *Invite {
	for _, v := range i.Book.invites {
		if v.Rotation != nil && v.Rotation.Old == r.Old && v.Rotation.New == r.New && v.spendOf(r.New) != nil {
			return v
		}
	}
	return nil
}

// rotationsLocked finds the unused invite for a hand-over by this key, and how many were made within a day.
func (i *Issuer) rotationsLocked(old keys.NodeID, now int64) (open *Invite, tries int) {
	for _, v := range i.Book.invites {
		if v.Rotation == nil || v.Rotation.Old != old {
			continue
		}
		if v.Created > now-86400 {
			tries++
		}
		if v.Status(now) == "open" {
			open = v
		}
	}
	return open, tries
}

// RotationOf returns the hand-over an invite was made for.
func (i *Issuer) RotationOf(id identity.InviteID) (Rotation, bool) {
	i.Book.view.RLock()
	defer i.Book.view.RUnlock()
	if v := i.Book.invites[id]; v != nil && v.Rotation != nil {
		return *v.Rotation, true
	}
	return Rotation{}, false
}

// planRotation is what the new key gets: everything the log has for the old one, and a new certificate of the same length. One that is
// not renewed any more ends when the old one would have.
func (i *Issuer) planRotation(r *Rotation, now int64) (plan, error) {
	st := i.State()
	m, ok := st.LiveMember(r.Old, now)
	if !ok {
		if _, revoked := st.Revoked(r.Old); revoked {
			return plan{}, ErrRevoked
		}
		return plan{}, ErrNoMember
	}
	is, _ := st.Root().Issuer(i.Key.Public())
	p := plan{name: m.Name, tags: m.Tags, renewUntil: m.RenewUntil, life: m.NotAfter - m.NotBefore, rotation: r}
	if m.NotAfter >= m.RenewUntil { // also of guests, whose renew_until is 0
		p.life = m.NotAfter - now
	}
	if is != nil {
		p.life = min(p.life, is.MaxTTL)
	}
	return p, i.admissible(p, r.New, now)
}

// handover checks what a rotation wants beyond an enrolment.
func (i *Issuer) handover(r *Rotation, now int64) error {
	st := i.State()
	is, ok := st.Root().Issuer(i.Key.Public())
	if !ok || !is.Caps.Has(trust.CapRevoke) {
		return fmt.Errorf("%w: the root does not let it revoke, and a rotation revokes the old key", ErrMayNot)
	}
	if _, revoked := st.Revoked(r.Old); revoked {
		return ErrRevoked
	}
	if _, known := st.Member(r.New); known {
		return ErrKnownKey
	}
	before := st.Predecessors(r.Old)
	if len(before) >= trust.MaxRotations {
		return ErrTooOften
	}
	recent := 0
	for _, id := range before[1:] {
		if v, ok := st.Revoked(id); ok && v.Time > now-86400 {
			recent++
		}
	}
	if recent >= maxRotationsDay {
		return ErrTooOften
	}
	return nil
}

// rotationOf reads the hand-over of an invite, if it has one.
func rotationOf(r *record) (*Rotation, error) {
	switch {
	case len(r.Old) == 0 && len(r.Sig) == 0:
		return nil, nil
	case len(r.Old) != 32 || len(r.Node) != 32 || len(r.Sig) != 64:
		return nil, fmt.Errorf("invite %s is for a rotation without two keys and a signature", r.ID)
	}
	return &Rotation{Old: keys.NodeID(r.Old), New: keys.NodeID(r.Node), Sig: keys.Signature(r.Sig)}, nil
}
