package daemon_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

// echoAt runs a TCP service that sends back what it gets.
func echoAt(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return ln.Addr().String()
}

// reaches reports whether a host can use a service of another.
func (h *host) reaches(target string) bool {
	s, err := h.client.Stream(h.t.Context(), &control.ConnectRequest{Target: target})
	if err != nil {
		return false
	}
	defer s.Close()
	if _, err := s.Write([]byte("ping")); err != nil {
		return false
	}
	var b [4]byte
	_, err = io.ReadFull(s, b[:])
	return err == nil && string(b[:]) == "ping"
}

// holding is a connect that is held while things change.
type holding struct {
	t    *testing.T
	at   string
	over chan error
}

func (h *host) holding(target string) *holding {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	x := &holding{t: h.t, over: make(chan error, 1)}
	at := make(chan string, 1)
	go func() {
		x.over <- h.client.Connect(ctx, &control.ConnectRequest{Target: target, Listen: "127.0.0.1:0", AnyUser: true}, func(ev *control.ConnectEvent) error {
			if ev.Event == "listening" {
				at <- ev.Listen
			}
			return nil
		})
	}()
	h.t.Cleanup(func() {
		cancel()
		<-x.over
	})
	select {
	case x.at = <-at:
	case err := <-x.over:
		h.t.Fatal(err)
	}
	return x
}

// works wants the held address to reach an echo.
func (x *holding) works(when string) {
	x.t.Helper()
	eventually(x.t, "the held address works "+when, patience, func() bool {
		c, err := net.Dial("tcp", x.at)
		if err != nil {
			x.t.Fatalf("%s: %v", when, err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		var b [4]byte
		_, _ = c.Write([]byte("ping"))
		_, err = io.ReadFull(c, b[:])
		return err == nil && string(b[:]) == "ping"
	})
}

func (h *host) id() string {
	h.t.Helper()
	s, err := h.client.Status(h.t.Context())
	if err != nil {
		return err.Error()
	}
	return s.Node.ID
}

// A member's key is rotated while everything runs: name, tags and grants stay, in both directions, a pinned name follows, the old key is
// revoked, and the audit log goes on in another one that commits to the first.
func TestRotateNode(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1", "laptop")
	gpu, laptop := others[0], others[1]
	for _, h := range []*host{nas, gpu, laptop} {
		if _, err := h.client.Expose(t.Context(), &control.ExposeRequest{Name: "echo", Target: echoAt(t)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, g := range []control.GrantRequest{{Who: "laptop", What: "gpu1/echo"}, {Who: "gpu1", What: "laptop/echo"}, {Who: "gpu1", What: "nas/echo"}} {
		g.WaitMS = 20_000
		if _, err := nas.client.Grant(t.Context(), &g); err != nil {
			t.Fatal(err)
		}
	}
	both := func(when string) {
		t.Helper()
		eventually(t, "gpu1 and laptop reach each other "+when, patience, func() bool { return laptop.reaches("gpu1/echo") && gpu.reaches("laptop/echo") })
	}
	both("before") // laptop pins the name gpu1
	old := gpu.id()
	held := laptop.holding("gpu1/echo")
	held.works("before")
	own := gpu.holding("nas/echo")
	own.works("before")

	would, err := gpu.client.RotateNode(t.Context(), &control.RotateNodeRequest{DryRun: true})
	if err != nil || len(would.Grants) != 3 || gpu.holds("rotation") || gpu.holds("node-next.age") {
		t.Fatal("a dry run", would, err)
	}
	began := time.Now()
	res, err := gpu.client.RotateNode(t.Context(), &control.RotateNodeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	answered := time.Since(began)
	if res.Old.ID != old || res.New.ID == old || res.New.Name != "gpu1" || res.Issuer.Name != "nas" {
		t.Fatalf("%+v", res)
	}
	// gpu1's own began anew with its daemon, and is asked for again.
	if err := <-own.over; !errors.Is(err, control.ErrGone) {
		t.Errorf("gpu1's own: %v", err)
	}
	own.over <- nil
	eventually(t, "gpu1 holds an address again", patience, func() bool {
		_, err := gpu.listening("nas/echo")
		if e := control.AsError(err); e != nil && e.Code == control.Failed {
			t.Errorf("while gpu1's daemon begins: %v", err)
		}
		return err == nil
	})
	eventually(t, "gpu1 serves with its new key", patience, func() bool { return gpu.id() == res.New.ID })
	for _, h := range []*host{nas, laptop} {
		eventually(t, "gpu1 up at "+h.name, patience, func() bool { return h.peerState("gpu1") == "up/full" })
	}
	both("after")
	held.works("after gpu1 has another key")
	t.Logf("answered after %v, serves both ways after %v", answered, time.Since(began))
	peers, err := laptop.client.Peers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	revoked := false
	for _, p := range peers.Peers {
		revoked = revoked || p.ID == old && p.State == "revoked"
	}
	if !revoked {
		t.Fatal("the old key is not revoked")
	}
	if gpu.holds("rotation") || gpu.holds("node-next.age") || !gpu.holds("node-old-1.age") {
		t.Fatal("files of the rotation are left, or the old key is gone")
	}
	r, err := gpu.client.AuditVerify(t.Context())
	if err != nil || !r.OK || len(r.Before) != 1 || !r.Before[0].OK {
		t.Fatalf("%+v, %v", r, err)
	}
	// What the old log lost shows in the new one's verification, also without a daemon.
	gpu.stop()
	entries, err := filepath.Glob(filepath.Join(gpu.dir, "audit", old, "tile", "entries", "*"))
	if err != nil || len(entries) == 0 {
		t.Fatal(entries, err)
	}
	b, err := os.ReadFile(entries[0] + "/" + first(t, entries[0]))
	if err != nil {
		t.Fatal(err)
	}
	b[10] ^= 1
	if err := os.WriteFile(entries[0]+"/"+first(t, entries[0]), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := daemon.VerifyAudit(gpu.dir); err != nil || r.OK || r.Before[0].OK || r.Findings[0].Log == "" {
		t.Fatalf("%+v, %v", r, err)
	}
}

func first(t *testing.T, dir string) string {
	t.Helper()
	l, err := os.ReadDir(dir)
	if err != nil || len(l) == 0 {
		t.Fatal(l, err)
	}
	return l[0].Name()
}

// An issuer's own machine rotates its node key by itself; it goes on to issue.
func TestRotateIssuersNode(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1")
	gpu := others[0]
	old := nas.id()
	res, err := nas.client.RotateNode(t.Context(), &control.RotateNodeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "nas serves with its new key", patience, func() bool { return nas.id() == res.New.ID && res.New.ID != old })
	eventually(t, "nas up at gpu1", patience, func() bool { return gpu.peerState("nas") == "up/full" })
	next, err := gpu.client.RotateNode(t.Context(), &control.RotateNodeRequest{})
	if err != nil || next.Issuer.ID != res.New.ID {
		t.Fatal("the rotated issuer does not rotate others", next, err)
	}
	eventually(t, "gpu1 serves with its new key", patience, func() bool { return gpu.id() == next.New.ID })
}

// A daemon that is stopped in the middle of a rotation goes on with it at its next start, whether the issuer had carried it out or not.
func TestRotationIsResumed(t *testing.T) {
	t.Parallel()
	nas, others := found(t, "gpu1")
	gpu := others[0]
	old := gpu.id()
	failed := make(chan error, 1)
	go func() {
		_, err := gpu.client.RotateNode(context.Background(), &control.RotateNodeRequest{})
		failed <- err
	}()
	eventually(t, "the issuer has noted the rotation", patience, func() bool { return gpu.holds("rotation") || gpu.holds("node-old-1.age") })
	gpu.stop()
	<-failed
	gpu.start()
	eventually(t, "gpu1 has its new key", patience, func() bool { id := gpu.id(); return id != old && len(id) == len(old) })
	eventually(t, "gpu1 up at nas", patience, func() bool { return nas.peerState("gpu1") == "up/full" })
	if gpu.holds("rotation") {
		t.Fatal("not finished")
	}
	if _, err := gpu.client.RotateNode(t.Context(), &control.RotateNodeRequest{Drop: true}); code(err) != control.NotFound {
		t.Fatal("a rotation that is over is given up:", err)
	}
}
