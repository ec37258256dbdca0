package enroll

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// Errors of a renewal.
var (
	// ErrNoMember: the log names no such member.
	ErrNoMember = errors.New("this machine is no member that the log knows")
	// ErrByHand: the certificate may not be renewed by itself: a guest's, or one that ended too long ago.
	ErrByHand = errors.New("this certificate is renewed by hand: make an invite for the machine's name, and enrol it again with that")
	// ErrEarly: the certificate has more than half of its life before it.
	ErrEarly = errors.New("this certificate is young; it is renewed when two thirds of its life are over")
)

// Due reports when a certificate is to be renewed: after two thirds of its life.
func Due(c *identity.Certificate) int64 { return DueOf(c.NotBefore, c.NotAfter) }

// DueOf is Due for a certificate's two ends.
func DueOf(notBefore, notAfter int64) int64 { return notBefore + (notAfter-notBefore)/3*2 }

// Renew gives a member a new certificate with the name, the tags and the length of life that the log has for it; the request's are not
// looked at. A member whose answer was lost gets the same certificate again. record, which may be nil, is told the certificate before
// anything is written; its error ends the renewal with nothing done.
//
// Nothing but the log remembers it: if we crash before the entry is written, nothing has happened; after it, the same certificate is
// made again from the log, for signatures are deterministic.
func (i *Issuer) Renew(csr *identity.SignedCSR, record func(*identity.SignedCertificate) error) (*identity.SignedCertificate, error) {
	i.Book.mu.Lock()
	defer i.Book.mu.Unlock()
	if err := i.repairLocked(); err != nil {
		return nil, err
	}
	st, now := i.State(), i.Now()
	if _, revoked := st.Revoked(csr.Node); revoked {
		return nil, ErrRevoked
	}
	m, ok := st.Member(csr.Node)
	if !ok {
		return nil, ErrNoMember
	}
	life := m.NotAfter - m.NotBefore
	switch {
	case now < m.NotBefore+life/2:
		return i.again(&m)
	case now > m.RenewUntil, m.NotAfter >= m.RenewUntil, now >= m.NotAfter && !m.CanRenew(now):
		return nil, ErrByHand
	}
	if err := i.renewable(&m, now); err != nil {
		return nil, err
	}
	is, _ := st.Root().Issuer(i.Key.Public())
	c := identity.Certificate{
		Mesh: i.Mesh, Node: m.Node, Serial: i.serialLocked(), Issuer: i.Key.Public(), NotBefore: now,
		NotAfter: min(now+min(life, is.MaxTTL), is.NotAfter, m.RenewUntil), Tags: m.Tags, Name: m.Name, RenewUntil: m.RenewUntil,
	}
	if c.NotAfter <= m.NotAfter {
		return nil, fmt.Errorf("%w: its own time ends too early to give a longer life", ErrMayNot)
	}
	cert, err := identity.IssueCertificate(c, i.Key)
	if err != nil {
		return nil, err
	}
	if record != nil {
		if err := record(cert); err != nil {
			return nil, err
		}
	}
	if err := i.Append(trust.EnrollOp(cert)); err != nil {
		return nil, err
	}
	if !i.State().Logged(cert) {
		return nil, fmt.Errorf("%w: the log does not count its renewal", ErrMayNot)
	}
	return cert, nil
}

// again makes the certificate of a renewal once more whose answer was lost.
func (i *Issuer) again(m *trust.Member) (*identity.SignedCertificate, error) {
	if m.Issuer != i.Key.Public() {
		return nil, ErrEarly
	}
	cert, err := identity.IssueCertificate(identity.Certificate{
		Mesh: i.Mesh, Node: m.Node, Serial: m.Serial, Issuer: m.Issuer, NotBefore: m.NotBefore, NotAfter: m.NotAfter, Tags: m.Tags,
		Name: m.Name, RenewUntil: m.RenewUntil,
	}, i.Key)
	if err != nil || cert.ID != m.Cert {
		return nil, ErrEarly
	}
	return cert, nil
}

// renewable checks the issuer's rights of today, and that the name is still the member's.
func (i *Issuer) renewable(m *trust.Member, now int64) error {
	if err := i.may(m.Tags, 0, nil); err != nil {
		return err
	}
	for _, other := range i.State().ByName(m.Name, now) {
		if other != m.Node {
			return fmt.Errorf("%w: %s", ErrNameTaken, m.Name)
		}
	}
	return nil
}

// Issues reports whether the root lets a key enrol, and so renew, now.
func Issues(st *trust.State, issuer keys.PublicKey, now int64) bool {
	is, ok := st.Root().Issuer(issuer)
	return ok && is.Caps.Has(trust.CapEnroll) && is.Cutoff == nil && now < is.NotAfter
}
