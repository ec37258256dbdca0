package enroll

import (
	"errors"
	"fmt"

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

// CheckName reports whether an invite for the name could be spent: a new member must not take a live member's name.
func (i *Issuer) CheckName(name string, tags []string, life int64) error {
	if err := i.may(tags, life); err != nil {
		return err
	}
	if len(i.State().ByName(name, i.Now())) > 0 {
		return fmt.Errorf("%w: %s", ErrNameTaken, name)
	}
	return nil
}

// may checks the issuer's own rights in the current root.
func (i *Issuer) may(tags []string, life int64) error {
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
	}
	return nil
}

// Grant is the outcome of a spent invite.
type Grant struct {
	Certificate *identity.SignedCertificate
	Again       bool // the same node had spent the invite before: a lost answer
}

// May reports whether a node may use an invite now: asked before the node is told anything about the mesh. A spent invite is only for
// the node that spent it.
func (i *Issuer) May(id identity.InviteID, node keys.NodeID) error {
	i.Book.mu.Lock()
	defer i.Book.mu.Unlock()
	v, _, err := i.Book.usableLocked(id, node, i.Now())
	if err != nil {
		return err
	}
	return i.admissible(node, v, i.Now())
}

// Spend enrols the node of a request with an invite, in one transaction. Only the invite's name and tags are used; the request's are
// wishes. record, which may be nil, is told the certificate before anything is written; its error ends the transaction with nothing
// done.
func (i *Issuer) Spend(id identity.InviteID, csr *identity.SignedCSR, record func(cert *identity.SignedCertificate, again bool) error) (*Grant, error) {
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
	if err := i.admissible(csr.Node, v, now); err != nil {
		return nil, err
	}
	if again != nil {
		cert, err := identity.ParseCertificate(again.Certificate, i.Mesh)
		if err != nil {
			return nil, fmt.Errorf("the invite book holds a certificate that does not verify: %w", err)
		}
		if record != nil {
			if err := record(cert, true); err != nil {
				return nil, err
			}
		}
		if err := i.logged(cert); err != nil {
			return nil, err
		}
		return &Grant{Certificate: cert, Again: true}, nil
	}
	cert, err := i.spendLocked(v, csr.Node, now, record)
	if err != nil {
		return nil, err
	}
	if err := i.logged(cert); err != nil {
		return nil, err
	}
	return &Grant{Certificate: cert}, nil
}

// repairLocked appends the entries of spends that a crash, or a log that could not be written, has left without one. It comes before
// every new spend, because serials only rise along a chain: after a later one the entry of an earlier one would count for nothing,
// and the invite would be burnt.
func (i *Issuer) repairLocked() error {
	for _, s := range i.Book.unloggedLocked(i.State().MaxSerial(i.Key.Public())) {
		cert, err := identity.ParseCertificate(s.Certificate, i.Mesh)
		if err != nil {
			return fmt.Errorf("the invite book holds a certificate that does not verify: %w", err)
		}
		if _, revoked := i.State().Revoked(cert.Node); revoked || len(i.State().ByName(cert.Name, i.Now())) > 0 {
			continue // it would not be admitted any more, so its serial may be passed over
		}
		if err := i.Append(trust.EnrollOp(cert)); err != nil {
			return err
		}
	}
	return nil
}

// admissible checks the node against the log.
func (i *Issuer) admissible(node keys.NodeID, v *Invite, now int64) error {
	st := i.State()
	if _, revoked := st.Revoked(node); revoked {
		return ErrRevoked
	}
	if m, ok := st.LiveMember(node, now); ok && m.Name != v.Name {
		return fmt.Errorf("%w: %s", ErrOtherName, m.Name)
	}
	for _, other := range st.ByName(v.Name, now) {
		if other != node {
			return fmt.Errorf("%w: %s", ErrNameTaken, v.Name)
		}
	}
	return i.may(v.Tags, v.Life)
}

// spendLocked signs the certificate and makes the spend durable. If we crash after it, the invite is this node's alone and logged
// repairs the rest when it asks again.
func (i *Issuer) spendLocked(v *Invite, node keys.NodeID, now int64, recorded func(*identity.SignedCertificate, bool) error) (*identity.SignedCertificate, error) {
	is, _ := i.State().Root().Issuer(i.Key.Public())
	c := identity.Certificate{
		Mesh: i.Mesh, Node: node, Serial: i.serialLocked(), Issuer: i.Key.Public(),
		NotBefore: now, NotAfter: min(now+v.Life, is.NotAfter), Tags: v.Tags, Name: v.Name, RenewUntil: v.RenewUntil,
	}
	cert, err := identity.IssueCertificate(c, i.Key)
	if err != nil {
		return nil, err
	}
	if recorded != nil {
		if err := recorded(cert, false); err != nil {
			return nil, err
		}
	}
	if err := i.Book.writeLocked(&record{
		Kind: kindSpent, ID: v.ID, Time: now, Node: node[:], Serial: c.Serial, Cert: cert.Raw(),
	}); err != nil {
		return nil, err
	}
	return cert, nil
}

// serialLocked is the next serial: above everything in the log, and in the book, which may be ahead after a crash.
func (i *Issuer) serialLocked() uint64 {
	st, _ := i.State().IssuerStatus(i.Key.Public())
	return max(i.Book.serial+1, st.NextSerial)
}

// logged sees to it that a spent certificate is in the log and counts there.
func (i *Issuer) logged(cert *identity.SignedCertificate) error {
	if i.State().Logged(cert) {
		return nil
	}
	if _, revoked := i.State().CertRevoked(cert.Issuer, cert.Serial); revoked {
		return ErrRevoked
	}
	if err := i.Append(trust.EnrollOp(cert)); err != nil {
		return err
	}
	if !i.State().Logged(cert) {
		return fmt.Errorf("%w: the log does not count its enrolment", ErrMayNot)
	}
	return nil
}
