package handshake

import (
	"context"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// now is the clock of these tests.
const testNow = int64(1_800_000_000)

func testClock() int64 { return testNow }

// world is a mesh with an issuer and a group secret.
type world struct {
	mesh   keys.MeshID
	issuer *keys.SigningKey
	group  keys.GroupSecret
}

// member is one node of a world.
type member struct {
	key     *keys.SigningKey
	cert    identity.Certificate
	binding identity.Binding
	local   Local
}

func newWorld(name string) *world {
	return &world{mesh: keys.MeshID(keys.Sum([]byte(name))), issuer: keys.NewSigningKey(), group: keys.NewGroupSecret(1)}
}

func (w *world) gate() keys.PSK { return w.group.Gate(w.mesh) }

func (w *world) member(name string) *member {
	m := &member{key: keys.NewSigningKey()}
	static := NewStatic()
	m.cert = identity.Certificate{
		Mesh: w.mesh, Node: m.key.NodeID(), Serial: 7, Issuer: w.issuer.Public(), NotBefore: testNow - 86400,
		NotAfter: testNow + 86400, Tags: []string{"gpu"}, Name: name, RenewUntil: testNow + 30*86400,
	}
	m.binding = identity.Binding{
		Mesh: w.mesh, Node: m.key.NodeID(), Static: static.Public(), NotBefore: testNow - 3600, NotAfter: testNow + 3600,
		Boot: identity.BootID{1, 2, 3},
	}
	m.local = Local{
		Mesh: w.mesh, Node: m.key.NodeID(), Static: static, RootVersion: 3, Digest: [8]byte{9, 8, 7}, GroupGen: 1, Features: 5,
		ConnSeq: 42,
	}
	m.sign(w)
	return m
}

// sign issues certificate and binding as they stand now.
func (m *member) sign(w *world) {
	m.local.Certificate = must(identity.IssueCertificate(m.cert, w.issuer)).Raw()
	m.bind()
}

// bind issues the binding alone.
func (m *member) bind() { m.local.Binding = must(identity.IssueBinding(m.binding, m.key)).Raw() }

// full is a policy that admits everybody.
func full(*Peer, int64) (session.State, session.Code) { return session.Full, 0 }

func (w *world) dialConfig(d, a *member, suite keys.Suite) DialConfig {
	return DialConfig{Local: d.local, Gate: w.gate(), Suite: suite, Responder: a.key.NodeID(), Verify: full, Now: testClock}
}

func (w *world) acceptor(a *member) *Acceptor { return NewAcceptor(w.acceptorConfig(a)) }

func (w *world) acceptorConfig(a *member) AcceptorConfig {
	return AcceptorConfig{
		Local:  func() Local { return a.local },
		Gates:  func() []Gate { return []Gate{{Generation: 1, PSK: w.gate()}} },
		Verify: full,
		Now:    testClock,
	}
}

// pair returns the two ends of a TCP connection over loopback.
func pair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// outcome is what one end of a handshake came to.
type outcome struct {
	r   *Result
	err error
}

var testSource = netip.MustParseAddr("127.0.0.1")

// serve lets a answer one connection, as a daemon's accept loop does.
func serve(a *Acceptor, conn net.Conn) <-chan outcome {
	c := make(chan outcome, 1)
	accepted := time.Now()
	go func() {
		var first [1]byte
		if _, err := io.ReadFull(conn, first[:]); err != nil {
			c <- outcome{nil, err}
			return
		}
		r, err := a.Accept(context.Background(), conn, keys.Suite(first[0]), testSource, accepted)
		c <- outcome{r, err}
	}()
	return c
}

// handshake runs dialer and acceptor against each other.
func runBoth(t testing.TB, d DialConfig, a *Acceptor) (dialer, acceptor outcome) {
	t.Helper()
	client, server := pair(t)
	c := serve(a, server)
	r, err := Dial(context.Background(), client, d)
	return outcome{r, err}, <-c
}

// wantReason fails the test unless err is a handshake error with that reason.
func wantReason(t testing.TB, err error, want Reason) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Reason != want {
		t.Fatalf("error %v, want reason %q", err, want)
	}
}

// attacker speaks the protocol with the second implementation and puts any bytes into any message.
type attacker struct {
	*spec
	suite    keys.Suite
	mesh     keys.MeshID
	psk0     []byte
	kem      *mlkem.DecapsulationKey768
	ek       []byte
	prologue []byte
}

// newAttacker acts as the member m towards the responder; psk0 may be anything.
func newAttacker(t testing.TB, m Local, suite keys.Suite, responder keys.NodeID, psk0 []byte, initiator bool) *attacker {
	t.Helper()
	prologue := append([]byte("meshkey/1\x00"), byte(suite))
	prologue = append(append(prologue, m.Mesh[:]...), responder[:]...)
	s := newSpec(t, specName("XXpsk0+psk2", suite), initiator, prologue)
	s.psks = [][]byte{psk0}
	s.s = m.Static.priv
	s.e = must(ecdh.X25519().GenerateKey(rand.Reader))
	a := &attacker{spec: s, suite: suite, mesh: m.Mesh, psk0: psk0, prologue: prologue}
	if initiator {
		a.kem = must(mlkem.GenerateKey768())
		a.ek = a.kem.EncapsulationKey().Bytes()
	}
	return a
}

func specKEMPSK(shared, ek, ct []byte) []byte { return keys.KEMPSK(shared, ek, ct).Bytes() }

// m1 makes message 1 around any payload.
func (a *attacker) m1(invite []byte, p1 []byte) []byte {
	return append(append([]byte{byte(a.suite)}, invite...), a.write(specM1, p1)...)
}

// p1 is the honest payload.
func (a *attacker) p1() []byte { return append([]byte{1, 0}, a.ek...) }

// readM2 opens message 2 and returns P2.
func (a *attacker) readM2(m2 []byte) ([]byte, error) {
	shared, err := a.kem.Decapsulate(m2[:1088])
	if err != nil {
		return nil, err
	}
	a.psks = append(a.psks, specKEMPSK(shared, a.ek, m2[:1088]))
	return a.read(specM2, m2[1088:])
}

// m3 makes message 3 around any payload.
func (a *attacker) m3(p3 []byte) []byte { return a.write(specM3, p3) }

// answerM1 opens message 1 as a responder and makes message 2 around any payload.
func (a *attacker) answerM1(m1, p2 []byte) ([]byte, error) {
	p1, err := a.read(specM1, m1[1:])
	if err != nil {
		return nil, err
	}
	shared, ct := must(mlkem.NewEncapsulationKey768(p1[2:])).Encapsulate()
	a.psks = append(a.psks, specKEMPSK(shared, p1[2:], ct))
	return append(ct, a.write(specM2, p2)...), nil
}

// plain is the honest P2 or P3 of a Local.
func plain(l Local) []byte { return must(l.payload(nil, testNow)) }

// attackAccept plays an attacking dialer, with gate and static key of m, against a. It returns what a made of it and how many bytes
// a sent beyond M2.
func attackAccept(t testing.TB, w *world, a *Acceptor, m Local, target keys.NodeID, p3 []byte) (outcome, int) {
	t.Helper()
	client, server := pair(t)
	c := serve(a, server)
	x := newAttacker(t, m, keys.SuiteAES, target, w.gate().Bytes(), true)
	mustWrite(t, client, x.m1(nil, x.p1()))
	m2 := make([]byte, SizeM2)
	if _, err := io.ReadFull(client, m2); err != nil {
		return <-c, 0
	}
	if _, err := x.readM2(m2); err != nil {
		t.Fatalf("attacker cannot open M2: %v", err)
	}
	mustWrite(t, client, x.m3(p3))
	o := <-c
	server.Close()
	rest, _ := io.ReadAll(client)
	return o, len(rest)
}

// attackDial plays an attacking responder, with gate and static key of m, against a dialer. It returns what the dialer made of it
// and how many bytes it sent beyond M1.
func attackDial(t testing.TB, w *world, d DialConfig, m Local, p2 []byte) (outcome, int) {
	t.Helper()
	client, server := pair(t)
	sent := make(chan int, 1)
	go func() {
		m1 := make([]byte, SizeM1)
		if _, err := io.ReadFull(server, m1); err != nil {
			sent <- 0
			return
		}
		x := newAttacker(t, m, d.Suite, d.Responder, w.gate().Bytes(), false)
		if m2, err := x.answerM1(m1, p2); err == nil {
			server.Write(m2)
		}
		rest, _ := io.ReadAll(io.LimitReader(server, SizeM3))
		sent <- len(rest)
	}()
	r, err := Dial(context.Background(), client, d)
	return outcome{r, err}, <-sent
}

func mustWrite(t testing.TB, c net.Conn, b []byte) {
	t.Helper()
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
}

// rawPayload makes P2 or P3 around any CBOR, length and padding.
func rawPayload(cbor []byte, length int, padding byte) []byte {
	b := make([]byte, sizePayload)
	b[0], b[1] = byte(length>>8), byte(length)
	n := copy(b[2:], cbor)
	for i := 2 + n; i < len(b); i++ {
		b[i] = padding
	}
	return b
}
