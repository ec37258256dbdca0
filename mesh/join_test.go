package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// admin is a running host that holds the issuer's key: from now on the world signs there.
func (w *world) admin() *host {
	h := w.member("nas")
	h.open()
	book, _, err := enroll.OpenBook(durable.NewMem(), "invites")
	ok(w.t, err)
	h.issuer = &enroll.Issuer{
		Key: w.issuer, Mesh: w.id, Book: book, State: h.store.Current, Now: func() int64 { return time.Now().Unix() },
		Append: func(ops ...trust.Op) error {
			c, err := h.store.AppendOwn(w.issuer, time.Now().Unix(), ops...)
			if err == nil {
				h.Publish(c)
			}
			return err
		},
	}
	h.SetIssuer(h.issuer)
	w.author = h.store
	return h.run()
}

// invite makes an invite as the daemon does.
func (h *host) invite(name string) *identity.Invite {
	h.w.t.Helper()
	return h.inviteWith(name, func(*enroll.Invite) {})
}

// inviteWith makes one of another sort.
func (h *host) inviteWith(name string, change func(*enroll.Invite)) *identity.Invite {
	h.w.t.Helper()
	now := time.Now().Unix()
	v := enroll.Invite{ID: identity.NewInviteID(), Name: name, Expiry: now + 600, Uses: 1, Life: 86400, RenewUntil: enroll.RenewForever}
	change(&v)
	ok(h.w.t, h.issuer.Book.Create(v, now))
	st := h.store.Current()
	inv := &identity.Invite{
		Mesh: h.w.id, ID: v.ID, Secret: h.issuer.Secret(v.ID), RootVersion: 1, RootHash: st.Root().Hash(), IssuerNode: h.key.NodeID(),
		Expiry: v.Expiry, Name: name, Endpoints: []identity.Endpoint{identity.EndpointOf(h.at())},
	}
	seq, hash, _ := st.Position(h.w.issuer.Public())
	inv.Heads = []identity.IssuerHead{{Issuer: h.w.issuer.Public(), Seq: seq, Hash: hash}}
	return inv
}

func joining(key *keys.SigningKey, inv *identity.Invite) JoinConfig {
	return JoinConfig{
		Key: key, Invite: inv, Now: time.Now,
		Dial: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			d := net.Dialer{LocalAddr: otherSource()}
			return d.DialContext(ctx, "tcp", to.String())
		},
	}
}

// otherSource is a loopback address nobody else uses: the budget is per source.
func otherSource() net.Addr {
	n := sources.Add(1)
	return &net.TCPAddr{IP: net.IPv4(127, byte(n>>16)+9, byte(n>>8), byte(n))}
}

var sources atomic.Uint32

func (h *host) spends() int {
	n := 0
	for _, v := range h.issuer.Book.List(time.Now().Unix()) {
		n += len(v.Spends)
	}
	return n
}

func TestJoin(t *testing.T) {
	before := session.Buffered()
	w := newWorld(t)
	nas := w.admin()
	key := keys.NewSigningKey()
	inv := nas.invite("gpu1")
	cfg := joining(key, inv)
	var seen Offer
	cfg.Confirm = func(o Offer) bool {
		seen = o
		if nas.spends() != 0 {
			t.Error("spent before the person agreed")
		}
		return true
	}
	m, err := Join(t.Context(), cfg)
	ok(t, err)
	if m.Certificate.Node != key.NodeID() || m.Certificate.Name != "gpu1" || seen.Issuer != "nas" || seen.Members != 1 {
		t.Fatalf("%+v %+v", m, seen)
	}
	// Again with the same key: the same certificate. Another key: refused. The member is really one.
	again, err := Join(t.Context(), joining(key, inv))
	ok(t, err)
	if again.Certificate.ID != m.Certificate.ID {
		t.Fatal("another certificate")
	}
	if _, err := Join(t.Context(), joining(keys.NewSigningKey(), inv)); !errors.Is(err, ErrInviteRefused) {
		t.Fatal(err)
	}
	if nas.spends() != 1 {
		t.Fatal(nas.spends())
	}
	// What was received last is no buffer in use, at either end.
	eventually(t, "all buffers given back", patience, func() bool { return session.Buffered() <= before })
}

func TestJoinRefusals(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	for name, tc := range map[string]struct {
		change func(inv *identity.Invite, cfg *JoinConfig)
		is     error
	}{
		"expired by its own time": {func(inv *identity.Invite, _ *JoinConfig) { inv.Expiry = 1 }, ErrInviteExpired},
		"removed at the issuer": {func(inv *identity.Invite, _ *JoinConfig) {
			ok(t, nas.issuer.Book.Remove(inv.ID, 0, time.Now().Unix()))
		}, ErrUnreachable},
		"unknown to the issuer": {func(inv *identity.Invite, _ *JoinConfig) { inv.ID = identity.NewInviteID() }, ErrUnreachable},
		"another mesh":          {func(inv *identity.Invite, _ *JoinConfig) { inv.Mesh[0] ^= 1 }, ErrUnreachable},
		"another issuer node":   {func(inv *identity.Invite, _ *JoinConfig) { inv.IssuerNode = keys.NewSigningKey().NodeID() }, ErrUnreachable},
		"another root":          {func(inv *identity.Invite, _ *JoinConfig) { inv.RootHash[0] ^= 1 }, ErrWrongMesh},
		"a root to come":        {func(inv *identity.Invite, _ *JoinConfig) { inv.RootVersion = 2 }, ErrWrongMesh},
		"another head":          {func(inv *identity.Invite, _ *JoinConfig) { inv.Heads[0].Hash[0] ^= 1 }, ErrWrongMesh},
		"the person says no": {func(_ *identity.Invite, cfg *JoinConfig) {
			cfg.Confirm = func(Offer) bool { return false }
		}, ErrNotConfirmed},
	} {
		t.Run(name, func(t *testing.T) {
			inv := nas.invite("gpu1")
			cfg := joining(keys.NewSigningKey(), inv)
			tc.change(inv, &cfg)
			m, err := Join(t.Context(), cfg)
			if err == nil || m != nil || tc.is != nil && !errors.Is(err, tc.is) {
				t.Fatal(err)
			}
			if nas.spends() != 0 {
				t.Fatal("the request was sent")
			}
		})
	}
}

// liar answers invites like an issuer, and then runs a script of its own. What the newcomer sent is returned.
type liar struct {
	mu   sync.Mutex
	got  []session.Kind
	done chan struct{}
}

func (w *world) liar(t *testing.T, key *keys.SigningKey, cert *identity.SignedCertificate, inv *identity.Invite, script func(*session.Control)) *liar {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	static := handshake.NewStatic()
	now := time.Now().Unix()
	b, err := identity.IssueBinding(identity.Binding{Mesh: w.id, Node: key.NodeID(), Static: static.Public(), NotBefore: now, NotAfter: now + 600}, key)
	ok(t, err)
	acceptor := handshake.NewAcceptor(handshake.AcceptorConfig{
		Local: func() handshake.Local {
			return handshake.Local{Mesh: w.id, Node: key.NodeID(), Static: static, Certificate: cert.Raw(), Binding: b.Raw(), RootVersion: 1}
		},
		Gates:  func() []handshake.Gate { return nil },
		Invite: func(identity.InviteID) (keys.PSK, bool) { return inv.Secret.PSK(w.id), true },
		Verify: func(*handshake.Peer, int64) (session.State, session.Code) { return 0, session.CodeNotAdmitted },
		Now:    func() int64 { return time.Now().Unix() }, Budget: handshake.NewBudget(handshake.BudgetLimits{}),
	})
	l := &liar{done: make(chan struct{})}
	go func() {
		defer close(l.done)
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		at := time.Now()
		var first [1]byte
		conn.Read(first[:])
		res, err := acceptor.Accept(context.Background(), conn, keys.Suite(first[0]), netip.MustParseAddr("127.0.0.1"), at)
		if err != nil {
			t.Error(err)
			return
		}
		ctl := session.NewControl(conn, res.Keys, res.Role)
		script(ctl)
		for {
			rt, body, err := ctl.Receive()
			if err != nil {
				return
			}
			if rt == session.RecordControl {
				if b, err := session.ParseBody(body); err == nil {
					l.mu.Lock()
					l.got = append(l.got, b.Kind())
					l.mu.Unlock()
				}
			}
		}
	}()
	t.Cleanup(func() { ln.Close(); <-l.done })
	inv.Endpoints = []identity.Endpoint{identity.EndpointOf(ln.Addr().(*net.TCPAddr).AddrPort())}
	inv.IssuerNode = key.NodeID()
	return l
}

// Whoever holds an invite's secret and the node key it names, but cannot show a log that leads from the mesh id to its membership,
// learns nothing about the newcomer but its key.
func TestJoinBelievesOnlyTheLog(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	foreign := newWorld(t)
	member, stranger := w.member("m"), keys.NewSigningKey()
	unlogged := w.certify(stranger, "s")
	all := func(ctl *session.Control, change func(trust.Frame) trust.Frame) {
		s := trust.NewHub(readOnly{nas.store}).NewSync(false)
		frames := append(s.PushRoots(0), s.Vec(0)...)
		seq, _, _ := nas.store.Current().Position(w.issuer.Public())
		for i := uint64(1); i <= seq; i++ {
			body := wire.MustMarshal(logObject{Kind: trust.KindEntry, Raw: nas.store.Entry(w.issuer.Public(), i)})
			frames = append(frames, trust.Frame{Kind: trust.KindEntry, Body: body})
		}
		for _, f := range frames {
			if ctl.Send(session.RecordControl, change(f).Body) != nil {
				return
			}
		}
	}
	for name, tc := range map[string]struct {
		key    *keys.SigningKey
		cert   *identity.SignedCertificate
		script func(*session.Control)
	}{
		"no member": {stranger, unlogged, func(c *session.Control) { all(c, func(f trust.Frame) trust.Frame { return f }) }},
		"foreign root": {member.key, member.cert, func(c *session.Control) {
			c.Send(session.RecordControl, wire.MustMarshal(logObject{Kind: trust.KindRoot, Raw: foreign.genesis}))
		}},
		"no root first": {member.key, member.cert, func(c *session.Control) {
			all(c, func(f trust.Frame) trust.Frame {
				if f.Kind == trust.KindRoot {
					return trust.Frame{Body: wire.MustMarshal(logObject{Kind: trust.KindEntry, Raw: []byte{1}})}
				}
				return f
			})
		}},
		"forged entry": {member.key, member.cert, func(c *session.Control) {
			all(c, func(f trust.Frame) trust.Frame {
				if f.Kind == trust.KindEntry {
					f.Body = append([]byte(nil), f.Body...)
					f.Body[len(f.Body)-1] ^= 1 // the signature
				}
				return f
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inv := nas.invite("gpu1")
			l := w.liar(t, tc.key, tc.cert, inv, tc.script)
			m, err := Join(t.Context(), joining(keys.NewSigningKey(), inv))
			if !errors.Is(err, ErrWrongMesh) || m != nil {
				t.Fatal(err)
			}
			<-l.done
			for _, k := range l.got {
				if k == session.KindEnroll {
					t.Fatal("the request was sent")
				}
			}
		})
	}
}

// cutter cuts its connection at the first bytes that arrive after the issuer has enrolled the newcomer.
type cutter struct {
	net.Conn
	nas *host
}

func (c cutter) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.nas.spends() > 0 {
		c.Conn.Close()
		return 0, errors.New("cut")
	}
	return n, err
}

func TestLostAnswer(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	key, inv := keys.NewSigningKey(), nas.invite("gpu1")
	cfg := joining(key, inv)
	plain := cfg.Dial
	cfg.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
		c, err := plain(ctx, to)
		if err != nil {
			return nil, err
		}
		return cutter{c, nas}, nil
	}
	_, err := Join(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "run the same command again") {
		t.Fatal(err)
	}
	serial := nas.store.Current().MaxSerial(w.issuer.Public())
	m, err := Join(t.Context(), joining(key, inv))
	ok(t, err)
	if m.Certificate.Serial != serial {
		t.Fatal("another certificate than the lost one")
	}
}

func TestTwoJoinersOneInvite(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	for round := range 10 {
		inv := nas.invite(fmt.Sprintf("n%d", round))
		var wg sync.WaitGroup
		errs := make(chan error, 2)
		for range 2 {
			wg.Go(func() {
				_, err := Join(t.Context(), joining(keys.NewSigningKey(), inv))
				errs <- err
			})
		}
		wg.Wait()
		if a, b := <-errs, <-errs; (a == nil) == (b == nil) {
			t.Fatal(a, b)
		}
	}
}

// Who finds a used invite learns nothing of the mesh: it is refused before a root or an entry is sent.
func TestUsedInviteTellsNothing(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	inv := nas.invite("gpu1")
	_, err := Join(t.Context(), joining(keys.NewSigningKey(), inv))
	ok(t, err)
	finder := joining(keys.NewSigningKey(), inv)
	finder.Confirm = func(o Offer) bool {
		t.Errorf("the finder was shown %+v", o)
		return false
	}
	if _, err := Join(t.Context(), finder); !errors.Is(err, ErrInviteRefused) {
		t.Fatal(err)
	}
}

// An issuer that cannot record an enrolment does not enrol.
func TestDegradedIssuerEnrolsNobody(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	nas.disk.Fail(durable.Fault{Op: durable.OpSync, Stay: true, Err: errors.New("EIO")})
	_, err := Join(t.Context(), joining(keys.NewSigningKey(), nas.invite("gpu1")))
	if err == nil || nas.spends() != 0 {
		t.Fatal(err)
	}
	nas.disk.Heal()
}

// The newcomer is a member with everybody, and its first byte goes through in a second.
func TestEnrolToFirstByte(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	nas.echo("echo")
	w.gid++
	c, err := nas.store.AppendOwn(w.issuer, time.Now().Unix(), trust.OpGrant{GID: w.gid, Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: "echo"}})
	ok(t, err)
	nas.Publish(c)
	key, inv := keys.NewSigningKey(), nas.invite("gpu1")
	stalls, began := testrun.Stalls(t), time.Now()
	m, err := Join(t.Context(), joining(key, inv))
	ok(t, err)
	joined := time.Since(began)
	h := &host{w: w, name: "gpu1", key: key, cert: m.Certificate, disk: durable.NewMem()}
	h.open()
	h.cfg.Peers = m.Peers
	h.run()
	s := h.dial(nas, "echo")
	ok(t, pings(s))
	total := time.Since(began)
	t.Logf("two nodes only, loopback: joined in %v, first byte through %v after the command began", joined.Round(time.Millisecond), total.Round(time.Millisecond))
	if total-stalls() > 10*time.Second {
		t.Fatal("target 1 s, measured", total)
	}
}
