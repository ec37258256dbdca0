package forward

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// tcpStream is a TCP connection as a Stream: FIN is its end and RST its abort.
type tcpStream struct {
	*net.TCPConn
	seen, ended *atomic.Bool // the peer's end, and ours
}

func newTCPStream(c *net.TCPConn) tcpStream {
	return tcpStream{c, new(atomic.Bool), new(atomic.Bool)}
}

func (s tcpStream) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	if errors.Is(err, io.EOF) {
		s.seen.Store(true)
	}
	return n, err
}

// WriteTo and ReadFrom of the TCP connection would not pass through Read.
func (s tcpStream) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(plainWriter{w}, plainReader{s})
}

func (s tcpStream) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(plainWriter{s.TCPConn}, plainReader{r})
}

func (s tcpStream) CloseWrite() error {
	s.ended.Store(true)
	return s.TCPConn.CloseWrite()
}

func (s tcpStream) Abort() { Abort(s.TCPConn) }

func (s tcpStream) Close() error {
	if !s.seen.Load() || !s.ended.Load() {
		s.Abort()
	}
	return s.TCPConn.Close()
}

func tcpPair(t *testing.T) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// through starts a splice and returns the program's end, the peer's end and the result.
func through(t *testing.T, ctx context.Context) (program *net.TCPConn, peer tcpStream, result <-chan Result) {
	t.Helper()
	program, local := tcpPair(t)
	stream, far := tcpPair(t)
	res := make(chan Result, 1)
	go func() { res <- Splice(ctx, local, newTCPStream(stream)) }()
	return program, newTCPStream(far), res
}

func wait[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		t.Fatal("blocked")
		panic("unreachable")
	}
}

// TCPPair is the stream of these tests, for the contract test outside the package.
func TCPPair(t *testing.T) (a, b Stream) {
	c, s := tcpPair(t)
	return newTCPStream(c), newTCPStream(s)
}

func TestHalfCloseTowardsThePeer(t *testing.T) {
	program, peer, res := through(t, t.Context())
	io.WriteString(program, "request")
	program.CloseWrite()
	got, err := io.ReadAll(peer)
	if err != nil || string(got) != "request" {
		t.Fatalf("peer read %q, %v", got, err)
	}
	// The peer answers only after it has seen the end of the request.
	io.WriteString(peer, "a longer answer")
	peer.CloseWrite()
	got, err = io.ReadAll(program)
	if err != nil || string(got) != "a longer answer" {
		t.Fatalf("program read %q, %v", got, err)
	}
	if r := wait(t, res); r.Err != nil || r.Out != 7 || r.In != 15 {
		t.Fatalf("result %+v; want 7 out, 15 in, no error", r)
	}
}

func TestHalfCloseTowardsTheProgram(t *testing.T) {
	program, peer, res := through(t, t.Context())
	peer.CloseWrite()
	if got, err := io.ReadAll(program); err != nil || len(got) != 0 {
		t.Fatalf("program read %q, %v", got, err)
	}
	io.WriteString(program, "upload")
	program.CloseWrite()
	if got, err := io.ReadAll(peer); err != nil || string(got) != "upload" {
		t.Fatalf("peer read %q, %v", got, err)
	}
	if r := wait(t, res); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func TestResetByThePeerReachesTheProgramAsReset(t *testing.T) {
	program, peer, res := through(t, t.Context())
	io.WriteString(peer, "half an ans")
	if _, err := io.ReadFull(program, make([]byte, 11)); err != nil {
		t.Fatal(err)
	}
	peer.Abort()
	if _, err := io.ReadAll(program); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("program read: %v; want a reset, not an end", err)
	}
	if r := wait(t, res); r.Err == nil {
		t.Fatal("a torn stream without an error")
	}
}

func TestResetByTheProgramReachesThePeerAsReset(t *testing.T) {
	program, peer, res := through(t, t.Context())
	io.WriteString(program, "half a req")
	if _, err := io.ReadFull(peer, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	Abort(program)
	if _, err := io.ReadAll(peer); err == nil {
		t.Fatal("peer saw an orderly end although the program's connection was reset")
	}
	if r := wait(t, res); !errors.Is(r.Err, ErrLocal) {
		t.Fatalf("error %v; want one from the local connection", r.Err)
	}
}

func TestResetAfterHalfCloseIsStillAReset(t *testing.T) {
	program, peer, res := through(t, t.Context())
	program.CloseWrite()
	if _, err := io.ReadAll(peer); err != nil {
		t.Fatal(err)
	}
	peer.Abort()
	if _, err := io.ReadAll(program); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("program read: %v; want a reset", err)
	}
	if r := wait(t, res); !errors.Is(r.Err, ErrStream) {
		t.Fatalf("error %v; want one from the mesh", r.Err)
	}
}

func TestProgramThatStopsReadingAbortsThePeer(t *testing.T) {
	program, peer, res := through(t, t.Context())
	io.WriteString(program, "get")
	program.Close()
	if _, err := io.ReadFull(peer, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	// The program has gone away altogether, which shows only when it is written to.
	buf := make([]byte, 64<<10)
	peer.SetWriteDeadline(time.Now().Add(30 * time.Second))
	for {
		if _, err := peer.Write(buf); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				t.Fatal("the peer was never told")
			}
			break
		}
	}
	if r := wait(t, res); r.Err == nil {
		t.Fatal("no error")
	}
}

func TestContextEndAbortsBoth(t *testing.T) {
	reason := errors.New("revoked")
	ctx, cancel := context.WithCancelCause(t.Context())
	program, peer, res := through(t, ctx)
	io.WriteString(program, "x")
	if _, err := io.ReadFull(peer, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel(reason)
	if _, err := io.ReadAll(program); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("program read: %v; want a reset", err)
	}
	if _, err := io.ReadAll(peer); err == nil {
		t.Fatal("peer saw an orderly end")
	}
	if r := wait(t, res); !errors.Is(r.Err, reason) {
		t.Fatalf("error %v; want the cause", r.Err)
	}
}

// deadStream is told of its death from outside while nobody reads it, as when its peer is revoked.
type deadStream struct {
	tcpStream
	dead chan struct{}
}

func (s deadStream) Done() <-chan struct{} { return s.dead }

func TestStreamThatDiesUnreadAbortsTheProgram(t *testing.T) {
	program, local := tcpPair(t)
	stream, far := tcpPair(t)
	s := deadStream{newTCPStream(stream), make(chan struct{})}
	res := make(chan Result, 1)
	go func() { res <- Splice(t.Context(), local, s) }()
	far.CloseWrite()
	if _, err := io.ReadAll(program); err != nil {
		t.Fatal(err)
	}
	// Now only the other direction is open, and it waits for the program, not for the stream.
	close(s.dead)
	if r := wait(t, res); !errors.Is(r.Err, ErrAborted) {
		t.Fatalf("error %v; want %v", r.Err, ErrAborted)
	}
}

func TestUnixSocketHalfClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	target, err := ParseTarget("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	local, err := target.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	stream, far := tcpPair(t)
	res := make(chan Result, 1)
	go func() { res <- Splice(t.Context(), local, newTCPStream(stream)) }()
	io.WriteString(far, "question")
	far.CloseWrite()
	if got, err := io.ReadAll(server); err != nil || string(got) != "question" {
		t.Fatalf("service read %q, %v", got, err)
	}
	io.WriteString(server, "answer")
	server.Close()
	if got, err := io.ReadAll(far); err != nil || string(got) != "answer" {
		t.Fatalf("peer read %q, %v", got, err)
	}
	if r := wait(t, res); r.Err != nil {
		t.Fatal(r.Err)
	}
}

// ownCopy is a stream with copy loops of its own.
type ownCopy struct {
	tcpStream
	from chan io.Reader
	to   chan io.Writer
}

func (s ownCopy) ReadFrom(r io.Reader) (int64, error) {
	s.from <- r
	return io.Copy(plainWriter{s.TCPConn}, plainReader{r})
}

func (s ownCopy) WriteTo(w io.Writer) (int64, error) {
	s.to <- w
	return io.Copy(plainWriter{w}, plainReader{s.TCPConn})
}

func TestStreamsOwnCopyLoopsGetTheSocketItself(t *testing.T) {
	program, local := tcpPair(t)
	stream, far := tcpPair(t)
	s := ownCopy{newTCPStream(stream), make(chan io.Reader, 1), make(chan io.Writer, 1)}
	res := make(chan Result, 1)
	go func() { res <- Splice(t.Context(), local, s) }()
	if r := wait(t, s.from); r != io.Reader(local) {
		t.Errorf("ReadFrom got %T, not the connection", r)
	}
	if w := wait(t, s.to); w != io.Writer(local) {
		t.Errorf("WriteTo got %T, not the connection", w)
	}
	program.CloseWrite()
	far.CloseWrite()
	if r := wait(t, res); r.Err != nil {
		t.Fatal(r.Err)
	}
}

func TestLargeTransferBothWaysAtOnce(t *testing.T) {
	for name, wrap := range map[string]func(Stream) Stream{
		"own copy loop": func(s Stream) Stream { return s },
		"plain":         func(s Stream) Stream { return struct{ Stream }{s} },
	} {
		t.Run(name, func(t *testing.T) {
			program, local := tcpPair(t)
			stream, far := tcpPair(t)
			res := make(chan Result, 1)
			go func() { res <- Splice(t.Context(), local, wrap(newTCPStream(stream))) }()
			up, down := make([]byte, 3<<20), make([]byte, 5<<20)
			rand.Read(up)
			rand.Read(down)
			go func() { program.Write(up); program.CloseWrite() }()
			go func() { far.Write(down); far.CloseWrite() }()
			gotUp := make(chan []byte, 1)
			go func() { b, _ := io.ReadAll(far); gotUp <- b }()
			gotDown, err := io.ReadAll(program)
			if err != nil || !bytes.Equal(gotDown, down) {
				t.Fatalf("download of %d bytes differs: %v", len(gotDown), err)
			}
			if !bytes.Equal(wait(t, gotUp), up) {
				t.Fatal("upload differs")
			}
			if r := wait(t, res); r.Err != nil || r.In != int64(len(down)) || r.Out != int64(len(up)) {
				t.Fatalf("in %d out %d err %v", r.In, r.Out, r.Err)
			}
		})
	}
}
