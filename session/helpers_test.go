package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// TestMain fails the run if a test left a goroutine of this package behind.
func TestMain(m *testing.M) { os.Exit(testrun.Leaks{Tests: m, Of: []string{"meshkey/session"}}.Run()) }

var suites = []keys.Suite{keys.SuiteChaCha, keys.SuiteAES}

// testSession is a session's keys from fixed bytes.
func testSession(suite keys.Suite) keys.Session {
	k1 := keys.TrafficKeyFromBytes(bytes.Repeat([]byte{1}, 32))
	k2 := keys.TrafficKeyFromBytes(bytes.Repeat([]byte{2}, 32))
	return keys.NewSession(suite, 0, k1, k2, keys.Hash(bytes.Repeat([]byte{3}, 32)))
}

// nextSession is generation g of the same session, as a rekey would give it.
func nextExporter(suite keys.Suite, g uint64) keys.Exporter {
	k1 := keys.TrafficKeyFromBytes(bytes.Repeat([]byte{byte(g)}, 32))
	k2 := keys.TrafficKeyFromBytes(bytes.Repeat([]byte{byte(g) + 100}, 32))
	return keys.NewSession(suite, g, k1, k2, keys.Hash(bytes.Repeat([]byte{5}, 32))).Exporter
}

// tcpPair is two ends of one loopback connection.
func tcpPair(t testing.TB) (dialled, accepted *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c1, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c2, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c1.Close(); c2.Close() })
	return c1.(*net.TCPConn), c2.(*net.TCPConn)
}

// ends are the two sides of one session's streams: the dialer of the session and its acceptor.
type ends struct {
	dialer, acceptor         *Keyring
	dialerTags, acceptorTags *Tags
	mu                       sync.Mutex
	skipped                  []uint64
}

func newEnds(suite keys.Suite) *ends {
	e := &ends{dialerTags: NewTags(), acceptorTags: NewTags()}
	k := testSession(suite)
	e.dialer = NewKeyring(k, keys.RoleDialer, func(c uint64) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.skipped = append(e.skipped, c)
	})
	e.acceptor = NewKeyring(k, keys.RoleAcceptor, nil)
	e.dialerTags.Register(e.dialer, "the acceptor", time.Now())
	e.acceptorTags.Register(e.acceptor, "the dialer", time.Now())
	return e
}

// incoming reads S1 on conn as the accepting side would, first byte included.
func incoming(conn net.Conn, tags *Tags, patient bool) (*Incoming, error) {
	var first [1]byte
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return nil, err
	}
	if first[0] != FirstByte {
		return nil, fmt.Errorf("first byte %#x", first[0])
	}
	return ReadS1(conn, tags, time.Now().Add(S1Timeout), patient)
}

// connect opens one stream from the session's dialer to its acceptor over the two ends of a connection.
func (e *ends) connect(t testing.TB, c1, c2 net.Conn) (opened, accepted *Stream) {
	t.Helper()
	type result struct {
		s   *Stream
		err error
	}
	ch := make(chan result, 1)
	go func() {
		in, err := incoming(c2, e.acceptorTags, false)
		if err != nil {
			ch <- result{nil, err}
			return
		}
		s, err := in.Accept()
		ch <- result{s, err}
	}()
	opened, err := Open(context.Background(), c1, e.dialer, Request{Service: "echo"}, nil)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	r := <-ch
	if r.err != nil {
		t.Fatalf("accept: %v", r.err)
	}
	return opened, r.s
}

// streamPair is an open stream over loopback TCP.
func streamPair(t testing.TB, suite keys.Suite) (opened, accepted *Stream) {
	t.Helper()
	c1, c2 := tcpPair(t)
	opened, accepted = newEnds(suite).connect(t, c1, c2)
	t.Cleanup(func() { opened.Reset(CodeNormal); accepted.Reset(CodeNormal) })
	return opened, accepted
}

// wait polls until cond holds.
// patience is how long what takes milliseconds may take on a machine that does other things for seconds.
const patience = 30 * time.Second

func wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		runtime.Gosched()
	}
}

// rawRecord seals one stream record by hand, for a peer that breaks rules.
func rawRecord(t testing.TB, h *half, kind byte, body []byte) []byte {
	t.Helper()
	out := make([]byte, headerSize+1+len(body)+tagSize)
	if _, err := h.seal(out, append([]byte{kind}, body...)); err != nil {
		t.Fatal(err)
	}
	return out
}

// liar is a peer that has the keys of one stream and writes what it likes. It took the counter from the dialer's ring.
type liar struct {
	ticket ticket
	out    half
	in     half
}

func newLiar(t testing.TB, r *Keyring) *liar {
	t.Helper()
	tk, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	return &liar{ticket: tk, out: newHalf(r.suite, tk.out), in: newHalf(r.suite, tk.in)}
}

// s1 is the whole first message with record 0 of the given type.
func (l *liar) s1(t testing.TB, kind byte, body []byte) []byte {
	t.Helper()
	return append(append([]byte{FirstByte}, l.ticket.tag[:]...), rawRecord(t, &l.out, kind, body)...)
}

// openBody is the OPEN of a plain service.
func openBody(t testing.TB, service string) []byte {
	t.Helper()
	b, err := encodeOpen(Request{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// accepted makes a stream whose peer is a liar, and that peer's connection.
func (e *ends) lied(t testing.TB) (*liar, net.Conn, *Stream) {
	t.Helper()
	c1, c2 := tcpPair(t)
	l := newLiar(t, e.dialer)
	if _, err := c1.Write(l.s1(t, typeOpen, openBody(t, "echo"))); err != nil {
		t.Fatal(err)
	}
	in, err := incoming(c2, e.acceptorTags, false)
	if err != nil {
		t.Fatal(err)
	}
	s, err := in.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Reset(CodeNormal) })
	l.next(t, c1) // ACCEPT
	return l, c1, s
}

// next reads one record from the other side.
func (l *liar) next(t testing.TB, conn net.Conn) (kind byte, body []byte) {
	t.Helper()
	kind, body, err := l.tryNext(conn)
	if err != nil {
		t.Fatal(err)
	}
	return kind, body
}

func (l *liar) tryNext(conn net.Conn) (kind byte, body []byte, err error) {
	conn.SetReadDeadline(time.Now().Add(patience))
	var header [headerSize]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return 0, nil, err
	}
	rec := append(header[:], make([]byte, recordSize(header[:]))...)
	if _, err := io.ReadFull(conn, rec[headerSize:]); err != nil {
		return 0, nil, err
	}
	plain, err := l.in.open(nil, rec)
	if err != nil {
		return 0, nil, err
	}
	return plain[0], plain[1:], nil
}

// silent fails unless the connection is closed without a byte having come.
func silent(t testing.TB, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(patience))
	n, err := conn.Read(make([]byte, 64))
	if n != 0 {
		t.Fatalf("%d bytes were sent to a stranger", n)
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("connection was not closed: %v", err)
	}
}

func sprint(format string, v any) string { return fmt.Sprintf(format, v) }
