package trust

import (
	"errors"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// admit asks one day into the life of the mesh.
func admit(t testing.TB, s *State, c *identity.SignedCertificate, now int64, want Standing, why Reason) {
	t.Helper()
	if got, reason := s.Admit(c, s.Root().Version, now); got != want || reason != why {
		t.Fatalf("%v (%s), want %v (%s)", got, reason, want, why)
	}
}

const now1 = epoch0 + day

func TestAdmitLive(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	c := a.cert("one", "one")
	admit(t, must(t, w.start, a.add(EnrollOp(c))), c, now1, Full, ReasonLive)
}

func TestAdmitNotLoggedYet(t *testing.T) {
	w := newWorld(t, 1, "a")
	admit(t, w.start, w.writer("a").cert("one", "one"), now1, Restricted, ReasonUnlogged)
}

func TestAdmitRevokedNode(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	c := a.cert("one", "one")
	s := must(t, w.start, a.add(EnrollOp(c)), a.add(revokeNode("one")))
	admit(t, s, c, now1, Refused, ReasonRevoked)
	admit(t, s, a.cert("one", "one"), now1, Refused, ReasonRevoked) // a certificate not in the log does not help
	if ReasonRevoked.Code() != 5 {
		t.Fatal("code")
	}
}

func TestAdmitRevokedCertificate(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	c, d := a.cert("one", "one"), a.cert("two", "two")
	s := must(t, w.start, a.add(EnrollOp(c)), b.add(OpRevokeCert{Issuer: c.Issuer, Serial: c.Serial}, OpRevokeCert{Issuer: c.Issuer, Serial: d.Serial}))
	admit(t, s, c, now1, Refused, ReasonRevoked)
	admit(t, s, d, now1, Refused, ReasonRevoked) // before its enrolment is known
}

func TestAdmitForeign(t *testing.T) {
	w, o := newWorld(t, 1, "a"), newWorld(t, 1, "a", "b")
	admit(t, w.start, o.writer("a").cert("one", "one"), now1, Refused, ReasonForeign)
}

func TestAdmitUnknownIssuer(t *testing.T) {
	w := newWorld(t, 1, "a")
	c := w.writer("new").cert("one", "one")
	admit(t, w.start, c, now1, Refused, ReasonUnknownIssuer)
	if got, why := w.start.Admit(c, 2, now1); got != SyncOnly || why != ReasonNewerRoot {
		t.Fatalf("%v %s", got, why)
	}
}

func TestAdmitIssuerWithoutRight(t *testing.T) {
	w := worldWith(t, 1, issuerOf("a", allCaps&^CapEnroll))
	admit(t, w.start, w.writer("a").cert("one", "one"), now1, Refused, ReasonNoRight)
}

func TestAdmitUnloggedOutsideLimits(t *testing.T) {
	is := issuerOf("a", allCaps)
	is.Tags, is.MaxTTL = []string{"gpu"}, 10*day
	w := worldWith(t, 1, is)
	a := w.writer("a")
	admit(t, w.start, a.certFor("one", "one", epoch0, epoch0+10*day+1), now1, Refused, ReasonLimits)
	admit(t, w.start, a.certFor("one", "one", epoch0, epoch0+day*2, "admin"), now1, Refused, ReasonLimits)
	admit(t, w.start, a.certFor("one", "one", epoch0+360*day, epoch0+366*day), now1, Refused, ReasonLimits)
	admit(t, w.start, a.certFor("one", "one", epoch0, epoch0+day*2, "gpu"), now1, Restricted, ReasonUnlogged)
}

func TestAdmitIssuerCutOff(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	in, out := a.cert("in", "in"), a.cert("out", "out")
	e := a.add(EnrollOp(in))
	root := w.root(w.start, func(r *Root) { cutoff(r, a.key.Public(), 1, e.hash) })
	behind := mustRoot(t, w.start, root)
	admit(t, behind, out, now1, Restricted, ReasonUnlogged) // the chain is not whole: it may still be in it
	s := must(t, behind, e)
	admit(t, s, in, now1, Full, ReasonLive)
	admit(t, s, out, now1, Refused, ReasonCutOff)
}

func TestAdmitDiffersFromLog(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	c := a.cert("one", "one")
	s := must(t, w.start, a.add(EnrollOp(c)))
	a.serial--
	admit(t, s, a.cert("one", "one", "admin"), now1, Refused, ReasonMismatch) // same serial, more tags
	a.serial--
	admit(t, s, a.cert("two", "one"), now1, Refused, ReasonMismatch) // same serial, another node
}

func TestAdmitWindow(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	c := a.certFor("one", "one", now1, now1+day)
	d := a.certFor("two", "two", now1, now1+day)
	s := must(t, w.start, a.add(EnrollOp(c)))
	for _, x := range []struct {
		now  int64
		want Standing
		why  Reason
	}{
		{now1 - 301, Refused, ReasonNotYet},
		{now1 - 300, Full, ReasonLive},
		{now1 + day - 1, Full, ReasonLive},
		{now1 + day, RenewOnly, ReasonExpiredRenew},
		{now1 + day + 30*day - 1, RenewOnly, ReasonExpiredRenew},
		{now1 + day + 30*day, Refused, ReasonExpired},
	} {
		admit(t, s, c, x.now, x.want, x.why)
	}
	// What is not in the log cannot renew itself.
	admit(t, s, d, now1-301, Refused, ReasonNotYet)
	admit(t, s, d, now1, Restricted, ReasonUnlogged)
	admit(t, s, d, now1+day, Refused, ReasonExpired)
	if ReasonExpired.Code() != 6 || ReasonNotYet.Code() != 4 || ReasonLive.Code() != 0 {
		t.Fatal("codes")
	}
}

func TestAdmitGuestDoesNotRenew(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	for i, until := range []int64{0, now1 + day + 5} {
		a.serial++
		c, err := identity.IssueCertificate(identity.Certificate{
			Mesh: w.mesh, Node: nodeID("guest"), Serial: a.serial, Issuer: a.key.Public(), NotBefore: epoch0, NotAfter: now1 + day, Name: "guest",
			RenewUntil: until,
		}, a.key)
		if err != nil {
			t.Fatal(err)
		}
		s := must(t, w.start, a.branch().add(EnrollOp(c)))
		admit(t, s, c, now1+day+6, Refused, ReasonExpired)
		if i == 1 {
			admit(t, s, c, now1+day+5, RenewOnly, ReasonExpiredRenew)
		}
	}
}

func TestAdmitSuspendedIssuer(t *testing.T) {
	w, honest, thief := forked(t)
	s := evidence(t, must(t, w.start, honest.all...), honest.all[1], thief.all[1])
	c := honest.cert("later", "later")
	s = must(t, s, honest.add(EnrollOp(c)))
	admit(t, s, c, now1, Restricted, ReasonSuspended)
	admit(t, s, c, epoch0+31*day, Refused, ReasonExpired)
}

func TestAdmitStaleView(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	c := a.cert("one", "one")
	for action, want := range map[uint64]Standing{0: Full, 1: Restricted} {
		s := mustRoot(t, w.start, w.root(w.start, func(r *Root) { r.Params.MaxStale, r.Params.StaleAction = 1000, action }))
		s = must(t, s, a.branch().add(EnrollOp(c)))
		if got, _ := s.Admit(c, 2, epoch0+1001); got != Full {
			t.Fatalf("the root is as good as a head: %v", got)
		}
		if got, _ := s.Admit(c, 2, now1); got != want {
			t.Fatalf("action %d: %v", action, got)
		}
		head, err := s.NewHead(a.key, now1-1000)
		if err != nil {
			t.Fatal(err)
		}
		if s, err = s.ApplyHead(head, now1); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.Admit(c, 2, now1); got != Full || s.Staleness(now1) != 1000 {
			t.Fatalf("with a fresh head: %v", got)
		}
	}
}

func TestHeadRules(t *testing.T) {
	w := worldWith(t, 1, issuerOf("a", allCaps), issuerOf("b", allCaps&^CapHead))
	a, b := w.writer("a"), w.writer("b")
	s := must(t, w.start, a.add(a.enroll("one")), b.add(b.enroll("two")))
	good := Head{Mesh: w.mesh, Issuer: a.key.Public(), Seq: 1, Hash: a.prev, RootVersion: 1, Time: epoch0}
	h := func(change func(*Head)) []byte {
		x := good
		change(&x)
		return signHead(&x, a.key)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want error
	}{
		"no right":     {signHead(&Head{Mesh: w.mesh, Issuer: b.key.Public(), Seq: 1, Hash: b.prev, RootVersion: 1, Time: epoch0}, b.key), ErrInvalid},
		"other signer": {signHead(&good, b.key), ErrInvalid},
		"other mesh":   {h(func(x *Head) { x.Mesh[0] ^= 1 }), ErrInvalid},
		"mesh in payload": {func() []byte {
			x := good
			x.Mesh[0] ^= 1
			return identity.Seal(keys.LabelHead, w.mesh, wire.MustMarshal(&x), a.key).Encode()
		}(), ErrInvalid},
		"stranger":       {signHead(&Head{Mesh: w.mesh, Issuer: keyOf("x").Public(), RootVersion: 1}, keyOf("x")), ErrInvalid},
		"root not held":  {h(func(x *Head) { x.RootVersion = 2 }), ErrGap},
		"root 0":         {h(func(x *Head) { x.RootVersion = 0 }), ErrInvalid},
		"future":         {h(func(x *Head) { x.Time = epoch0 + clockSlack + 1 }), ErrFuture},
		"after its end":  {h(func(x *Head) { x.Time = epoch0 + 365*day + 1 }), ErrInvalid},
		"other branch":   {h(func(x *Head) { x.Hash[0] ^= 1 }), ErrBranch},
		"seq large":      {h(func(x *Head) { x.Seq = maxSeq + 1 }), ErrInvalid},
		"not a head":     {a.all[0].raw, ErrInvalid},
		"garbage":        {[]byte{1}, ErrInvalid},
		"longer than us": {h(func(x *Head) { x.Seq = 9 }), nil},
		"good":           {h(func(*Head) {}), nil},
	} {
		n, err := s.ApplyHead(c.raw, epoch0)
		if !errors.Is(err, c.want) || (err == nil) != (n != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := s.ApplyHead(h(func(*Head) {}), epoch0)
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{
		"again":   h(func(*Head) {}),
		"older":   h(func(x *Head) { x.Time-- }),
		"shorter": h(func(x *Head) { x.Time, x.Seq, x.Hash = epoch0+1, 0, keys.ChainStart(w.mesh, x.Issuer) }),
	} {
		if _, err := s.ApplyHead(raw, epoch0); !errors.Is(err, ErrHave) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := s.Digest()
	n, err := s.ApplyHead(h(func(x *Head) { x.Time++ }), epoch0)
	if err != nil || n.Digest() != d || n.Vector().Issuers[0].HeadTime+n.Vector().Issuers[1].HeadTime != epoch0+1 {
		t.Fatalf("heads are no part of the digest: %v", err)
	}
	cut := mustRoot(t, s, w.root(s, func(r *Root) { cutoff(r, a.key.Public(), 1, a.prev) }))
	if _, err := cut.ApplyHead(h(func(x *Head) { x.Time += 2 }), epoch0+9); !errors.Is(err, ErrVoid) {
		t.Fatalf("of an issuer cut off: %v", err)
	}
	if _, _, ok := cut.HeadOf(a.key.Public()); ok {
		t.Fatal("the head of an issuer cut off still counts")
	}
	if _, err := s.NewHead(b.key, epoch0); !errors.Is(err, ErrNoRight) {
		t.Fatalf("signing without the right: %v", err)
	}
	if _, err := cut.NewHead(a.key, epoch0); !errors.Is(err, ErrNotIssuer) {
		t.Fatalf("signing after the cutoff: %v", err)
	}
}

// TestNameOfTwoNodesIsNeither: a second live node with the same name takes the name from both, and only while both live.
func TestNameOfTwoNodesIsNeither(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	s := must(t, w.start, a.add(a.enrollAs("one", "nas")))
	if ids := s.ByName("nas", now1); len(ids) != 1 || s.NameConflict("nas", now1) {
		t.Fatal("one node, one name")
	}
	s = must(t, s, b.add(EnrollOp(b.certFor("thief", "nas", epoch0, epoch0+5*day))))
	if ids := s.ByName("nas", now1); len(ids) != 2 || !s.NameConflict("nas", now1) {
		t.Fatal("no conflict")
	}
	if ids := s.ByName("nas", epoch0+6*day); len(ids) != 1 || ids[0] != nodeID("one") {
		t.Fatal("an expired node keeps the name")
	}
	s = must(t, s, a.add(revokeNode("thief")))
	if s.NameConflict("nas", now1) {
		t.Fatal("a revoked node keeps the name")
	}
	// After a change of name the old one is free.
	s = must(t, s, a.add(EnrollOp(a.certFor("one", "nas2", epoch0+1, epoch0+30*day))))
	if len(s.ByName("nas", now1)) != 0 || len(s.ByName("nas2", now1)) != 1 {
		t.Fatal("the old name is still taken")
	}
}

// TestNewestEnrolmentSpeaks: a renewal with fewer tags takes the others away although the old certificate lives.
func TestNewestEnrolmentSpeaks(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	s := must(t, w.start, a.add(EnrollOp(a.certFor("one", "one", epoch0, epoch0+20*day, "admin", "gpu"))))
	renewed := b.certFor("one", "one", epoch0+day, epoch0+25*day, "gpu")
	s = must(t, s, b.add(EnrollOp(renewed)))
	m, ok := s.LiveMember(nodeID("one"), epoch0+2*day)
	if !ok || m.HasTag("admin") || !m.HasTag("gpu") || m.Issuer != b.key.Public() {
		t.Fatalf("%+v", m)
	}
	if m, _ := s.LiveMember(nodeID("one"), epoch0+1); !m.HasTag("admin") {
		t.Fatal("the renewal spoke before it began")
	}
	if !s.Logged(renewed) || s.Logged(b.cert("one", "one")) {
		t.Fatal("Logged")
	}
	// The new one revoked, the old one speaks again.
	s = must(t, s, a.add(OpRevokeCert{Issuer: b.key.Public(), Serial: renewed.Serial}))
	if m, _ := s.LiveMember(nodeID("one"), epoch0+2*day); !m.HasTag("admin") {
		t.Fatal("a revoked certificate speaks")
	}
}

// TestWhichEnrolmentIsNewest: the later beginning, then the later end, then the lower issuer, then the higher serial.
func TestWhichEnrolmentIsNewest(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	low, high := a, b
	if string(a.key.Public().String()) > b.key.Public().String() {
		low, high = b, a
	}
	for name, pair := range map[string][2]*identity.SignedCertificate{
		"beginning": {low.certFor("one", "older", epoch0, epoch0+20*day), high.certFor("one", "newer", epoch0+1, epoch0+10*day)},
		"end":       {low.certFor("one", "older", epoch0, epoch0+20*day), high.certFor("one", "newer", epoch0, epoch0+21*day)},
		"issuer":    {high.certFor("one", "older", epoch0, epoch0+20*day), low.certFor("one", "newer", epoch0, epoch0+20*day)},
		"serial":    {low.certFor("one", "older", epoch0, epoch0+20*day), low.certFor("one", "newer", epoch0, epoch0+20*day)},
	} {
		s := w.start
		for _, c := range pair {
			x := w.writer("a")
			if c.Issuer == b.key.Public() {
				x = w.writer("b")
			}
			seq, hash, _ := s.Position(c.Issuer)
			x.seq, x.prev = seq, hash
			s = must(t, s, x.add(EnrollOp(c)))
		}
		if m, _ := s.LiveMember(nodeID("one"), now1); m.Name != "newer" {
			t.Errorf("%s: %s speaks", name, m.Name)
		}
	}
	if _, ok := w.start.SuccessorOf(nodeID("nobody")); ok {
		t.Error("a stranger has a successor")
	}
}

func TestNextChange(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	if w.start.NextChange(0) != 0 {
		t.Fatal("nothing changes in an empty mesh")
	}
	g := a.grant(AnyNode(), AnyNode(), "x")
	g.NotBefore, g.NotAfter = epoch0+100, epoch0+200
	s := must(t, w.start, a.add(EnrollOp(a.certFor("one", "one", epoch0+1000, epoch0+2000)), g))
	var got []int64
	for now := int64(0); ; {
		if now = s.NextChange(now); now == 0 {
			break
		}
		got = append(got, now-epoch0)
	}
	want := []int64{100, 200, 700, 2000}
	if len(got) != len(want) {
		t.Fatalf("%v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("%v, want %v", got, want)
		}
	}
	s = must(t, s, a.add(revokeNode("one"), OpUngrant{Issuer: a.key.Public(), GID: g.GID}))
	if s.NextChange(0) != 0 {
		t.Fatal("what was removed changes no more")
	}
}

// TestGrantMatching is the whole matrix of who and what.
func TestGrantMatching(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	base := must(t, w.start, a.add(a.enroll("lap", "laptop"), a.enroll("other"), a.enroll("srv", "db")))
	from, at := nodeID("lap"), nodeID("srv")
	for name, c := range map[string]struct {
		who  Target
		what What
		want bool
	}{
		"any any":        {AnyNode(), What{Service: "pg"}, true},
		"node":           {NodeTarget(from), What{Service: "pg"}, true},
		"other node":     {NodeTarget(nodeID("other")), What{Service: "pg"}, false},
		"tag":            {TagTarget("laptop"), What{Service: "pg"}, true},
		"other tag":      {TagTarget("db"), What{Service: "pg"}, false},
		"on node":        {AnyNode(), What{Target: NodeTarget(at), Service: "pg"}, true},
		"on other node":  {AnyNode(), What{Target: NodeTarget(from), Service: "pg"}, false},
		"on tag":         {AnyNode(), What{Target: TagTarget("db"), Service: "pg"}, true},
		"on other tag":   {AnyNode(), What{Target: TagTarget("laptop"), Service: "pg"}, false},
		"star":           {AnyNode(), What{Service: "*"}, true},
		"other service":  {AnyNode(), What{Service: "pg2"}, false},
		"verb escalate":  {AnyNode(), What{Verb: VerbEscalate, Service: "pg"}, false},
		"protocol's own": {AnyNode(), What{Service: "!pg"}, false},
	} {
		g := a.grant(c.who, AnyNode(), "x")
		g.What = c.what
		s := must(t, base, a.branch().add(g))
		d := s.Decide(from, at, "pg", now1)
		if d.Allowed != c.want {
			t.Errorf("%s: %+v", name, d)
		}
		if c.want && (d.Grant != GrantRef{a.key.Public(), g.GID} || d.Reason != ReasonGranted) {
			t.Errorf("%s: %+v", name, d)
		}
		if d := s.DecideEscalate(from, at, "pg", now1); d.Allowed != (name == "verb escalate") {
			t.Errorf("%s: escalate %+v", name, d)
		}
		if d := s.Decide(from, at, "!pg", now1); d.Allowed != (name == "protocol's own") {
			t.Errorf("%s: the protocol's own %+v", name, d)
		}
	}
}

func TestDefaultDeny(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	s := must(t, w.start, a.add(a.enroll("one"), a.enroll("two")))
	if d := s.Explain(nodeID("one"), nodeID("two"), "x", now1); d.Allowed || d.Reason != ReasonNoGrant || d.Near != nil {
		t.Fatalf("%+v", d)
	}
	s = must(t, s, a.add(a.grant(AnyNode(), AnyNode(), "*")))
	for name, c := range map[string]struct {
		from, at, service string
		now               int64
		why               Reason
	}{
		"stranger calls":   {"x", "two", "s", now1, ReasonNotMember},
		"stranger serves":  {"one", "x", "s", now1, ReasonNotMember},
		"expired":          {"one", "two", "s", epoch0 + 30*day, ReasonExpired},
		"not yet":          {"one", "two", "s", epoch0 - 301, ReasonNotYet},
		"star as a name":   {"one", "two", "*", now1, ReasonService},
		"no name":          {"one", "two", "", now1, ReasonService},
		"name not allowed": {"one", "two", "A b", now1, ReasonService},
	} {
		if d := s.Decide(nodeID(c.from), nodeID(c.at), c.service, c.now); d.Allowed || d.Reason != c.why {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if d := s.Decide(nodeID("one"), nodeID("two"), "s", now1); !d.Allowed {
		t.Fatalf("%+v", d)
	}
	s = must(t, s, a.add(revokeNode("two")))
	if d := s.Decide(nodeID("one"), nodeID("two"), "s", now1); d.Allowed || d.Reason != ReasonRevoked {
		t.Fatalf("%+v", d)
	}
}

func TestGrantWindowAndUngrant(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	g := a.grant(AnyNode(), AnyNode(), "x")
	g.NotBefore, g.NotAfter = now1, now1+100
	s := must(t, w.start, a.add(a.enroll("one"), a.enroll("two"), g))
	for now, want := range map[int64]Miss{now1 - 1: MissNotYet, now1: "", now1 + 99: "", now1 + 100: MissExpired} {
		d := s.Explain(nodeID("one"), nodeID("two"), "x", now)
		if d.Allowed != (want == "") || !d.Allowed && (d.Near == nil || d.Near.Why != want) {
			t.Errorf("%d: %+v", now-now1, d)
		}
	}
	s = must(t, s, b.add(OpUngrant{Issuer: a.key.Public(), GID: g.GID, Reason: 3}))
	if d := s.Explain(nodeID("one"), nodeID("two"), "x", now1); d.Allowed || d.Near.Why != MissRemoved || d.Near.Grant.Removed.Reason != 3 {
		t.Fatalf("%+v", d)
	}
	// The removal may come first.
	s = must(t, w.start, b.all[0], a.all[0])
	if d := s.Explain(nodeID("one"), nodeID("two"), "x", now1); d.Allowed {
		t.Fatal("an ungrant that came first was lost")
	}
	got, ok := s.Grant(GrantRef{a.key.Public(), g.GID})
	if !ok || got.InForce(now1) || got.Ref.String() != "g-1" {
		t.Fatalf("%+v", got)
	}
}

func TestNearestGrant(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	s := must(t, w.start, a.add(a.enroll("lap", "laptop"), a.enroll("srv")))
	check := func(want Miss, gid uint64) {
		t.Helper()
		d := s.Explain(nodeID("lap"), nodeID("srv"), "pg", now1)
		if d.Allowed || d.Near == nil || d.Near.Why != want || d.Near.Grant.Ref.GID != gid {
			t.Fatalf("%+v %+v", d, d.Near)
		}
	}
	s = must(t, s, a.add(a.grant(TagTarget("dba"), NodeTarget(nodeID("lap")), "pg"))) // two parts miss: never near
	if d := s.Explain(nodeID("lap"), nodeID("srv"), "pg", now1); d.Near != nil {
		t.Fatalf("%+v", d.Near)
	}
	s = must(t, s, a.add(a.grant(AnyNode(), AnyNode(), "ollama")))
	check(MissService, 2)
	s = must(t, s, a.add(a.grant(AnyNode(), NodeTarget(nodeID("lap")), "pg")))
	check(MissTarget, 3)
	s = must(t, s, a.add(a.grant(TagTarget("dba"), AnyNode(), "pg")))
	check(MissWho, 4)
	g := a.grant(AnyNode(), AnyNode(), "pg")
	g.NotAfter = now1
	s = must(t, s, a.add(g))
	check(MissExpired, 5)
}
