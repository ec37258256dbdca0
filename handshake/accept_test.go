package handshake

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

func readFull(r io.Reader, b []byte) (int, error) { return io.ReadFull(r, b) }

// probe sends m1 to a from src, nothing else, and returns how a ended and what it sent.
func probe(a *Acceptor, m1 []byte, src string) (out []byte, err error) {
	conn := &scriptConn{}
	conn.in.Write(m1[1:])
	conn.peer = func(b []byte) []byte { out = append(out, b...); return nil }
	_, err = a.Accept(context.Background(), conn, keys.Suite(m1[0]), netip.MustParseAddr(src), time.Now())
	if err != nil && !conn.closed.Load() {
		panic("error without close")
	}
	return out, err
}

// source numbers the sources of probes, so that no rate is in the way.
func source(i int) string {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
}

// honestM1 makes message 1 as a member with the given gate would.
func honestM1(t testing.TB, w *world, d, a *member, suite keys.Suite, gate keys.PSK) []byte {
	t.Helper()
	c := w.dialConfig(d, a, suite)
	_, m1, err := initiate(&c, suite, gate, identity.InviteID{})
	if err != nil {
		t.Fatal(err)
	}
	return m1
}

// wantSilence probes and demands an error with the reason, and not one byte.
func wantSilence(t *testing.T, a *Acceptor, m1 []byte, src string, want Reason) {
	t.Helper()
	out, err := probe(a, m1, src)
	wantReason(t, err, want)
	if len(out) != 0 {
		t.Errorf("%d bytes sent to a peer that proved nothing", len(out))
	}
}

// wantAnswer probes and demands M2.
func wantAnswer(t *testing.T, a *Acceptor, m1 []byte, src string) {
	t.Helper()
	out, err := probe(a, m1, src)
	wantReason(t, err, ReasonShort) // there is no M3
	if len(out) != SizeM2 {
		t.Errorf("%d bytes sent, want M2", len(out))
	}
}

// Check 1.
func TestAcceptBudgetPerSource(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	m1 := func() []byte { return honestM1(t, w, d, a, keys.SuiteAES, w.gate()) }
	synctest.Test(t, func(t *testing.T) {
		acc := w.acceptor(a)
		for range handshakesBurst {
			wantAnswer(t, acc, m1(), "10.1.1.1")
		}
		wantSilence(t, acc, m1(), "10.1.1.1", ReasonBudget)
		wantAnswer(t, acc, m1(), "10.1.1.2")
		time.Sleep(time.Second / handshakesPerSecond)
		wantAnswer(t, acc, m1(), "10.1.1.1")
		wantSilence(t, acc, m1(), "10.1.1.1", ReasonBudget)
	})
}

// Check 2: an incomplete M1 is cut off 2 s after accept, no sooner and no later, however it trickles in.
func TestAcceptSlowM1(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	m1 := honestM1(t, w, d, a, keys.SuiteAES, w.gate())
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		acc := w.acceptor(a)
		start := time.Now()
		c := make(chan outcome, 1)
		go func() {
			r, err := acc.Accept(t.Context(), server, keys.Suite(m1[0]), testSource, start)
			c <- outcome{r, err}
		}()
		go func() {
			for _, b := range m1[1 : len(m1)-1] { // all but the last byte, in 1.9 s
				if _, err := client.Write([]byte{b}); err != nil {
					return
				}
				time.Sleep(1900 * time.Millisecond / SizeM1)
			}
		}()
		o := <-c
		wantReason(t, o.err, ReasonShort)
		if d := time.Since(start); d != TimeoutM1 {
			t.Errorf("ended after %v, want %v", d, TimeoutM1)
		}
		if b, _ := io.ReadAll(client); len(b) != 0 {
			t.Errorf("%d bytes sent", len(b))
		}
	})
}

// Check 2: the deadline counts from accept, not from the call.
func TestAcceptDeadlineFromAccept(t *testing.T) {
	w := newWorld("home")
	a := w.member("gpu1")
	synctest.Test(t, func(t *testing.T) {
		_, server := net.Pipe()
		accepted := time.Now()
		time.Sleep(1500 * time.Millisecond)
		_, err := w.acceptor(a).Accept(t.Context(), server, keys.SuiteAES, testSource, accepted)
		wantReason(t, err, ReasonShort)
		if d := time.Since(accepted); d != TimeoutM1 {
			t.Errorf("ended after %v", d)
		}
	})
}

// Check 2: a message that ends early, at any length.
func TestAcceptShortM1(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	acc := w.acceptor(a)
	m1 := honestM1(t, w, d, a, keys.SuiteAES, w.gate())
	for i, n := range []int{1, 2, 33, 34, 600, SizeM1 - 1} {
		wantSilence(t, acc, m1[:n], source(i), ReasonShort)
	}
}

// Check 3.
func TestAcceptUnknownSuite(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	acc := w.acceptor(a)
	m1 := honestM1(t, w, d, a, keys.SuiteAES, w.gate())
	for s := range 256 {
		m1[0] = byte(s)
		switch keys.Suite(s) {
		case keys.SuiteChaCha: // known, but the suite is in the prologue
			wantSilence(t, acc, m1, source(s), ReasonGate)
		case keys.SuiteEnroll: // longer
			wantSilence(t, acc, m1, source(s), ReasonShort)
		case keys.SuiteAES:
		default:
			wantSilence(t, acc, m1, source(s), ReasonSuite)
		}
	}
}

// Check 5.
func TestAcceptReplayedM1(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	acc := w.acceptor(a)
	m1 := honestM1(t, w, d, a, keys.SuiteAES, w.gate())
	wantAnswer(t, acc, m1, source(1))
	wantSilence(t, acc, m1, source(2), ReasonReplay)
	wantSilence(t, acc, m1, source(1), ReasonReplay)
}

// Check 5: what does not open is not remembered, so outsiders cannot flush the cache; the newest 4096 are.
func TestReplayCache(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	acc := w.acceptor(a)
	wantSilence(t, acc, honestM1(t, w, d, a, keys.SuiteAES, testPSK("foreign")), source(1), ReasonGate)
	if len(acc.replay.seen) != 0 {
		t.Error("an outsider's key is remembered")
	}
	var c replayCache
	e := func(i int) (b [dhSize]byte) { binary.BigEndian.PutUint64(b[:], uint64(i)); return b }
	for i := range 3 * replayEntries {
		if !c.add(e(i)) {
			t.Fatalf("key %d is not new", i)
		}
		if len(c.seen) > replayEntries || len(c.ring) > replayEntries {
			t.Fatal("cache grows")
		}
	}
	for i := 2 * replayEntries; i < 3*replayEntries; i++ {
		if c.add(e(i)) {
			t.Fatalf("key %d of the newest %d is forgotten", i, replayEntries)
		}
	}
	if !c.add(e(0)) {
		t.Error("the oldest key is still there")
	}
}

// Check 6.
func TestAcceptP1(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	acc := w.acceptor(a)
	m1 := func(version, flags byte) []byte {
		x := newAttacker(t, d.local, keys.SuiteAES, a.key.NodeID(), w.gate().Bytes(), true)
		p1 := x.p1()
		p1[0], p1[1] = version, flags
		return x.m1(nil, p1)
	}
	for i, v := range []byte{0, 2, 0x81, 0xff} {
		wantSilence(t, acc, m1(v, 0), source(i), ReasonP1)
	}
	for bit := range 8 {
		if flag := byte(1) << bit; flag&criticalFlags != 0 {
			wantSilence(t, acc, m1(1, flag), source(10+bit), ReasonP1)
		} else {
			wantAnswer(t, acc, m1(1, flag), source(10+bit))
		}
	}
}

// Check 7: an encapsulation key with a coefficient out of range.
func TestAcceptInvalidEncapsulationKey(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	x := newAttacker(t, d.local, keys.SuiteAES, a.key.NodeID(), w.gate().Bytes(), true)
	p1 := x.p1()
	p1[2], p1[3] = 0xff, 0xff
	wantSilence(t, w.acceptor(a), x.m1(nil, p1), source(1), ReasonKEM)
}

// Check 7: with every processor taken and the queue full, a member is turned away without a byte; with room in the queue it waits.
func TestAcceptBusy(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	acc := w.acceptor(a)
	for range cap(acc.work.slots) {
		acc.work.slots <- struct{}{}
	}
	acc.work.waiting.Store(workQueue)
	out, err := probe(acc, honestM1(t, w, d, a, keys.SuiteAES, w.gate()), source(1))
	wantReason(t, err, ReasonBusy)
	if !errors.Is(err, errQueue) || len(out) != 0 {
		t.Errorf("%v, %d bytes sent", err, len(out))
	}
	if n := acc.work.waiting.Load(); n != workQueue {
		t.Errorf("%d are waiting, want %d", n, workQueue)
	}
	acc.work.waiting.Store(workQueue - 1)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() { got <- acc.work.acquire(ctx) }()
	acc.work.release()
	if err := <-got; err != nil {
		t.Errorf("no place in the queue: %v", err)
	}
	go func() { got <- acc.work.acquire(ctx) }()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) && !errors.Is(err, errQueue) {
		t.Errorf("waiting outlasts its context: %v", err)
	}
}

// Check 7: waiting for a processor ends with the handshake's deadline.
func TestAcceptBusyUntilDeadline(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	m1 := honestM1(t, w, d, a, keys.SuiteAES, w.gate())
	synctest.Test(t, func(t *testing.T) {
		acc := w.acceptor(a)
		for range cap(acc.work.slots) {
			acc.work.slots <- struct{}{}
		}
		start := time.Now()
		wantSilence(t, acc, m1, source(1), ReasonBusy)
		if d := time.Since(start); d != TimeoutHandshake {
			t.Errorf("ended after %v", d)
		}
	})
}

// Check 8: M3 has until 5 s after accept.
func TestAcceptSlowM3(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	m1 := honestM1(t, w, d, a, keys.SuiteAES, w.gate())
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		start := time.Now()
		time.Sleep(time.Second)
		c := make(chan outcome, 1)
		go func() {
			r, err := w.acceptor(a).Accept(t.Context(), server, keys.Suite(m1[0]), testSource, start)
			c <- outcome{r, err}
		}()
		mustWrite(t, client, m1[1:])
		must(readFull(client, make([]byte, SizeM2)))
		mustWrite(t, client, make([]byte, SizeM3-1))
		o := <-c
		wantReason(t, o.err, ReasonShort)
		if d := time.Since(start); d != TimeoutHandshake {
			t.Errorf("ended after %v, want %v", d, TimeoutHandshake)
		}
		if b, _ := io.ReadAll(client); len(b) != 0 {
			t.Errorf("%d bytes after M2", len(b))
		}
	})
}

// TestDialSlowM2: a dialer waits 5 s for a peer that says nothing.
func TestDialSlowM2(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		go io.Copy(io.Discard, server)
		start := time.Now()
		_, err := Dial(t.Context(), client, w.dialConfig(d, a, keys.SuiteAES))
		wantReason(t, err, ReasonShort)
		if d := time.Since(start); d != TimeoutHandshake {
			t.Errorf("ended after %v", d)
		}
		server.Close()
	})
}

// TestCancel: the end of the context closes the connection on either side.
func TestCancel(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		client, server := net.Pipe()
		c := make(chan error, 2)
		go func() {
			_, err := w.acceptor(a).Accept(ctx, server, keys.SuiteAES, testSource, time.Now())
			c <- err
		}()
		other, silent := net.Pipe()
		go io.Copy(io.Discard, silent)
		go func() { _, err := Dial(ctx, other, w.dialConfig(d, a, keys.SuiteAES)); c <- err }()
		time.Sleep(time.Second)
		start := time.Now()
		cancel()
		wantReason(t, <-c, ReasonCancelled)
		wantReason(t, <-c, ReasonCancelled)
		if time.Since(start) != 0 {
			t.Error("it took time")
		}
		if _, err := client.Write([]byte{0}); err == nil {
			t.Error("acceptor's connection is open")
		}
		if _, err := silent.Write([]byte{0}); err == nil {
			t.Error("dialer's connection is open")
		}
	})
}

// TestAcceptPanic: a bug behind one connection closes that connection and is counted.
func TestAcceptPanic(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	cfg := w.acceptorConfig(a)
	cfg.Verify = func(*Peer, int64) (session.State, session.Code) { panic("bug") }
	acc := NewAcceptor(cfg)
	_, ao := runBoth(t, w.dialConfig(d, a, keys.SuiteAES), acc)
	wantReason(t, ao.err, ReasonPanic)
	if _, dropped := acc.Counts(); dropped[ReasonPanic] != 1 {
		t.Errorf("counts %v", dropped)
	}
	if len(acc.work.slots) != 0 {
		t.Error("the processor is not given back")
	}
}

// TestAcceptLocal: a node without identity answers nobody.
func TestAcceptLocal(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	for i, breaks := range []func(*Local){
		func(l *Local) { l.Static = nil }, func(l *Local) { l.Mesh = keys.MeshID{} }, func(l *Local) { l.Node = keys.NodeID{} },
		func(l *Local) { l.Binding = nil }, func(l *Local) { l.Certificate = nil },
		func(l *Local) { l.Certificate = make([]byte, identity.MaxCertificate+1) },
	} {
		cfg := w.acceptorConfig(a)
		cfg.Local = func() Local { l := a.local; breaks(&l); return l }
		wantSilence(t, NewAcceptor(cfg), honestM1(t, w, d, a, keys.SuiteAES, w.gate()), source(i), ReasonLocal)
	}
}

// TestDialLocal: what is the caller's mistake is found before a byte is sent.
func TestDialLocal(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	for i, breaks := range []func(*DialConfig){
		func(c *DialConfig) { c.Local.Static = nil }, func(c *DialConfig) { c.Local.Mesh = keys.MeshID{} },
		func(c *DialConfig) { c.Local.Node = keys.NodeID{} }, func(c *DialConfig) { c.Local.Certificate = nil },
		func(c *DialConfig) { c.Local.Binding = nil }, func(c *DialConfig) { c.Responder = keys.NodeID{} },
		func(c *DialConfig) { c.Responder = c.Local.Node }, func(c *DialConfig) { c.Now = nil },
		func(c *DialConfig) { c.Verify = nil }, func(c *DialConfig) { c.Suite = 0 }, func(c *DialConfig) { c.Suite = 0x03 },
		func(c *DialConfig) { c.Suite = keys.SuiteEnroll },
		func(c *DialConfig) { c.Suite, c.Local.Certificate = keys.SuiteEnroll, nil },
	} {
		c := w.dialConfig(d, a, keys.SuiteAES)
		breaks(&c)
		conn := &scriptConn{}
		_, err := Dial(t.Context(), conn, c)
		wantReason(t, err, ReasonLocal)
		if conn.sent != 0 || !conn.closed.Load() {
			t.Errorf("mistake %d: %d bytes sent", i, conn.sent)
		}
	}
	conn := &scriptConn{}
	_, err := DialEnroll(t.Context(), conn, EnrollDial{
		Local: d.local, Issuer: a.key.NodeID(), Secret: keys.NewInviteSecret(), Now: testClock,
	})
	wantReason(t, err, ReasonLocal)
	if conn.sent != 0 {
		t.Errorf("joiner with a certificate: %d bytes sent", conn.sent)
	}
}

// TestNewAcceptorRefusesHoles: a forgotten policy must not become an open door.
func TestNewAcceptorRefusesHoles(t *testing.T) {
	w := newWorld("home")
	a := w.member("gpu1")
	for i, breaks := range []func(*AcceptorConfig){
		func(c *AcceptorConfig) { c.Local = nil }, func(c *AcceptorConfig) { c.Gates = nil },
		func(c *AcceptorConfig) { c.Verify = nil }, func(c *AcceptorConfig) { c.Now = nil },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("hole %d accepted", i)
				}
			}()
			c := w.acceptorConfig(a)
			breaks(&c)
			NewAcceptor(c)
		}()
	}
}
