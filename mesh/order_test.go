package mesh

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// The tests of this file hold orders that a running node nearly always shows by chance: they stop the node in the middle.

// inCall waits until a goroutine is in a function.
func inCall(t testing.TB, name string) {
	t.Helper()
	eventually(t, "a goroutine in "+name, patience, func() bool {
		buf := make([]byte, 1<<20)
		return strings.Contains(string(buf[:runtime.Stack(buf, true)]), name+"(")
	})
}

// noPackets are sockets that take everything and receive nothing.
type noPackets struct{ Packets }

func (noPackets) Port() uint16                         { return 1 }
func (noPackets) Broadcast([]byte) error               { return nil }
func (noPackets) Unicast(netip.AddrPort, []byte) error { return nil }

// byHand is a node whose loop is the test, with a link to another member that nobody reads or writes.
func byHand(t *testing.T) (a *host, l *link) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	t.Cleanup(a.closeStores)
	a.packets, a.timer = noPackets{}, time.NewTimer(time.Hour)
	a.endpointsA.Store(&[]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")})
	c1, c2 := net.Pipe()
	t.Cleanup(func() { c1.Close(); c2.Close() })
	k := keys.NewSession(keys.SuiteChaCha, 0, keys.TrafficKeyFromBytes(make([]byte, 32)), keys.TrafficKeyFromBytes(make([]byte, 32)), keys.Hash{1})
	l = &link{
		id: 1, peer: linkPeer{Node: b.key.NodeID(), Boot: [16]byte{1}}, role: keys.RoleAcceptor, remote: netip.MustParseAddrPort("127.0.0.2:2"),
		ctl: session.NewControl(c1, k, keys.RoleAcceptor), ring: session.NewKeyring(k, keys.RoleAcceptor, nil), started: time.Now(),
		told: time.Now().Unix(),
	}
	l.out.writing = true
	a.links[l.id] = l
	a.step(t.Context(), core.SessionUp{
		ID: l.id, Peer: l.peer.Node, Role: l.role, Boot: l.peer.Boot, ConnSeq: 1, Remote: l.remote, Certificate: b.cert, RootVersion: 1,
	})
	return a, l
}

// says lets the peer send a control body.
func (h *host) says(l *link, b session.Body, raw []byte) {
	h.w.t.Helper()
	if raw == nil {
		var err error
		raw, err = session.Encode(b)
		ok(h.w.t, err)
	}
	h.step(context.Background(), core.FrameIn{ID: l.id, Body: b, Raw: raw})
}

// fills makes the link full: the peer says that it is, and shows the same log.
func (h *host) fills(l *link) {
	h.w.t.Helper()
	h.says(l, session.Ready{State: session.Full}, nil)
	h.shows(l)
}

// shows lets the peer show that it holds the same log.
func (h *host) shows(l *link) {
	h.w.t.Helper()
	raw := trust.NewHub(h.store).NewSync(false).Vec(0)[0].Body
	b, err := session.ParseBody(raw)
	ok(h.w.t, err)
	h.says(l, b, raw)
}

// queued names what waits to be written.
func queued(t *testing.T, l *link) (kinds []string) {
	for _, f := range slices.Concat(l.out.urgent, l.out.other) {
		if f.kind != session.RecordControl {
			continue
		}
		b, err := session.ParseBody(f.body)
		ok(t, err)
		name := b.Kind().String()
		if r, is := b.(session.Ready); is {
			name += " " + r.State.String()
		}
		kinds = append(kinds, name)
	}
	return kinds
}

// Streams and tags are in place before anybody can see that the session is full: the peer's first stream may come at once.
func TestStreamsInPlaceBeforeFull(t *testing.T) {
	a, l := byHand(t)
	a.streams.mu.Lock()
	var wg sync.WaitGroup
	wg.Go(func() { a.sessionState(core.SessionState{ID: l.id, State: session.Full, Local: session.Full}) })
	inCall(t, "(*streamSet).sessionFull")
	seen, tags := l.usable(), a.tags.Size()
	a.streams.mu.Unlock()
	wg.Wait()
	if seen {
		t.Error("the session shows as full before its peer's streams can join")
	}
	if tags == 0 {
		t.Error("the peer's streams can join before their tags are valid")
	}
	if !l.usable() {
		t.Error("not full in the end")
	}
}

// What only a full session may be sent follows the READY that makes it one.
func TestReadyGoesFirst(t *testing.T) {
	a, l := byHand(t)
	a.says(l, session.Ready{State: session.Full}, nil)
	if k := queued(t, l); !slices.Contains(k, "READY restricted") || slices.Contains(k, "READY full") {
		t.Fatal("the node is to have said restricted:", k)
	}
	a.shows(l)
	k := queued(t, l)
	ready := slices.Index(k, "READY full")
	for _, kind := range []string{"PEER", "SERVICES"} {
		if i := slices.Index(k, kind); ready < 0 || i < ready {
			t.Errorf("%s is to follow READY full: %s", kind, k)
		}
	}
}

// A body behind the READY that allows it waits until the core has seen that, and counts.
func TestShellFrameWaitsForTheCore(t *testing.T) {
	a, l := byHand(t)
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = a.shellFrame(t.Context(), l, session.Services{K: session.KindServices, Seq: 1}) })
	select {
	case ev := <-a.events:
		if l.usable() {
			t.Error("full too early")
		}
		a.fills(l)
		a.step(t.Context(), ev)
	case <-time.After(patience):
		t.Error("the reader does not ask the core")
	}
	wg.Wait()
	if err != nil || l.services.Load() == nil {
		t.Fatal("what came behind READY was dropped", err)
	}
	// A peer that is not full gets no more than that.
	a, l = byHand(t)
	wg.Go(func() { err = a.shellFrame(t.Context(), l, session.Services{K: session.KindServices, Seq: 1}) })
	a.step(t.Context(), <-a.events)
	wg.Wait()
	if err != nil || l.services.Load() != nil || a.Counters()["control.too-early"] != 1 {
		t.Fatal("services of a peer that is not full", err)
	}
}

// Streams whose sessions come and go have the whole grace each time, and no more.
func TestGraceBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStreamSet()
		peer, boot := [32]byte{1}, [16]byte{1}
		s.sessionFull(peer, boot)
		began := time.Now()
		var cut time.Duration
		s.join(&entry{peer: peer, boot: boot}, func(session.Code) { cut = time.Since(began) })
		s.sessionLost(peer, boot)
		time.Sleep(streamGrace - time.Second)
		s.sessionFull(peer, boot)
		s.sessionLost(peer, boot)
		time.Sleep(2 * streamGrace)
		synctest.Wait()
		if want := 2*streamGrace - time.Second; cut != want {
			t.Fatalf("cut after %v, want %v", cut, want)
		}
		if len(s.peers) != 0 {
			t.Fatal("left behind:", s.peers)
		}
		// A boot id that does not come back is forgotten, whatever else the peer has.
		other := [16]byte{2}
		s.sessionFull(peer, boot)
		s.join(&entry{peer: peer, boot: boot}, func(session.Code) {})
		s.sessionLost(peer, boot)
		s.sessionFull(peer, other)
		time.Sleep(2 * streamGrace)
		synctest.Wait()
		if boots := s.peers[peer].boots; len(boots) != 1 || boots[0].boot != other {
			t.Fatal("left behind:", boots)
		}
		s.stop()
	})
}

// The time floor does not follow a session that is not full, nor a peer whose clock differs.
func TestOnlyAFullSessionLiftsTheTimeFloor(t *testing.T) {
	lifted := func(a *host) bool { return a.store.Now(0) > 0 }
	a, l := byHand(t)
	ok(t, a.store.ResetFloor(1))
	a.says(l, session.Ready{State: session.Restricted}, nil)
	a.sessionState(core.SessionState{ID: l.id, State: session.Restricted, Local: session.Full})
	if lifted(a) {
		t.Fatal("a peer that is not full lifts the floor")
	}
	a, l = byHand(t)
	ok(t, a.store.ResetFloor(1))
	l.told += 3600
	a.fills(l)
	if !l.open() || lifted(a) {
		t.Fatal("a clock that differs lifts the floor")
	}
	a, l = byHand(t)
	ok(t, a.store.ResetFloor(1))
	a.fills(l)
	if !l.open() || !lifted(a) {
		t.Fatal("a clock that agrees does not lift the floor")
	}
}

// A CLOSE that a failing write crossed is read all the same.
func TestCloseIsReadBehindAFailedWrite(t *testing.T) {
	a, l := byHand(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer ln.Close()
	c1, err := net.Dial("tcp", ln.Addr().String())
	ok(t, err)
	c2, err := ln.Accept()
	ok(t, err)
	k := keys.NewSession(keys.SuiteChaCha, 0, keys.TrafficKeyFromBytes(make([]byte, 32)), keys.TrafficKeyFromBytes(make([]byte, 32)), keys.Hash{1})
	l.ctl = session.NewControl(c1, k, keys.RoleAcceptor)
	session.NewControl(c2, k, keys.RoleDialer).Close(session.CodeShutdown)
	l.out = outbox{}
	eventually(t, "a write that fails", patience, func() bool {
		l.out.put(outFrame{session.RecordHeartbeat, []byte{1}}, false, func() {})
		a.writeLink(l)
		return l.out.writing // the writer has given up
	})
	l.ctl.SetReadDeadline(time.Time{}) // a reader is there before the write fails; this one comes when this machine lets it
	if code, err := a.readLinkContained(l); code != session.CodeShutdown {
		t.Fatal(code, err)
	}
}

// holds is a log whose handler holds whoever writes a message.
type holds struct {
	slog.Handler
	message string
	armed   *atomic.Bool
	release chan struct{}
}

func (holds) Enabled(context.Context, slog.Level) bool { return true }

func (h holds) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message && h.armed.Load() {
		<-h.release
	}
	return nil
}

// The bound of a stop holds even if the loop was too late for it: sessions are not waited for beyond.
func TestStopIsBoundedBehindALateLoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.open()
	h := holds{slog.DiscardHandler, "session closed", new(atomic.Bool), make(chan struct{})}
	a.Node.log = slog.New(h)
	a.run()
	b.run()
	full(a, b)
	h.armed.Store(true)
	var wg sync.WaitGroup
	wg.Go(a.stop)
	select {
	case <-a.ctx.Done():
	case <-time.After(10 * stopTime):
		t.Error("the stop waits for sessions without a bound")
	}
	close(h.release)
	wg.Wait()
}
