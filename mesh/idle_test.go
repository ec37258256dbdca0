package mesh

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// farEnv makes the test binary the far ends of a node's sessions, so that their memory is another process's.
const farEnv = "MESHKEY_TEST_FAR_ENDS"

// What the two processes tell each other, in this order.
type (
	// farIDs is who the far ends are, and where each of them listens.
	farIDs struct {
		Node []keys.NodeID
		At   []string
	}
	// farMesh is what they need to be members.
	farMesh struct {
		Mesh         keys.MeshID
		Node         keys.NodeID
		At           string
		Secret       []byte
		Certificates [][]byte
		Vector       []byte
		Digest       [8]byte
		Root         uint64
	}
	// farDial asks the far ends from, from+1, … below to to dial.
	farDial struct{ From, To int }
	// farDone says that they have.
	farDone struct{ Err string }
)

// farEnds runs members that only speak: they keep sessions as a daemon does that has nothing to do. It ends with standard input.
func farEnds(n int) error {
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	var ids farIDs
	all := make([]*farEnd, n)
	for i := range all {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		all[i] = &farEnd{index: i, key: keys.NewSigningKey(), ln: ln}
		ids.Node, ids.At = append(ids.Node, all[i].key.NodeID()), append(ids.At, ln.Addr().String())
	}
	if err := out.Encode(ids); err != nil {
		return err
	}
	m := new(farMesh)
	if err := in.Decode(m); err != nil {
		return err
	}
	secret, err := keys.GroupSecretFromBytes(1, m.Secret)
	if err != nil {
		return err
	}
	for _, f := range all {
		if err := f.bind(m, secret.Gate(m.Mesh)); err != nil {
			return err
		}
		go f.accept()
	}
	for {
		var d farDial
		if err := in.Decode(&d); err != nil {
			return nil
		}
		var done farDone
		for _, f := range all[d.From:d.To] {
			if err := f.dial(); err != nil {
				done.Err = err.Error()
			}
		}
		if err := out.Encode(done); err != nil {
			return err
		}
	}
}

type farEnd struct {
	index int
	key   *keys.SigningKey
	ln    net.Listener
	mesh  *farMesh
	gate  keys.PSK
	local handshake.Local
}

func (f *farEnd) bind(m *farMesh, gate keys.PSK) error {
	static := handshake.NewStatic()
	now := time.Now().Unix()
	b, err := identity.IssueBinding(identity.Binding{
		Mesh: m.Mesh, Node: f.key.NodeID(), Static: static.Public(), NotBefore: now, NotAfter: now + bindingLife,
		Boot: identity.BootID{byte(f.index), byte(f.index >> 8), 1},
	}, f.key)
	f.mesh, f.gate = m, gate
	f.local = handshake.Local{
		Mesh: m.Mesh, Node: f.key.NodeID(), Static: static, Certificate: m.Certificates[f.index], Binding: b.Raw(),
		RootVersion: m.Root, Digest: m.Digest, GroupGen: 1, ConnSeq: 1,
	}
	return err
}

func farVerify(*handshake.Peer, int64) (session.State, session.Code) { return session.Full, 0 }

func farNow() int64 { return time.Now().Unix() }

func (f *farEnd) dial() error {
	// An address of its own, as hosts have: one address may not make so many handshakes at once.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(f.index>>8), byte(f.index))}}
	conn, err := d.Dial("tcp", f.mesh.At)
	if err != nil {
		return err
	}
	res, err := handshake.Dial(context.Background(), conn, handshake.DialConfig{
		Local: f.local, Gate: f.gate, Suite: keys.SuiteAES, Responder: f.mesh.Node, Verify: farVerify, Now: farNow,
	})
	if err != nil {
		return err
	}
	go f.keep(conn, res)
	return nil
}

func (f *farEnd) accept() {
	a := handshake.NewAcceptor(handshake.AcceptorConfig{
		Local: func() handshake.Local { return f.local }, Verify: farVerify, Now: farNow,
		Gates: func() []handshake.Gate { return []handshake.Gate{{Generation: 1, PSK: f.gate}} },
	})
	for {
		conn, err := f.ln.Accept()
		if err != nil {
			return
		}
		var first [1]byte
		if _, err := io.ReadFull(conn, first[:]); err != nil {
			conn.Close()
			continue
		}
		src := addrOf(conn.RemoteAddr()).Addr()
		if res, err := a.Accept(context.Background(), conn, keys.Suite(first[0]), src, time.Now()); err == nil {
			go f.keep(conn, res)
		}
	}
}

// keep says everything a daemon says on an idle session: state, view, services, and heartbeats with its health.
func (f *farEnd) keep(conn net.Conn, res *handshake.Result) {
	c := session.NewControl(conn, res.Keys, res.Role)
	beat := func(pong uint64) {
		now := time.Now()
		body, err := session.EncodeHeartbeat(session.Heartbeat{
			Digest: f.mesh.Digest, Degree: 1, Pong: pong, Ping: 1 - min(pong, 1),
			Health: &session.Health{
				Seq: uint64(now.UnixNano()), Version: "1.2.3", Uptime: 100, Load: 100, DiskFree: 1 << 40, Expiry: uint64(now.Unix() + 86400),
				Audit: session.AuditHealthy, AuditSize: 1000, Time: uint64(now.UnixMilli()),
			},
		})
		if err == nil {
			err = c.Send(session.RecordHeartbeat, body)
		}
		if err != nil {
			c.Reset()
		}
	}
	c.SendBody(session.Ready{State: session.Full})
	c.Send(session.RecordControl, f.mesh.Vector)
	go func() {
		for range time.Tick(core.Interval - time.Duration(f.index%500)*2*time.Millisecond) {
			beat(0)
		}
	}()
	told := false
	for {
		t, body, err := c.Receive()
		if err != nil {
			return
		}
		if t == session.RecordControl && !told {
			if b, err := session.ParseBody(body); err == nil {
				if r, is := b.(session.Ready); is && r.State == session.Full {
					told = true
					c.SendBody(session.Services{K: session.KindServices, Seq: 1, List: []session.Service{
						{Name: "ssh", Proto: "tcp", State: session.ServiceUp, Since: 1}, {Name: "web", Proto: "http", State: session.ServiceUp, Since: 1},
					}})
				}
			}
		}
		if t == session.RecordHeartbeat {
			if h, _, err := session.ParseHeartbeat(body); err == nil && h.Ping != 0 {
				beat(h.Ping)
			}
		}
	}
}

// idleRig is one node, and members in another process.
type idleRig struct {
	*host
	in   *gob.Decoder
	out  *gob.Encoder
	ids  farIDs
	done int // far ends that have a session
}

func newIdleRig(b *testing.B, n int) *idleRig {
	exe, err := os.Executable()
	ok(b, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", farEnv, n))
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	ok(b, err)
	stdout, err := cmd.StdoutPipe()
	ok(b, err)
	ok(b, cmd.Start())
	b.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Error("the far ends:", err)
		}
	})
	r := &idleRig{in: gob.NewDecoder(stdout), out: gob.NewEncoder(stdin)}
	ok(b, r.in.Decode(&r.ids))

	w := newWorld(b)
	r.host = w.member("node")
	m := farMesh{Mesh: w.id, Node: r.key.NodeID(), Secret: w.secret.Bytes()}
	var ops []trust.Op
	for i, id := range r.ids.Node {
		cert, err := identity.IssueCertificate(identity.Certificate{
			Mesh: w.id, Node: id, Serial: uint64(1000 + i), Issuer: w.issuer.Public(), NotBefore: time.Now().Unix() - 10,
			NotAfter: time.Now().Unix() + w.life, Name: fmt.Sprintf("far%d", i), Tags: []string{"far"}, RenewUntil: time.Now().Unix() + w.life,
		}, w.issuer)
		ok(b, err)
		m.Certificates = append(m.Certificates, cert.Raw())
		if ops = append(ops, trust.EnrollOp(cert)); len(ops) == 50 || i == n-1 {
			w.sign(ops...)
			ops = nil
		}
	}
	r.run()
	m.At = r.at().String()
	m.Vector = trust.NewHub(r.store).NewSync(false).Vec(0)[0].Body
	m.Digest, m.Root = r.State().Digest(), r.State().Root().Version
	ok(b, r.out.Encode(m))
	return r
}

// grow brings the number of sessions to n, and waits until each has been idle for a while.
func (r *idleRig) grow(b *testing.B, n int, accepted bool) {
	if accepted {
		ok(b, r.out.Encode(farDial{From: r.done, To: n}))
		var done farDone
		ok(b, r.in.Decode(&done))
		if done.Err != "" {
			b.Fatal(done.Err)
		}
	} else {
		for i := r.done; i < n; i++ {
			at := netip.MustParseAddrPort(r.ids.At[i])
			// Hearsay of a beacon tells that the peer has AES.
			r.post(core.BeaconIn{Node: r.ids.Node[i], Endpoints: []netip.AddrPort{at}, AES: true, Epoch: 1, Counter: 1, Told: true, Interval: core.Interval})
			r.post(core.AddSeed{Peer: r.ids.Node[i], At: at})
			r.post(core.Want{Peer: r.ids.Node[i]}) // the overlay alone keeps 12 at most
		}
	}
	r.done = n
	eventually(b, fmt.Sprint(n, " full sessions"), 120*time.Second, func() bool { return r.sessions() == n })
	// Handshakes leave their stacks; a daemon's collections, one each two minutes at least, give them back.
	for range 6 {
		runtime.GC()
	}
	for range 2 {
		since := time.Now().UnixNano()
		eventually(b, "a heartbeat on every session", 3*core.Interval, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, l := range r.links {
				if l.healthAt.Load() < since {
					return false
				}
			}
			return true
		})
	}
}

// memory is what a process holds: goroutines' stacks as the last heartbeats left them, and after a collection the live objects of the heap
// and the pages they are on.
type memory struct{ stacks, live, pages float64 }

func measure() (m memory) {
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	m.stacks = float64(s.StackInuse)
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&s)
	m.live, m.pages = float64(s.HeapAlloc), float64(s.HeapInuse)
	return m
}

// BenchmarkIdleSessionWhole is what one end of an idle session costs a node, everything included: goroutines' stacks, tags, the core,
// the connection. The other ends are in another process, and every member is in the log from the beginning. With GOGC=10 the pages of
// the heap have little room between what lives, so they are nearly the sessions' alone; with 100, the default, they are what a process
// holds after it has made all sessions at once.
func BenchmarkIdleSessionWhole(b *testing.B) {
	run := func(side string, gcPercent int) {
		few, many := 100, 400
		if side == "dialled" {
			few, many = 40, 240 // a node keeps 256 that only a user wants
		}
		b.Run(fmt.Sprintf("%s,GOGC=%d", side, gcPercent), func(b *testing.B) {
			defer debug.SetGCPercent(debug.SetGCPercent(gcPercent))
			var one memory
			for b.Loop() {
				r := newIdleRig(b, many)
				r.grow(b, few, side == "accepted")
				before := measure()
				r.grow(b, many, side == "accepted")
				after := measure()
				r.stop()
				n := float64(many - few)
				one = memory{(after.stacks - before.stacks) / n, (after.live - before.live) / n, (after.pages - before.pages) / n}
			}
			b.ReportMetric(one.stacks, "stack-B/session")
			b.ReportMetric(one.live, "live-B/session")
			b.ReportMetric(one.stacks+one.pages, "B/session")
		})
	}
	run("accepted", 10)
	run("dialled", 10)
	run("accepted", 100)
}

// What an idle session holds of goroutines is one that waits: neither the handshake's, with the stack that grew in it, nor a writer.
func TestIdleSessionIsOneGoroutine(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.run()
	b.run()
	full(a, b)
	count := func(what string) (n int) {
		buf := make([]byte, 1<<20)
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			calls, _, _ := strings.Cut(g, "\ncreated by ")
			if strings.Contains(calls, what) {
				n++
			}
		}
		return n
	}
	links := func() int {
		n := 0
		for _, h := range []*host{a, b} {
			h.mu.Lock()
			n += len(h.links)
			h.mu.Unlock()
		}
		return n
	}
	eventually(t, "one goroutine for each end", patience, func() bool {
		return count("(*Control).Await") == links() && links() == 2 && count("(*Node).writeLink") == 0 &&
			count("(*Node).incoming") == 0 && count("(*Node).dialPeer") == 0
	})
}

// An outbox has one writer while there is something to write, none while there is nothing, and none after the link has ended.
func TestOutboxWriter(t *testing.T) {
	var o outbox
	starts := 0
	put := func(body string, urgent bool) {
		t.Helper()
		if !o.put(outFrame{session.RecordControl, []byte(body)}, urgent, func() { starts++ }) {
			t.Fatal("full")
		}
	}
	want := func(body string) {
		t.Helper()
		if f, some := o.take(); string(f.body) != body || some != (body != "") {
			t.Fatalf("%q, want %q", f.body, body)
		}
	}
	put("1", false)
	put("2", false)
	put("revoked", true)
	if starts != 1 {
		t.Fatal(starts, "writers")
	}
	want("revoked")
	want("1")
	want("2")
	put("3", false) // before the writer has seen that there is nothing: it goes on
	if starts != 1 {
		t.Fatal(starts, "writers")
	}
	want("3")
	want("")
	put("4", false)
	if starts != 2 {
		t.Fatal("no writer for what came after the last one stopped")
	}
	o.close()
	put("5", false)
	want("")
	put("6", true)
	if starts != 2 {
		t.Fatal("a writer for a link that has ended")
	}
	o = outbox{}
	for range linkQueue {
		put("x", false)
	}
	if o.put(outFrame{}, false, func() {}) {
		t.Fatal("more than", linkQueue)
	}
}
