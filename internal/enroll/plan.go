package enroll

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// plan is an enrolment that could be done now.
type plan struct {
	name       string
	tags       []string
	life       int64
	renewUntil int64
	allow      []trust.What
	rotation   *Rotation // the key whose name this is, if it hands it over
}

// Approval is what a person decided about a request. Zero fields leave what the invite, or the request file, says.
type Approval struct {
	Name   string
	Tags   []string
	NoTags bool
	Allow  []trust.What
	// Life and RenewUntil are for request files; an invite has its own.
	Life, RenewUntil int64
	// Words are those the newcomer shows, if the person was asked for them.
	Words *[3]string
	UID   uint32
}

// planLocked says what a node would get by an invite, a being what a person changed.
func (i *Issuer) planLocked(v *Invite, node keys.NodeID, now int64, a *Approval) (plan, error) {
	if v.Rotation != nil {
		return i.planRotation(v.Rotation, now)
	}
	p := plan{
		name: i.nameLocked(v, node), tags: v.Tags, life: v.Life, renewUntil: v.RenewUntil, allow: v.Allow,
	}
	return i.finish(p, node, now, a)
}

// finish applies a person's changes and checks the result against the log.
func (i *Issuer) finish(p plan, node keys.NodeID, now int64, a *Approval) (plan, error) {
	st := i.State()
	chosen := false
	if a != nil {
		if a.Name != "" {
			p.name = a.Name
		}
		if chosen = a.NoTags || len(a.Tags) > 0; chosen {
			p.tags = a.Tags
		}
		p.allow = slices.Concat(p.allow, a.Allow)
		if err := checkAllow(p.allow); err != nil {
			return plan{}, err
		}
	}
	// A node the log knows under this name is renewed: its tags, and with them its grants, are the log's.
	if m, ok := st.Member(node); ok && m.Name == p.name && !chosen {
		switch {
		case len(p.tags) == 0:
			p.tags = m.Tags
		case m.Live(now) && !slices.Equal(p.tags, m.Tags):
			return plan{}, fmt.Errorf("%w: %s", ErrOtherTags, p.name)
		}
	}
	if p.renewUntil != 0 && p.renewUntil <= now {
		return plan{}, ErrExpired
	}
	return p, i.admissible(p, node, now)
}

// admissible checks a plan for a node against the log.
func (i *Issuer) admissible(p plan, node keys.NodeID, now int64) error {
	if err := identity.CheckName(p.name); err != nil {
		return err
	}
	if err := identity.CheckTags(p.tags); err != nil {
		return err
	}
	st := i.State()
	if _, revoked := st.Revoked(node); revoked {
		return ErrRevoked
	}
	if m, ok := st.LiveMember(node, now); ok && m.Name != p.name {
		return fmt.Errorf("%w: %s", ErrOtherName, m.Name)
	}
	if p.rotation != nil {
		if err := i.handover(p.rotation, now); err != nil {
			return err
		}
	}
	for _, other := range st.ByName(p.name, now) {
		if other != node && (p.rotation == nil || other != p.rotation.Old) {
			return fmt.Errorf("%w: %s", ErrNameTaken, p.name)
		}
	}
	return i.may(p.tags, p.life, p.allow)
}

func checkAllow(list []trust.What) error {
	if len(list) > MaxAllow {
		return fmt.Errorf("at most %d services are allowed with an enrolment; grant the others afterwards", MaxAllow)
	}
	for _, w := range list {
		if err := w.Check(); err != nil {
			return fmt.Errorf("allowed service: %w", err)
		}
	}
	return nil
}

// nameLocked is the name a node gets by an invite: the invite's own if it is for one machine; else the one it has of this invite's
// names, or the first that nobody ever had: also a revoked machine's stays its own, for peers that have used it hold it to be that key's.
func (i *Issuer) nameLocked(v *Invite, node keys.NodeID) string {
	if v.Uses == 1 {
		return v.Name
	}
	st := i.State()
	if m, ok := st.Member(node); ok && numbered(v.Name, m.Name) {
		return m.Name
	}
	taken := map[string]bool{}
	for _, s := range v.Spends {
		taken[s.Name] = true // also if it is not in the log yet
	}
	for n := 1; n <= maxNumber; n++ {
		if name := v.Name + "-" + strconv.Itoa(n); !taken[name] && !used(st, name) {
			return name
		}
	}
	return v.Name + "-" + strconv.Itoa(maxNumber)
}

// numbered reports whether name is one of those an invite for several machines gives.
func numbered(base, name string) bool {
	n, ok := strings.CutPrefix(name, base+"-")
	if !ok {
		return false
	}
	i, err := strconv.Atoi(n)
	return err == nil && i >= 1 && i <= maxNumber && strconv.Itoa(i) == n
}

// repairLocked appends the entries of spends that a crash, or a log that could not be written, has left without one. It comes before
// every new spend, because serials only rise along a chain: after a later one the entry of an earlier one would count for nothing,
// and the invite would be burnt.
func (i *Issuer) repairLocked() error {
	for _, s := range i.Book.unloggedLocked(i.State().MaxSerial(i.Key.Public())) {
		cert, err := i.parse(s)
		if err != nil {
			return err
		}
		if i.admissible(planOf(cert, s), cert.Node, i.Now()) != nil {
			continue // it would not be admitted any more, so its serial may be passed over
		}
		if err := i.enter(cert, s); err != nil {
			return err
		}
	}
	return nil
}

// planOf is the plan a spend was made by.
func planOf(cert *identity.SignedCertificate, s *Spend) plan {
	return plan{name: cert.Name, tags: cert.Tags, life: cert.NotAfter - cert.NotBefore, renewUntil: cert.RenewUntil, allow: s.Allow, rotation: s.rotation}
}

func (i *Issuer) parse(s *Spend) (*identity.SignedCertificate, error) {
	cert, err := identity.ParseCertificate(s.Certificate, i.Mesh)
	if err != nil {
		return nil, fmt.Errorf("the invite book holds a certificate that does not verify: %w", err)
	}
	return cert, nil
}

// certificate returns the certificate of an earlier spend if its node may still have it.
func (i *Issuer) certificate(s *Spend) (*identity.SignedCertificate, error) {
	cert, err := i.parse(s)
	if err != nil {
		return nil, err
	}
	st := i.State()
	if st.Logged(cert) {
		if _, revoked := st.Revoked(cert.Node); revoked {
			return nil, ErrRevoked
		}
		if _, revoked := st.CertRevoked(cert.Issuer, cert.Serial); revoked {
			return nil, ErrRevoked
		}
		// An invite has an end of its own; a rotation's lasts as long as what it gave. The answer carries the newest group secret.
		if _, live := st.LiveMember(cert.Node, i.Now()); s.rotation != nil && !live {
			return nil, ErrExpired
		}
		return cert, nil
	}
	return cert, i.admissible(planOf(cert, s), cert.Node, i.Now())
}

// answerLocked gives the certificate of an earlier spend again, and sees to it that the log has it.
func (i *Issuer) answerLocked(s *Spend, recorded Record) (*Grant, error) {
	cert, err := i.certificate(s)
	if err != nil {
		return nil, err
	}
	if err := recorded.call(cert, true); err != nil {
		return nil, err
	}
	if err := i.logged(cert, s); err != nil {
		return nil, err
	}
	return &Grant{Certificate: cert, Channel: s.Channel, Again: true}, nil
}

// spendLocked signs the certificate of a plan, makes the spend durable as the record r, and enters it in the log. If we crash after the
// record, it is this node's alone, and logged repairs the rest when it asks again.
func (i *Issuer) spendLocked(r *record, p plan, node keys.NodeID, now int64, recorded Record) (*Grant, error) {
	is, _ := i.State().Root().Issuer(i.Key.Public())
	c := identity.Certificate{
		Mesh: i.Mesh, Node: node, Serial: i.serialLocked(), Issuer: i.Key.Public(),
		NotBefore: now, NotAfter: min(now+p.life, is.NotAfter), Tags: p.tags, Name: p.name, RenewUntil: p.renewUntil,
	}
	if p.renewUntil != 0 {
		c.NotAfter = min(c.NotAfter, p.renewUntil)
	}
	cert, err := identity.IssueCertificate(c, i.Key)
	if err != nil {
		return nil, err
	}
	if err := recorded.call(cert, false); err != nil {
		return nil, err
	}
	r.Time, r.Node, r.Name, r.Serial, r.Cert, r.Allow = now, node[:], p.name, c.Serial, cert.Raw(), p.allow
	if err := i.Book.writeLocked(r); err != nil {
		return nil, err
	}
	if err := i.logged(cert, &Spend{Allow: p.allow, rotation: p.rotation}); err != nil {
		return nil, err
	}
	return &Grant{Certificate: cert, Channel: keys.Hash(padded(r.Channel))}, nil
}

// serialLocked is the next serial: above everything in the log, and in the book, which may be ahead after a crash.
func (i *Issuer) serialLocked() uint64 {
	st, _ := i.State().IssuerStatus(i.Key.Public())
	return max(i.Book.serial+1, st.NextSerial)
}

// logged sees to it that a spent certificate is in the log and counts there.
func (i *Issuer) logged(cert *identity.SignedCertificate, s *Spend) error {
	if i.State().Logged(cert) {
		return nil
	}
	if _, revoked := i.State().CertRevoked(cert.Issuer, cert.Serial); revoked {
		return ErrRevoked
	}
	if cert.Serial <= i.State().MaxSerial(i.Key.Public()) {
		return fmt.Errorf("%w: its enrolment was passed over; make a new invite", ErrMayNot)
	}
	if err := i.enter(cert, s); err != nil {
		return err
	}
	if !i.State().Logged(cert) {
		return fmt.Errorf("%w: the log does not count its enrolment", ErrMayNot)
	}
	return nil
}

// enter appends the entry of an enrolment: the certificate, what its node may use, and the revocation of the key it follows, in one, so
// that no crash gives one without the others. A grant in force already is not written twice.
func (i *Issuer) enter(cert *identity.SignedCertificate, s *Spend) error {
	allow := s.Allow
	if i.Numbers != nil {
		i.Numbers.Lock()
		defer i.Numbers.Unlock()
	}
	ops := []trust.Op{trust.EnrollOp(cert)}
	if r := s.rotation; r != nil {
		ops = append(ops, trust.OpRevokeNode{Node: r.Old, Reason: trust.RevokeRotated, Successor: &trust.Successor{Node: r.New, Sig: r.Sig}})
	}
	st := i.State()
	status, _ := st.IssuerStatus(i.Key.Public())
	who, has := trust.NodeTarget(cert.Node), map[trust.What]bool{}
	if len(allow) > 0 {
		for g := range st.Grants() {
			if g.Who == who && g.Removed == nil && g.NotAfter == 0 && g.NotBefore == 0 {
				has[g.What] = true
			}
		}
	}
	for _, what := range allow {
		if has[what] {
			continue
		}
		has[what] = true
		ops = append(ops, trust.OpGrant{GID: status.NextGID, Who: who, What: what, Note: "with its enrolment"})
		status.NextGID++
	}
	return i.Append(ops...)
}
