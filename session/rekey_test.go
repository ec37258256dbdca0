package session

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// advance does one rekey on both sides of a session in the order of the protocol: dialer at R2, acceptor before R2 and at R3.
func (e *ends) advance(t testing.TB, g uint64) {
	t.Helper()
	x, now := nextExporter(e.dialer.suite, g), time.Now()
	for _, err := range []error{
		e.acceptorTags.Install(e.acceptor, g, x), // before it sends R2
		e.dialerTags.Install(e.dialer, g, x),     // R2 verified
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	e.dialerTags.Switch(e.dialer, now)
	e.acceptorTags.Switch(e.acceptor, now) // R3
}

// expect sends a message from one stream to the other and waits for it.
func expect(t testing.TB, from, to *Stream, text string) {
	t.Helper()
	if _, err := from.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil || string(got) != text {
		t.Fatalf("%q %v", got, err)
	}
}

func TestRekeyOfStreams(t *testing.T) {
	for _, suite := range suites {
		c1, c2 := tcpPair(t)
		e := newEnds(suite)
		opened, accepted := e.connect(t, c1, c2)
		before := opened.out.aead
		for g := uint64(1); g <= 5; g++ {
			expect(t, opened, accepted, "forth")
			e.advance(t, g)
			if g%2 == 0 {
				expect(t, accepted, opened, "back")
			}
		}
		expect(t, opened, accepted, "forth")
		expect(t, accepted, opened, "back")
		for _, h := range []uint64{opened.outGen, accepted.inGen, accepted.outGen, opened.inGen} {
			if h != 5 {
				t.Fatalf("a direction is at generation %d", h)
			}
		}
		if opened.out.aead == before || opened.out.counter != 1 || accepted.in.counter != 1 {
			t.Fatal("the key or the counter did not change")
		}
		opened.Close()
		accepted.Close()
	}
}

// The keys are chained: K_{g+1} = KDF(X_{g+1}, K_g), so that two streams never meet in one key.
func TestRekeyChain(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	c1, c2 := tcpPair(t)
	opened, accepted := e.connect(t, c1, c2)
	defer opened.Reset(CodeNormal)
	defer accepted.Reset(CodeNormal)
	want := testSession(keys.SuiteAES).Exporter.StreamKey(keys.RoleDialer, 0, keys.DirForward)
	for g := uint64(1); g <= 3; g++ {
		e.advance(t, g)
		want = nextExporter(keys.SuiteAES, g).NextStreamKey(want)
	}
	for _, got := range []keys.TrafficKey{opened.lastOut.key, accepted.lastIn.key} {
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatal("not the chained key")
		}
	}
	back := testSession(keys.SuiteAES).Exporter.StreamKey(keys.RoleDialer, 0, keys.DirBack)
	if !bytes.Equal(accepted.lastOut.key.Bytes(), nextExporter(keys.SuiteAES, 3).NextStreamKey(
		nextExporter(keys.SuiteAES, 2).NextStreamKey(nextExporter(keys.SuiteAES, 1).NextStreamKey(back))).Bytes()) {
		t.Fatal("not the chained key on the way back")
	}
}

// Rekeys under full load in both directions lose and reorder nothing.
func TestRekeyUnderLoad(t *testing.T) {
	c1, c2 := tcpPair(t)
	e := newEnds(keys.SuiteAES)
	opened, accepted := e.connect(t, c1, c2)
	const size = 32 << 20
	var wg sync.WaitGroup
	for _, dir := range [][2]*Stream{{opened, accepted}, {accepted, opened}} {
		wg.Go(func() {
			if n, err := io.Copy(dir[0], io.LimitReader(zeros{}, size)); n != size || err != nil {
				t.Errorf("sent %d: %v", n, err)
			}
			dir[0].CloseWrite()
		})
		wg.Go(func() {
			if n, err := io.Copy(io.Discard, dir[1]); n != size || err != nil {
				t.Errorf("got %d: %v", n, err)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	behind := func(s *Stream) bool {
		s.keyMu.Lock()
		defer s.keyMu.Unlock()
		return len(s.chain) > 2
	}
	g := uint64(0)
	for {
		select {
		case <-done:
			if g < 3 {
				t.Fatalf("only %d rekeys while data moved", g)
			}
			opened.Close()
			accepted.Close()
			return
		default:
			if g < 200 && !behind(opened) && !behind(accepted) {
				g++
				e.advance(t, g)
			}
			runtime.Gosched()
		}
	}
}

// A stream that is silent for hundreds of generations still works: the chain does not overflow.
func TestIdleStreamSurvivesManyRekeys(t *testing.T) {
	c1, c2 := tcpPair(t)
	e := newEnds(keys.SuiteChaCha)
	opened, accepted := e.connect(t, c1, c2)
	// Both ends wait in Read, as a forwarder does, so that each sees the other's REKEY.
	var wg sync.WaitGroup
	for _, s := range []*Stream{opened, accepted} {
		wg.Go(func() {
			if _, err := io.Copy(io.Discard, s); err != nil {
				t.Error(err)
			}
		})
	}
	for g := uint64(1); g <= 300; g++ {
		e.advance(t, g)
		wait(t, "the chain is shorter", func() bool {
			opened.keyMu.Lock()
			accepted.keyMu.Lock()
			defer opened.keyMu.Unlock()
			defer accepted.keyMu.Unlock()
			return len(opened.chain) <= announceAfter && len(accepted.chain) <= announceAfter
		})
	}
	for _, s := range []*Stream{opened, accepted} {
		if _, err := s.Write([]byte("still here")); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	opened.Close()
	accepted.Close()
}

// A peer that never says REKEY is reset when 64 keys wait for it.
func TestChainIsBounded(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	_, _, s := e.lied(t)
	for g := uint64(1); g <= maxChain; g++ {
		if err := e.acceptorTags.Install(e.acceptor, g, nextExporter(keys.SuiteAES, g)); err != nil {
			t.Fatal(err)
		}
		if s.Cause() != nil {
			t.Fatalf("reset at generation %d", g)
		}
	}
	if err := e.acceptorTags.Install(e.acceptor, maxChain+1, nextExporter(keys.SuiteAES, maxChain+1)); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
}

// REKEY may pass generations over, never go back or ahead of what is installed; old keys are gone after it.
func TestRekeySkipsGenerations(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	l, conn, s := e.lied(t)
	k := l.ticket.out
	for g := uint64(1); g <= 3; g++ {
		x := nextExporter(keys.SuiteAES, g)
		if err := e.acceptorTags.Install(e.acceptor, g, x); err != nil {
			t.Fatal(err)
		}
		k = x.NextStreamKey(k)
	}
	conn.Write(rawRecord(t, &l.out, typeRekey, encodeRekey(3)))
	l.out.rekey(k)
	conn.Write(rawRecord(t, &l.out, typeData, []byte("new")))
	got := make([]byte, 3)
	if _, err := io.ReadFull(s, got); err != nil || string(got) != "new" {
		t.Fatal(err)
	}
	conn.Write(rawRecord(t, &l.out, typeRekey, encodeRekey(2)))
	if _, err := s.Read(got); !errors.Is(err, ErrProtocol) {
		t.Fatalf("back to an old generation: %v", err)
	}
}

// A stream whose S1 was sent under generation g joins while the ring is at g+2: it catches up.
func TestJoinCatchesUp(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	c1, c2 := tcpPair(t)
	l := newLiar(t, e.dialer)
	b := l.s1(t, typeOpen, openBody(t, "echo"))
	e.advance(t, 1)
	c1.Write(b)
	in, err := incoming(c2, e.acceptorTags, false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Reset(CodeNormal)
	if s.generation != 0 || s.outGen != 1 || s.lastIn.generation != 1 {
		t.Fatalf("generations %d %d %d", s.generation, s.outGen, s.lastIn.generation)
	}
	kind, body := l.next(t, c1)
	if g, err := parseRekey(body); kind != typeRekey || g != 1 || err != nil {
		t.Fatal(kind, g, err)
	}
	l.in.rekey(nextExporter(keys.SuiteAES, 1).NextStreamKey(l.ticket.in))
	if kind, _ := l.next(t, c1); kind != typeAccept {
		t.Fatal(kind)
	}
}

// New streams begin with the new generation, in both roles.
func TestNewStreamsAfterRekey(t *testing.T) {
	e := newEnds(keys.SuiteChaCha)
	e.advance(t, 1)
	c1, c2 := tcpPair(t)
	opened, accepted := e.connect(t, c1, c2)
	if opened.generation != 1 || accepted.generation != 1 {
		t.Fatal("an old generation began a stream")
	}
	expect(t, opened, accepted, "x")
	opened.Close()
	accepted.Close()
}

// A stream whose session has ended may move so many bytes more and then ends, at either side.
func TestOrphanLimit(t *testing.T) {
	c1, c2 := tcpPair(t)
	e := newEnds(keys.SuiteAES)
	opened, accepted := e.connect(t, c1, c2)
	expect(t, opened, accepted, "x")
	e.dialerTags.Unregister(e.dialer, 0, time.Now())
	e.acceptorTags.Unregister(e.acceptor, 0, time.Now())
	expect(t, opened, accepted, "still")
	if !opened.out.orphan || opened.out.limit > OrphanBytes+1000 {
		t.Fatalf("limit %d", opened.out.limit)
	}
	if !accepted.in.orphan || accepted.in.limit > OrphanBytes+1000 {
		t.Fatalf("limit %d", accepted.in.limit)
	}
	opened.out.bytes = opened.out.limit
	if _, err := opened.Write([]byte("x")); !errors.Is(err, ErrKeyLimit) {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(accepted); err == nil {
		t.Fatal("ended cleanly")
	}
	accepted.Reset(CodeNormal)
}

// The receiver keeps to the limit even if the sender does not.
func TestKeyLimitOfReceiver(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	l, conn, s := e.lied(t)
	s.in.bytes = maxKeyBytes
	conn.Write(rawRecord(t, &l.out, typeData, []byte("x")))
	if got, err := io.ReadAll(s); !errors.Is(err, ErrKeyLimit) || len(got) != 0 {
		t.Fatal(err)
	}
	if kind, body := l.next(t, conn); kind != typeReset || !bytes.Equal(body, encodeReset(CodeLimit)) {
		t.Fatalf("told %d %x", kind, body)
	}
}

// A stream lives at most 24 h without its session, however little it moves.
func TestOrphanLife(t *testing.T) {
	c1, c2 := tcpPair(t)
	e := newEnds(keys.SuiteAES)
	opened, accepted := e.connect(t, c1, c2)
	now := time.Now()
	for _, grace := range []time.Duration{DuplicateGrace, 0} { // the second changes nothing
		e.dialerTags.Unregister(e.dialer, grace, now)
		e.acceptorTags.Unregister(e.acceptor, grace, now)
	}
	for _, age := range []time.Duration{time.Minute, OrphanLife - 1} {
		e.dialerTags.Sweep(now.Add(age))
		expect(t, opened, accepted, "still")
	}
	e.dialerTags.Sweep(now.Add(OrphanLife))
	<-opened.Done()
	if len(e.dialerTags.orphans) != 0 {
		t.Fatal("still watched")
	}
	if _, err := accepted.Read(make([]byte, 1)); err == nil {
		t.Fatal("ended cleanly")
	}
	accepted.Close()
	e.acceptorTags.Sweep(now.Add(RetireGrace))
	if len(e.acceptorTags.orphans) != 0 {
		t.Fatal("a ring without streams is still watched")
	}
}
