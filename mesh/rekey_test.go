package mesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// ends returns both ends of the one session of two hosts, the dialler's first.
func ends(a, b *host) (dialler, acceptor *host, d, c *link) {
	a.w.t.Helper()
	la := full(a, b)
	lb := b.link(a)
	if la.role == keys.RoleAcceptor {
		return b, a, lb, la
	}
	return a, b, la, lb
}

// reaches waits until both ends of a session have the keys of a generation, and have come to the end of what brought them: during it
// another rekey is not begun.
func reaches(t testing.TB, d, c *link, generation uint64) {
	t.Helper()
	eventually(t, "the next generation on both sides", patience, func() bool {
		for _, l := range []*link{d, c} {
			l.rekey.mu.Lock()
			there := l.rekey.generation() == generation && l.rekey.dialer == nil
			l.rekey.mu.Unlock()
			if !there {
				return false
			}
		}
		return true
	})
}

// New keys come while streams move data and others are opened, and nobody notices.
func TestRekeyInBand(t *testing.T) {
	_, a, b := pair(t)
	dialler, _, d, c := ends(a, b)
	old := a.dial(b, "echo") // idle through all generations
	ok(t, pings(old))
	var wg sync.WaitGroup
	var stop sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 4 {
		s := a.dial(b, "echo")
		// What is sent is a stream of numbers; the echo must be the same one.
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, 2))
			for ctx.Err() == nil {
				b := make([]byte, 1+rng.IntN(100_000))
				for i := range b {
					b[i] = byte(rng.Uint64())
				}
				if _, err := s.Write(b); err != nil {
					t.Error("write:", err)
					return
				}
			}
			s.CloseWrite()
		})
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, 2))
			left := 0
			buf := make([]byte, 32<<10)
			for {
				n, err := s.Read(buf)
				for _, got := range buf[:n] {
					if left == 0 {
						left = 1 + rng.IntN(100_000)
					}
					if got != byte(rng.Uint64()) {
						t.Error("the data changed")
						return
					}
					left--
				}
				if err != nil {
					if err != io.EOF || left != 0 {
						t.Error("the stream ended with", err)
					}
					s.Close()
					return
				}
			}
		})
	}
	stop.Go(func() {
		for ctx.Err() == nil {
			s, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: "echo"})
			if err != nil {
				if ctx.Err() == nil {
					t.Error("open:", err)
				}
				return
			}
			if err := pings(s); err != nil && ctx.Err() == nil {
				t.Error("new stream:", err)
			}
			s.Close()
		}
	})
	const generations = rekeyBurst
	for g := uint64(1); g <= generations; g++ {
		begun := func() *handshake.RekeyDialer {
			dialler.beginRekey(d)
			d.rekey.mu.Lock()
			defer d.rekey.mu.Unlock()
			return d.rekey.dialer
		}
		c.rekey.mu.Lock() // the answer waits
		one := begun()
		again := begun()
		c.rekey.mu.Unlock()
		if one == nil || again != one {
			t.Fatal("not one at a time")
		}
		reaches(t, d, c, g)
	}
	cancel()
	wg.Wait()
	stop.Wait()
	ok(t, pings(old))
	if a.link(b) == nil || a.link(b).hash != d.hash || d.ctl.Limits(time.Now()).KeyAge > time.Minute {
		t.Fatal("not the same session")
	}
	if n := dialler.Counters()["session.rekeyed"]; n != generations {
		t.Fatal(n, "rekeys counted")
	}
}

// Keys are renewed in band when they are due, by the dialler itself or because the acceptor asked; a stream's use makes them due sooner.
func TestKeysAreRenewedWhenDue(t *testing.T) {
	_, a, b := pair(t)
	dialler, acceptor, d, c := ends(a, b)
	both := func(g uint64) {
		t.Helper()
		reaches(t, d, c, g)
	}
	dialler.renewKeys(time.Now().Add(13 * time.Minute)) // idle
	acceptor.renewKeys(time.Now().Add(13 * time.Minute))
	if d.rekey.generation() != 0 || d.due.Load() != 0 || !c.rekey.asked.IsZero() {
		t.Fatal("renewed too early")
	}
	dialler.renewKeys(time.Now().Add(16 * time.Minute))
	both(1)
	acceptor.renewKeys(time.Now().Add(16 * time.Minute))
	both(2)
	acceptor.renewKeys(time.Now().Add(16 * time.Minute)) // not again so soon
	acceptor.queueBody(c.id, session.Plain{K: session.KindRekeyAsk})
	eventually(t, "ignored", patience, func() bool { return dialler.Counters()["rekey.ask-ignored"] == 1 })
	if d.rekey.generation() != 2 {
		t.Fatal("obeyed too often")
	}
	s := a.dial(b, "echo")
	ok(t, pings(s))
	ok(t, s.Close())
	eventually(t, "busy", patience, func() bool { _, busy := d.usage(time.Now()); return busy })
	dialler.renewKeys(time.Now().Add(121 * time.Second))
	both(3)
	if _, busy := d.usage(time.Now()); busy {
		t.Fatal("busy with new keys")
	}
	dialler.renewKeys(time.Now().Add(121 * time.Second))
	if d.due.Load() != 0 {
		t.Fatal("due again without use")
	}
}

// Where a peer does not speak the in-band rekey, a session gets a successor.
func TestWithoutRekeyASessionIsReplaced(t *testing.T) {
	_, a, b := pair(t)
	dialler, acceptor, d, c := ends(a, b)
	s := a.dial(b, "echo")
	d.features.Store(0)
	c.features.Store(0)
	acceptor.renewKeys(time.Now().Add(16 * time.Minute))
	dialler.renewKeys(time.Now().Add(16 * time.Minute))
	eventually(t, "another session", patience, func() bool {
		l := dialler.link(acceptor)
		return l != nil && l.hash != d.hash
	})
	ok(t, pings(s))
	if d.rekey.generation() != 0 {
		t.Fatal("rekeyed")
	}
}

// A peer that breaks the rekey loses its session.
func TestRekeyAttacks(t *testing.T) {
	t.Parallel()
	r1 := func(t *testing.T, n *host, l *link) []byte {
		_, r1, err := handshake.NewRekey(l.rekey.configLocked(n.mesh))
		ok(t, err)
		return r1
	}
	send := func(n *host, l *link, b []byte) { n.queue(l.id, outFrame{session.RecordRekey, b}, false) }
	for name, tc := range map[string]struct {
		fromDialler bool
		attack      func(t *testing.T, n *host, l, far *link)
	}{
		"not offered":        {true, func(t *testing.T, n *host, l, far *link) { far.features.Store(0); send(n, l, r1(t, n, l)) }},
		"an answer unasked":  {false, func(t *testing.T, n *host, l, _ *link) { send(n, l, make([]byte, handshake.SizeR2)) }},
		"R1 of the acceptor": {false, func(t *testing.T, n *host, l, _ *link) { send(n, l, r1(t, n, l)) }},
		"a changed R1": {true, func(t *testing.T, n *host, l, _ *link) {
			b := bytes.Clone(r1(t, n, l))
			b[len(b)-1] ^= 1
			send(n, l, b)
		}},
		"two at once": {true, func(t *testing.T, n *host, l, _ *link) { send(n, l, r1(t, n, l)); send(n, l, r1(t, n, l)) }},
		"R3 first":    {true, func(t *testing.T, n *host, l, _ *link) { send(n, l, []byte{3}) }},
		"empty":       {true, func(t *testing.T, n *host, l, _ *link) { send(n, l, nil) }},
		"too often": {true, func(t *testing.T, n *host, l, far *link) {
			left := far.rekey.answered.of(0, 0)
			left.SetLimit(0)
			left.SetBurst(0)
			send(n, l, r1(t, n, l))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, a, b := pair(t)
			dialler, acceptor, d, c := ends(a, b)
			s := a.dial(b, "echo")
			ok(t, pings(s))
			from, to, l, far := dialler, acceptor, d, c
			if !tc.fromDialler {
				from, to, l, far = acceptor, dialler, c, d
			}
			before := map[*host]uint64{to: to.log.Size(), from: from.log.Size()}
			tc.attack(t, from, l, far)
			eventually(t, "the session ends", patience, func() bool {
				to.mu.Lock()
				defer to.mu.Unlock()
				return to.links[far.id] == nil
			})
			if far.rekey.generation() != 0 || name == "not offered" && far.rekey.half.Load() != 0 {
				t.Fatal("a next generation came of it")
			}
			if name != "not offered" {
				found := false
				for h, at := range before { // of two at once the answer to the first may end it, where nobody waits for that
					ok(t, h.log.Flush())
					recs, err := h.log.Read(at, 4096)
					ok(t, err)
					found = found || slices.ContainsFunc(recs, func(r audit.Record) bool { return r.Event.Code == audit.RekeyFail })
				}
				if !found {
					t.Fatal("not recorded")
				}
			}
			// The peer's streams are not what broke: they have half a minute for another session.
			full(from, to)
			ok(t, pings(s))
		})
	}
}

// A stream that moved a lot makes its session's keys due by itself, and only since they were new.
func TestHeavyStreamMakesKeysDue(t *testing.T) {
	_, a, b := pair(t)
	dialler, _, d, c := ends(a, b)
	s := a.dial(b, "echo")
	for range 100 {
		ok(t, pings(s))
	}
	u := a.link(b).ring.Usage()
	if u.Heaviest != 400 || u.Moved != 800 {
		t.Fatalf("%+v", u)
	}
	dialler.beginRekey(d)
	reaches(t, d, c, 1)
	ok(t, pings(s))
	ok(t, pings(s))
	if u := a.link(b).ring.Usage(); u.Heaviest > 8 || u.Moved != 816 {
		t.Fatalf("%+v", u)
	}
	ok(t, s.Close())
	eventually(t, "counted though gone", patience, func() bool {
		u := a.link(b).ring.Usage()
		return u.Heaviest == 0 && u.Moved == 816
	})
}

// Housekeeping does not wait for a rekey that waits for its peer, and ends a session whose peer began one and does not finish it.
func TestHalfRekey(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	dialler, acceptor, d, c := ends(a, b)
	_, r1, err := handshake.NewRekey(d.rekey.configLocked(dialler.mesh))
	ok(t, err)
	c.rekey.mu.Lock() // as while R2 does not go out
	acceptor.renewKeys(time.Now().Add(16 * time.Minute))
	c.due.Store(0)
	c.rekey.mu.Unlock()
	d.rekey.mu.Lock() // the dialler does not come to read the answer
	defer d.rekey.mu.Unlock()
	dialler.queue(d.id, outFrame{session.RecordRekey, r1}, false)
	eventually(t, "R2 is out", patience, func() bool { return c.rekey.half.Load() != 0 })
	there := func() bool {
		acceptor.mu.Lock()
		defer acceptor.mu.Unlock()
		return acceptor.links[c.id] != nil
	}
	acceptor.renewKeys(time.Now().Add(50 * time.Second))
	acceptor.passBarrier(t.Context())
	if c.state.Load() == uint32(session.Closed) || !there() {
		t.Fatal("ended too early")
	}
	acceptor.renewKeys(time.Now().Add(61 * time.Second))
	eventually(t, "ended", patience, func() bool { return !there() })
}

// A session that is not full has its keys from the handshake, and no others.
func TestNoRekeyBelowFull(t *testing.T) {
	a, l := byHand(t)
	l.features.Store(uint64(offered))
	for _, full := range []bool{false, true} {
		var wg sync.WaitGroup
		var err error
		wg.Go(func() { err = a.rekeyRecord(t.Context(), l, []byte{0xff}) })
		select {
		case ev := <-a.events: // the reader asks whether the core knows more
			if full {
				a.fills(l)
			}
			a.step(t.Context(), ev)
		case <-time.After(patience):
			t.Error("the reader does not ask the core")
		}
		wg.Wait()
		if err == nil || errors.Is(err, session.ErrProtocol) == full {
			t.Errorf("full %v: %v", full, err)
		}
	}
}
