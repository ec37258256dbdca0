package handshake

import (
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// liar is one way in which the plaintext P2 or P3 of a peer that holds the gate, and completes the Noise handshake with the static
// key of m, is not what it must be. w is the mesh, honest another member of it.
type liar struct {
	name   string
	reason Reason
	lie    func(w *world, m, honest *member) []byte
}

// liars is every check of "verify peer" that ends in silence. Each line fails when its check is removed.
var liars = []liar{
	// Strict CBOR and the one form of the payload.
	{"payload not CBOR", ReasonPayload, func(_ *world, m, _ *member) []byte { return rawPayload([]byte("garbage"), 7, 0) }},
	{"payload empty", ReasonPayload, func(_ *world, m, _ *member) []byte { return rawPayload(nil, 0, 0) }},
	{"padding not zero", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := plain(m.local)
		b[len(b)-1] = 1
		return b
	}},
	{"padding not zero at its beginning", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := plain(m.local)
		b[2+int(b[0])<<8+int(b[1])] = 0x80
		return b
	}},
	{"length one short", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := plain(m.local)
		n := int(b[0])<<8 + int(b[1]) - 1
		b[0], b[1] = byte(n>>8), byte(n)
		return b
	}},
	{"length one long", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := plain(m.local)
		n := int(b[0])<<8 + int(b[1]) + 1
		b[0], b[1] = byte(n>>8), byte(n)
		return b
	}},
	{"length beyond the payload", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := plain(m.local)
		b[0], b[1] = 0xff, 0xff
		return b
	}},
	{"unknown field", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := payloadFields(m.local)
		b[10] = uint64(1)
		return rawMap(b)
	}},
	{"field missing", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := payloadFields(m.local)
		delete(b, 9)
		return rawMap(b)
	}},
	{"digest of 9 bytes", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := payloadFields(m.local)
		b[4] = make([]byte, 9)
		return rawMap(b)
	}},
	{"negative time", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := payloadFields(m.local)
		b[7] = int64(-1)
		return rawMap(b)
	}},
	{"time without end", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := payloadFields(m.local)
		b[7] = int64(identity.MaxTime + 1)
		return rawMap(b)
	}},
	{"no binding", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := payloadFields(m.local)
		b[2] = []byte{}
		return rawMap(b)
	}},
	{"certificate beyond its size", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := payloadFields(m.local)
		b[1], b[2] = make([]byte, identity.MaxCertificate+1), []byte{0}
		return rawMap(b)
	}},
	{"binding beyond its size", ReasonPayload, func(_ *world, m, _ *member) []byte {
		b := payloadFields(m.local)
		b[1], b[2] = []byte{0}, make([]byte, identity.MaxBinding+1)
		return rawMap(b)
	}},

	// Binding signature, mesh and key.
	{"binding not signed by the node", ReasonBinding, func(_ *world, m, _ *member) []byte {
		b := must(identity.ParseEnvelope(m.local.Binding, identity.MaxBinding))
		b.Sigs[0].Sig[0] ^= 1
		m.local.Binding = b.Encode()
		return plain(m.local)
	}},
	{"binding of another mesh", ReasonBinding, func(_ *world, m, _ *member) []byte {
		m.binding.Mesh[0] ^= 1
		m.local.Binding = must(identity.IssueBinding(m.binding, m.key)).Raw()
		return plain(m.local)
	}},
	{"stolen binding, own static key", ReasonStatic, func(_ *world, m, honest *member) []byte {
		m.local.Certificate, m.local.Binding = honest.local.Certificate, honest.local.Binding
		return plain(m.local)
	}},
	{"binding for another static key of the same node", ReasonStatic, func(_ *world, m, _ *member) []byte {
		m.binding.Static = NewStatic().Public()
		m.local.Binding = must(identity.IssueBinding(m.binding, m.key)).Raw()
		return plain(m.local)
	}},

	// Certificate signature, mesh and node.
	{"no certificate", ReasonCertificate, func(_ *world, m, _ *member) []byte {
		m.local.Certificate = nil
		return plain(m.local)
	}},
	{"certificate not signed by its issuer", ReasonCertificate, func(_ *world, m, _ *member) []byte {
		b := must(identity.ParseEnvelope(m.local.Certificate, identity.MaxCertificate))
		b.Sigs[0].Sig[0] ^= 1
		m.local.Certificate = b.Encode()
		return plain(m.local)
	}},
	{"certificate signed by the node itself", ReasonCertificate, func(w *world, m, _ *member) []byte {
		raw := identity.Seal(keys.LabelCert, w.mesh, wire.MustMarshal(m.cert), m.key).Encode()
		m.local.Certificate = raw
		return plain(m.local)
	}},
	{"certificate of another mesh", ReasonCertificate, func(w *world, m, _ *member) []byte {
		m.cert.Mesh[0] ^= 1
		m.local.Certificate = must(identity.IssueCertificate(m.cert, w.issuer)).Raw()
		return plain(m.local)
	}},
	{"certificate of another node", ReasonOtherNode, func(_ *world, m, honest *member) []byte {
		m.local.Certificate = honest.local.Certificate
		return plain(m.local)
	}},
}

// payloadFields is the payload as a plain map, for lies in single fields.
func payloadFields(l Local) map[int]any {
	return map[int]any{
		1: l.Certificate, 2: l.Binding, 3: l.RootVersion, 4: l.Digest[:], 5: l.GroupGen, 6: l.Flags, 7: testNow, 8: l.ConnSeq,
		9: l.Features,
	}
}

func rawMap(m map[int]any) []byte {
	b := must(wire.Marshal(m))
	return rawPayload(b, len(b), 0)
}

// TestVerifyPeerAtAcceptor: a member with the gate that lies in P3 gets nothing, and is counted by what it lied about.
func TestVerifyPeerAtAcceptor(t *testing.T) {
	for _, l := range liars {
		t.Run(l.name, func(t *testing.T) {
			w := newWorld("home")
			m, honest, a := w.member("mallory"), w.member("nas"), w.member("gpu1")
			acc := w.acceptor(a)
			o, sent := attackAccept(t, w, acc, m.local, a.key.NodeID(), l.lie(w, m, honest))
			wantReason(t, o.err, l.reason)
			if sent != 0 || o.r != nil {
				t.Errorf("%d bytes after M2, result %v", sent, o.r)
			}
			if _, dropped := acc.Counts(); dropped[l.reason] != 1 {
				t.Errorf("counts %v", dropped)
			}
		})
	}
}

// TestVerifyPeerAtDialer: a responder that lies in P2 never sees M3, so it does not learn who dialled.
func TestVerifyPeerAtDialer(t *testing.T) {
	for _, l := range liars {
		t.Run(l.name, func(t *testing.T) {
			w := newWorld("home")
			d, honest, m := w.member("nas"), w.member("pi4"), w.member("mallory")
			c := w.dialConfig(d, m, keys.SuiteAES)
			o, sent := attackDial(t, w, c, m.local, l.lie(w, m, honest))
			wantReason(t, o.err, l.reason)
			if sent != 0 || o.r != nil {
				t.Errorf("%d bytes after M1, result %v", sent, o.r)
			}
		})
	}
}

// TestVerifyPeerNotSelf: this node's own identity coming back over the network is no peer.
func TestVerifyPeerNotSelf(t *testing.T) {
	w := newWorld("home")
	a := w.member("gpu1")
	o, sent := attackAccept(t, w, w.acceptor(a), a.local, a.key.NodeID(), plain(a.local))
	wantReason(t, o.err, ReasonSelf)
	if sent != 0 {
		t.Errorf("%d bytes sent", sent)
	}
	client, _ := pair(t)
	_, err := Dial(t.Context(), client, w.dialConfig(a, a, keys.SuiteAES))
	wantReason(t, err, ReasonLocal)
}

// TestVerifyPeerSelfAtDialer: a member that answers with the dialer's own static key, certificate and binding (it cannot, without
// the key; a restored backup can) is no peer either.
func TestVerifyPeerSelfAtDialer(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	o, sent := attackDial(t, w, w.dialConfig(d, a, keys.SuiteAES), d.local, plain(d.local))
	wantReason(t, o.err, ReasonSelf)
	if sent != 0 {
		t.Errorf("%d bytes sent", sent)
	}
}

// TestVerifyPeerIsTheOneDialled: another member, honest in everything else, cannot answer in its place.
func TestVerifyPeerIsTheOneDialled(t *testing.T) {
	w := newWorld("home")
	d, a, other := w.member("nas"), w.member("gpu1"), w.member("pi4")
	o, sent := attackDial(t, w, w.dialConfig(d, a, keys.SuiteAES), other.local, plain(other.local))
	wantReason(t, o.err, ReasonNotDialled)
	if sent != 0 {
		t.Errorf("%d bytes sent", sent)
	}
}

// window is a peer that proves who it is and is outside a window of time.
var windows = []struct {
	name  string
	set   func(m *member)
	state session.State // what the policy may give, 0: refused with code 6 whatever it says
}{
	{"binding ended", func(m *member) { m.binding.NotBefore, m.binding.NotAfter = testNow-3600, testNow }, 0},
	{"binding ends in a second", func(m *member) { m.binding.NotAfter = testNow + 1 }, session.Full},
	{"binding begins in 301 s", func(m *member) { m.binding.NotBefore = testNow + 301 }, 0},
	{"binding begins in 300 s", func(m *member) { m.binding.NotBefore = testNow + 300 }, session.Full},
	{"certificate begins in 301 s", func(m *member) { m.cert.NotBefore = testNow + 301 }, 0},
	{"certificate begins in 300 s", func(m *member) { m.cert.NotBefore = testNow + 300 }, session.Full},
	{"certificate ended", func(m *member) { m.cert.NotAfter = testNow }, session.RenewOnly},
	{"certificate ends in a second", func(m *member) { m.cert.NotAfter = testNow + 1 }, session.Full},
}

// TestVerifyPeerWindows: both ends hold the windows, whatever the policy says; an ended certificate can only renew.
func TestVerifyPeerWindows(t *testing.T) {
	for _, c := range windows {
		t.Run(c.name, func(t *testing.T) {
			for _, offered := range []session.State{session.Full, session.Restricted, session.SyncOnly, session.RenewOnly} {
				want := session.CodeExpired
				if c.state == session.Full || c.state == offered {
					want = 0
				}
				policy := func(*Peer, int64) (session.State, session.Code) { return offered, 0 }
				w := newWorld("home")
				m, honest := w.member("pi4"), w.member("nas")
				c.set(m)
				m.sign(w)

				cfg := w.acceptorConfig(honest)
				cfg.Verify = policy
				do, ao := runBoth(t, w.dialConfig(m, honest, keys.SuiteAES), NewAcceptor(cfg))
				if do.err != nil || ao.err != nil || ao.r.Refused != want {
					t.Fatalf("acceptor offering %v: %v, %v, %+v", offered, do.err, ao.err, ao.r)
				}
				if want == 0 && ao.r.State != offered {
					t.Errorf("state %v, want %v", ao.r.State, offered)
				}

				d := w.dialConfig(honest, m, keys.SuiteAES)
				d.Verify = policy
				do, _ = runBoth(t, d, w.acceptor(m))
				if want == 0 {
					if do.err != nil || do.r.State != offered {
						t.Errorf("dialer: %v", do.err)
					}
					continue
				}
				wantReason(t, do.err, ReasonRefused)
				if do.err.(*Error).Code != want {
					t.Errorf("dialer refuses with %v", do.err.(*Error).Code)
				}
			}
		})
	}
}

// TestVerifyPeerPolicy: the caller's policy sees the proven peer, and its refusal reaches the caller as a code; the dialer that
// refuses sends no M3.
func TestVerifyPeerPolicy(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	refuse := func(want *member) VerifyFunc {
		return func(p *Peer, now int64) (session.State, session.Code) {
			if now != testNow || p.Node != want.key.NodeID() || p.Certificate.Issuer != w.issuer.Public() {
				t.Errorf("policy asked about %+v at %d", p, now)
			}
			return session.Full, session.CodeRevoked
		}
	}
	cfg := w.acceptorConfig(a)
	cfg.Verify = refuse(d)
	acc := NewAcceptor(cfg)
	do, ao := runBoth(t, w.dialConfig(d, a, keys.SuiteAES), acc)
	if do.err != nil || ao.err != nil {
		t.Fatal(do.err, ao.err)
	}
	if ao.r.Refused != session.CodeRevoked || ao.r.State != 0 {
		t.Errorf("refused %v, state %v", ao.r.Refused, ao.r.State)
	}
	checkAgreement(t, do.r, ao.r)
	if done, dropped := acc.Counts(); done != 0 || dropped[ReasonRefused] != 1 {
		t.Errorf("counts %d %v", done, dropped)
	}

	c := w.dialConfig(d, a, keys.SuiteAES)
	c.Verify = refuse(a)
	o, sent := attackDial(t, w, c, a.local, plain(a.local))
	wantReason(t, o.err, ReasonRefused)
	if e := o.err.(*Error); e.Code != session.CodeRevoked || e.Peer == nil || e.Peer.Node != a.key.NodeID() || sent != 0 {
		t.Errorf("error %+v, %d bytes sent", e, sent)
	}
}

// TestVerifyPeerPolicyFailsClosed: a policy that names no state a session can begin in refuses.
func TestVerifyPeerPolicyFailsClosed(t *testing.T) {
	for _, s := range []session.State{0, session.Draining, session.Closed, 99} {
		v := verifier{policy: func(*Peer, int64) (session.State, session.Code) { return s, 0 }}
		w := newWorld("home")
		m := w.member("nas")
		p := &Peer{
			Binding:     must(identity.ParseBinding(m.local.Binding, w.mesh)),
			Certificate: must(identity.ParseCertificate(m.local.Certificate, w.mesh)),
		}
		if got, code := v.admit(p, testNow); code != session.CodeNotAdmitted || got != 0 {
			t.Errorf("state %v: %v, %v", s, got, code)
		}
		v.policy = nil
		if got, code := v.admit(p, testNow); code != session.CodeNotAdmitted || got != 0 {
			t.Errorf("no policy: %v, %v", got, code)
		}
	}
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	c := w.dialConfig(d, a, keys.SuiteAES)
	c.Verify = nil
	client, _ := pair(t)
	_, err := Dial(t.Context(), client, c)
	wantReason(t, err, ReasonLocal)
}

// TestVerifyPeerEnrolment: the issuer demands a binding and no certificate from a joiner; the joiner demands the node of its invite,
// in force.
func TestVerifyPeerEnrolment(t *testing.T) {
	secret, id := keys.NewInviteSecret(), identity.NewInviteID()

	t.Run("certificate from a joiner", func(t *testing.T) {
		w := newWorld("home")
		j, a := w.member("new"), w.member("gpu1")
		client, server := pair(t)
		c := serve(w.enrolling(a, id, secret), server)
		x := newAttacker(t, j.local, keys.SuiteEnroll, a.key.NodeID(), secret.PSK(w.mesh).Bytes(), true)
		mustWrite(t, client, x.m1(id[:], x.p1()))
		m2 := make([]byte, SizeM2)
		must(readFull(client, m2))
		must(x.readM2(m2))
		mustWrite(t, client, x.m3(plain(j.local)))
		o := <-c
		wantReason(t, o.err, ReasonCertificate)
	})
	for name, c := range map[string]struct {
		lie    func(w *world, j, a *member)
		reason Reason // of the one that refuses
		joiner bool
	}{
		"joiner with a stolen binding":    {func(w *world, j, a *member) { j.local.Binding = w.member("pi4").local.Binding }, ReasonStatic, false},
		"joiner with an ended binding":    {func(w *world, j, _ *member) { j.binding.NotAfter = testNow; j.bind() }, ReasonRefused, false},
		"joiner with a future binding":    {func(w *world, j, _ *member) { j.binding.NotBefore = testNow + 301; j.bind() }, ReasonRefused, false},
		"joiner is the issuer itself":     {func(_ *world, j, a *member) { j.local.Binding, j.local.Static = a.local.Binding, a.local.Static }, ReasonSelf, false},
		"issuer with an ended binding":    {func(w *world, _, a *member) { a.binding.NotAfter = testNow; a.sign(w) }, ReasonRefused, true},
		"issuer's certificate ended":      {func(w *world, _, a *member) { a.cert.NotAfter = testNow; a.sign(w) }, ReasonRefused, true},
		"issuer's certificate of another": {func(w *world, _, a *member) { a.local.Certificate = w.member("pi4").local.Certificate }, ReasonOtherNode, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld("home")
			j, a := w.member("new"), w.member("gpu1")
			j.local.Certificate = nil
			c.lie(w, j, a)
			do, ao := w.enroll(t, j, a, w.enrolling(a, id, secret), id, secret)
			if c.joiner {
				wantReason(t, do.err, c.reason)
				wantReason(t, ao.err, ReasonShort)
			} else {
				wantReason(t, ao.err, c.reason)
			}
		})
	}
}
