package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

func TestNamePins(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	// A question is no use: it remembers nothing.
	if q, err := a.Lookup("b/x"); err != nil || q.Node != b.key.NodeID() || len(a.pins.m) != 0 {
		t.Fatalf("%+v, %v, %d pins", q, err, len(a.pins.m))
	}
	pin := func(want error, node *host) {
		t.Helper()
		id, err := a.ResolveNode("b")
		if !errors.Is(err, want) {
			t.Fatal(err)
		}
		if err == nil && id != node.key.NodeID() {
			t.Fatal("resolved to another node")
		}
	}
	pin(nil, b)
	// A new node takes the name of a revoked one: refused, also after a restart.
	tell := func(ops ...trust.Op) { a.apply(w.sign(ops...).Seq) }
	tell(trust.OpRevokeNode{Node: b.key.NodeID()})
	pin(ErrUnknownNode, nil)
	imposter := &host{w: w, name: "b", key: keys.NewSigningKey()}
	tell(trust.EnrollOp(w.certify(imposter.key, "b")))
	pin(ErrPinChanged, nil)
	var err error
	a.pins, err = openPins(a.cfg.State, "pins")
	ok(t, err)
	pin(ErrPinChanged, nil)
	for _, text := range []string{imposter.key.NodeID().String(), imposter.key.NodeID().Short(), strings.ToLower(imposter.key.NodeID().Compact()[:11])} {
		if id, err := a.ResolveNode(text); err != nil || id != imposter.key.NodeID() {
			t.Fatal("by id it works", text, err)
		}
	}
	if _, err := a.ResolveNode(b.key.NodeID().Short()); !errors.Is(err, ErrUnknownNode) {
		t.Fatal("a revoked one by the beginning of its id", err)
	}
	// It is told of, and one decision ends it, for the keys that were looked at only.
	all := a.PinConflicts()
	if len(all) != 1 || all[0] != (PinError{Name: "b", Was: b.key.NodeID(), Is: imposter.key.NodeID()}) {
		t.Fatal(all)
	}
	for _, e := range []PinError{{Name: "b", Was: imposter.key.NodeID(), Is: imposter.key.NodeID()}, {Name: "b", Was: b.key.NodeID(), Is: b.key.NodeID()}} {
		if err := a.AcceptName(e); !errors.Is(err, ErrPinMoved) {
			t.Fatal(err)
		}
	}
	pin(ErrPinChanged, nil)
	ok(t, a.AcceptName(all[0]))
	pin(nil, imposter)
	a.pins, err = openPins(a.cfg.State, "pins")
	ok(t, err)
	if pin(nil, imposter); len(a.PinConflicts()) != 0 {
		t.Fatal("still told of")
	}
	a.closeStores()
}

// On the issuer that has enrolled the new key itself nobody is asked again; but a name whose old key is a member still does not move there
// either, nor on an issuer that has not made the enrolment.
func TestNamePinFollowsOwnIssuer(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	defer a.closeStores()
	if _, err := a.ResolveNode("b"); err != nil {
		t.Fatal(err)
	}
	next := keys.NewSigningKey()
	a.issuer = &enroll.Issuer{Key: w.issuer}
	a.Node.issuer.Store(a.issuer)
	a.apply(w.sign(trust.EnrollOp(w.certify(next, "b")), trust.EnrollOp(w.certify(b.key, "c"))).Seq)
	if _, err := a.ResolveNode("b"); !errors.Is(err, ErrPinChanged) {
		t.Fatal("a living machine's name was given away:", err)
	}
	a.apply(w.sign(trust.OpRevokeNode{Node: b.key.NodeID()}).Seq)
	a.Node.issuer.Store(&enroll.Issuer{Key: keys.NewSigningKey()})
	if _, err := a.ResolveNode("b"); !errors.Is(err, ErrPinChanged) {
		t.Fatal("on the word of another issuer:", err)
	}
	a.Node.issuer.Store(a.issuer)
	if id, err := a.ResolveNode("b"); err != nil || id != next.NodeID() {
		t.Fatal(err)
	}
}

// The beginning of an id that two keys share names neither, also when one of them is revoked: else whoever makes a key that begins as
// another's is meant as soon as that one is gone.
func TestBeginningOfTwoIDsIsNeither(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	defer a.closeStores()
	at := b.key.NodeID().Compact()[:11]
	if id, err := a.ResolveNode(at); err != nil || id != b.key.NodeID() {
		t.Fatal(err)
	}
	// The log takes any id, so the test needs no key of that beginning.
	twin := b.key.NodeID()
	twin[31] ^= 1
	a.apply(w.sign(trust.OpRevokeNode{Node: twin}).Seq)
	if _, err := a.ResolveNode(at); !errors.Is(err, ErrAmbiguousID) {
		t.Fatal(err)
	}
	if id, err := a.ResolveNode("b"); err != nil || id != b.key.NodeID() {
		t.Fatal(err)
	}
}

// A member's name is that also if it reads as the beginning of a key that is gone, or never was: one entry could make it unusable for good. Where
// it reads as another member's, it names neither.
func TestNameLikeTheBeginningOfAnID(t *testing.T) {
	w := newWorld(t)
	a, other := w.member("a"), keys.NewSigningKey()
	name := strings.ToLower(other.NodeID().Compact()[:11])
	b := w.member(name)
	a.open()
	defer a.closeStores()
	is := func(text string, id keys.NodeID, want error) {
		t.Helper()
		if got, err := a.ResolveNode(text); !errors.Is(err, want) || err == nil && got != id {
			t.Fatal(text, got.Short(), err)
		}
	}
	is(name, b.key.NodeID(), nil)
	is(strings.ToUpper(name), keys.NodeID{}, ErrUnknownNode)
	a.apply(w.sign(trust.EnrollOp(w.certify(other, "other"))).Seq)
	is(name, keys.NodeID{}, ErrAmbiguousID)
	is(strings.ToUpper(name), other.NodeID(), nil)
	a.apply(w.sign(trust.OpRevokeNode{Node: other.NodeID()}).Seq)
	is(name, b.key.NodeID(), nil)
	is(strings.ToUpper(name), keys.NodeID{}, ErrUnknownNode)
}

func (h *host) closeStores() { h.log.Close(); h.store.Close() }

func TestNamePinFollowsRotation(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	defer a.closeStores()
	if _, err := a.ResolveNode("b"); err != nil {
		t.Fatal(err)
	}
	next := keys.NewSigningKey()
	cert := w.certify(next, "b")
	rot := &trust.Successor{Node: next.NodeID(), Sig: trust.RotateSignature(w.id, b.key, next.NodeID())}
	a.apply(w.sign(trust.OpRevokeNode{Node: b.key.NodeID(), Successor: rot}, trust.EnrollOp(cert)).Seq)
	id, err := a.ResolveNode("b")
	if err != nil || id != next.NodeID() {
		t.Fatal(id.Short(), err)
	}
}

func TestDamagedPinsAreAnError(t *testing.T) {
	disk := durable.NewMem()
	ok(t, durable.WriteFile(disk, "pins", []byte("garbage")))
	if _, err := openPins(disk, "pins"); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Fatal(err)
	}
}

func TestNameConflictResolvesToNeither(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := w.member("a"), w.member("twin"), w.member("c")
	other := keys.NewSigningKey()
	w.sign(trust.EnrollOp(w.certify(other, "twin")))
	w.allow(b, a, "echo")
	a.run()
	if _, err := a.ResolveNode("twin"); !errors.Is(err, ErrNameConflict) {
		t.Fatal(err)
	}
	if _, err := a.ResolveNode(b.key.NodeID().String()); err != nil {
		t.Fatal("the id works:", err)
	}
	if _, err := a.ResolveNode("c"); err != nil {
		t.Fatal(err)
	}
	_ = c
	// No name is passed to a service.
	ln, err := a.Listen(context.Background(), "echo")
	ok(t, err)
	defer ln.Close()
	b.run()
	full(b, a)
	s := b.dial(a, "echo")
	in, err := ln.Accept()
	ok(t, err)
	if who, is := Peer(in); !is || who.Name != "" || who.Node != b.key.NodeID() {
		t.Fatalf("%+v", who)
	}
	s.Abort()
	in.Close()
	for _, p := range a.Peers() {
		if p.Conflict != (p.Node == b.key.NodeID() || p.Node == other.NodeID()) || p.Conflict && p.Name != "" {
			t.Fatalf("%+v", p)
		}
	}
}

func TestEvents(t *testing.T) {
	w, a, b := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	sub := b.Events(ctx)
	c := a.dial(b, "echo")
	ok(t, pings(c))
	c.Close()
	if _, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: "other"}); err == nil {
		t.Fatal("allowed")
	}
	b.learn(w.sign(trust.OpRevokeNode{Node: a.key.NodeID()}))
	want := map[EventKind]bool{EventStream: true, EventDenied: true, EventTrust: true}
	late := time.After(patience)
	for len(want) > 0 {
		select {
		case e := <-sub.C:
			if e.Time.IsZero() {
				t.Fatal("without a time", e)
			}
			if e.Kind == EventDenied && (e.Node != a.key.NodeID() || e.Service != "other") {
				t.Fatal(e)
			}
			delete(want, e.Kind)
		case <-late:
			t.Fatal("not told:", want)
		}
	}
	// A slow subscriber loses the oldest, and is told how many. Nothing else happens meanwhile.
	a.stop()
	b.stop()
	for i := range eventBuffer + 10 {
		b.notify(Event{Kind: EventAlarm, Text: string(rune('a' + i%26))})
	}
	if sub.Missed() < 10 || sub.Missed() != 0 || len(sub.C) != eventBuffer {
		t.Fatal(len(sub.C))
	}
	cancel()
	eventually(t, "channel closed", patience, func() bool {
		_, open := <-sub.C
		return !open
	})
}

// A node that stops says so, and leaves nothing.
func TestStopTellsPeers(t *testing.T) {
	_, a, b := pair(t)
	l := a.link(b)
	c := a.dial(b, "echo")
	b.stop()
	eventually(t, "a sees the end", patience, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.links[l.id] == nil && l.code != 0
	})
	if l.code != session.CodeShutdown {
		t.Fatal(l.code, l.why)
	}
	if err := pings(c); err == nil {
		t.Fatal("a stream to a stopped node")
	}
	if _, err := net.DialTimeout("tcp", b.at().String(), time.Second); err == nil {
		t.Fatal("still listening")
	}
	if _, err := b.DialTarget(t.Context(), Target{Node: a.key.NodeID(), Service: "x"}); !errors.Is(err, ErrClosed) {
		t.Fatal(err)
	}
	if len(b.links) != 0 || len(b.streams.peers) != 0 {
		t.Fatal("left behind", b.links, b.streams.peers)
	}
}

func TestAPIBeforeRun(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: "x"}); !errors.Is(err, ErrUnreachable) {
		t.Fatal(err)
	}
	done, end := context.WithCancel(t.Context())
	end()
	ln, err := a.Listen(done, "x") // over before it began
	ok(t, err)
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	eventually(t, "withdrawn", patience, func() bool { return len(a.Services()) == 0 })
	if _, err := a.Handle("Bad Name", "tcp", echoHandler{}); !errors.Is(err, identity.ErrName) {
		t.Fatal(err)
	}
	remove, err := a.Handle("x", "tcp", echoHandler{})
	ok(t, err)
	if _, err := a.Handle("x", "tcp", echoHandler{}); !errors.Is(err, ErrServiceTaken) {
		t.Fatal(err)
	}
	remove()
	a.run()
}

// That this node is revoked is said by members alone, until they have a session with it again.
func TestWhoSaysRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := w.member("a"), w.member("b"), w.member("c")
	a.run()
	sayAt := func(h *host, at time.Time) {
		a.mu.Lock()
		a.refusals[h.key.NodeID()] = refusal{code: session.CodeRevoked, at: at}
		a.mu.Unlock()
	}
	say := func(h *host) { sayAt(h, time.Now()) }
	say(b)
	say(&host{key: keys.NewSigningKey()})
	if got := a.RevokedBy(time.Time{}); len(got) != 1 || got[0] != b.key.NodeID() || !a.ShutOut() {
		t.Fatal(got)
	}
	// Its word is about itself alone, and what it has just said it is not asked again.
	if !a.Refuses(t.Context(), b.key.NodeID()) || a.Refuses(t.Context(), c.key.NodeID()) {
		t.Fatal("not the peer's own word")
	}
	if got := a.IssuersSayRevoked(); len(got) != 0 {
		t.Fatal("it does not issue", got)
	}
	if by, all := a.issuersRefuse(time.Time{}); all {
		t.Fatal("no issuer has been asked", by)
	}
	issues := func(h *host, is bool) {
		a.mu.Lock()
		defer a.mu.Unlock()
		p := a.presence[h.key.NodeID()]
		p.issues = is
		a.presence[h.key.NodeID()] = p
	}
	issues(b, true)
	if by, all := a.issuersRefuse(time.Time{}); !all || by != b.key.NodeID() || len(a.IssuersSayRevoked()) != 1 {
		t.Fatal("the one that issues has said so")
	}
	issues(c, true)
	if by, all := a.issuersRefuse(time.Time{}); all {
		t.Fatal("another one that issues has not", by)
	}
	issues(b, false)
	issues(c, false)
	sayAt(b, time.Now().Add(-refusalLife-time.Second))
	if got := a.RevokedBy(time.Time{}); len(got) != 0 || a.ShutOut() {
		t.Fatal("said long ago:", got)
	}
	say(b)
	if got := a.RevokedBy(time.Now().Add(time.Second)); len(got) != 0 {
		t.Fatal("since a moment to come:", got)
	}
	c.run()
	full(a, c)
	if got := a.RevokedBy(time.Time{}); len(got) != 1 || a.ShutOut() {
		t.Fatal("another one lets it in", got)
	}
	b.run()
	full(a, b)
	if got := a.RevokedBy(time.Time{}); len(got) != 0 {
		t.Fatal("it has a session with who said so", got)
	}
	// A refusal that a root has taken back is over as soon as the peer is asked.
	sayAt(b, time.Now().Add(-core.ShutOutFirst-time.Second))
	if len(a.RevokedBy(time.Time{})) != 1 || a.Refuses(t.Context(), b.key.NodeID()) {
		t.Fatal("not asked again")
	}
	say(b)
	a.learn(w.sign(trust.OpRevokeNode{Node: b.key.NodeID()}))
	eventually(t, "the word of one who is gone counts no more", patience, func() bool { return len(a.RevokedBy(time.Time{})) == 0 })
}

// A new node on the link is found by its beacons.
func TestDiscovery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.run()
	eventually(t, "a's own burst over", patience, func() bool { return a.Counters()["beacon.sent"] >= 3 })
	began := time.Now()
	b.run()
	eventually(t, "sessions", patience, func() bool { return a.link(b) != nil && b.link(a) != nil })
	t.Logf("a new node on loopback has a full session, by beacons alone, %v after its start (target 1.5 s)", time.Since(began).Round(time.Millisecond))
}

// Strangers' announcements grow nothing.
func TestUnknownIDsAreNotKept(t *testing.T) {
	w := newWorld(t)
	a := w.member("a").run()
	for range 100 {
		id := keys.NewSigningKey().NodeID()
		a.noteBeacon(&beacon.Heard{Announcement: beacon.Announcement{Node: id}, Envelope: []byte{1}})
		a.noteRecord(id, order{1, 1}, nil)
		a.noteDial(id, a.at(), errors.New("x"))
		a.peerChanged(core.PeerChanged{Peer: id})
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.presence) + len(a.records) + len(a.endpoints) + len(a.dialErrs) + len(a.guards.announced); n != 0 {
		t.Fatal(n, "entries")
	}
}

// BenchmarkNewStream measures a whole open: connect, S1, decision, audit record (in memory), ACCEPT, four bytes there and back.
func BenchmarkNewStream(b *testing.B) {
	_, x, y := pair(b)
	for b.Loop() {
		c := x.dial(y, "echo")
		ok(b, pings(c))
		c.Abort()
	}
}

// TestIdleSessionMemory measures what 200 idle full sessions cost: heap and stacks after collection, divided by their number. The other
// ends are bare control sessions in the same process, so the figure is an upper bound of one end.
func TestIdleSessionMemory(t *testing.T) {
	const sessions = 200
	manyFiles(t, 2*sessions+100)
	w := newWorld(t)
	hub := w.member("hub")
	var all []*host
	for i := range sessions {
		all = append(all, w.member(fmt.Sprintf("n%d", i)))
	}
	hub.run()
	before := heap()
	var held []*session.Control
	beat, err := session.EncodeHeartbeat(session.Heartbeat{Digest: hub.State().Digest(), Degree: 1})
	ok(t, err)
	beaten := time.Now()
	for _, h := range all {
		held = append(held, h.bare(t, hub))
		// One that says nothing for 20 s is over, and a slow machine may take longer for all of them.
		if time.Since(beaten) > core.Interval {
			for _, c := range held {
				ok(t, c.Send(session.RecordHeartbeat, beat))
			}
			beaten = time.Now()
		}
	}
	eventually(t, "all full", patience, func() bool { return hub.sessions() == sessions })
	each := (int64(heap()) - int64(before)) / sessions
	t.Logf("%d idle full sessions: %d bytes each, both ends (target 12 KB for one)", sessions, each)
	if each > 40<<10 {
		t.Fatal("too much:", each)
	}
	runtime.KeepAlive(held)
	for _, c := range held {
		c.Reset()
	}
}

// bare makes a session to another host without a node behind it, and says that it is full.
func (h *host) bare(t testing.TB, to *host) *session.Control {
	t.Helper()
	d := net.Dialer{LocalAddr: otherSource()}
	conn, err := d.Dial("tcp", to.at().String())
	ok(t, err)
	static := handshake.NewStatic()
	now := time.Now().Unix()
	b, err := identity.IssueBinding(identity.Binding{Mesh: h.w.id, Node: h.key.NodeID(), Static: static.Public(), NotBefore: now, NotAfter: now + 600, Boot: identity.BootID{1}}, h.key)
	ok(t, err)
	res, err := handshake.Dial(context.Background(), conn, handshake.DialConfig{
		Local: handshake.Local{Mesh: h.w.id, Node: h.key.NodeID(), Static: static, Certificate: h.cert.Raw(), Binding: b.Raw(), RootVersion: 1, GroupGen: 1},
		Gate:  h.w.secret.Gate(h.w.id), Suite: keys.SuiteAES, Responder: to.key.NodeID(),
		Verify: func(*handshake.Peer, int64) (session.State, session.Code) { return session.Full, 0 },
		Now:    func() int64 { return time.Now().Unix() },
	})
	ok(t, err)
	ctl := session.NewControl(conn, res.Keys, res.Role)
	for { // its READY comes first
		rt, body, err := ctl.Receive()
		ok(t, err)
		if b, err := session.ParseBody(body); rt == session.RecordControl && err == nil && b.Kind() == session.KindReady {
			break
		}
	}
	ok(t, ctl.SendBody(session.Ready{State: session.Full}))
	return ctl
}

func heap() uint64 {
	var m runtime.MemStats
	for range 8 { // a collection halves a stack that has become too large
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
