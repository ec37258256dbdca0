package mesh

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// pair is two nodes with a session, b offering "echo" to a.
func pair(t testing.TB) (w *world, a, b *host) {
	w = newWorld(t)
	a, b = w.member("a"), w.member("b")
	w.allow(a, b, "echo")
	a.run()
	b.run()
	b.echo("echo")
	full(a, b)
	return w, a, b
}

func TestStreamEchoes(t *testing.T) {
	_, a, b := pair(t)
	c := a.dial(b, "echo")
	ok(t, pings(c))
	if who, is := Peer(c); !is || who.Node != b.key.NodeID() {
		t.Fatal(who)
	}
	ok(t, c.Close())
	eventually(t, "both sets empty", patience, func() bool {
		return a.streams.count(b.key.NodeID()) == 0 && b.streams.count(a.key.NodeID()) == 0
	})
}

// gate is a handler that waits in Prepare until it is let through, and counts who gets to Serve.
type gate struct {
	inside chan struct{}
	pass   chan struct{}
	served atomic.Int32
	aborts atomic.Int32
}

func newGate() *gate { return &gate{inside: make(chan struct{}, 64), pass: make(chan struct{})} }

func (g *gate) Prepare(ctx context.Context, _ Caller) (Prepared, error) {
	g.inside <- struct{}{}
	select {
	case <-g.pass:
		return g, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (g *gate) Abort() { g.aborts.Add(1) }
func (g *gate) Serve(_ context.Context, c *Conn) {
	g.served.Add(1)
	c.Close()
}

// The opening order: what happens between the decision and ACCEPT must never reach the service.
func TestOpeningOrder(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		change func(w *world, a, b *host, g trust.OpGrant) trust.Change
		code   session.Code
	}{
		"revoked": {func(w *world, a, b *host, _ trust.OpGrant) trust.Change {
			return w.sign(trust.OpRevokeNode{Node: a.key.NodeID()})
		}, 0},
		"ungranted": {func(w *world, a, b *host, g trust.OpGrant) trust.Change {
			return w.sign(trust.OpUngrant{Issuer: w.issuer.Public(), GID: g.GID})
		}, session.CodeNotAdmitted},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.member("a"), w.member("b")
			grant := w.allow(a, b, "vault")
			a.run()
			b.run()
			g := newGate()
			remove, err := b.Handle("vault", "tcp", g)
			ok(t, err)
			defer remove()
			full(a, b)
			result := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				c, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: "vault"})
				if err == nil {
					c.Write([]byte("secret"))
					c.Close()
				}
				result <- err
			}()
			<-g.inside
			epoch := b.streams.now()
			b.learn(tc.change(w, a, b, grant))
			eventually(t, "swept", patience, func() bool { return b.streams.now() > epoch })
			close(g.pass)
			if err := <-result; err == nil {
				t.Fatal("accepted after the right was gone")
			}
			eventually(t, "given back", patience, func() bool { return g.aborts.Load() == 1 })
			if n := g.served.Load(); n != 0 {
				t.Fatalf("served %d streams", n)
			}
		})
	}
}

// A sweep between decision and ACCEPT that changes nothing makes the decision start over, not fail.
func TestOpeningDecidesAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	w.allow(a, b, "vault")
	a.run()
	b.run()
	g := newGate()
	remove, err := b.Handle("vault", "tcp", g)
	ok(t, err)
	defer remove()
	full(a, b)
	result := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		c, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: "vault"})
		if err == nil {
			c.Close()
		}
		result <- err
	}()
	<-g.inside
	b.sweep()
	close(g.pass)
	ok(t, <-result)
	if g.aborts.Load() != 1 || len(g.inside) != 1 {
		t.Fatalf("%d aborts, %d more prepared", g.aborts.Load(), len(g.inside))
	}
}

func TestPanickingServiceEndsItsStreamOnly(t *testing.T) {
	w, a, b := pair(t)
	w.gid++
	w.sign(trust.OpGrant{GID: w.gid, Who: trust.AnyNode(), What: trust.What{Target: trust.AnyNode(), Service: "*"}})
	pos, _, _ := w.author.Current().Position(w.issuer.Public())
	b.learn(trust.Change{Seq: pos})
	for _, s := range []string{"prepare", "serve"} {
		remove, err := b.Handle(s, "tcp", panicky(s))
		ok(t, err)
		defer remove()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		c, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: s})
		if err == nil {
			if err := pings(c); err == nil {
				t.Fatal("a dead service answers")
			}
			c.Close()
		}
		cancel()
	}
	eventually(t, "no stream left", patience, func() bool { return b.streams.count(a.key.NodeID()) == 0 })
	ok(t, pings(a.dial(b, "echo")))
	eventually(t, "both are counted", patience, func() bool { return b.Counters()["panic"] == 2 })
}

// A bug met in a session or a datagram ends that alone.
func TestPanicsAreContained(t *testing.T) {
	w := newWorld(t)
	a := w.member("a")
	a.open()
	if _, err := a.readLinkContained(&link{}); err == nil {
		t.Error("a session without a connection has no error")
	}
	a.receiver = nil
	a.datagram(beacon.Packet{})
	if a.counters.m["panic"] != 2 {
		t.Errorf("%d panics counted, want 2", a.counters.m["panic"])
	}
}

type panicky string

func (p panicky) Prepare(context.Context, Caller) (Prepared, error) {
	if p == "prepare" {
		panic("prepare")
	}
	return p, nil
}
func (panicky) Serve(context.Context, *Conn) { panic("serve") }
func (panicky) Abort()                       {}

// A log that cannot be written stops new streams, and stops no revocation.
func TestDegradedAuditRefusesStreams(t *testing.T) {
	w, a, b := pair(t)
	running := a.dial(b, "echo")
	ok(t, pings(running))
	b.disk.Fail(durable.Fault{Op: durable.OpSync, Stay: true, Err: errors.New("disk on fire")})
	eventually(t, "degraded", patience, func() bool {
		b.log.Append(audit.Event{Code: audit.DaemonStart})
		return b.log.Status().Degraded != nil
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: "echo"})
	var re *session.RefusedError
	if !errors.As(err, &re) || re.Code != session.CodeDegraded {
		t.Fatal(err)
	}
	ok(t, pings(running))
	dead := cutAt(running)
	b.learn(w.sign(trust.OpRevokeNode{Node: a.key.NodeID()}))
	select {
	case <-dead:
	case <-time.After(patience):
		t.Fatal("revocation does not work without the audit log")
	}
	b.disk.Heal()
}

func TestStreamSurvivesItsSession(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	c := a.dial(b, "echo")
	ok(t, pings(c))
	for round := range 3 {
		l := a.link(b)
		l.ctl.Reset()
		eventually(t, "session gone", patience, func() bool { return a.link(b) != l })
		ok(t, pings(c)) // within the grace, with no session at all or a new one
		if n := full(a, b); n == l {
			t.Fatal("the same session")
		}
		if err := pings(c); err != nil {
			t.Fatal(round, err)
		}
	}
}

func TestStreamSurvivesDuplicateResolution(t *testing.T) {
	_, a, b := pair(t)
	c := a.dial(b, "echo")
	ok(t, pings(c))
	low, high := a, b
	if string(idBytes(b)) < string(idBytes(a)) {
		low, high = b, a
	}
	old := low.link(high)
	// A session dialled anew by either side, as if neither had known of the other's.
	for _, h := range []*host{low, high} {
		other := high
		if h == high {
			other = low
		}
		go h.dialPeer(h.ctx, core.Dial{ID: 1 << 40, Peer: other.key.NodeID(), At: other.at(), AES: true})
	}
	eventually(t, "the old session replaced or kept, one left", patience, func() bool {
		low.mu.Lock()
		defer low.mu.Unlock()
		return len(low.links) == 1 && low.connSeq.Load() > 0
	})
	_ = old
	full(low, high)
	ok(t, pings(c))
}

func idBytes(h *host) []byte { id := h.key.NodeID(); return id[:] }

// What was on its way over the loser of a duplicate is taken; what was on its way over a session that is gone is tried again.
func TestStreamOverLoser(t *testing.T) {
	_, a, b := pair(t)
	l := a.link(b)
	bl := b.link(a)
	// b's side has lost the session as a duplicate while another full session with a goes on.
	b.streams.sessionFull(a.key.NodeID(), bl.peer.Boot)
	bl.duplicate.Store(true)
	bl.state.Store(uint32(session.Closed))
	c, _, err := a.openStream(context.Background(), l, Target{Node: b.key.NodeID(), Service: "echo"}, &session.Early{})
	ok(t, err)
	ok(t, pings(c))
	bl.duplicate.Store(false)
	_, retry, err := a.openStream(context.Background(), l, Target{Node: b.key.NodeID(), Service: "echo"}, &session.Early{})
	if err == nil || !retry {
		t.Fatal("a session that ended", retry, err)
	}
}

func TestStreamDiesWithAnotherBoot(t *testing.T) {
	w, a, b := pair(t)
	c := b.dialBack(t, w, a)
	dead := cutAt(c)
	a.stop()
	again := &host{w: w, name: "a2", key: a.key, cert: a.cert, disk: durable.NewMem()}
	again.run()
	full(again, b)
	select {
	case <-dead:
	case <-time.After(patience):
		t.Fatal("a stream outlives its peer's boot")
	}
}

// dialBack opens a stream from b to a that b keeps after a is gone: a's end is cut without a word.
func (h *host) dialBack(t *testing.T, w *world, a *host) *Conn {
	w.allow(h, a, "back")
	pos, _, _ := w.author.Current().Position(w.issuer.Public())
	a.learn(trust.Change{Seq: pos})
	a.echo("back")
	c := h.dial(a, "back")
	ok(t, pings(c))
	return c
}

// What a sweep has cut is neither accepted nor given a new meaning, and what came into the set before a sweep is decided again.
func TestStreamSetSweep(t *testing.T) {
	s := newStreamSet()
	peer, boot := [32]byte{1}, [16]byte{1}
	s.sessionFull(peer, boot)
	e := &entry{peer: peer, boot: boot}
	cuts := make(chan session.Code, 1)
	s.join(e, func(c session.Code) { cuts <- c })
	epoch := s.now()
	if good, gone := s.stillGood(e, epoch, nil); !good || gone {
		t.Fatal("not good")
	}
	if s.sweep(func(*entry) (bool, string, session.Code) { return true, "", 0 }) != 0 || s.now() == epoch {
		t.Fatal("a sweep must count")
	}
	if good, gone := s.stillGood(e, epoch, nil); good || gone {
		t.Fatal("a decision from before the sweep stands")
	}
	if n := s.cutPeer(peer, "revoked", session.CodeRevoked); n != 1 || <-cuts != session.CodeRevoked {
		t.Fatal(n)
	}
	if good, gone := s.stillGood(e, s.now(), nil); good || !gone {
		t.Fatal("a stream that was cut is accepted")
	}
	if s.replaceCut(e, func(session.Code) {}) {
		t.Fatal("a stream that was cut gets a new meaning")
	}
	if why, code := s.leave(e); why != "revoked" || code != session.CodeRevoked {
		t.Fatal(why, code)
	}
}

// Resets that wait for a stalled peer wait together, and nobody waits for them.
func TestCutsDoNotWaitForEachOther(t *testing.T) {
	const streams = 500
	s := newStreamSet()
	peer, boot := [32]byte{1}, [16]byte{1}
	s.sessionFull(peer, boot)
	var inside sync.WaitGroup
	inside.Add(streams)
	for range streams {
		s.join(&entry{peer: peer, boot: boot}, func(session.Code) {
			inside.Done()
			inside.Wait() // returns only when all the others are being cut too
		})
	}
	if n := s.cutPeer(peer, "revoked", session.CodeRevoked); n != streams {
		t.Fatal(n)
	}
	s.stop()
}

func TestStreamSetBoots(t *testing.T) { synctest.Test(t, testStreamSetBoots) }

func testStreamSetBoots(t *testing.T) {
	s := newStreamSet()
	peer := [32]byte{1}
	boot, other := [16]byte{1}, [16]byte{2}
	join := func(b [16]byte) (chan session.Code, bool) {
		cut := make(chan session.Code, 1)
		return cut, s.join(&entry{peer: peer, boot: b}, func(c session.Code) { cut <- c })
	}
	if _, in := join(boot); in {
		t.Fatal("joined without a full session")
	}
	s.sessionFull(peer, boot)
	cut, in := join(boot)
	if !in {
		t.Fatal("not joined")
	}
	// Lost and back within the grace: goes on.
	s.sessionLost(peer, boot)
	if _, in := join(boot); in {
		t.Fatal("joined in the grace")
	}
	s.sessionFull(peer, boot)
	select {
	case <-cut:
		t.Fatal("cut although the session came back")
	case <-time.After(3 * s.grace):
	}
	// Another life of the peer: cut at once.
	s.sessionFull(peer, other)
	if c := <-cut; c != session.CodeProtocol {
		t.Fatal(c)
	}
	// Lost for longer than the grace: cut.
	s.sessionLost(peer, boot)
	cut, _ = join(other)
	began := time.Now()
	s.sessionLost(peer, other)
	<-cut
	if d := time.Since(began); d != s.grace {
		t.Fatalf("cut after %v, want %v", d, s.grace)
	}
	synctest.Wait()
	if len(s.peers) != 0 {
		t.Fatal("left behind:", s.peers)
	}
}

// The core hears when a peer's first stream comes and its last one goes, and nothing in between; a change that was undone is none.
func TestUsingIsTold(t *testing.T) {
	s := newStreamSet()
	id, boot := keys.NodeID{1}, identity.BootID{1}
	s.sessionFull(id, boot)
	one, two := &entry{peer: id, boot: boot}, &entry{peer: id, boot: boot}
	cut := func(session.Code) {}
	told := func() int { return len(s.changes()) }
	if !s.join(one, cut) || !s.join(two, cut) {
		t.Fatal("not in the set")
	}
	if got := s.changes(); len(got) != 1 || got[0] != (core.Using{Peer: id, Streams: true}) {
		t.Fatal(got)
	}
	if s.leave(one); told() != 0 {
		t.Fatal("one of two streams went, and the peer counts as unused")
	}
	s.leave(two)
	select {
	case <-s.kick:
	default:
		t.Fatal("the loop was not woken")
	}
	if got := s.changes(); len(got) != 1 || got[0] != (core.Using{Peer: id}) {
		t.Fatal(got)
	}
	s.join(&entry{peer: id, boot: boot}, cut)
	s.cutPeer(id, "test", session.CodeRevoked)
	if told() != 0 {
		t.Fatal("a stream that came and went is told")
	}
	s.stop()
}
