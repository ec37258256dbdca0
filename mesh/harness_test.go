package mesh

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	mrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/internal/netmon"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/trust"
)

// TestMain fails the run if a test left a goroutine of this module behind.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv(farEnv)); err == nil {
		if err := farEnds(n); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	testrun.AtOnce(8) // what is parallel mostly waits; what measures is not
	os.Exit(testrun.Leaks{Tests: m, Of: []string{"sovereignmesh/meshkey"}}.Run())
}

// world is a mesh under test: its root, its one issuer, and its nodes.
type world struct {
	t       testing.TB
	issuer  *keys.SigningKey
	root    *keys.SigningKey
	genesis []byte
	id      keys.MeshID
	secret  keys.GroupSecret
	port    uint16 // of beacons
	life    int64  // of certificates
	// author is where the issuer signs.
	author *trust.Store
	gid    uint64
	serial uint64
}

// host is one node of a world.
type host struct {
	*Node
	w      *world
	name   string
	key    *keys.SigningKey
	cert   *identity.SignedCertificate
	disk   *durable.Mem
	truth  *durable.Mem // of the trust log; nil before the first open
	state  *durable.Mem
	hangs  durable.FS // in place of disk for the audit log, if set
	store  *trust.Store
	log    *audit.Log
	issuer *enroll.Issuer
	boot   identity.BootID
	// leaving is what this node does when another one asks to be revoked
	leaving atomic.Pointer[func(keys.NodeID, func([]byte)) error]

	stop  func()
	noAES bool // its processor has no AES instructions
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, issuer: keys.NewSigningKey(), secret: keys.NewGroupSecret(1), port: uint16(20000 + mrand.IntN(20000)), life: 86400}
	root := keys.NewSigningKey()
	w.root = root
	now := time.Now().Unix()
	var err error
	w.genesis, w.id, err = trust.NewGenesis(trust.GenesisConfig{
		Name: "testmesh", Issued: now - 3600, Keys: []trust.RootKey{{Pub: root.Public(), Name: "r"}},
		Issuers: []trust.Issuer{{
			ID: w.issuer.Public(), Caps: trust.CapEnroll | trust.CapRevoke | trust.CapHead | trust.CapGrant, Tags: []string{"*"},
			MaxTTL: 365 * 86400, NotAfter: now + 365*86400, Name: "i",
		}},
		GroupIssuer: w.issuer.Public(),
	}, root)
	ok(t, err)
	disk := durable.NewMem()
	ok(t, trust.Create(disk, w.genesis, nil, nil))
	w.author, err = trust.Open(disk, w.id)
	ok(t, err)
	w.sign(trust.OpGroup{Generation: 1, Commit: w.secret.Commitment(w.id)})
	t.Cleanup(func() { w.author.Close() })
	return w
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) sign(ops ...trust.Op) trust.Change {
	w.t.Helper()
	c, err := w.author.AppendOwn(w.issuer, time.Now().Unix(), ops...)
	ok(w.t, err)
	return c
}

func (w *world) certify(key *keys.SigningKey, name string, tags ...string) *identity.SignedCertificate {
	w.t.Helper()
	w.serial = max(w.serial, w.author.Current().MaxSerial(w.issuer.Public())) + 1
	now := time.Now().Unix()
	c, err := identity.IssueCertificate(identity.Certificate{
		Mesh: w.id, Node: key.NodeID(), Serial: w.serial, Issuer: w.issuer.Public(), NotBefore: now - 10, NotAfter: now + w.life,
		Tags: tags, Name: name, RenewUntil: enroll.RenewForever,
	}, w.issuer)
	ok(w.t, err)
	return c
}

// member enrols a node; it runs after start.
func (w *world) member(name string, tags ...string) *host {
	w.t.Helper()
	h := &host{w: w, name: name, key: keys.NewSigningKey(), disk: durable.NewMem(), state: durable.NewMem()}
	h.cert = w.certify(h.key, name, tags...)
	w.sign(trust.EnrollOp(h.cert))
	return h
}

// allow grants a service of one node to another.
func (w *world) allow(who, on *host, service string) trust.OpGrant {
	w.t.Helper()
	w.gid++
	g := trust.OpGrant{GID: w.gid, Who: trust.NodeTarget(who.key.NodeID()), What: trust.What{Target: trust.NodeTarget(on.key.NodeID()), Service: service}}
	w.sign(g)
	return g
}

// open makes the node, with the log as the author has it now.
func (h *host) open() {
	t := h.w.t
	t.Helper()
	fresh := h.truth == nil
	if fresh {
		h.truth = durable.NewMem()
		ok(t, trust.Create(h.truth, h.w.genesis, nil, nil))
	}
	var err error
	h.store, err = trust.Open(h.truth, h.w.id)
	ok(t, err)
	pos, _, _ := h.w.author.Current().Position(h.w.issuer.Public())
	for seq := uint64(1); fresh && seq <= pos; seq++ {
		h.apply(seq)
	}
	var logs durable.FS = h.disk
	if h.hangs != nil {
		logs = h.hangs
	}
	h.log, err = audit.Open(logs, h.key, h.w.id, audit.Options{AllowDegraded: true})
	ok(t, err)
	secrets, err := NewSecrets(h.w.id, func(keys.GroupSecret) error { return nil }, h.w.secret)
	ok(t, err)
	network, err := NewHostNetwork(HostNetwork{
		At:         []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		Beacons:    beacon.Config{Port: h.w.port, LoopbackOnly: true},
		Interfaces: netmon.Config{Loopback: netmon.OnlyLoopback},
	})
	ok(t, err)
	if h.state == nil {
		h.state = durable.NewMem()
	}
	cfg := Config{
		Key: h.key, Certificate: h.cert, Secrets: secrets, Trust: h.store, Audit: h.log, Network: network, State: h.state,
		Epoch: uint64(time.Now().Unix()), AES: !h.noAES, Issuer: h.issuer, Version: "test", Log: logger(t, h.name),
		Leaving: func(id keys.NodeID, then func([]byte)) error { return (*h.leaving.Load())(id, then) },
	}
	rand.Read(cfg.Boot[:])
	rand.Read(cfg.Seed[:])
	h.boot = cfg.Boot
	h.Node, err = New(cfg)
	ok(t, err)
}

// apply brings the author's entry seq into this host's log, without telling the node.
func (h *host) apply(seq uint64) trust.Change {
	h.w.t.Helper()
	e, err := trust.ParseEntry(h.w.author.Entry(h.w.issuer.Public(), seq), h.w.id)
	ok(h.w.t, err)
	c, err := h.store.ApplyEntry(e, time.Now().Unix())
	ok(h.w.t, err)
	return c
}

// learn gives this node, as if it were the issuer's own, what the author signed last.
func (h *host) learn(c trust.Change) {
	h.w.t.Helper()
	h.Publish(h.apply(c.Seq))
}

// run opens the host if it is not, and runs it until the test ends or stop is called.
func (h *host) run() *host {
	t := h.w.t
	t.Helper()
	if h.Node == nil {
		h.open()
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	logs, endLogs := context.WithCancel(context.Background())
	wg.Go(func() { h.log.Run(logs) })
	wg.Go(func() { h.store.Run(logs) })
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", h.name, err)
			}
		case <-time.After(20 * time.Second):
			t.Errorf("%s does not stop", h.name)
		}
		endLogs()
		wg.Wait()
		h.log.Close()
		h.store.Close()
	})
	t.Cleanup(func() { h.stop() })
	select {
	case <-h.Ready():
	case err := <-done:
		t.Fatalf("%s: %v", h.name, err)
	}
	return h
}

// at is where the host accepts connections.
func (h *host) at() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), h.Port())
}

// full waits until a and b have one session with each other, full at both ends, and returns a's end of it.
func full(a, b *host) *link {
	a.w.t.Helper()
	a.post(core.AddSeed{Peer: b.key.NodeID(), At: b.at()})
	var l *link
	eventually(a.w.t, a.name+" full with "+b.name, patience, func() bool {
		l = settled(a, b)
		return l != nil
	})
	return l
}

// settled returns a's end of the one session of two hosts. While another one of theirs is on its way, which may end this one as a
// duplicate, there is none.
func settled(a, b *host) *link {
	only := func(h, other *host) *link {
		h.mu.Lock()
		n := len(h.dials)
		for _, l := range h.links {
			if l.peer.Node == other.key.NodeID() {
				n++
			}
		}
		h.mu.Unlock()
		l := h.link(other)
		if n != 1 || l == nil || !l.usable() {
			return nil
		}
		return l
	}
	la, lb := only(a, b), only(b, a)
	if la == nil || lb == nil || la.hash != lb.hash {
		return nil
	}
	return la
}

// patience is how long what takes milliseconds may take on a machine that does other things for seconds. What is promised in less says so.
const patience = 30 * time.Second

func eventually(t testing.TB, what string, within time.Duration, good func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !good() {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(began)
}

type testLog struct {
	mu sync.Mutex
	t  testing.TB
	on bool
}

func (l *testLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.on {
		l.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func logger(t testing.TB, name string) *slog.Logger {
	if os.Getenv("MESHKEY_TEST_DEBUG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	l := &testLog{t: t, on: true}
	t.Cleanup(func() { l.mu.Lock(); l.on = false; l.mu.Unlock() })
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug})).With("host", name)
}

// echo serves a service that sends back what it gets.
func (h *host) echo(service string) {
	h.w.t.Helper()
	ln, err := h.Listen(context.Background(), service)
	ok(h.w.t, err)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	h.w.t.Cleanup(func() { ln.Close() })
}

// dial opens a stream.
func (h *host) dial(to *host, service string) *Conn {
	h.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := h.DialTarget(ctx, Target{Node: to.key.NodeID(), Service: service})
	ok(h.w.t, err)
	return c
}

// pings reports whether an echo stream still works.
func pings(c net.Conn) error {
	c.SetDeadline(time.Now().Add(patience))
	defer c.SetDeadline(time.Time{})
	if _, err := c.Write([]byte("ping")); err != nil {
		return err
	}
	var b [4]byte
	_, err := io.ReadFull(c, b[:])
	return err
}

// cutAt waits until a stream is dead and returns when that was seen.
func cutAt(c net.Conn) chan time.Time {
	at := make(chan time.Time, 1)
	go func() {
		var b [1]byte
		c.Read(b[:])
		at <- time.Now()
	}()
	return at
}

// link returns the newest full session a host has with another, if any.
func (h *host) link(other *host) *link {
	l, _, _ := h.fullLink(other.key.NodeID(), time.Now())
	return l
}
