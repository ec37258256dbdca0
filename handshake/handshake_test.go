package handshake

import (
	"bytes"
	"context"
	"io"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

var suites = []keys.Suite{keys.SuiteChaCha, keys.SuiteAES}

func TestHandshakeAgrees(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			w := newWorld("home")
			d, a := w.member("nas"), w.member("gpu1")
			acc := w.acceptor(a)
			do, ao := runBoth(t, w.dialConfig(d, a, suite), acc)
			if do.err != nil || ao.err != nil {
				t.Fatal(do.err, ao.err)
			}
			checkAgreement(t, do.r, ao.r)
			if do.r.Keys.Suite != suite || do.r.State != session.Full || ao.r.Refused != 0 {
				t.Errorf("suite %v, state %v, refused %v", do.r.Keys.Suite, do.r.State, ao.r.Refused)
			}
			checkPeer(t, do.r.Peer, a)
			checkPeer(t, ao.r.Peer, d)
			if done, dropped := acc.Counts(); done != 1 || len(dropped) != 0 {
				t.Errorf("counts %d, %v", done, dropped)
			}
		})
	}
}

// checkAgreement compares everything two ends derive.
func checkAgreement(t testing.TB, d, a *Result) {
	t.Helper()
	dk, ak := d.Keys, a.Keys
	if !same(dk.K1, ak.K1) || !same(dk.K2, ak.K2) || same(dk.K1, dk.K2) {
		t.Error("traffic keys differ between the ends or are one")
	}
	if !same(dk.Exporter, ak.Exporter) || dk.Hash != ak.Hash || dk.Suite != ak.Suite {
		t.Error("exporter, channel binding or suite differ")
	}
	if d.Role != keys.RoleDialer || a.Role != keys.RoleAcceptor {
		t.Error("roles")
	}
	if d.Peer.Static != a.Static.Public() || a.Peer.Static != d.Static.Public() {
		t.Error("static keys are not those proved")
	}
}

// same compares two keys.
func same(a, b interface{ Bytes() []byte }) bool { return bytes.Equal(a.Bytes(), b.Bytes()) }

func checkPeer(t testing.TB, p *Peer, m *member) {
	t.Helper()
	l := m.local
	if p.Node != l.Node || p.Certificate.Name != m.cert.Name || p.Binding.Boot != m.binding.Boot || p.RootVersion != l.RootVersion ||
		p.Digest != l.Digest || p.GroupGen != l.GroupGen || p.Features != l.Features || p.ConnSeq != l.ConnSeq || p.Time != testNow ||
		p.OldGeneration {
		t.Errorf("peer %+v", p)
	}
}

// TestMessageSizes holds the numbers of the specification.
func TestMessageSizes(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"M1", SizeM1, 1235},
		{"enrolment M1", SizeEnrollM1, 1243},
		{"M2", SizeM2, 2208},
		{"M3", SizeM3, 1088},
		{"R1", SizeR1, 1233},
		{"R2", SizeR2, 1137},
		{"R3", SizeR3, 1},
		{"payload", sizePayload, 1024},
	} {
		if c.got != c.want {
			t.Errorf("%s has %d bytes, want %d", c.name, c.got, c.want)
		}
	}
	if SizeEnrollM1+sizeP1+SizeM2+SizeM3 > scratchSize {
		t.Error("a handshake does not fit its memory")
	}
}

// TestAcceptReadsExactly: what follows M3 belongs to the session.
func TestAcceptReadsExactly(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	client, server := pair(t)
	acc := w.acceptor(a)
	c := serve(acc, server)
	x := newAttacker(t, d.local, keys.SuiteChaCha, a.key.NodeID(), w.gate().Bytes(), true)
	mustWrite(t, client, x.m1(nil, x.p1()))
	m2 := make([]byte, SizeM2)
	if _, err := io.ReadFull(client, m2); err != nil {
		t.Fatal(err)
	}
	if _, err := x.readM2(m2); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, client, append(x.m3(plain(d.local)), "next"...))
	o := <-c
	if o.err != nil {
		t.Fatal(o.err)
	}
	b := make([]byte, 4)
	server.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(server, b); err != nil || string(b) != "next" {
		t.Fatalf("behind M3 stands %q, %v", b, err)
	}
}

// TestDialReadsExactly: so does what follows M2.
func TestDialReadsExactly(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	client, server := pair(t)
	go func() {
		m1 := make([]byte, SizeM1)
		io.ReadFull(server, m1)
		x := newAttacker(t, a.local, keys.SuiteAES, a.key.NodeID(), w.gate().Bytes(), false)
		m2, _ := x.answerM1(m1, plain(a.local))
		server.Write(append(m2, "next"...))
	}()
	if _, err := Dial(context.Background(), client, w.dialConfig(d, a, keys.SuiteAES)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4)
	client.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(client, b); err != nil || string(b) != "next" {
		t.Fatalf("behind M2 stands %q, %v", b, err)
	}
}

// TestDeadlinesAreTakenOff: a session must not inherit the handshake's deadline.
func TestDeadlinesAreTakenOff(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	client, server := pair(t)
	dc, sc := &deadlineConn{Conn: client}, &deadlineConn{Conn: server}
	c := serve(w.acceptor(a), sc)
	if _, err := Dial(context.Background(), dc, w.dialConfig(d, a, keys.SuiteAES)); err != nil {
		t.Fatal(err)
	}
	if o := <-c; o.err != nil {
		t.Fatal(o.err)
	}
	if !dc.last.IsZero() || !sc.last.IsZero() || dc.sets == 0 || sc.sets == 0 {
		t.Error("a deadline is left on the connection")
	}
}

// TestEnrollment: suite 0x11 proves the issuer's node to the joiner and the joiner's node key to the issuer.
func TestEnrollment(t *testing.T) {
	w := newWorld("home")
	j, a := w.member("new"), w.member("gpu1")
	j.local.Certificate = nil
	secret := keys.NewInviteSecret()
	id := identity.NewInviteID()
	acc := w.enrolling(a, id, secret)
	do, ao := w.enroll(t, j, a, acc, id, secret)
	if do.err != nil || ao.err != nil {
		t.Fatal(do.err, ao.err)
	}
	checkAgreement(t, do.r, ao.r)
	if !do.r.Enroll || !ao.r.Enroll || do.r.Invite != id || ao.r.Invite != id || do.r.Keys.Suite != keys.SuiteEnroll {
		t.Errorf("results %+v, %+v", do.r, ao.r)
	}
	if ao.r.Peer.Node != j.key.NodeID() || ao.r.Peer.Certificate != nil {
		t.Errorf("joiner %+v", ao.r.Peer)
	}
	checkPeer(t, do.r.Peer, a)
}

// enrolling is an acceptor with one live invite and no gate that a joiner could know.
func (w *world) enrolling(a *member, id identity.InviteID, secret keys.InviteSecret) *Acceptor {
	c := w.acceptorConfig(a)
	c.Invite = func(got identity.InviteID) (keys.PSK, bool) {
		if got != id {
			return keys.PSK{}, false
		}
		return secret.PSK(w.mesh), true
	}
	c.Verify = func(*Peer, int64) (session.State, session.Code) { panic("policy asked about a joiner") }
	return NewAcceptor(c)
}

// enroll runs one enrolment handshake.
func (w *world) enroll(t testing.TB, j, a *member, acc *Acceptor, id identity.InviteID, secret keys.InviteSecret) (outcome, outcome) {
	t.Helper()
	client, server := pair(t)
	c := serve(acc, server)
	r, err := DialEnroll(context.Background(), client, EnrollDial{
		Local: j.local, Issuer: a.key.NodeID(), Invite: id, Secret: secret, Now: testClock,
	})
	return outcome{r, err}, <-c
}
