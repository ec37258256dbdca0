package daemon

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

const hour = 3600

func TestExpiryOf(t *testing.T) {
	t.Parallel()
	const begun = 1_800_000_000
	for _, c := range []struct {
		what       string
		life       int64
		renewUntil int64
		left       int64
		why        string
		tier       int
	}{
		{"young", 90 * day, enroll.RenewForever, 60 * day, "", 0},
		{"due now, renewed in a moment", 90 * day, enroll.RenewForever, 30 * day, "", 0},
		{"a day before it is late", 90 * day, enroll.RenewForever, 28 * day, "", 0},
		{"late", 90 * day, enroll.RenewForever, 27 * day, "late", 30},
		{"late, two weeks left", 90 * day, enroll.RenewForever, 14 * day, "late", 14},
		{"a second more", 90 * day, enroll.RenewForever, 14*day + 1, "late", 30},
		{"late, a week left", 90 * day, enroll.RenewForever, 7 * day, "late", 7},
		{"late, hours left", 90 * day, enroll.RenewForever, 5 * hour, "late", 1},
		{"ended", 90 * day, enroll.RenewForever, -1, "ended", 0},
		{"ended, the last day of grace", 90 * day, enroll.RenewForever, -30*day + 1, "ended", 0},
		{"ended for good", 90 * day, enroll.RenewForever, -30 * day, "over", 0},
		{"a year's, late, far from its end", 365 * day, enroll.RenewForever, 100 * day, "", 0},
		{"a guest of eight hours at its start", 8 * hour, 0, 7 * hour, "", 0},
		{"a guest of eight hours at its end", 8 * hour, 0, 2 * hour, "guest", 1},
		{"a guest that is gone", 8 * hour, 0, -1, "over", 0},
		{"a membership with a date", 90 * day, begun + 90*day, 25 * day, "by-hand", 30},
		{"a membership with a date that is over", 90 * day, begun + 90*day, 0, "over", 0},
	} {
		m := trust.Member{Name: "m", NotBefore: begun, NotAfter: begun + c.life, RenewUntil: c.renewUntil}
		e, ok := expiryOf(&m, m.NotAfter-c.left)
		if ok != (c.why != "" && c.why != expiryOver) || !ok && c.why == expiryOver && e.Why != expiryOver || ok && (e.Why != c.why || e.TierDays != c.tier || e.LeftMS != c.left*1000) {
			t.Errorf("%s: %v %+v", c.what, ok, e)
		}
	}
}

// enrolled gives the log members whose certificates end at these times from now.
func (w *turning) enrolled(name string, left, renewUntil int64) keys.NodeID {
	w.t.Helper()
	now := w.issuer.Now()
	k := keys.NewSigningKey().NodeID()
	cert, err := identity.IssueCertificate(identity.Certificate{
		Mesh: w.mesh, Node: k, Serial: w.store.Current().MaxSerial(w.issuer.Key.Public()) + 1, Issuer: w.issuer.Key.Public(), NotBefore: now + left - 86400, NotAfter: now + left, Name: name, RenewUntil: renewUntil,
	}, w.issuer.Key)
	w.must(err)
	w.must(w.issuer.Append(trust.EnrollOp(cert)))
	return k
}

// Every member's end is seen in the log, not only that of peers; which of them is something wrong is decided by whose it is and why.
func TestExpiring(t *testing.T) {
	t.Parallel()
	w := newTurning(t)
	now := w.issuer.Now()
	self := w.enrolled("here", 7*hour, 0)
	w.enrolled("late", 5*hour, enroll.RenewForever)
	w.enrolled("dated", 6*hour, now+6*hour)
	w.enrolled("guest", 4*hour, 0)
	w.enrolled("off", -3*hour, enroll.RenewForever)
	over := w.enrolled("over", -hour, 0)
	w.enrolled("young", 20*hour, enroll.RenewForever)
	gone := w.enrolled("gone", 2*hour, enroll.RenewForever)
	w.must(w.issuer.Append(trust.OpRevokeNode{Node: gone}))
	list, total := expiring(w.store.Current(), now, self)
	var got []string
	for _, e := range list {
		got = append(got, fmt.Sprintf("%s %s %d %v", e.Node.Name, e.Why, e.TierDays, e.Degraded))
		if e.Next == "" || e.Text == "" || e.Self != (e.Node.Name == "here") {
			t.Errorf("%+v", e)
		}
	}
	want := []string{"off ended 0 true", "guest guest 1 false", "late late 1 true", "dated by-hand 1 true", "here guest 1 true"}
	if !slices.Equal(got, want) || total != len(want) {
		t.Fatalf("%q, want %q, %d", got, want, total)
	}
	if list, _ := expiring(w.store.Current(), now, over); list[1].Why != "over" || !list[1].Self || !list[1].Degraded {
		t.Fatalf("this node's own certificate is over, and nobody says so: %+v", list)
	}
	codes := map[string]int{}
	for _, x := range expiryWarnings(list) {
		codes[x.Code]++
	}
	if codes["expires-soon"] != 1 || codes["peer-expires-soon"] != 3 {
		t.Fatal(codes)
	}
	for i := range maxExpiring + 10 {
		w.enrolled(fmt.Sprintf("m%d", i), 5*hour, 0)
	}
	if list, total = expiring(w.store.Current(), now, self); len(list) != maxExpiring || total != maxExpiring+15 || list[0].Node.Name != "off" {
		t.Fatalf("%d of %d", len(list), total)
	}
}

// The daemon's log has a line per member and tier, not one per look, and not more than it can be read.
func TestWatchExpiry(t *testing.T) {
	t.Parallel()
	w := newTurning(t)
	var lines strings.Builder
	d := &Daemon{store: w.store, log: slog.New(slog.NewTextHandler(&lines, nil)), key: keys.NewSigningKey()}
	look := func(told map[keys.NodeID]int) int {
		lines.Reset()
		d.watchExpiry(told)
		return strings.Count(lines.String(), "level=WARN")
	}
	told := map[keys.NodeID]int{}
	a := w.enrolled("late", 5*hour, enroll.RenewForever)
	if n := look(told); n != 1 || !strings.Contains(lines.String(), "late's certificate ends in 5h0m0s: it renews itself, and is late") {
		t.Fatal(n, lines.String())
	}
	if n := look(told); n != 0 {
		t.Fatal("told again:", lines.String())
	}
	told[a] = 7 // as if it had been told a tier before
	if n := look(told); n != 1 {
		t.Fatal("a nearer tier is not told")
	}
	for i := range 2 * maxExpiryLines {
		w.enrolled(fmt.Sprintf("m%d", i), 5*hour, enroll.RenewForever)
	}
	if n := look(told); n != maxExpiryLines+1 {
		t.Fatalf("%d lines", n)
	}
}
