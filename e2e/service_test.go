package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// web serves on the host's loopback: / says hello, /ticks never ends, PUT /sum answers the SHA-256 of the body, /bulk sends n bytes.
func (h *host) web() (port string) {
	ln := h.Listen("tcp", "127.0.0.1:0")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a secret greeting\n") })
	mux.HandleFunc("GET /ticks", func(w http.ResponseWriter, r *http.Request) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := io.WriteString(w, "tick\n"); err != nil {
				return
			}
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case <-tick.C:
			case <-r.Context().Done():
				return
			}
		}
	})
	srv := &http.Server{Handler: mux}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	h.t.Cleanup(func() { srv.Close(); <-done })
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// tcp serves connections on the host's loopback with f.
func (h *host) tcp(f func(*net.TCPConn)) (port string) {
	ln := h.Listen("tcp", "127.0.0.1:0")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c.(*net.TCPConn))
			}()
		}
	}()
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// connect runs `meshkey connect` on the host and returns the address it serves.
func (h *host) connect(target string) (addr string) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.meshkey(ctx, "--json=1", "connect", target)
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	done := make(chan struct{})
	sc := bufio.NewScanner(out)
	ok := sc.Scan()
	line := sc.Text()
	var said []string // read after done
	go func() {
		defer close(done)
		for sc.Scan() {
			if said = append(said, sc.Text()); len(said) > 20 {
				said = said[1:]
			}
		}
		_ = cmd.Wait()
	}()
	h.t.Cleanup(func() {
		cancel()
		if <-done; h.t.Failed() {
			h.t.Logf("%s: connect %s said last:\n%s", h.name, target, strings.Join(said, "\n"))
		}
	})
	var ev control.ConnectEvent
	if !ok || json.Unmarshal([]byte(line), &ev) != nil || ev.Event != "listening" {
		h.t.Fatalf("%s: connect %s said %q", h.name, target, line)
	}
	return ev.Listen
}

// dial connects from the host to an address of its own.
func (h *host) dial(addr string) *net.TCPConn {
	h.t.Helper()
	var c net.Conn
	var err error
	h.Do(func() { c, err = net.DialTimeout("tcp", addr, patience) })
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// allow exposes a port of gpu as a service and lets laptop use it.
func allow(t *testing.T, nas, gpu, laptop *host, service, port string) (addr string) {
	t.Helper()
	gpu.must("expose", service, port)
	target := gpu.name + "/" + service
	nas.must("grant", laptop.name, target)
	eventually(t, "grant known to "+laptop.name, time.Second, func() bool {
		d, err := laptop.client.Decide(t.Context(), control.DecideRequest{Target: target})
		return err == nil && d.Allowed
	})
	return laptop.connect(target)
}

func TestServiceWithCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is needed")
	}
	t.Parallel()
	nas, gpu, laptop := mesh3(t)
	gpu.must("expose", "web", gpu.web(), "--http")
	out, words, code := laptop.run("connect", "gpu1/web", "--stdio")
	if code != int(control.Denied) || !strings.Contains(words, "no grant matches") {
		t.Fatalf("without a grant: exit %d, %q %q", code, out, words)
	}
	nas.must("grant", "laptop", "gpu1/web")
	eventually(t, "grant known to laptop", time.Second, func() bool {
		d, err := laptop.client.Decide(t.Context(), control.DecideRequest{Target: "gpu1/web"})
		return err == nil && d.Allowed
	})
	addr := laptop.connect("gpu1/web")
	if got := laptop.Run("curl", "-sS", "--max-time", "60", "http://"+addr+"/"); got != "a secret greeting\n" {
		t.Fatalf("curl got %q", got)
	}

	// Half-close both ways: the server answers after our end, and reads on after its own.
	sum := allow(t, nas, gpu, laptop, "sum", gpu.tcp(func(c *net.TCPConn) {
		hash := sha256.New()
		n, err := io.Copy(hash, c)
		if err == nil {
			fmt.Fprintf(c, "%d %x\n", n, hash.Sum(nil))
		}
	}))
	c := laptop.dial(sum)
	data := make([]byte, 3<<20+17)
	rand.Read(data)
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(c)
	if want := fmt.Sprintf("%d %x\n", len(data), sha256.Sum256(data)); err != nil || string(answer) != want {
		t.Fatalf("upload: %v, got %q, want %q", err, answer, want)
	}
	early := allow(t, nas, gpu, laptop, "early", gpu.tcp(func(c *net.TCPConn) {
		c.Write([]byte("done first"))
		c.CloseWrite()
		io.Copy(io.Discard, c)
	}))
	c = laptop.dial(early)
	if got, err := io.ReadAll(c); err != nil || string(got) != "done first" {
		t.Fatalf("download: %v %q", err, got)
	}
	if _, err := c.Write(bytes.Repeat([]byte("x"), 100)); err != nil {
		t.Fatalf("our direction ended with the peer's: %v", err)
	}
}

// TestTransfer moves a gibibyte and compares what arrived.
func TestTransfer(t *testing.T) {
	testrun.Scenario(t)
	nas, gpu, laptop := mesh3(t)
	const size = 1 << 30
	sums := make(chan [32]byte, 1)
	addr := allow(t, nas, gpu, laptop, "sink", gpu.tcp(func(c *net.TCPConn) {
		hash := sha256.New()
		n, err := io.Copy(hash, c)
		if n == 0 {
			return // the daemon looks now and then whether the target is there
		}
		if err != nil || n != size {
			t.Errorf("sink: %d bytes, %v", n, err)
		}
		sums <- [32]byte(hash.Sum(nil))
		c.Write([]byte{1})
	}))
	c := laptop.dial(addr)
	hash := sha256.New()
	block := make([]byte, 1<<20)
	rand.Read(block)
	began := time.Now()
	for i := range size / len(block) {
		block[0], block[1], block[2] = byte(i), byte(i>>8), byte(i>>16)
		hash.Write(block)
		if _, err := c.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	c.CloseWrite()
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if got := <-sums; got != [32]byte(hash.Sum(nil)) {
		t.Fatal("the SHA-256 of what arrived differs")
	}
	t.Logf("1 GiB in %v with both ends hashing it: %.2f Gbit/s", took.Round(time.Millisecond), size*8/took.Seconds()/1e9)
}

func TestKillAndReturn(t *testing.T) {
	t.Parallel()
	nas, gpu, laptop := mesh3(t)
	addr := allow(t, nas, gpu, laptop, "web", gpu.web())
	gpu.kill()
	gpu.start()
	eventually(t, "gpu1 back after kill -9", 2*time.Second, func() bool { return nas.up("gpu1") && laptop.up("gpu1") && gpu.up("laptop") })
	if got := laptop.Run("curl", "-sS", "--max-time", "60", "--retry", "3", "--retry-all-errors", "http://"+addr+"/"); got != "a secret greeting\n" {
		t.Fatalf("curl got %q", got)
	}
	gpu.must("audit", "verify")
	gpu.stop()
	gpu.must("audit", "verify")
}

func TestRevokeLiveStream(t *testing.T) {
	t.Parallel()
	nas, gpu, laptop := mesh3(t)
	addr := allow(t, nas, gpu, laptop, "web", gpu.web())
	// A second stream ends on the revoking node itself.
	nas.must("expose", "local", nas.web())
	nas.must("grant", "laptop", "nas/local")
	eventually(t, "grant known", time.Second, func() bool {
		d, err := laptop.client.Decide(t.Context(), control.DecideRequest{Target: "nas/local"})
		return err == nil && d.Allowed
	})
	local := laptop.connect("nas/local")
	type end struct {
		where string
		at    time.Time
		err   error
	}
	ends := make(chan end, 2)
	for where, a := range map[string]string{"on the revoking node": local, "on another node": addr} {
		c := laptop.dial(a)
		fmt.Fprintf(c, "GET /ticks HTTP/1.1\r\nHost: x\r\n\r\n")
		r := bufio.NewReader(c)
		for range 8 {
			if _, err := r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			for {
				if _, err := r.ReadString('\n'); err != nil {
					ends <- end{where, time.Now(), err}
					return
				}
			}
		}()
	}
	began := time.Now()
	res, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop"})
	if err != nil {
		t.Fatal(err)
	}
	applied := time.Now()
	t.Logf("revoke applied on nas after %v, closing %+v", applied.Sub(began).Round(time.Microsecond), res.Applied[0])
	for range 2 {
		select {
		case e := <-ends:
			if e.err == io.EOF {
				t.Errorf("%s: the stream ended cleanly, as if the page were complete", e.where)
			}
			t.Logf("stream %s dead %v after the command began (promised 100 ms and 1 s)", e.where, e.at.Sub(began).Round(time.Microsecond))
		case <-time.After(patience):
			t.Fatal("a stream goes on after the revocation")
		}
	}
	if _, ok := nas.peer("laptop"); ok {
		t.Error("laptop is still a peer")
	}
	_, _, code := laptop.run("connect", "gpu1/web", "--stdio")
	if code == 0 {
		t.Error("a revoked node can still connect")
	}
}

// TestOutsider is a foreign mesh on the same wire: neither sees the other.
func TestOutsider(t *testing.T) {
	t.Parallel()
	nas, gpu, laptop := lan(t, v4)
	nas.found("homelab")
	nas.start()
	gpu.join(nas, "gpu1")
	gpu.start()
	laptop.found("foreign")
	laptop.start()
	full(t, 2*time.Second, nas, gpu)
	// Long enough for the outsider's burst and its first steady beacon.
	deadline := time.Now().Add(8 * time.Second)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		for _, h := range []*host{nas, gpu, laptop} {
			ps, err := h.client.Peers(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := map[bool]int{true: 0, false: 1}[h == laptop]; len(ps.Peers) != want {
				t.Fatalf("%s has %d peers, want %d", h.name, len(ps.Peers), want)
			}
		}
		<-tick.C
	}
	// It dials by hand: a TCP connection that says something of the protocol gets no byte back.
	var c net.Conn
	var err error
	laptop.Do(func() { c, err = net.DialTimeout("tcp", "10.9.0.1:7477", patience) })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m1 := make([]byte, 1235)
	rand.Read(m1)
	m1[0] = 1
	c.Write(m1)
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Fatalf("an outsider got %d bytes, %v", n, err)
	}
}
