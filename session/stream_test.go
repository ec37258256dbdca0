package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// A stream is a net.Conn like any other, over a socket and over a connection that has no readiness.
func TestStreamIsNetConn(t *testing.T) {
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				a, b := tcpPair(t)
				s1, s2 := newEnds(suite).connect(t, a, b)
				return s1, s2, func() { s1.Close(); s2.Close() }, nil
			})
		})
	}
	t.Run("wrapped", func(t *testing.T) {
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			a, b := tcpPair(t)
			s1, s2 := newEnds(keys.SuiteAES).connect(t, wrapped{a}, wrapped{b})
			return s1, s2, func() { s1.Close(); s2.Close() }, nil
		})
	})
}

// wrapped hides what a connection is, so that only Read and Write are used.
type wrapped struct{ *net.TCPConn }

func TestStreamUsesReadinessOnlyOfNetTypes(t *testing.T) {
	a, b := tcpPair(t)
	if rawConn(a) == nil {
		t.Fatal("a TCP connection has no readiness reads")
	}
	if rawConn(wrapped{b}) != nil {
		t.Fatal("a wrapper's Read would be bypassed")
	}
}

// What is copied through arrives whole, in both directions, through each of the paths of io.Copy.
func TestStreamCopiesBothWays(t *testing.T) {
	const size = 3<<20 + 17
	data := make([]byte, size)
	rand.New(rand.NewSource(1)).Read(data)
	for _, suite := range suites {
		t.Run(suite.String(), func(t *testing.T) {
			opened, accepted := streamPair(t, suite)
			clientA, clientB := tcpPair(t)
			serverA, serverB := tcpPair(t)
			// The forwarder of each side: two copies and a half-close each.
			join := func(wg *sync.WaitGroup, c *net.TCPConn, s *Stream) {
				wg.Go(func() {
					if _, err := io.Copy(s, c); err != nil {
						t.Errorf("to stream: %v", err)
					}
					s.CloseWrite()
				})
				wg.Go(func() {
					if _, err := io.Copy(c, s); err != nil {
						t.Errorf("from stream: %v", err)
					}
					c.CloseWrite()
				})
			}
			var wg sync.WaitGroup
			join(&wg, clientB, opened)
			join(&wg, serverA, accepted)
			wg.Go(func() { // the server echoes
				if _, err := io.Copy(serverB, serverB); err != nil {
					t.Errorf("server: %v", err)
				}
				serverB.CloseWrite()
			})
			wg.Go(func() {
				if _, err := clientA.Write(data); err != nil {
					t.Errorf("client: %v", err)
				}
				clientA.CloseWrite()
			})
			got, err := io.ReadAll(clientA)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("got %d bytes, %v; want %d", len(got), err, size)
			}
			wg.Wait()
			if r, w := opened.Moved(); r != size || w != size {
				t.Fatalf("counted %d read and %d written", r, w)
			}
		})
	}
}

// Odd sizes through plain Read and Write: one byte, around the record and the gather sizes.
func TestStreamSizes(t *testing.T) {
	opened, accepted := streamPair(t, keys.SuiteAES)
	for _, n := range []int{1, 2, MaxData - 1, MaxData, MaxData + 1, maxGather*MaxData - 1, maxGather * MaxData, maxGather*MaxData + 1, 700000} {
		data := bytes.Repeat([]byte{byte(n)}, n)
		var wg sync.WaitGroup
		wg.Go(func() {
			if w, err := opened.Write(data); w != n || err != nil {
				t.Errorf("wrote %d of %d: %v", w, n, err)
			}
		})
		got := make([]byte, n)
		if _, err := io.ReadFull(accepted, got); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes: %v", n, err)
		}
		wg.Wait()
	}
}

func TestHalfClose(t *testing.T) {
	opened, accepted := streamPair(t, keys.SuiteAES)
	if _, err := opened.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	if err := opened.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := opened.CloseWrite(); err != nil {
		t.Fatalf("second CloseWrite: %v", err)
	}
	if _, err := opened.Write([]byte("more")); !errors.Is(err, errWriteClosed) {
		t.Fatalf("a write after CloseWrite: %v", err)
	}
	if got, err := io.ReadAll(accepted); err != nil || string(got) != "question" {
		t.Fatalf("%q %v", got, err)
	}
	// The other direction is still whole.
	if _, err := accepted.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if err := accepted.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(opened); err != nil || string(got) != "answer" {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := opened.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("after the end: %v", err)
	}
}

func TestConcurrentHalfClose(t *testing.T) {
	for range 50 {
		opened, accepted := streamPair(t, keys.SuiteChaCha)
		var wg sync.WaitGroup
		for _, s := range []*Stream{opened, accepted} {
			wg.Go(func() { s.Write([]byte("bye")); s.CloseWrite() })
			wg.Go(func() {
				if got, err := io.ReadAll(s); err != nil || string(got) != "bye" {
					t.Errorf("%q %v", got, err)
				}
			})
		}
		wg.Wait()
		opened.Close()
		accepted.Close()
	}
}

// A connection that ends without EOF is never taken for a whole one.
func TestTruncation(t *testing.T) {
	for name, end := range map[string]func(c *net.TCPConn){
		"FIN": func(c *net.TCPConn) { c.Close() },
		"RST": func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			c1, c2 := tcpPair(t)
			opened, accepted := newEnds(keys.SuiteAES).connect(t, c1, c2)
			defer opened.Reset(CodeNormal)
			defer accepted.Reset(CodeNormal)
			opened.Write([]byte("half a"))
			buf := make([]byte, 6)
			io.ReadFull(accepted, buf)
			end(c1)
			if _, err := io.ReadAll(accepted); !errors.Is(err, ErrTruncated) {
				t.Fatalf("a cut connection reads as %v", err)
			}
		})
	}
	t.Run("in a record", func(t *testing.T) {
		e := newEnds(keys.SuiteAES)
		l, conn, s := e.lied(t)
		rec := rawRecord(t, &l.out, typeData, []byte("data"))
		conn.Write(rec[:len(rec)-1])
		conn.Close()
		if got, err := io.ReadAll(s); !errors.Is(err, ErrTruncated) || len(got) != 0 {
			t.Fatalf("%q %v", got, err)
		}
	})
}

func TestReset(t *testing.T) {
	opened, accepted := streamPair(t, keys.SuiteAES)
	accepted.Reset(CodeRevoked)
	_, err := opened.Read(make([]byte, 1))
	if e, ok := errors.AsType[*ResetError](err); !ok || e.Code != CodeRevoked {
		t.Fatalf("reset reads as %v", err)
	}
	if _, err := opened.Write([]byte("x")); err == nil {
		t.Fatal("wrote to a reset stream")
	}
	<-opened.Done()
	<-accepted.Done()
	if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("own reset reads as %v", err)
	}
	accepted.Reset(CodeNormal) // again: nothing
	if err := accepted.Close(); err != nil {
		t.Fatal(err)
	}
}

// Reset sends RST, behind the RESET record.
func TestResetIsRST(t *testing.T) {
	c1, c2 := tcpPair(t)
	e := newEnds(keys.SuiteAES)
	opened, accepted := e.connect(t, c1, c2)
	defer opened.Reset(CodeNormal)
	accepted.Reset(CodeExpired)
	c1.SetReadDeadline(time.Now().Add(patience))
	if told, err := io.ReadAll(c1); !errors.Is(err, syscall.ECONNRESET) || len(told) == 0 {
		t.Fatalf("%d bytes, then %v", len(told), err)
	}
}

// Reset returns at once though a writer is blocked in a full socket, and wakes it.
func TestResetWhileBlocked(t *testing.T) {
	wait(t, "no buffers of earlier tests", func() bool { return Buffered() == 0 })
	opened, accepted := streamPair(t, keys.SuiteAES)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(opened, zeros{})
		done <- err
	}()
	wait(t, "writer is blocked", func() bool {
		if opened.writeMu.TryLock() {
			opened.writeMu.Unlock()
			return false
		}
		_, w := opened.Moved()
		return w > 0 && blocked(opened)
	})
	if b := Buffered(); b > int64(classes[3]) {
		t.Fatalf("a blocked writer holds %d bytes, one buffer has %d", b, classes[3])
	}
	stalls, began := testrun.Stalls(t), time.Now()
	opened.Reset(CodeRevoked)
	if d := time.Since(began) - stalls(); d > 100*time.Millisecond {
		t.Fatalf("reset took %v", d)
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Fatalf("blocked write ended with %v", err)
	}
	if _, err := io.ReadAll(accepted); err == nil {
		t.Fatal("a reset stream ended cleanly")
	}
}

// blocked reports whether the stream's writer makes no progress over several polls.
func blocked(s *Stream) bool {
	_, before := s.Moved()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 50 { // looks, in each of which the writer may go on: a time alone may pass while nothing runs
		<-tick.C
		if _, now := s.Moved(); now != before {
			return false
		}
	}
	return true
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Close in the middle of another goroutine's write must not look like a proper end.
func TestCloseWhileWritingIsTruncation(t *testing.T) {
	opened, accepted := streamPair(t, keys.SuiteAES)
	done := make(chan error, 1)
	go func() {
		_, err := io.Copy(opened, zeros{})
		done <- err
	}()
	wait(t, "writer is blocked", func() bool { return blocked(opened) })
	opened.Close()
	<-done
	if _, err := io.Copy(io.Discard, accepted); !errors.Is(err, ErrTruncated) {
		t.Fatalf("cut write reads as %v", err)
	}
}

// Bytes a timed-out write reported as written are not lost and not repeated.
func TestWriteDeadlineKeepsWhatItSealed(t *testing.T) {
	opened, accepted := streamPair(t, keys.SuiteAES)
	data := make([]byte, 64<<20)
	rand.New(rand.NewSource(2)).Read(data)
	var n int
	var err error
	var first sync.WaitGroup
	first.Go(func() { n, err = opened.Write(data) })
	wait(t, "writer is blocked", func() bool { _, w := opened.Moved(); return w > 0 && blocked(opened) })
	opened.SetWriteDeadline(time.Now())
	first.Wait()
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == len(data) {
		t.Fatalf("wrote %d: %v", n, err)
	}
	if opened.unsent == nil {
		t.Fatal("the deadline left nothing over to test")
	}
	opened.SetWriteDeadline(time.Time{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := opened.Write(data[n:]); err != nil {
			t.Errorf("second write: %v", err)
		}
		opened.CloseWrite()
	})
	got, err := io.ReadAll(accepted)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	wg.Wait()
}

// An idle stream holds no buffer, on either side, with or without data having passed, as a forwarder uses it.
func TestIdleStreamHoldsNoBuffer(t *testing.T) {
	wait(t, "no buffers of earlier tests", func() bool { return Buffered() == 0 })
	opened, accepted := streamPair(t, keys.SuiteAES)
	clientA, clientB := tcpPair(t)
	serverA, serverB := tcpPair(t)
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(opened, clientB) })
	wg.Go(func() { io.Copy(clientB, opened) })
	wg.Go(func() { io.Copy(accepted, serverA) })
	wg.Go(func() { io.Copy(serverA, accepted) })
	for range 3 {
		for _, dir := range [][2]net.Conn{{clientA, serverB}, {serverB, clientA}} {
			data := make([]byte, 1<<20)
			wg.Go(func() { dir[0].Write(data) })
			if _, err := io.ReadFull(dir[1], make([]byte, len(data))); err != nil {
				t.Fatal(err)
			}
		}
		wait(t, "all buffers are back", func() bool { return Buffered() == 0 })
	}
	for _, c := range []net.Conn{opened, accepted, clientA, clientB, serverA, serverB} {
		c.Close()
	}
	wg.Wait()
}

// A record after EOF, an illegal type, a length no record has: the stream ends with a protocol error and says so.
func TestStreamRules(t *testing.T) {
	eof := func(l *liar) []byte { return rawRecord(t, &l.out, typeEOF, []byte(emptyBody)) }
	for name, send := range map[string]func(l *liar) []byte{
		"record after EOF": func(l *liar) []byte { return append(eof(l), rawRecord(t, &l.out, typeData, []byte("x"))...) },
		"bytes after EOF":  func(l *liar) []byte { return append(eof(l), 0) },
		"oversize":         func(l *liar) []byte { return []byte{0x40, 0x12, 0, 0} },
		"undersize":        func(l *liar) []byte { return []byte{0, minRecord - 1, 0, 0} },
		"OPEN twice":       func(l *liar) []byte { return rawRecord(t, &l.out, typeOpen, openBody(t, "echo")) },
		"ACCEPT":           func(l *liar) []byte { return rawRecord(t, &l.out, typeAccept, []byte(emptyBody)) },
		"REFUSE":           func(l *liar) []byte { return rawRecord(t, &l.out, typeRefuse, encodeRefuse(RefusedError{Code: 4})) },
		"WARM":             func(l *liar) []byte { return rawRecord(t, &l.out, typeWarm, encodeWarm(false)) },
		"unknown low type": func(l *liar) []byte { return rawRecord(t, &l.out, 127, nil) },
		"EOF with a body":  func(l *liar) []byte { return rawRecord(t, &l.out, typeEOF, []byte{0x81, 0}) },
		"REKEY too early":  func(l *liar) []byte { return rawRecord(t, &l.out, typeRekey, encodeRekey(1)) },
		"REKEY back":       func(l *liar) []byte { return rawRecord(t, &l.out, typeRekey, encodeRekey(0)) },
		"RESET without":    func(l *liar) []byte { return rawRecord(t, &l.out, typeReset, []byte{0x81, 0}) },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEnds(keys.SuiteAES)
			l, conn, s := e.lied(t)
			if _, err := conn.Write(append(rawRecord(t, &l.out, typeData, []byte("before")), send(l)...)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(s)
			if string(got) != "before" || !errors.Is(err, ErrProtocol) {
				t.Fatalf("%q %v", got, err)
			}
			if kind, body := l.next(t, conn); kind != typeReset || !bytes.Equal(body, encodeReset(CodeProtocol)) {
				t.Fatalf("told type %d %x", kind, body)
			}
			<-s.Done()
		})
	}
}

// Types from 128 on are for later versions.
func TestUnknownHighTypesAreIgnored(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	l, conn, s := e.lied(t)
	conn.Write(rawRecord(t, &l.out, 128, []byte("what")))
	conn.Write(rawRecord(t, &l.out, 255, make([]byte, MaxData)))
	conn.Write(rawRecord(t, &l.out, typeData, nil)) // empty data is nothing
	conn.Write(rawRecord(t, &l.out, typeData, []byte("data")))
	conn.Write(rawRecord(t, &l.out, typeEOF, []byte(emptyBody)))
	if got, err := io.ReadAll(s); string(got) != "data" || err != nil {
		t.Fatalf("%q %v", got, err)
	}
	if s.Ignored() != 2 {
		t.Fatalf("ignored %d", s.Ignored())
	}
}

// Every byte of a data record matters, in each direction and suite. What came before the tampered record is delivered, it is not.
func TestTamperStreamRecord(t *testing.T) {
	for _, suite := range suites {
		for _, back := range []bool{false, true} {
			l := &liar{out: newHalf(suite, keys.TrafficKeyFromBytes(make([]byte, 32)))}
			size := len(rawRecord(t, &l.out, typeData, []byte("payload")))
			for i := range size {
				e := newEnds(suite)
				c1, c2 := tcpPair(t)
				var from *half
				var to *Stream
				var conn net.Conn
				opened, accepted := e.connect(t, c1, c2)
				if back {
					from, to, conn = &accepted.out, opened, c2
				} else {
					from, to, conn = &opened.out, accepted, c1
				}
				good := rawRecord(t, from, typeData, []byte("first"))
				bad := rawRecord(t, from, typeData, []byte("payload"))
				bad[i] ^= 1
				conn.Write(append(good, bad...))
				conn.(*net.TCPConn).CloseWrite()
				got, err := io.ReadAll(to)
				if string(got) != "first" || err == nil {
					t.Fatalf("byte %d: %q %v", i, got, err)
				}
				if i >= headerSize && !errors.Is(err, ErrRecord) {
					t.Fatalf("byte %d: %v", i, err)
				}
				opened.Reset(CodeNormal)
				accepted.Reset(CodeNormal)
				c1.Close()
				c2.Close()
			}
		}
	}
}

// The length is authenticated: a record that opens under another length in front does not open.
func TestLengthIsAuthenticated(t *testing.T) {
	for _, suite := range suites {
		out, in := newHalf(suite, testSession(suite).K1), newHalf(suite, testSession(suite).K1)
		rec := rawRecord(t, &out, typeData, []byte("x"))
		rec[0] = 0x40
		if plain, err := in.open(nil, rec); err == nil || plain != nil {
			t.Fatalf("%s: opened under another length", suite)
		}
	}
}

// A stream over a connection without readiness, in virtual time: idle for hours, then data, then the end.
func TestStreamOverPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c1, c2 := net.Pipe()
		opened, accepted := newEnds(keys.SuiteAES).connect(t, c1, c2)
		opened.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := opened.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		opened.SetReadDeadline(time.Time{})
		go func() {
			accepted.Write([]byte("late"))
			accepted.CloseWrite()
		}()
		if got, err := io.ReadAll(opened); string(got) != "late" || err != nil {
			t.Fatalf("%q %v", got, err)
		}
		opened.Reset(CodeNormal)
		accepted.Reset(CodeNormal)
	})
}

// An opener whose peer stays silent gives up after 5 s, and says which counter.
func TestOpenGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnds(keys.SuiteAES)
		c1, c2 := net.Pipe()
		defer c2.Close()
		go io.Copy(io.Discard, c2)
		began := time.Now()
		_, err := Open(context.Background(), c1, e.dialer, Request{Service: "echo"}, nil)
		if !errors.Is(err, ErrUnanswered) || time.Since(began) != AnswerTimeout {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
		if len(e.skipped) != 1 || e.skipped[0] != 0 {
			t.Fatalf("skipped %v", e.skipped)
		}
		if e.dialer.Streams() != 0 {
			t.Fatal("a stream that never was is still a member")
		}
	})
}

func TestOpenEndsWithContext(t *testing.T) {
	e := newEnds(keys.SuiteAES)
	c1, c2 := tcpPair(t)
	go io.Copy(io.Discard, c2)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := Open(ctx, c1, e.dialer, Request{Service: "echo"}, nil); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	c2.Close()
}

// The more buffers are out, the smaller they get: a thousand slow streams stay far below 256 KiB each.
func TestGatherShrinksUnderPressure(t *testing.T) {
	wait(t, "no buffers of earlier tests", func() bool { return Buffered() == 0 })
	var out []*buffer
	defer func() {
		for _, b := range out {
			putBuffer(b)
		}
	}()
	largest, middle, one := classes[3], classes[2], classes[1]
	for len(out) < 1000 {
		n := gatherSize(largest)
		want := largest
		switch used := Buffered(); {
		case used >= poolTight:
			want = one
		case used >= poolEasy:
			want = middle
		}
		if n != want {
			t.Fatalf("%d with %d out, want %d", n, Buffered(), want)
		}
		out = append(out, getBuffer(n))
	}
	if Buffered() > 96<<20 {
		t.Fatalf("1,000 streams hold %d", Buffered())
	}
}
