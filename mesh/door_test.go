package mesh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// declines are the records of newcomers that said no.
func (h *host) declines() (out []audit.Record) {
	for r, err := range h.log.Query(h.w.t.Context(), audit.Filter{Code: string(audit.InviteDecline)}) {
		ok(h.w.t, err)
		out = append(out, r)
	}
	return out
}

// While a newcomer asks its person, the issuer shows the same words. A no leaves the invite as it was, and has a record of its own.
func TestNewcomerSaysNo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nas := w.admin()
	inv := nas.invite("gpu1")
	key := keys.NewSigningKey()
	cfg := joining(key, inv)
	asked := false
	cfg.Confirm = func(o Offer) bool {
		asked = true
		c := nas.Newcomers()
		if len(c) != 1 || c[0].Words != o.Words || c[0].Node != key.NodeID() || c[0].Invite != inv.ID || !c[0].From.Addr().IsLoopback() {
			t.Errorf("the issuer shows %+v, the newcomer %v", c, o.Words)
		}
		return false
	}
	if _, err := Join(t.Context(), cfg); !errors.Is(err, ErrNotConfirmed) || !asked {
		t.Fatal(err)
	}
	eventually(t, "the no is recorded", patience, func() bool { return len(nas.declines()) == 1 })
	r := nas.declines()[0].Event
	if r.Target != key.NodeID().Compact() || r.Session != inv.ID.String() || r.Verdict != audit.Denied || !strings.HasPrefix(r.Actor, "127.") {
		t.Errorf("%+v", r)
	}
	eventually(t, "nobody is at the door", patience, func() bool { return len(nas.Newcomers()) == 0 })

	// A mesh that is not the invite's is no decision of a person.
	other := *inv
	other.Heads = append(other.Heads[:0:0], other.Heads...)
	other.Heads[0].Hash[0] ^= 1
	if _, err := Join(t.Context(), joining(key, &other)); !errors.Is(err, ErrWrongMesh) {
		t.Fatal(err)
	}
	cfg.Confirm = func(Offer) bool { return true }
	if _, err := Join(t.Context(), cfg); err != nil {
		t.Errorf("the invite does not work any more: %v", err)
	}
	if n := len(nas.declines()); n != 1 {
		t.Errorf("%d records of a no", n)
	}
}

// A person at the newcomer has three minutes to compare words; one that has not even begun to learn has none.
func TestNewcomerMayTakeItsTime(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	inv := nas.invite("gpu1")
	node := keys.NewSigningKey().NodeID()
	for _, c := range []struct {
		learns      bool
		least, most time.Duration
	}{
		{true, confirmTime, confirmTime + time.Second},
		{false, enrolTime, enrolTime + time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			s := keys.NewSession(keys.SuiteChaCha, 0, keys.TrafficKeyFromBytes(make([]byte, 32)), keys.TrafficKeyFromBytes(make([]byte, 32)), keys.Hash{})
			res := &handshake.Result{Keys: s, Role: keys.RoleAcceptor, Enroll: true, Invite: inv.ID, Peer: &handshake.Peer{Node: node}}
			done := make(chan struct{})
			began := time.Now()
			go func() {
				defer close(done)
				nas.serveEnrolment(context.Background(), ours, res, netip.MustParseAddrPort("192.0.2.1:1"))
			}()
			ctl := session.NewControl(theirs, s, keys.RoleDialer)
			for records := 1; ; records++ {
				if _, _, err := ctl.Receive(); err != nil {
					break
				}
				if records == 2 && c.learns { // its roots and its vector
					ok(t, ctl.Send(session.RecordControl, wire.MustMarshal(struct {
						_        struct{} `cbor:",toarray"`
						Kind     uint64
						Issuer   keys.PublicKey
						From, To uint64
					}{Kind: trust.KindWant, Issuer: w.issuer.Public(), From: 1, To: 1})))
				}
			}
			<-done
			if d := time.Since(began); d < c.least || d > c.most {
				t.Errorf("learns %v: cut off after %v", c.learns, d)
			}
			theirs.Close()
		})
	}
}

// Whoever holds an unused invite says no as often as it likes, with a new key each time: its address has few records of it, and the log few lines.
func TestDeclinesAreBounded(t *testing.T) {
	w := newWorld(t)
	h := w.member("nas")
	h.open()
	var said bytes.Buffer
	h.Node.log = slog.New(slog.NewTextHandler(&said, nil))
	no := wire.MustMarshal(struct {
		_    struct{} `cbor:",toarray"`
		Code session.Code
	}{Code: session.CodeNormal})
	before := h.log.Size()
	const times = 500
	began := time.Now()
	for range times {
		res := &handshake.Result{Invite: identity.InviteID{1}, Peer: &handshake.Peer{Node: keys.NewSigningKey().NodeID()}}
		ok(t, h.declined(no, res, netip.MustParseAddrPort("192.0.2.7:1")))
		ok(t, h.log.Flush())
	}
	seconds := uint64(time.Since(began)/time.Second) + 1
	if n := h.log.Size() - before; n == 0 || n > 20*seconds {
		t.Errorf("%d records in %d s", n, seconds)
	}
	if n := uint64(strings.Count(said.String(), "not confirmed")); n == 0 || n > doorLogBurst+seconds {
		t.Errorf("%d lines in %d s", n, seconds)
	}
}
