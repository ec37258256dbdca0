package daemon_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/daemon"
)

// cutTime is how soon a stream must be gone: ten times what the slowest way to learn of it takes.
const cutTime = 20 * time.Second

// stream is an open stream whose bytes come back.
type stream struct {
	t *testing.T
	c *control.Spliced
}

func (h *host) stream(target string) stream {
	h.t.Helper()
	var s stream
	eventually(h.t, "a stream to "+target, cutTime, func() bool {
		c, err := h.client.Stream(h.t.Context(), &control.ConnectRequest{Target: target})
		s = stream{h.t, c}
		return err == nil
	})
	h.t.Cleanup(func() { s.c.Close() })
	s.works()
	return s
}

func (s stream) works() {
	s.t.Helper()
	buf := make([]byte, 5)
	if _, err := s.c.Write([]byte("hello")); err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.ReadFull(s.c, buf); err != nil || string(buf) != "hello" {
		s.t.Fatalf("%q, %v", buf, err)
	}
}

// ends waits for the stream to be cut while nothing is sent: an abort, not the end of a file.
func (s stream) ends() time.Time {
	s.t.Helper()
	got := make(chan error, 1)
	go func() {
		_, err := s.c.Read(make([]byte, 1))
		got <- err
	}()
	select {
	case err := <-got:
		if err == nil || errors.Is(err, io.EOF) {
			s.t.Fatalf("the stream ended with %v", err)
		}
	case <-time.After(cutTime):
		s.t.Fatal("the stream goes on without a grant")
	}
	return time.Now()
}

// TestStreamsEndWithTheirGrant: on another machine than the one where it is taken back, by hand, by its end, and by a policy; and goes on if another
// grant has taken its place.
func TestStreamsEndWithTheirGrant(t *testing.T) {
	t.Parallel()
	nas := founded(t, 29874)
	hosts := map[string]*host{}
	for _, name := range []string{"gpu1", "laptop"} {
		inv, _ := nas.invite(control.InviteRequest{Name: name})
		h := newHost(t, name, nas.port)
		if _, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: h.dir, Invite: inv}); err != nil {
			t.Fatal(err)
		}
		h.start()
		hosts[name] = h
	}
	gpu, laptop := hosts["gpu1"], hosts["laptop"]
	eventually(t, "all up", 30*time.Second, func() bool {
		return gpu.peerState("laptop") == "up/full" && laptop.peerState("gpu1") == "up/full" && nas.peerState("gpu1") == "up/full"
	})
	if _, err := gpu.client.Expose(t.Context(), &control.ExposeRequest{Name: "echo", Target: echoAt(t)}); err != nil {
		t.Fatal(err)
	}
	nas.granted(control.GrantRequest{Who: "gpu1", What: "nas/ssh"}) // there is a way in whatever happens below

	id := nas.granted(control.GrantRequest{Who: "laptop", What: "gpu1/echo"})
	s := laptop.stream("gpu1/echo")
	began := time.Now()
	if _, err := nas.client.Ungrant(t.Context(), &control.UngrantRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	t.Logf("ungrant: gone after %v", s.ends().Sub(began))

	// On a machine with much to do the stream may not be open before its grant ends: then it is given longer.
	var end time.Time
	for window := 3 * time.Second; ; window *= 2 {
		end = time.Now().Add(window).Truncate(time.Second)
		nas.granted(control.GrantRequest{Who: "laptop", What: "gpu1/echo", NotAfter: end})
		var err error
		tick := time.NewTicker(20 * time.Millisecond) // the peer has a budget for denials
		for time.Now().Before(end) {
			<-tick.C
			if s.c, err = laptop.client.Stream(t.Context(), &control.ConnectRequest{Target: "gpu1/echo"}); err == nil {
				break
			}
		}
		tick.Stop()
		if err == nil && time.Until(end) > window/3 {
			break
		}
		if err == nil {
			s.c.Close()
		}
		if window > time.Minute {
			t.Fatal("no stream opens: ", err)
		}
	}
	c := s.c
	t.Cleanup(func() { c.Close() })
	s.works()
	at := s.ends()
	if at.Before(end) {
		t.Errorf("gone %v before the grant's end", end.Sub(at))
	}
	t.Logf("expiry: gone after %v", at.Sub(end))

	file := "[[grant]]\nwho = \"laptop\"\nwhat = \"gpu1/echo\"\n"
	nas.applied(file)
	s = laptop.stream("gpu1/echo")
	// Another grant takes the place of the first: nobody is cut.
	nas.applied(file + "reason = \"needed\"\n")
	var notes string
	eventually(t, "gpu1 has learnt of it", cutTime, func() bool {
		g, err := gpu.client.Grants(context.Background(), control.GrantsQuery{Who: "laptop", What: "gpu1/echo"})
		if err != nil || len(g.Grants) == 0 {
			return false
		}
		notes = g.Grants[len(g.Grants)-1].Note
		return notes == "policy:main needed"
	})
	s.works()
	// The machine that serves the stream can say beforehand what will close; it need not be an issuer.
	diff, err := gpu.policy(control.PolicyDiff, "")
	if err != nil || len(diff.Closes) != 1 || diff.Closes[0] != (control.Access{From: "laptop", Target: "gpu1/echo", Streams: 1}) {
		t.Errorf("%+v, %v", diff, err)
	}
	if diff, err := laptop.policy(control.PolicyDiff, ""); err != nil || len(diff.Closes) != 1 || accesses(diff.Lost) != "laptop>gpu1/echo" {
		t.Errorf("at the other end: %+v, %v", diff, err)
	}
	if _, err := gpu.policy(control.PolicyApply, ""); code(err) != control.Denied {
		t.Errorf("applied without an issuer's key: %v", err)
	}
	began = time.Now()
	nas.applied("")
	t.Logf("policy apply: gone after %v", s.ends().Sub(began))
}
