package daemon_test

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

func TestMain(m *testing.M) {
	testrun.AtOnce(6) // they mostly wait for each other's daemons
	os.Exit(testrun.Leaks{Tests: m, Of: []string{"sovereignmesh/meshkey"}}.Run())
}

// host is one machine of a test mesh, on loopback only.
type host struct {
	t      *testing.T
	name   string
	dir    string
	client *control.Client
	cancel context.CancelFunc
	done   chan error
	port   uint16
	keys   daemon.KeyOptions
	heads  time.Duration // between two of an issuer; 0: as usual
	words  *words        // nil: what it logs is only shown
}

func newHost(t *testing.T, name string, beaconPort uint16) *host {
	t.Helper()
	return &host{t: t, name: name, dir: filepath.Join(t.TempDir(), name), port: beaconPort}
}

func (h *host) socket() string { return filepath.Join(h.dir, "..", h.name+".sock") }

func (h *host) start() {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.done = cancel, make(chan error, 1)
	ready := make(chan struct{})
	level := slog.LevelInfo
	if os.Getenv("MESHKEY_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(testWriter{h.t, &sync.Mutex{}, h.words}, &slog.HandlerOptions{Level: level})).With("host", h.name)
	go func() {
		h.done <- daemon.Run(ctx, daemon.Options{
			StateDir: h.dir, Socket: h.socket(), LoopbackOnly: true, BeaconPort: h.port,
			Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}, Log: log, Ready: func() { close(ready) }, Keys: h.keys,
			HeadEvery: h.heads,
		})
	}()
	select {
	case <-ready:
	case err := <-h.done:
		h.t.Fatalf("%s did not start: %v", h.name, err)
	case <-time.After(patience):
		h.t.Fatalf("%s did not start in time", h.name)
	}
	h.client = control.NewClient(h.socket())
	h.t.Cleanup(h.stop)
}

func (h *host) stop() {
	if h.cancel == nil {
		return
	}
	h.cancel()
	select {
	case err := <-h.done:
		if err != nil {
			h.t.Errorf("%s: %v", h.name, err)
		}
	case <-time.After(patience):
		h.t.Errorf("%s did not stop", h.name)
	}
	h.cancel = nil
}

type testWriter struct {
	t     *testing.T
	mu    *sync.Mutex
	words *words
}

// words is what was logged.
type words struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func (w testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t.Log(string(p[:len(p)-1]))
	if w.words != nil {
		w.words.Write(p)
	}
	return len(p), nil
}

// patience is how long what takes a second may take on a machine that does other things meanwhile.
const patience = 60 * time.Second

func eventually(t *testing.T, what string, within time.Duration, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(began)
}

func (h *host) peerState(name string) string {
	p, err := h.client.Peers(h.t.Context())
	if err != nil {
		return err.Error()
	}
	for _, x := range p.Peers {
		if x.Name == name {
			return x.State + "/" + x.Session
		}
	}
	return "absent"
}

func TestThreeHosts(t *testing.T) {
	t.Parallel()
	port := uint16(20000 + rand.IntN(10000))
	nas := newHost(t, "nas", port)
	res, err := daemon.Init(t.Context(), daemon.InitOptions{StateDir: nas.dir, Mesh: "homelab", Name: "nas", RootPassphrase: "correct horse"})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("mesh", res.Mesh, "node", res.Node.Short())
	nas.start()
	var hosts []*host
	for _, name := range []string{"gpu1", "laptop"} {
		inv, err := nas.client.CreateInvite(t.Context(), &control.InviteRequest{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := identity.ParseInvite(inv.Text)
		if err != nil {
			t.Fatal(err)
		}
		h := newHost(t, name, port)
		began := time.Now()
		er, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: h.dir, Invite: parsed})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s enrolled in %v, words %v", er.Name, time.Since(began), er.Words)
		h.start()
		d := eventually(t, name+" up at nas", patience, func() bool { return nas.peerState(name) == "up/full" })
		t.Logf("%s up after %v", name, d)
		hosts = append(hosts, h)
	}
	gpu, laptop := hosts[0], hosts[1]
	eventually(t, "gpu1 and laptop up", patience, func() bool { return gpu.peerState("laptop") == "up/full" && laptop.peerState("gpu1") == "up/full" })

	// A service that echoes.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	if _, err := gpu.client.Expose(t.Context(), &control.ExposeRequest{Name: "echo", Target: ln.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	if _, err := laptop.client.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/echo"}); err == nil {
		t.Fatal("opened without a grant")
	} else {
		t.Log("denied:", err)
	}
	g, err := nas.client.Grant(t.Context(), &control.GrantRequest{Who: "laptop", What: "gpu1/echo", WaitMS: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("granted %+v", g)
	checkOffers(t, nas, gpu, laptop)
	var c *control.Spliced
	eventually(t, "stream opens", patience, func() bool {
		c, err = laptop.client.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/echo"})
		return err == nil
	})
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello" {
		t.Fatal(err, string(buf))
	}
	checkTraffic(t, gpu, "laptop", "echo")
	cut := make(chan time.Time, 1)
	go func() {
		io.ReadFull(c, buf)
		cut <- time.Now()
	}()
	began := time.Now()
	r, err := nas.client.Revoke(t.Context(), &control.RevokeRequest{Node: "laptop", WaitMS: 2000})
	if err != nil {
		t.Fatal(err)
	}
	at := <-cut
	t.Logf("revoked; stream dead after %v; %+v", at.Sub(began), r.Spread)
	checkTargets(t, nas, gpu, laptop)
}
