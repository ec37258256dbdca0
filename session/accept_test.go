package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// deliver writes b to the acceptor as a fresh connection and returns what it makes of it.
func (e *ends) deliver(t testing.TB, b []byte) (conn net.Conn, in *Incoming, err error) {
	t.Helper()
	c1, c2 := tcpPair(t)
	if _, err := c1.Write(b); err != nil {
		t.Fatal(err)
	}
	in, err = incoming(c2, e.acceptorTags, false)
	return c1, in, err
}

func TestUnknownTagGetsNoByte(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	b := newLiar(t, e.dialer).s1(t, typeOpen, openBody(t, "echo"))
	b[5] ^= 1
	conn, _, err := e.deliver(t, b)
	if !errors.Is(err, ErrUnknownTag) {
		t.Fatal(err)
	}
	silent(t, conn)
}

// A tag is single use: the same bytes again get nothing.
func TestReplayedS1(t *testing.T) {
	for _, suite := range suites {
		e := newEnds(suite)
		b := newLiar(t, e.dialer).s1(t, typeOpen, openBody(t, "echo"))
		_, in, err := e.deliver(t, b)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Reset(CodeNormal)
		conn, _, err := e.deliver(t, b)
		if !errors.Is(err, ErrUnknownTag) {
			t.Fatal(err)
		}
		silent(t, conn)
	}
}

// Many connections race with one S1: one wins.
func TestReplayedS1Concurrently(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	b := newLiar(t, e.dialer).s1(t, typeOpen, openBody(t, "echo"))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		c1, c2 := tcpPair(t)
		c1.Write(b)
		wg.Go(func() {
			if in, err := incoming(c2, e.acceptorTags, false); err == nil {
				won.Add(1)
				in.Reset(CodeNormal)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d connections got one tag", won.Load())
	}
}

// The claim itself decides: two that both opened record 0 cannot both have the tag.
func TestClaimIsAtomic(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	l := newLiar(t, e.dialer)
	f, ok := e.acceptorTags.lookup(l.ticket.tag, time.Now())
	if !ok {
		t.Fatal("unknown")
	}
	if !e.acceptorTags.claim(l.ticket.tag, f, time.Now()) || e.acceptorTags.claim(l.ticket.tag, f, time.Now()) {
		t.Fatal("a tag was not claimed exactly once")
	}
}

// A tag that was valid at the look-up and expired while record 0 was on its way is not claimed.
func TestClaimChecksAgain(t *testing.T) {
	tb := newTable(t)
	tag := tb.x.StreamTag(keys.RoleDialer, 0)
	f, ok := tb.tags.lookup(tag, tb.now)
	if !ok {
		t.Fatal("unknown")
	}
	tb.tags.Unregister(tb.ring, DuplicateGrace, tb.now)
	if tb.tags.claim(tag, f, tb.now.Add(DuplicateGrace)) {
		t.Fatal("claimed after its time")
	}
}

// A stream that is reset before its S1 went out says nothing: record 0 is S1's.
func TestResetBeforeS1(t *testing.T) {
	c1, c2 := tcpPair(t)
	e := newEnds(keys.SuiteAES)
	tk, err := e.dialer.take()
	if err != nil {
		t.Fatal(err)
	}
	newStream(c1, e.dialer, 0, tk.counter, tk.out, tk.in, true).Reset(CodeRevoked)
	silent(t, c2)
}

// Every byte of S1 matters, and a record 0 that does not open uses nothing up: the owner's S1 still works.
func TestTamperS1(t *testing.T) {
	for _, suite := range suites {
		e := newEnds(suite)
		b := newLiar(t, e.dialer).s1(t, typeOpen, openBody(t, "echo"))
		for i := 1; i < len(b); i++ {
			bad := bytes.Clone(b)
			bad[i] ^= 1
			c1, c2 := tcpPair(t)
			c1.Write(bad)
			c1.CloseWrite() // a longer length must not wait for more
			if _, err := incoming(c2, e.acceptorTags, false); err == nil {
				t.Fatalf("S1 with byte %d tampered was taken", i)
			}
			silent(t, c1)
			c1.Close()
		}
		_, in, err := e.deliver(t, b)
		if err != nil {
			t.Fatalf("the untampered S1 afterwards: %v", err)
		}
		in.Reset(CodeNormal)
	}
}

// The answers are authenticated too.
func TestTamperAnswer(t *testing.T) {
	for _, suite := range suites {
		for _, kind := range []byte{typeAccept, typeRefuse} {
			for i := 0; ; i++ {
				e := newEnds(suite)
				c1, c2 := tcpPair(t)
				var size int
				go func() {
					in, err := incoming(c2, e.acceptorTags, false)
					if err != nil {
						t.Error(err)
						return
					}
					body := []byte(emptyBody)
					if kind == typeRefuse {
						body = encodeRefuse(RefusedError{Code: CodeNotAdmitted})
					}
					rec := rawRecord(t, &in.s.out, kind, body)
					size = len(rec)
					rec[i%len(rec)] ^= 1
					c2.Write(rec)
					c2.CloseWrite()
				}()
				s, err := Open(context.Background(), c1, e.dialer, Request{Service: "echo"}, nil)
				if err == nil || s != nil {
					t.Fatalf("answer %d with byte %d tampered was believed", kind, i)
				}
				if _, ok := errors.AsType[*RefusedError](err); ok {
					t.Fatal("a tampered refusal was believed")
				}
				if !errors.Is(err, ErrUnanswered) {
					t.Fatal(err)
				}
				c2.Close()
				if i+1 >= size {
					break
				}
			}
		}
	}
}

func TestRecord0Rules(t *testing.T) {
	long := make([]byte, maxRecord0-headerSize-minRecord+1)
	for name, s1 := range map[string]func(l *liar) []byte{
		"data":     func(l *liar) []byte { return l.s1(t, typeData, nil) },
		"ACCEPT":   func(l *liar) []byte { return l.s1(t, typeAccept, []byte(emptyBody)) },
		"too long": func(l *liar) []byte { return l.s1(t, typeOpen, long) },
		"far too long": func(l *liar) []byte {
			b := l.s1(t, typeOpen, long)
			b[17], b[18] = 0x40, 0
			return b
		},
		"no service":     func(l *liar) []byte { return l.s1(t, typeOpen, []byte{0x82, 0x60, 0}) },
		"bad service":    func(l *liar) []byte { return l.s1(t, typeOpen, []byte{0x82, 0x61, '/', 0}) },
		"trailing":       func(l *liar) []byte { return l.s1(t, typeOpen, append(openBody(t, "a"), 0)) },
		"WARM 2":         func(l *liar) []byte { return l.s1(t, typeWarm, []byte{0x81, 2}) },
		"relay, no node": func(l *liar) []byte { return l.s1(t, typeOpen, append([]byte{0x82, 0x66}, "!relay\x00"...)) },
		"unknown bang":   func(l *liar) []byte { return l.s1(t, typeOpen, append([]byte{0x82, 0x62}, "!x\x00"...)) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(keys.SuiteAES)
			conn, in, err := e.deliver(t, s1(newLiar(t, e.dialer)))
			if !errors.Is(err, ErrProtocol) || in != nil {
				t.Fatal(err)
			}
			silent(t, conn)
			if e.acceptor.Streams() != 0 {
				t.Fatal("still a member of the ring")
			}
		})
	}
}

// S1 of the wrong role, another session, or keyed with the other direction is nothing.
func TestS1OfAnotherSession(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	k := testSession(keys.SuiteAES)
	k.Exporter = nextExporter(keys.SuiteAES, 9)
	other := NewKeyring(k, keys.RoleDialer, nil)
	own := NewKeyring(testSession(keys.SuiteAES), keys.RoleAcceptor, nil) // our own role reflected
	for _, r := range []*Keyring{other, own} {
		conn, _, err := e.deliver(t, newLiar(t, r).s1(t, typeOpen, openBody(t, "echo")))
		if !errors.Is(err, ErrUnknownTag) {
			t.Fatal(err)
		}
		silent(t, conn)
	}
}

// S1 must be whole by the deadline; what is not gets silence.
func TestS1Deadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnds(keys.SuiteAES)
		b := newLiar(t, e.dialer).s1(t, typeOpen, openBody(t, "echo"))
		for _, n := range []int{1, 17, 18, len(b) - 1} {
			c1, c2 := net.Pipe()
			go c1.Write(b[:n])
			began := time.Now()
			if _, err := incoming(c2, e.acceptorTags, true); err == nil || time.Since(began) != S1Timeout {
				t.Fatalf("%d bytes: %v after %v", n, err, time.Since(began))
			}
			if got, _ := io.ReadAll(c1); len(got) != 0 {
				t.Fatalf("%d bytes were answered", len(got))
			}
			c1.Close()
		}
	})
}

func TestRefuse(t *testing.T) {
	for _, early := range []int{0, 5000, 60000} {
		e := newEnds(keys.SuiteChaCha)
		c1, c2 := tcpPair(t)
		l := newLiar(t, e.dialer)
		b := l.s1(t, typeOpen, openBody(t, "secret-service"))
		for n := 0; n < early; n += 1000 {
			b = append(b, rawRecord(t, &l.out, typeData, make([]byte, 1000))...)
		}
		c1.Write(b)
		in, err := incoming(c2, e.acceptorTags, false)
		if err != nil || in.Request().Service != "secret-service" || in.Owner() != "the dialer" {
			t.Fatal(err)
		}
		f, err := c2.File() // a second hold on the socket, to look at it after it was closed
		if err != nil {
			t.Fatal(err)
		}
		dup, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Refuse(CodeNotAdmitted, 4711); err != nil {
			t.Fatal(err)
		}
		// Bytes left unread would make the kernel send RST, and a kernel that drops what it received on RST would lose the refusal.
		dup.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := dup.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("early data was left unread: %v", err)
		}
		dup.Close()
		kind, body := l.next(t, c1)
		if r, err := parseRefuse(body); kind != typeRefuse || err != nil || r.Code != CodeNotAdmitted || r.AuditIndex != 4711 {
			t.Fatalf("type %d: %v %v", kind, r, err)
		}
		if e.acceptor.Streams() != 0 {
			t.Fatal("a refused stream is still a member")
		}
		if n, err := c1.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("after the refusal: %v", err)
		}
		if _, err := in.Accept(); err == nil {
			t.Fatal("accepted after it was refused")
		}
	}
}

func TestOpenIsRefused(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	c1, c2 := tcpPair(t)
	go func() {
		if in, err := incoming(c2, e.acceptorTags, false); err == nil {
			in.Refuse(CodeUnreachable, 7)
		}
	}()
	_, err := Open(context.Background(), c1, e.dialer, Request{Service: "db"}, nil)
	if r, ok := errors.AsType[*RefusedError](err); !ok || *r != (RefusedError{CodeUnreachable, 7}) {
		t.Fatal(err)
	}
	if errors.Is(err, ErrUnanswered) || len(e.skipped) != 0 {
		t.Fatal("a refusal is an answer")
	}
}

// Only ACCEPT, REFUSE and RESET answer an OPEN; REKEY and unknown high types may come before.
func TestAnswerRules(t *testing.T) {
	rec := func(kind byte, body []byte) func(h *half) []byte {
		return func(h *half) []byte { return rawRecord(t, h, kind, body) }
	}
	for name, answer := range map[string]func(h *half) []byte{
		"data":          rec(typeData, []byte("x")),
		"OPEN":          rec(typeOpen, openBody(t, "echo")),
		"EOF":           rec(typeEOF, []byte(emptyBody)),
		"WARM":          rec(typeWarm, encodeWarm(false)),
		"low type":      rec(100, nil),
		"ACCEPT, body":  rec(typeAccept, []byte{0x81, 1}),
		"REFUSE 0":      rec(typeRefuse, []byte{0x82, 0, 0}),
		"REFUSE, short": rec(typeRefuse, []byte{0x81, 4}),
		"REKEY":         rec(typeRekey, encodeRekey(1)),
		"large": func(h *half) []byte {
			return append(rawRecord(t, h, 200, make([]byte, maxStreamBody+1)), rawRecord(t, h, typeAccept, []byte(emptyBody))...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(keys.SuiteAES)
			c1, c2 := tcpPair(t)
			go func() {
				if in, err := incoming(c2, e.acceptorTags, false); err == nil {
					c2.Write(answer(&in.s.out))
				}
			}()
			if s, err := Open(context.Background(), c1, e.dialer, Request{Service: "echo"}, nil); !errors.Is(err, ErrProtocol) || s != nil {
				t.Fatal(err)
			}
		})
	}
	t.Run("high type first", func(t *testing.T) {
		e := newEnds(keys.SuiteAES)
		c1, c2 := tcpPair(t)
		go func() {
			if in, err := incoming(c2, e.acceptorTags, false); err == nil {
				c2.Write(append(rec(200, nil)(&in.s.out), rec(typeAccept, []byte(emptyBody))(&in.s.out)...))
			}
		}()
		s, err := Open(context.Background(), c1, e.dialer, Request{Service: "echo"}, nil)
		if err != nil || s.Ignored() != 1 {
			t.Fatal(err)
		}
		s.Reset(CodeNormal)
	})
}

// Nothing behind OPEN is read before ACCEPT: the process holds none of it, and all of it arrives after.
func TestEarlyDataStaysInTheKernel(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	c1, c2 := tcpPair(t)
	l := newLiar(t, e.dialer)
	b := l.s1(t, typeOpen, openBody(t, "echo"))
	s1 := len(b)
	data := bytes.Repeat([]byte("early "), 5000)
	b = append(b, rawRecord(t, &l.out, typeData, data[:MaxData])...)
	b = append(b, rawRecord(t, &l.out, typeData, data[MaxData:])...)
	b = append(b, rawRecord(t, &l.out, typeEOF, []byte(emptyBody))...)
	if _, err := c1.Write(b); err != nil {
		t.Fatal(err)
	}
	counted := &countingConn{TCPConn: c2}
	in, err := incoming(counted, e.acceptorTags, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := counted.read.Load(); got != int64(s1) {
		t.Fatalf("read %d bytes before the decision, S1 has %d", got, s1)
	}
	s, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if got := counted.read.Load(); got != int64(s1) {
		t.Fatalf("ACCEPT read on to %d", got)
	}
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	s.Close()
}

type countingConn struct {
	*net.TCPConn
	read atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// A pending request can be cut from outside at any time, and is then neither accepted nor refused.
func TestIncomingReset(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	c1, c2 := tcpPair(t)
	result := make(chan error, 1)
	go func() {
		_, err := Open(context.Background(), c1, e.dialer, Request{Service: "echo"}, nil)
		result <- err
	}()
	in, err := incoming(c2, e.acceptorTags, false)
	if err != nil {
		t.Fatal(err)
	}
	in.Reset(CodeRevoked)
	<-in.Done()
	if _, err := in.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("accepted after a reset: %v", err)
	}
	if r, ok := errors.AsType[*ResetError](<-result); !ok || r.Code != CodeRevoked {
		t.Fatalf("%v", r)
	}
}

// 1,000 opens at once from one address on one keyring: whatever order they arrive in, none is refused.
func TestThousandSimultaneousOpens(t *testing.T) {
	const n = 1000
	t.Run("in virtual time", func(t *testing.T) {
		// However long this machine takes for all of them, no deadline passes meanwhile.
		synctest.Test(t, func(t *testing.T) { simultaneousOpens(t, n, func() (net.Conn, net.Conn) { return net.Pipe() }) })
	})
	t.Run("over TCP", func(t *testing.T) {
		n := n
		if testrun.Race {
			n /= 10 // which makes everything some ten times slower while the protocol's deadlines stay
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		simultaneousOpens(t, n, func() (net.Conn, net.Conn) {
			c1, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			c2, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			return c1, c2
		})
	})
}

// simultaneousOpens begins n streams at once, of which none may be refused. All are connected before the first counter is taken, so that
// S1s overtake each other as much as they can.
func simultaneousOpens(t *testing.T, n int, connect func() (opener, acceptor net.Conn)) {
	e := newEnds(keys.SuiteAES)
	var wg sync.WaitGroup
	var refused atomic.Int32
	start := make(chan struct{})
	for range n {
		c1, c2 := connect()
		wg.Go(func() {
			<-start
			in, err := incoming(c2, e.acceptorTags, true)
			if err != nil {
				refused.Add(1)
				return
			}
			s, err := in.Accept()
			if err != nil {
				refused.Add(1)
				return
			}
			io.Copy(s, s)
			s.Close()
		})
		wg.Go(func() {
			<-start
			s, err := Open(context.Background(), c1, e.dialer, Request{Service: "echo"}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { // a pipe holds nothing: who writes waits for who reads
				s.Write([]byte("ping"))
				s.CloseWrite()
			})
			if got, err := io.ReadAll(s); string(got) != "ping" || err != nil {
				t.Errorf("%q %v", got, err)
			}
			s.Close()
		})
	}
	close(start)
	wg.Wait()
	if refused.Load() != 0 {
		t.Fatalf("%d of %d refused", refused.Load(), n)
	}
	if e.dialer.Streams() != 0 || e.acceptor.Streams() != 0 {
		t.Fatal("ended streams are still members")
	}
}

// The worst order: the last counter first. Patience takes all of them; without it the window is all there is.
func TestOvertakenOpensWait(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	const n = 200
	var all [][]byte
	for range n {
		all = append(all, newLiar(t, e.dialer).s1(t, typeOpen, openBody(t, "echo")))
	}
	var wg sync.WaitGroup
	var taken atomic.Int32
	for i := n - 1; i >= 0; i-- {
		c1, c2 := tcpPair(t)
		c1.Write(all[i])
		wg.Go(func() {
			if in, err := incoming(c2, e.acceptorTags, true); err == nil {
				taken.Add(1)
				in.Reset(CodeNormal)
			}
		})
	}
	wg.Wait()
	if taken.Load() != n {
		t.Fatalf("%d of %d taken", taken.Load(), n)
	}
	if len(e.acceptorTags.waiting) != 0 || e.acceptorTags.waiters != 0 {
		t.Fatal("waiters left behind")
	}
}

func TestWaitersAreBounded(t *testing.T) {
	tags := NewTags()
	var cancels []func()
	for i := range maxWaiting {
		ready, cancel := tags.await(keys.Tag{byte(i), byte(i >> 8), 1})
		if ready == nil {
			t.Fatalf("waiter %d refused", i)
		}
		cancels = append(cancels, cancel)
	}
	if ready, _ := tags.await(keys.Tag{2}); ready != nil {
		t.Fatal("more waiters than the limit")
	}
	for _, c := range cancels {
		c()
	}
	if ready, cancel := tags.await(keys.Tag{2}); ready == nil {
		t.Fatal("waiters that left still count")
	} else {
		cancel()
	}
}

func TestRelayRequest(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	c1, c2 := tcpPair(t)
	want := Request{Service: RelayService, Target: keys.NodeID{1, 2, 3}}
	go Open(context.Background(), c1, e.dialer, want, nil)
	in, err := incoming(c2, e.acceptorTags, false)
	if err != nil || in.Request() != want {
		t.Fatalf("%+v %v", in.Request(), err)
	}
	in.Reset(CodeNormal)
	for _, bad := range []Request{
		{},
		{Service: "A"},
		{Service: "!other"},
		{Service: RelayService},
		{Service: "web", Target: want.Target},
		{Service: RelayInService, Target: want.Target, Flags: 1},
	} {
		c1, _ := tcpPair(t)
		if _, err := Open(context.Background(), c1, e.dialer, bad, nil); err == nil {
			t.Fatalf("opened %+v", bad)
		}
	}
}
