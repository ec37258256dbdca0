package enroll

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Errors of the transaction beyond those of the book.
var (
	// ErrRevoked: the node's key was revoked; it must make a new one.
	ErrRevoked = errors.New("this machine's key was revoked; enrol it with a new state directory")
	// ErrOtherName: the node is a member under another name.
	ErrOtherName = errors.New("this machine is already a member under another name")
	// ErrNameTaken: another live member has the invite's name.
	ErrNameTaken = errors.New("another member has that name")
	// ErrOtherTags: a live member is renewed with the tags it has.
	ErrOtherTags = errors.New("the machine is a member with other tags; leave the tags out to renew it, or revoke it first")
	// ErrMayNot: this issuer may not enrol, or not with those tags or that life.
	ErrMayNot = errors.New("this issuer may not give that certificate")
)

// Issuer turns invites into members.
type Issuer struct {
	Key  *keys.SigningKey
	Mesh keys.MeshID
	Book *Book
	// State returns the newest trust state.
	State func() *trust.State
	// Append adds an entry with the ops to this issuer's chain, durable before it returns, and spreads it.
	Append func(ops ...trust.Op) error
	// Numbers, which may be nil, is held while a number of this issuer's chain is taken and used.
	Numbers sync.Locker
	// Now is the time for trust questions, unix seconds.
	Now func() int64
}

// Secret returns the secret of an invite of this issuer.
func (i *Issuer) Secret(id identity.InviteID) keys.InviteSecret {
	return i.Key.InviteSecret(i.Mesh, id)
}

// PSK returns the handshake key of an invite that deserves an answer.
func (i *Issuer) PSK(id identity.InviteID) (keys.PSK, bool) {
	if !i.Book.Answerable(id, i.Now()) {
		return keys.PSK{}, false
	}
	return i.Secret(id).PSK(i.Mesh), true
}

// Check reports whether an invite could be spent as things are: a new member must not take a live member's name. renews is that
// member: if it uses the invite itself, its membership is renewed.
func (i *Issuer) Check(v *Invite) (renews keys.NodeID, err error) {
	if err := i.may(v.Tags, v.Life, v.Allow); err != nil {
		return renews, err
	}
	if v.Uses > 1 {
		return renews, nil // they get names that are free
	}
	st, now := i.State(), i.Now()
	switch holders := st.ByName(v.Name, now); len(holders) {
	case 0:
		return renews, nil
	case 1:
		m, _ := st.LiveMember(holders[0], now)
		if len(v.Tags) > 0 && !slices.Equal(v.Tags, m.Tags) {
			return m.Node, fmt.Errorf("%w: %s", ErrOtherTags, v.Name)
		}
		return m.Node, nil
	}
	return renews, fmt.Errorf("%w: %s", ErrNameTaken, v.Name)
}

// may checks the issuer's own rights in the current root.
func (i *Issuer) may(tags []string, life int64, allow []trust.What) error {
	is, ok := i.State().Root().Issuer(i.Key.Public())
	switch {
	case !ok || !is.Caps.Has(trust.CapEnroll) || is.Cutoff != nil:
		return fmt.Errorf("%w: the root does not let it enrol", ErrMayNot)
	case i.Now() >= is.NotAfter:
		return fmt.Errorf("%w: its time as an issuer is over; add a new issuer key with the root key", ErrMayNot)
	case life > is.MaxTTL:
		return fmt.Errorf("%w: a life of %d days; its limit is %d", ErrMayNot, life/86400, is.MaxTTL/86400)
	case !is.MayGive(tags):
		return fmt.Errorf("%w: tags outside its list", ErrMayNot)
	case len(allow) > 0 && !is.Caps.Has(trust.CapGrant):
		return fmt.Errorf("%w: the root does not let it grant services", ErrMayNot)
	}
	return nil
}

// Grant is the outcome of a spent invite.
type Grant struct {
	Certificate *identity.SignedCertificate
	Channel     keys.Hash // what the confirmation words were of
	Again       bool      // the same node had spent the invite before: a lost answer
}

// Record is told a certificate before anything is written; its error ends the transaction with nothing done. It may be nil.
type Record func(cert *identity.SignedCertificate, again bool) error

func (f Record) call(cert *identity.SignedCertificate, again bool) error {
	if f == nil {
		return nil
	}
	return f(cert, again)
}

// May reports whether a node may use an invite now: asked before the node is told anything about the mesh. A spent invite is only for
// the nodes that spent it.
func (i *Issuer) May(id identity.InviteID, node keys.NodeID) error {
	i.Book.mu.Lock()
	defer i.Book.mu.Unlock()
	v, again, err := i.Book.usableLocked(id, node, i.Now())
	if err != nil {
		return err
	}
	if again != nil {
		_, err := i.certificate(again)
		return err
	}
	_, err = i.planLocked(v, node, i.Now(), nil)
	return err
}

// Spend enrols the node of a request with an invite, in one transaction. Only the invite's name and tags are used; the request's are
// wishes. With an invite that requires approval the error is ErrWaiting until a person has approved the node.
func (i *Issuer) Spend(id identity.InviteID, csr *identity.SignedCSR, recorded Record) (*Grant, error) {
	b := i.Book
	b.mu.Lock()
	defer b.mu.Unlock()
	now := i.Now()
	if err := i.repairLocked(); err != nil {
		return nil, err
	}
	v, again, err := b.usableLocked(id, csr.Node, now)
	if err != nil {
		return nil, err
	}
	if again != nil {
		return i.answerLocked(again, recorded)
	}
	p, err := i.planLocked(v, csr.Node, now, nil)
	if err != nil {
		return nil, err
	}
	if v.Approval {
		return nil, ErrWaiting
	}
	return i.spendLocked(&record{Kind: kindSpent, ID: v.ID, Channel: csr.Nonce[:]}, p, csr.Node, now, recorded)
}
