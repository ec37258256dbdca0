package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
)

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// start serves an entrance until the test ends and returns its address and events.
func start(t *testing.T, e *Entrance) (addr string, events <-chan Event, stop func() error) {
	t.Helper()
	ln := listen(t)
	ch := make(chan Event, 16)
	e.Event = func(ev Event) { ch <- ev }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, ln) }()
	stop = sync.OnceValue(func() error { cancel(); return wait(t, done) })
	t.Cleanup(func() { stop() })
	return ln.Addr().String(), ch, stop
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func allowAll(net.Conn) error { return nil }

func TestEntranceJoinsAConnectionToAStream(t *testing.T) {
	stream, far := tcpPair(t)
	e := &Entrance{Allow: allowAll, Open: func(context.Context, func([]byte) int) (Stream, error) { return newTCPStream(stream), nil }}
	addr, events, stop := start(t, e)
	c := dial(t, addr)
	if ev := wait(t, events); ev.Kind != "open" || ev.From.String() != c.LocalAddr().String() {
		t.Fatalf("event %+v", ev)
	}
	io.WriteString(c, "ping")
	c.CloseWrite()
	if got, err := io.ReadAll(far); err != nil || string(got) != "ping" {
		t.Fatalf("%q, %v", got, err)
	}
	far.CloseWrite()
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	if ev := wait(t, events); ev.Kind != "close" || ev.Err != nil || ev.Result.Out != 4 {
		t.Fatalf("event %+v", ev)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// What the client has sent before the stream is open can go with the request for it; nothing is lost, sent twice or waited for.
func TestEntranceSendsAhead(t *testing.T) {
	stream, far := tcpPair(t)
	sent := make(chan struct{})
	e := &Entrance{Allow: allowAll, Open: func(_ context.Context, first func([]byte) int) (Stream, error) {
		p := make([]byte, 4)
		if n := first(p); n != 0 {
			t.Errorf("%d bytes of a client that sent none", n)
		}
		sent <- struct{}{}
		<-sent
		for n := 0; n == 0; { // loopback delivers at once, but not before the other goroutine's write
			n = first(p)
			if n != 0 && string(p[:n]) != "ping" {
				t.Errorf("%q", p[:n])
			}
		}
		stream.Write(p)
		return newTCPStream(stream), nil
	}}
	addr, events, _ := start(t, e)
	c := dial(t, addr)
	<-sent
	io.WriteString(c, "ping pong")
	c.CloseWrite()
	sent <- struct{}{}
	if got, err := io.ReadAll(far); err != nil || string(got) != "ping pong" {
		t.Fatalf("%q, %v", got, err)
	}
	far.CloseWrite()
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	wait(t, events)
	if ev := wait(t, events); ev.Kind != "close" || ev.Err != nil || ev.Result.Out != 9 {
		t.Fatalf("event %+v", ev)
	}
}

// A client that resets while its stream is being opened has not ended in order, and the peer is not told that it has.
func TestEntranceResetWhileItOpens(t *testing.T) {
	stream, far := tcpPair(t)
	accepted, reset := make(chan struct{}), make(chan struct{})
	e := &Entrance{Allow: allowAll, Open: func(_ context.Context, first func([]byte) int) (Stream, error) {
		close(accepted)
		<-reset
		if n := first(make([]byte, 4)); n != 0 {
			t.Errorf("%d bytes of a client that sent none", n)
		}
		return newTCPStream(stream), nil
	}}
	addr, events, _ := start(t, e)
	c := dial(t, addr)
	<-accepted
	Abort(c)
	close(reset)
	if got, err := io.ReadAll(far); err == nil {
		t.Fatalf("an orderly end after %q", got)
	}
	wait(t, events)
	if ev := wait(t, events); ev.Kind != "close" || !errors.Is(ev.Err, ErrLocal) {
		t.Fatalf("event %+v", ev)
	}
}

func TestReadNow(t *testing.T) {
	a, b := tcpPair(t)
	p := make([]byte, 8)
	if n, err := readNow(a, p); n != 0 || err != nil {
		t.Fatal(n, err, "of nothing")
	}
	b.CloseWrite()
	if _, err := io.ReadAll(a); err != nil {
		t.Fatal(err)
	}
	if n, err := readNow(a, p); n != 0 || err != nil {
		t.Fatal(n, err, "of the end")
	}
	a.Close()
	if n, err := readNow(a, p); n != 0 || err == nil {
		t.Fatal(n, err, "of a closed connection")
	}
	c, d := net.Pipe()
	defer c.Close()
	defer d.Close()
	if n, err := readNow(c, p); n != 0 || err != nil {
		t.Fatal(n, err, "of what is no socket")
	}
}

func TestEntranceAsksBeforeItOpens(t *testing.T) {
	no := errors.New("not you")
	dialled := make(chan struct{})
	e := &Entrance{
		Allow: func(net.Conn) error { <-dialled; return no },
		Open: func(context.Context, func([]byte) int) (Stream, error) {
			t.Error("opened for a refused user")
			return nil, no
		},
	}
	addr, events, _ := start(t, e)
	c := dial(t, addr)
	close(dialled)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("refused connection read: %v; want a reset", err)
	}
	if ev := wait(t, events); ev.Kind != "refused" || !errors.Is(ev.Err, no) {
		t.Fatalf("event %+v", ev)
	}
}

func TestEntranceResetsWhenTheStreamIsRefused(t *testing.T) {
	no := errors.New("denied")
	dialled := make(chan struct{})
	e := &Entrance{Allow: allowAll, Open: func(context.Context, func([]byte) int) (Stream, error) { <-dialled; return nil, no }}
	addr, events, _ := start(t, e)
	c := dial(t, addr)
	close(dialled)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read: %v; want a reset", err)
	}
	if ev := wait(t, events); ev.Kind != "refused" || !errors.Is(ev.Err, no) {
		t.Fatalf("event %+v", ev)
	}
}

func TestEntranceWithoutACheckServesNobody(t *testing.T) {
	ln := listen(t)
	e := &Entrance{Open: func(context.Context, func([]byte) int) (Stream, error) { return nil, nil }}
	if err := e.Serve(t.Context(), ln); err == nil {
		t.Fatal("served without a check")
	}
	if _, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		t.Fatal("still listening")
	}
}

func TestEntranceStopAbortsWhatIsOpen(t *testing.T) {
	stream, far := tcpPair(t)
	e := &Entrance{Allow: allowAll, Open: func(context.Context, func([]byte) int) (Stream, error) { return newTCPStream(stream), nil }}
	addr, events, stop := start(t, e)
	c := dial(t, addr)
	wait(t, events)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("program read: %v; want a reset", err)
	}
	if _, err := io.ReadAll(far); err == nil {
		t.Fatal("peer saw an orderly end")
	}
}

// The connections have no socket behind them: what counts is how many are served at a time.
func TestEntranceBoundsConnections(t *testing.T) {
	hold := make(chan struct{})
	e := &Entrance{Allow: allowAll, Open: func(ctx context.Context, _ func([]byte) int) (Stream, error) {
		<-hold
		return nil, errors.New("done")
	}}
	ln := &memListener{conns: make(chan net.Conn), done: make(chan struct{})}
	var refused []error
	var mu sync.Mutex
	full := make(chan struct{}, 1)
	e.Event = func(ev Event) {
		if errors.Is(ev.Err, ErrFull) {
			full <- struct{}{}
		}
		mu.Lock()
		refused = append(refused, ev.Err)
		mu.Unlock()
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Serve(ctx, ln) }()
	for range MaxActive {
		ln.conns <- memConn{}
	}
	mu.Lock()
	n := len(refused)
	mu.Unlock()
	if n != 0 {
		t.Fatalf("%d refused below the limit: %v", n, refused[0])
	}
	ln.conns <- memConn{}
	wait(t, full)
	close(hold)
	cancel()
	if err := wait(t, done); err != nil {
		t.Fatal(err)
	}
}

type memListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *memListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *memListener) Addr() net.Addr { return &net.TCPAddr{} }

type memConn struct{ net.Conn }

func (memConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }
func (memConn) CloseWrite() error    { return nil }
func (memConn) Close() error         { return nil }
