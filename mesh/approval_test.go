package mesh

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
)

// asked runs the first attempt with an invite that requires approval, up to where the newcomer is told to come back.
func (h *host) asked(t *testing.T, key *keys.SigningKey, inv *identity.Invite) *WaitingError {
	t.Helper()
	cfg := joining(key, inv)
	cfg.Tags = []string{"wished"}
	_, err := Join(t.Context(), cfg)
	w, ok := errors.AsType[*WaitingError](err)
	if !ok || !errors.Is(err, ErrWaiting) {
		t.Fatal(err)
	}
	return w
}

func TestJoinWithApproval(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	key, inv := keys.NewSigningKey(), nas.inviteWith("gpu1", func(v *enroll.Invite) { v.Approval = true })
	wait := nas.asked(t, key, inv)
	list := nas.issuer.Book.Waiting(time.Now().Unix())
	if len(list) != 1 || list[0].Words() != identity.Words(wait.Channel) || list[0].Words() != wait.Offer.Words || list[0].Node != key.NodeID() ||
		list[0].Tags[0] != "wished" || nas.spends() != 0 {
		t.Fatalf("%+v %+v", list, wait)
	}
	// Looking for the answer changes nothing and asks nobody.
	again := joining(key, inv)
	again.Waiting = &wait.Channel
	again.Confirm = func(Offer) bool { t.Error("asked a second time"); return false }
	_, err := Join(t.Context(), again)
	if got, ok := errors.AsType[*WaitingError](err); !ok || got.Channel != wait.Channel || got.Offer.Words != wait.Offer.Words {
		t.Fatal(err)
	}
	if l := nas.issuer.Book.Waiting(time.Now().Unix()); l[0].Channel != wait.Channel {
		t.Fatal("the words at the issuer changed")
	}
	// Somebody else cannot fetch it.
	thief := joining(keys.NewSigningKey(), inv)
	thief.Waiting = &wait.Channel
	if _, err := Join(t.Context(), thief); !errors.Is(err, ErrRequestDenied) {
		t.Fatal(err)
	}
	words := wait.Offer.Words
	g, err := nas.issuer.Approve(list[0].ID, enroll.Approval{Words: &words, Name: "chosen"}, nil)
	ok(t, err)
	m, err := Join(t.Context(), again)
	ok(t, err)
	if m.Certificate.ID != g.Certificate.ID || m.Certificate.Name != "chosen" || m.Offer.Words != wait.Offer.Words {
		t.Fatalf("%+v", m.Certificate)
	}
	// So does one that has forgotten that it asked.
	if m, err = Join(t.Context(), joining(key, inv)); err != nil || m.Certificate.ID != g.Certificate.ID {
		t.Fatal(err)
	}
	rs, err := nas.log.Read(0, 1000)
	ok(t, err)
	if !slices.ContainsFunc(rs, func(r audit.Record) bool {
		return r.Event.Code == audit.RequestAdd && strings.Contains(r.Event.After, strings.Join(words[:], " "))
	}) {
		t.Fatal("the request is not in the audit log")
	}
}

func TestJoinDenied(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	key, inv := keys.NewSigningKey(), nas.inviteWith("gpu1", func(v *enroll.Invite) { v.Approval = true })
	wait := nas.asked(t, key, inv)
	now := time.Now().Unix()
	_, err := nas.issuer.Book.Deny(nas.issuer.Book.Waiting(now)[0].ID, 0, now, nil)
	ok(t, err)
	cfg := joining(key, inv)
	cfg.Waiting = &wait.Channel
	if _, err := Join(t.Context(), cfg); !errors.Is(err, ErrRequestDenied) {
		t.Fatal(err)
	}
	if _, err := Join(t.Context(), joining(key, inv)); !errors.Is(err, ErrInviteRefused) {
		t.Fatal(err)
	}
	if nas.spends() != 0 {
		t.Fatal("enrolled")
	}
}

// An invite whose time is over is tried for the sake of a request that waits, and says so when there is none.
func TestJoinAgainAfterExpiry(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	inv := nas.invite("gpu1")
	inv.Expiry = 1
	cfg := joining(keys.NewSigningKey(), inv)
	cfg.Again = true
	_, err := Join(t.Context(), cfg)
	ok(t, err) // the issuer's record decides: there it is in time
	inv = nas.inviteWith("gpu2", func(v *enroll.Invite) { v.Approval = true })
	inv.Expiry, inv.ID = 1, identity.NewInviteID()
	cfg = joining(keys.NewSigningKey(), inv)
	cfg.Again = true
	if _, err := Join(t.Context(), cfg); !errors.Is(err, ErrInviteExpired) {
		t.Fatal(err)
	}
}

// What cannot be recorded is not noted either.
func TestDegradedIssuerTakesNoRequests(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	inv := nas.inviteWith("gpu1", func(v *enroll.Invite) { v.Approval = true })
	nas.disk.Fail(durable.Fault{Op: durable.OpSync, Stay: true, Err: errors.New("EIO")})
	_, err := Join(t.Context(), joining(keys.NewSigningKey(), inv))
	if err == nil || errors.Is(err, ErrWaiting) || len(nas.issuer.Book.Waiting(time.Now().Unix())) != 0 {
		t.Fatal(err)
	}
	nas.disk.Heal()
}

func TestJoinOneOfSeveral(t *testing.T) {
	w := newWorld(t)
	nas := w.admin()
	inv := nas.inviteWith("rack", func(v *enroll.Invite) { v.Uses = 2 })
	for _, want := range []string{"rack-1", "rack-2"} {
		m, err := Join(t.Context(), joining(keys.NewSigningKey(), inv))
		ok(t, err)
		if m.Certificate.Name != want {
			t.Fatal(m.Certificate.Name)
		}
	}
	if _, err := Join(t.Context(), joining(keys.NewSigningKey(), inv)); !errors.Is(err, ErrInviteRefused) {
		t.Fatal(err)
	}
}
