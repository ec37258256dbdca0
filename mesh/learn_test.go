package mesh

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// TestJoinLongLog: a log longer than what may be asked for at once is asked for on and on, also while no answer comes.
func TestJoinLongLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nas := w.admin()
	for range 600 {
		w.sign(trust.OpRevokeNode{Node: keys.NewSigningKey().NodeID()})
	}
	cfg := joining(keys.NewSigningKey(), nas.invite("gpu1"))
	cfg.rate = 400 // 512 at once, then one answer does not bring the next question
	m, err := Join(t.Context(), cfg)
	ok(t, err)
	if len(m.Frames) < 600 {
		t.Fatalf("%d frames of the log", len(m.Frames))
	}
}

// An issuer that has another address since it made the invite is found where it was heard last, and has to prove the invite's key there, too.
func TestJoinAtAnotherAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nas := w.admin()
	other := w.member("other").run()
	inv := nas.invite("gpu1")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	gone := ln.Addr().(*net.TCPAddr).AddrPort()
	ln.Close()
	inv.Endpoints = []identity.Endpoint{identity.EndpointOf(gone)}
	for _, c := range []struct {
		also []netip.AddrPort
		want bool
	}{{nil, false}, {[]netip.AddrPort{other.at()}, false}, {[]netip.AddrPort{gone, other.at(), nas.at()}, true}} {
		cfg := joining(keys.NewSigningKey(), inv)
		cfg.Also = c.also
		if _, err := Join(t.Context(), cfg); (err == nil) != c.want {
			t.Fatalf("at %v: %v", c.also, err)
		}
	}
	eventually(t, "a member's addresses are known", 10*time.Second, func() bool {
		at := other.Addresses(nas.key.NodeID())
		return len(at) > 0 && at[0] == nas.at()
	})
}

// An enrolment whose connection ends while the newcomer learns has not ended normally, and a newcomer that can still read is told so.
func TestEnrolmentCutShort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nas := w.admin()
	inv := nas.invite("gpu1")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	defer ln.Close()
	theirs, err := net.Dial("tcp", ln.Addr().String())
	ok(t, err)
	defer theirs.Close()
	ours, err := ln.Accept()
	ok(t, err)
	s := keys.NewSession(keys.SuiteChaCha, 0, keys.TrafficKeyFromBytes(make([]byte, 32)), keys.TrafficKeyFromBytes(make([]byte, 32)), keys.Hash{})
	res := &handshake.Result{Keys: s, Role: keys.RoleAcceptor, Enroll: true, Invite: inv.ID, Peer: &handshake.Peer{Node: keys.NewSigningKey().NodeID()}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nas.serveEnrolment(context.Background(), ours, res, netip.MustParseAddrPort("192.0.2.1:1"))
	}()
	ok(t, theirs.(*net.TCPConn).CloseWrite())
	ctl := session.NewControl(theirs, s, keys.RoleDialer)
	ok(t, theirs.SetReadDeadline(time.Now().Add(10*time.Second)))
	for {
		rt, body, err := ctl.Receive()
		if err != nil {
			t.Fatal("no word about the end:", err)
		}
		if rt == session.RecordClose {
			if code, err := session.ParseClose(body); err != nil || code != session.CodeAborted {
				t.Fatalf("ended with code %v, %v", code, err)
			}
			break
		}
	}
	ctl.Release()
	<-done
}
