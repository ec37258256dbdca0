package mesh

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/keys"
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
	eventually(t, "the no is recorded", 5*time.Second, func() bool { return len(nas.declines()) == 1 })
	r := nas.declines()[0].Event
	if r.Actor != key.NodeID().Compact() || r.Session != inv.ID.String() || r.Verdict != audit.Denied || !strings.HasPrefix(r.Before, "127.") {
		t.Errorf("%+v", r)
	}
	eventually(t, "nobody is at the door", 5*time.Second, func() bool { return len(nas.Newcomers()) == 0 })

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
