package mesh

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// dials counts, or prevents, what a node dials.
type dials struct {
	Network
	made  atomic.Int32
	fails atomic.Bool // refused at once
	hangs atomic.Bool // as behind a filter that drops
	slow  chan struct{}
	last  atomic.Pointer[net.TCPConn]
}

func (d *dials) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	d.made.Add(1)
	switch {
	case d.fails.Load():
		return nil, errors.New("refused by the test")
	case d.hangs.Load():
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if d.slow != nil {
		<-d.slow
	}
	conn, err := d.Network.Dial(ctx, to)
	if c, is := conn.(*net.TCPConn); is {
		d.last.Store(c)
	}
	return conn, err
}

// watched is a pair whose dials are counted; a dialled the session.
func watched(t *testing.T) (w *world, a, b *host, da, db *dials, la, lb *link) {
	w = newWorld(t)
	a, b = w.member("a"), w.member("b")
	w.allow(a, b, "echo")
	w.allow(b, a, "echo")
	a.open()
	b.open()
	da, db = &dials{Network: a.net}, &dials{Network: b.net}
	a.net, b.net = da, db
	db.fails.Store(true)
	a.run()
	b.run()
	a.echo("echo")
	b.echo("echo")
	la = full(a, b)
	lb = b.link(a)
	if la.role != keys.RoleDialer {
		t.Fatal("a was to dial")
	}
	return w, a, b, da, db, la, lb
}

func (h *host) readyFor(l *link, n int) {
	h.w.t.Helper()
	eventually(h.w.t, "connections kept ready", patience, func() bool { return l.warm.ready.Len() == n && l.warm.under.Load() == 0 })
}

// A peer in use has connections ready, and the next stream takes one of them.
func TestWarmConnections(t *testing.T) {
	_, a, b, da, _, la, lb := watched(t)
	if la.warm.ready.Len() != 0 {
		t.Fatal("ready for a peer that is not in use")
	}
	c := a.dial(b, "echo")
	ok(t, pings(c))
	a.readyFor(la, 1)
	ok(t, a.dial(b, "echo").Close()) // takes it, and two are made: one at a time
	for range 3 {
		eventually(t, "ready", patience, func() bool { return la.warm.under.Load() == 0 && la.warm.ready.Len() > 0 })
		ok(t, a.dial(b, "echo").Close())
	}
	eventually(t, "ready", patience, func() bool { return la.warm.under.Load() == 0 && la.warm.ready.Len() > 0 })
	da.fails.Store(true)
	n := la.warm.ready.Len()
	c2 := a.dial(b, "echo")
	ok(t, pings(c2))
	if la.warm.ready.Len() != n-1 {
		t.Fatal("not the one that was ready")
	}
	da.fails.Store(false)
	// Unused ones go: the opener closes them, and the other end sees it.
	a.coolDown(time.Now().Add(session.ParkOpener + time.Second))
	if la.warm.ready.Len() != 0 {
		t.Fatal("kept for ever")
	}
	eventually(t, "gone at the other end", patience, func() bool { return lb.warm.waiting.Len() == 0 })
	ok(t, pings(c))
}

// Streams that come faster than connections are begun make no more of them than are to be kept.
func TestWarmUpIsBounded(t *testing.T) {
	_, a, _, da, _, la, _ := watched(t)
	da.hangs.Store(true)
	before := da.made.Load()
	for range 100 {
		a.warmUp(la)
	}
	eventually(t, "those missing are under way", patience, func() bool { return da.made.Load()-before >= warmMin })
	if n := la.warm.under.Load(); n != warmMin {
		t.Fatal(n, "under way")
	}
}

// A connection that died while it was parked costs a stream nothing but the time of another connect.
func TestWarmConnectionGone(t *testing.T) {
	_, a, b, _, _, la, lb := watched(t)
	ok(t, a.dial(b, "echo").Close())
	a.readyFor(la, 1)
	eventually(t, "parked", patience, func() bool { return lb.warm.waiting.Len() == 1 })
	lb.warm.waiting.Reset(session.CodeNormal)
	ok(t, pings(a.dial(b, "echo")))
}

// What a parked connection may do is decided when its OPEN comes, and it goes with the peer's right to be here.
func TestParkedIsDecidedAtOpen(t *testing.T) {
	w, a, b, _, _, la, lb := watched(t)
	ok(t, a.dial(b, "echo").Close())
	a.readyFor(la, 1)
	eventually(t, "parked", patience, func() bool { return lb.warm.waiting.Len() == 1 })
	b.learn(w.sign(trust.OpUngrant{Issuer: w.issuer.Public(), GID: 1}))
	var re *session.RefusedError
	if _, err := a.DialTarget(t.Context(), Target{Node: b.key.NodeID(), Service: "echo"}); !errors.As(err, &re) || re.Code != session.CodeNotAdmitted {
		t.Fatal(err)
	}
	eventually(t, "used", patience, func() bool { return lb.warm.waiting.Len() == 0 })
	// Another, and now the peer itself is cut off.
	a.warmUp(la)
	a.readyFor(la, 1)
	eventually(t, "parked", patience, func() bool { return lb.warm.waiting.Len() == 1 })
	b.learn(w.sign(trust.OpRevokeNode{Node: a.key.NodeID()}))
	eventually(t, "cut", patience, func() bool { return lb.warm.waiting.Len() == 0 && la.warm.ready.Take(time.Now()) == nil })
}

// New keys close what is parked under the old ones; the next use makes new ones.
func TestRekeyClosesParked(t *testing.T) {
	_, a, b, _, _, la, lb := watched(t)
	ok(t, a.dial(b, "echo").Close())
	a.readyFor(la, 1)
	a.beginRekey(la)
	reaches(t, la, lb, 1)
	ok(t, pings(a.dial(b, "echo")))
	eventually(t, "ready again", patience, func() bool { return la.warm.ready.Sweep(time.Now()) > 0 })
	ok(t, pings(a.dial(b, "echo")))
}

// A peer that cannot be dialled is asked to connect, whether its address refuses or swallows.
func TestDialBack(t *testing.T) {
	for name, hangs := range map[string]bool{"refused": false, "swallowed": true} {
		t.Run(name, func(t *testing.T) {
			_, a, b, _, db, la, lb := watched(t)
			db.fails.Store(!hangs)
			db.hangs.Store(hangs)
			stalls, began := testrun.Stalls(t), time.Now()
			c := b.dial(a, "echo")
			ok(t, pings(c))
			took, stalled := time.Since(began), stalls()
			t.Log("first stream after", took)
			if took-stalled > 10*(dialBackAfter+100*time.Millisecond) {
				t.Fatal(took, stalled)
			}
			if lb.warm.reverse() != true {
				t.Fatal("not remembered")
			}
			// From now on nobody tries the address any more.
			eventually(t, "the one try", patience, func() bool { return db.made.Load() > 0 })
			made := db.made.Load()
			for range 5 {
				ok(t, pings(b.dial(a, "echo")))
			}
			if db.made.Load() != made {
				t.Fatal("dialled again")
			}
			if who, is := Peer(c); !is || who.Node != a.key.NodeID() {
				t.Fatal(who)
			}
			// The other direction is as ever.
			ok(t, pings(a.dial(b, "echo")))
			if la.warm.reverse() {
				t.Fatal("both ways?")
			}
		})
	}
}

// A peer that is slow to reach is asked to connect as well, and is dialled again as soon as it has been reached: what it may be asked for
// is far less than what a dialled peer carries.
func TestSlowIsNotUnreachable(t *testing.T) {
	_, a, b, _, db, _, lb := watched(t)
	db.slow = make(chan struct{})
	db.fails.Store(false)
	ok(t, pings(b.dial(a, "echo"))) // by a connection of the peer's
	if !lb.warm.reverse() {
		t.Fatal("not by the peer's connection")
	}
	close(db.slow)
	eventually(t, "the peer is one that can be dialled", patience, func() bool { return !lb.warm.reverse() })
	made := db.made.Load()
	// One that the peer still had under way may carry a stream or two.
	eventually(t, "dialled", patience, func() bool {
		lb.warm.ready.Reset(session.CodeNormal)
		ok(t, pings(b.dial(a, "echo")))
		return db.made.Load() > made
	})
}

// How a peer is reached follows what has proven itself: a success at once, two failures in a row after one, and a peer that could not be
// dialled is tried again at most once in dialDirectAgain.
func TestWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("failed")
		var w warmth
		is := func(want int32) {
			t.Helper()
			if got := w.way.Load(); got != want {
				t.Fatal(got, "instead of", want)
			}
		}
		w.reached(failed)
		is(wayReverse)
		if w.mayRetry() {
			t.Fatal("again at once")
		}
		time.Sleep(dialDirectAgain)
		if !w.mayRetry() || w.mayRetry() {
			t.Fatal("not once")
		}
		w.reached(failed)
		is(wayReverse)
		w.reached(nil)
		is(wayDirect)
		w.reached(failed)
		is(wayUnknown)
		w.reached(failed)
		is(wayReverse)
	})
}

// A peer whose address was mended is dialled again by itself.
func TestMendedPathIsUsed(t *testing.T) {
	_, a, b, _, db, _, lb := watched(t)
	ok(t, pings(b.dial(a, "echo")))
	eventually(t, "asked to connect", patience, lb.warm.reverse)
	db.fails.Store(false)
	lb.warm.retried.limiter.Store(nil) // as dialDirectAgain later
	eventually(t, "direct", patience, func() bool {
		ok(t, pings(b.dial(a, "echo")))
		return !lb.warm.reverse()
	})
}

// DIAL makes nobody connect anywhere but to where it dialled the session, and not often.
func TestDialBackIsBounded(t *testing.T) {
	_, a, b, da, db, la, lb := watched(t)
	before := da.made.Load()
	la.warm.asked.of(dialBackPerSecond, dialBackPerSecond).SetLimit(0) // nothing comes back while this test looks
	for range 100 {
		b.queueBody(lb.id, session.Number{K: session.KindDial, N: maxDialBack})
	}
	// Of those obeyed some may ask for more than may be under way.
	eventually(t, "ignored", patience, func() bool { return a.Counters()["dial-back.ignored"] >= 100-dialBackPerSecond })
	if made := da.made.Load() - before; made > maxDialBack*dialBackPerSecond {
		t.Fatal(made, "connections")
	}
	eventually(t, "bounded", patience, func() bool {
		return lb.warm.ready.Len() <= session.MaxParked && la.warm.waiting.Len() <= session.MaxParked && la.warm.back.Load() == 0
	})
	// The side that did not dial the session obeys nothing.
	a.queueBody(la.id, session.Number{K: session.KindDial, N: 1})
	eventually(t, "ignored", patience, func() bool { return b.Counters()["dial-back.ignored"] == 1 })
	if db.made.Load() != 0 && lb.warm.waiting.Len() != 0 {
		t.Fatal("obeyed")
	}
}

// A peer may park only so many connections, and none where that was not agreed on.
func TestParkingIsBounded(t *testing.T) {
	_, a, b, _, _, la, lb := watched(t)
	park := func() error {
		conn, err := a.connectStream(t.Context(), la)
		ok(t, err)
		p, err := session.Warm(t.Context(), conn, la.ring, false)
		if err == nil {
			t.Cleanup(p.Close)
		}
		return err
	}
	for range session.MaxParked {
		ok(t, park())
	}
	eventually(t, "parked", patience, func() bool { return lb.warm.waiting.Len() == session.MaxParked })
	park() // answered, and cut
	eventually(t, "limited", patience, func() bool { return b.Counters()["warm.limit"] == 1 })
	lb.features.Store(0)
	if err := park(); err == nil {
		t.Fatal("parked without the feature")
	}
	ok(t, pings(a.dial(b, "echo")))
}

// Connections a peer asks for do not pile up while they are not made.
func TestDialBackInFlightIsBounded(t *testing.T) {
	_, a, b, da, _, _, lb := watched(t)
	da.hangs.Store(true)
	before := da.made.Load()
	for range 2 * dialBackPerSecond {
		b.queueBody(lb.id, session.Number{K: session.KindDial, N: maxDialBack})
	}
	eventually(t, "ignored", patience, func() bool { return a.Counters()["dial-back.ignored"] >= dialBackPerSecond })
	if made := da.made.Load() - before; made > session.MaxParked {
		t.Fatal(made, "under way")
	}
}

// A session that lost to another keeps its tags for a while, and nothing is parked with it.
func TestNothingIsParkedWithALostSession(t *testing.T) {
	_, a, b, _, _, la, lb := watched(t)
	ok(t, a.dial(b, "echo").Close())
	// What was parked while it was whole is not the matter.
	a.readyFor(la, 1)
	eventually(t, "parked", patience, func() bool { return lb.warm.waiting.Len() == 1 })
	lb.warm.waiting.Reset(session.CodeNormal)
	lb.duplicate.Store(true)
	b.tags.Unregister(lb.ring, session.DuplicateGrace, time.Now())
	for _, reverse := range []bool{false, true} {
		conn, err := a.connectStream(t.Context(), la)
		ok(t, err)
		if p, err := session.Warm(t.Context(), conn, la.ring, reverse); err == nil {
			defer p.Close()
		}
	}
	eventually(t, "refused", patience, func() bool { return b.Counters()["warm.failed"] >= 2 })
	if lb.warm.ready.Len()+lb.warm.waiting.Len() != 0 {
		t.Fatal("parked")
	}
}
