package mesh

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// mortal is a member whose certificate ends at a time from now.
func (w *world) mortal(name string, end time.Duration, renewUntil int64) *host {
	w.t.Helper()
	h := w.member(name)
	now := time.Now().Unix()
	w.serial++
	c, err := identity.IssueCertificate(identity.Certificate{
		Mesh: w.id, Node: h.key.NodeID(), Serial: w.serial, Issuer: w.issuer.Public(), NotBefore: now - 20, NotAfter: now + int64(end/time.Second),
		Tags: []string{"kind"}, Name: name, RenewUntil: renewUntil,
	}, w.issuer)
	ok(w.t, err)
	// The first enrolment goes, so that this one speaks for the node.
	w.sign(trust.OpRevokeCert{Issuer: w.issuer.Public(), Serial: h.cert.Serial}, trust.EnrollOp(c))
	h.cert = c
	return h
}

// A certificate of which two thirds are over is renewed by itself, with the name and tags of the log; a stream that runs meanwhile lives
// past the end of the old one.
func TestRenewalByItself(t *testing.T) {
	t.Parallel() // it mostly waits
	w := newWorld(t)
	b := w.mortal("b", 5*time.Second, enroll.RenewForever)
	a := w.admin()
	w.allow(a, b, "echo")
	b.run()
	b.echo("echo")
	full(b, a)
	var saved *identity.SignedCertificate
	eventually(t, "b is renewed", patience, func() bool { saved = b.Node.cert.Load(); return saved.Serial != b.cert.Serial })
	if saved.Name != "b" || len(saved.Tags) != 1 || saved.Tags[0] != "kind" || saved.NotAfter-saved.NotBefore != b.cert.NotAfter-b.cert.NotBefore {
		t.Fatalf("%+v", saved)
	}
	c := a.dial(b, "echo")
	eventually(t, "the old certificate has ended", patience, func() bool { return time.Now().Unix() > b.cert.NotAfter+1 })
	ok(t, pings(c))
	ok(t, c.Close())
}

// A certificate that has ended opens a session that may do nothing but sync and renew; renewed, the node is a full member again.
func TestRenewalAfterTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.mortal("b", -2*time.Second, enroll.RenewForever)
	a := w.admin()
	b.run()
	full(b, a)
	if got := b.Node.cert.Load(); got.Serial == b.cert.Serial {
		t.Fatal("full with an ended certificate")
	}
}

// A guest's certificate is not renewed by itself, nor one that ended more than 30 days ago, nor a revoked node's, nor another node's, nor
// twice in a row; a lost answer is given again.
func TestRenewalLimits(t *testing.T) {
	w := newWorld(t)
	guest := w.mortal("guest", -time.Second, 0)
	old := w.mortal("old", -time.Second, time.Now().Unix()-10)
	gone := w.mortal("gone", 5*time.Second, enroll.RenewForever)
	young := w.member("young")
	due := w.mortal("due", 5*time.Second, enroll.RenewForever)
	w.sign(trust.OpRevokeNode{Node: gone.key.NodeID()})
	a := w.admin()
	ask := func(h *host) (*identity.SignedCertificate, error) {
		csr, err := identity.SignCSR(identity.CSR{Mesh: w.id, Node: h.key.NodeID(), Name: "other", Tags: []string{"admin"}}, h.key)
		ok(t, err)
		return a.issuer.Renew(csr, nil)
	}
	for _, h := range []*host{guest, old, gone, young, {key: keys.NewSigningKey()}} {
		if c, err := ask(h); err == nil && c.Serial != h.cert.Serial {
			t.Fatalf("%s was renewed", h.name)
		}
	}
	first, err := ask(due)
	ok(t, err)
	if first.Name != "due" || first.Tags[0] != "kind" {
		t.Fatal("the request's wishes were followed", first.Name, first.Tags)
	}
	again, err := ask(due)
	ok(t, err)
	if again.ID != first.ID {
		t.Fatal("a second entry for a lost answer")
	}
}

// What a peer sends as a new certificate is taken only if it is one: longer, for this node, of an issuer.
func TestCertificateUpdateIsChecked(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.run()
	before := a.Node.cert.Load()
	w.life = 2 * 86400
	other := w.certify(b.key, "b")
	renamed := w.certify(a.key, "admin")
	thief := keys.NewSigningKey()
	c := before.Certificate
	c.Issuer, c.NotAfter = thief.Public(), before.NotAfter+86400
	forged, err := identity.IssueCertificate(c, thief)
	ok(t, err)
	for what, cert := range map[string]*identity.SignedCertificate{"another node's": other, "another name": renamed, "no issuer's": forged, "the same": before} {
		ok(t, a.certificateUpdate(cert.Raw()))
		if a.Node.cert.Load() != before {
			t.Fatalf("%s was taken", what)
		}
	}
	if a.certificateUpdate([]byte{1}) == nil {
		t.Fatal("garbage is no error")
	}
	a.cfg.Save = func(*identity.SignedCertificate) error { return errCommitment }
	ok(t, a.certificateUpdate(w.certify(a.key, "a").Raw()))
	if a.Node.cert.Load() != before {
		t.Fatal("a certificate that could not be kept is in use")
	}
	a.cfg.Save = nil
	good := w.certify(a.key, "a")
	ok(t, a.certificateUpdate(good.Raw()))
	if a.Node.cert.Load().ID != good.ID {
		t.Fatal("a longer life was not taken")
	}
}

// A renewal asked for in another session, or for another node, is a lie; too many are not answered.
func TestRenewRequestsAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c := w.member("b"), w.member("c")
	a := w.admin()
	b.run()
	l := full(a, b)
	csr := func(h *host, nonce keys.Hash) []byte {
		r, err := identity.SignCSR(identity.CSR{Mesh: w.id, Node: h.key.NodeID(), Name: h.name, Nonce: nonce}, h.key)
		ok(t, err)
		return r.Raw()
	}
	if a.answerRenewal(l, csr(b, keys.Hash{1})) == nil {
		t.Fatal("a request of another session")
	}
	if a.answerRenewal(l, csr(c, l.hash)) == nil {
		t.Fatal("another node's request")
	}
	ok(t, a.answerRenewal(l, csr(b, l.hash)))
	ignored := a.Counters()["renew.ignored"]
	ok(t, a.answerRenewal(l, csr(b, l.hash)))
	if a.Counters()["renew.ignored"] != ignored+1 {
		t.Fatal("not bounded")
	}
}

// The clock of an admitted peer that agrees lifts the time floor: a clock that is set back afterwards revives nothing.
func TestPeersLiftTheTimeFloor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.run()
	year := time.Now().Unix() - 365*86400
	ok(t, a.store.ResetFloor(year)) // what the log's own entries have lifted does not count here
	b.run()
	full(a, b)
	eventually(t, "the floor is lifted for a clock a year back", patience, func() bool { return a.store.Now(year) >= time.Now().Unix()-400 })
}
