package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// echoHandler sends back what it gets, with no backlog to fill.
type echoHandler struct{}

func (echoHandler) Prepare(context.Context, Caller) (Prepared, error) { return echoHandler{}, nil }
func (echoHandler) Serve(_ context.Context, c *Conn)                  { io.Copy(c, c) }
func (echoHandler) Abort()                                            {}

func manyFiles(t testing.TB, need uint64) {
	t.Helper()
	var l unix.Rlimit
	ok(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &l))
	if uint64(l.Max) < need { // signed on some systems
		t.Skipf("the system allows %d open files, this needs %d", l.Max, need)
	}
	old := l
	l.Cur = l.Max
	ok(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &l))
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
}

func TestThousandSimultaneousOpens(t *testing.T) {
	const opens = 1000 / raceFactor
	manyFiles(t, 2*opens+200)
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	w.allow(a, b, "many")
	a.run()
	b.run()
	remove, err := b.Handle("many", "tcp", echoHandler{})
	ok(t, err)
	defer remove()
	l := full(a, b)
	start := make(chan struct{})
	var wg sync.WaitGroup
	conns := make([]*Conn, opens)
	errs := make([]error, opens)
	for i := range opens {
		wg.Go(func() {
			<-start
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			// One attempt: a retry would hide a refusal.
			conns[i], _, errs[i] = a.openStream(ctx, l, Target{Node: b.key.NodeID(), Service: "many"}, &session.Early{})
		})
	}
	began := time.Now()
	close(start)
	wg.Wait()
	took := time.Since(began)
	refused := 0
	for _, err := range errs {
		if err != nil {
			if refused++; refused < 5 {
				t.Log(err)
			}
		}
	}
	for _, c := range conns {
		if c != nil {
			c.Abort()
		}
	}
	t.Logf("%d simultaneous opens from one address, loopback, audit in memory: %d refused, all open after %v", opens, refused, took.Round(time.Millisecond))
	if refused > 0 {
		t.Fatal(refused, "refused", b.Counters())
	}
}

// Connections of strangers that say nothing do not keep a member out.
func TestHalfOpenConnectionsKeepNobodyOut(t *testing.T) {
	manyFiles(t, 2000)
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.run()
	b.open()
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // as fast as they are thrown out they come again
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			d := net.Dialer{LocalAddr: otherSource(), Timeout: time.Second}
			if c, err := d.Dial("tcp", a.at().String()); err == nil {
				conns = append(conns, c)
			}
			if len(conns) > 500 {
				conns[0].Close()
				conns = conns[1:]
			}
		}
	})
	eventually(t, "budget full", patience, func() bool { return a.Counters()["accept.budget"] > 100 })
	began := time.Now()
	b.run()
	full(b, a)
	t.Logf("with 500 half-open connections from varied sources, and more coming: a member is in after %v", time.Since(began).Round(time.Millisecond))
	close(stop)
	wg.Wait()
}

// Strangers get silence: whatever they send, not one byte comes back.
func TestSilence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.member("a").run()
	for name, first := range map[string][]byte{
		"nothing":           nil,
		"an unknown byte":   {0x42},
		"tls":               []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
		"http":              []byte("GET / HTTP/1.1\r\n\r\n"),
		"reserved":          {0x30},
		"an unknown tag":    slices.Concat([]byte{0x20}, make([]byte, 16), []byte{0, 17}, make([]byte, 17)),
		"a zero M1":         slices.Concat([]byte{0x02}, make([]byte, 1234)),
		"a zero enrolment":  slices.Concat([]byte{0x11}, make([]byte, 1242)),
		"half a stream tag": slices.Concat([]byte{0x20}, make([]byte, 9)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := net.Dialer{LocalAddr: otherSource()}
			c, err := d.Dial("tcp", a.at().String())
			ok(t, err)
			defer c.Close()
			c.Write(first)
			c.SetReadDeadline(time.Now().Add(patience))
			got, err := io.ReadAll(c)
			if len(got) != 0 {
				t.Fatalf("answered %x", got)
			}
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				t.Fatal("not closed")
			}
		})
	}
}

func TestRevokeCutsStreams(t *testing.T) {
	w, a, b := pair(t)
	c := a.dial(b, "echo")
	ok(t, pings(c))
	l := b.link(a)
	dead := cutAt(c)
	change := w.sign(trust.OpRevokeNode{Node: a.key.NodeID()})
	applied := b.apply(change.Seq)
	stalls := testrun.Stalls(t)
	began := time.Now()
	b.Publish(applied)
	d, stalled := (<-dead).Sub(began), stalls()
	eventually(t, "session gone", patience, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.links[l.id] == nil })
	t.Logf("revocation applied to live stream dead at the other end: %v (target 100 ms), session %v", d.Round(10*time.Microsecond), time.Since(began).Round(10*time.Microsecond))
	if d-stalled > time.Second {
		t.Fatal("too slow:", d, stalled)
	}
	eventually(t, "no stream left", patience, func() bool { return b.streams.count(a.key.NodeID()) == 0 })
	// And nothing new: neither stream nor session.
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := a.DialTarget(ctx, Target{Node: b.key.NodeID(), Service: "echo"}); err == nil {
		t.Fatal("a revoked node opens streams")
	}
	if b.link(a) != nil {
		t.Fatal("a revoked node has a session")
	}
}

func TestUngrantCutsStreamsOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	g := w.allow(a, b, "echo")
	a.run()
	b.run()
	b.echo("echo")
	full(a, b)
	c := a.dial(b, "echo")
	ok(t, pings(c))
	dead := cutAt(c)
	l := a.link(b)
	b.learn(w.sign(trust.OpUngrant{Issuer: w.issuer.Public(), GID: g.GID}))
	select {
	case <-dead:
	case <-time.After(patience):
		t.Fatal("an ungranted stream lives on")
	}
	if a.link(b) != l {
		t.Fatal("the session ended too")
	}
}

// A certificate that expires under a live stream ends stream and session within five seconds, with code 6.
func TestExpiryUnderLiveStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.member("b")
	w.life = 8 // in which there must be a session and a stream
	a := w.member("a")
	w.allow(a, b, "echo")
	a.run()
	b.run()
	b.echo("echo")
	full(a, b)
	c := a.dial(b, "echo")
	ok(t, pings(c))
	end := time.Unix(a.cert.NotAfter, 0)
	select {
	case at := <-cutAt(c):
		t.Logf("certificate expired, stream dead %v later (target 5 s)", at.Sub(end).Round(time.Millisecond))
		if at.Before(end) || housekeepingEvery > 5*time.Second {
			t.Fatal(at.Sub(end), housekeepingEvery)
		}
	case <-time.After(patience):
		t.Fatal("a stream outlives its certificate")
	}
	eventually(t, "session gone", patience, func() bool { return b.link(a) == nil })
	for _, code := range []audit.Code{audit.SessionClose, audit.StreamClose} {
		eventually(t, string(code)+" recorded with code 6", patience, func() bool {
			ok(t, b.log.Flush())
			rs, err := b.log.Read(0, 1000)
			ok(t, err)
			return slices.ContainsFunc(rs, func(r audit.Record) bool { return r.Event.Code == code && r.Event.After == "code 6" })
		})
	}
}

// Full sessions wait for the log: what a peer sends before it is full counts for nothing.
func TestNothingCountsBeforeFull(t *testing.T) {
	_, a, b := pair(t)
	real := a.link(b)
	l := &link{id: 1 << 50, peer: real.peer, remote: real.remote}
	l.state.Store(uint32(session.Restricted))
	forged := keys.NewGroupSecret(1)
	eventually(t, "a has a record of itself", patience, func() bool { return a.record.Load() != nil })
	before := a.record.Load()
	for _, body := range []session.Body{
		session.Services{Seq: 1, List: []session.Service{{Name: "x", Proto: "tcp", State: session.ServiceUp}}},
		session.Object{K: session.KindPeer, Raw: *before},
		session.Group{Generation: 1, Secret: [32]byte(forged.Bytes())},
		session.Number{K: session.KindGroupGet, N: 1},
	} {
		ok(t, a.shellFrame(context.Background(), l, body))
	}
	if l.services.Load() != nil || a.Counters()["control.too-early"] != 4 {
		t.Fatal(a.Counters())
	}
}

func TestGroupSecret(t *testing.T) {
	w, a, b := pair(t)
	next := keys.NewGroupSecret(2)
	change := w.sign(trust.OpGroup{Generation: 2, Commit: next.Commitment(w.id)})
	// Nobody has it yet.
	a.learn(change)
	eventually(t, "both know the commitment", patience, func() bool { g, _ := b.State().GroupCommit(); return g == 2 })
	l := a.link(b)
	wrong := keys.NewGroupSecret(2)
	err := a.shellFrame(context.Background(), l, session.Group{Generation: 2, Secret: [32]byte(wrong.Bytes())})
	if !errors.Is(err, errCommitment) {
		t.Fatal("a wrong secret:", err)
	}
	ok(t, a.shellFrame(context.Background(), l, session.Group{Generation: 1, Secret: [32]byte(wrong.Bytes())}))
	if _, have := a.secrets.get(2); have {
		t.Fatal("kept a wrong secret")
	}
	ok(t, b.secrets.Add(b.State(), next))
	a.askGroupSecret()
	eventually(t, "pulled", patience, func() bool { _, have := a.secrets.get(2); return have })
	if a.secrets.Newest().Generation != 2 {
		t.Fatal("not in use")
	}
}

// Services are told to those who may use them, with their state, and to nobody else.
func TestServicesState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := w.member("a"), w.member("b"), w.member("c")
	w.allow(a, b, "web")
	for _, h := range []*host{a, b, c} {
		h.run()
	}
	remove, err := b.Handle("web", "http", echoHandler{})
	ok(t, err)
	defer remove()
	full(a, b)
	full(c, b)
	sees := func(h *host) string {
		for _, p := range h.Peers() {
			if p.Node == b.key.NodeID() {
				var out []string
				for _, s := range p.Services {
					out = append(out, s.Name+" "+s.Proto+" "+map[session.ServiceState]string{session.ServiceUp: "up", session.ServiceDown: "down"}[s.State]+" "+s.Reason)
				}
				return strings.Join(out, ",")
			}
		}
		return "?"
	}
	eventually(t, "a told", patience, func() bool { return sees(a) == "web http up " })
	b.SetServiceState("web", false, strings.Repeat("é", 100))
	d := eventually(t, "a told that it is down", patience, func() bool { return strings.HasPrefix(sees(a), "web http down é") })
	t.Logf("a change of state is known after %v (target 1 s)", d.Round(time.Millisecond))
	b.SetServiceState("web", true, "")
	eventually(t, "up again", patience, func() bool { return sees(a) == "web http up " })
	if s := sees(c); s != "" {
		t.Fatal("c may not use it, and was told", s)
	}
	remove()
	eventually(t, "withdrawn", patience, func() bool { return sees(a) == "" })
}
