package trust

import (
	"errors"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

func TestEntryAppliesAndChains(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	e1, e2 := a.add(a.enroll("one")), a.add(revokeNode("one"))
	s := must(t, w.start, e1)
	wantLive(t, s, "one", true)
	wantLive(t, w.start, "one", false)
	refuse(t, s, e1, ErrHave)
	s2 := must(t, s, e2)
	wantLive(t, s2, "one", false)
	wantLive(t, s, "one", true)
	if s2.Epoch() == s.Epoch() {
		t.Fatal("epoch stands still")
	}
}

func TestEntryWrongPrev(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	d := a.draft(a.enroll("one"))
	d.Prev[0] ^= 1
	refuse(t, w.start, a.sign(d), ErrBranch)
}

func TestEntryWrongSeq(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	a.add(a.enroll("one"))
	refuse(t, w.start, a.add(a.enroll("two")), ErrGap)
}

func TestEntryTimeRunsBackwards(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	s := must(t, w.start, a.add(a.enroll("one")))
	d := a.draft(a.enroll("two"))
	d.Time = a.time - 1
	refuse(t, s, a.sign(d), ErrInvalid)
	d.Time = a.time
	must(t, s, a.sign(d))
}

func TestEntryRootVersionRunsBackwards(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	s := mustRoot(t, w.start, w.root(w.start, func(*Root) {}))
	a.rootVersion = 2
	s = must(t, s, a.add(a.enroll("one")))
	d := a.draft(a.enroll("two"))
	d.RootVersion = 1
	refuse(t, s, a.sign(d), ErrInvalid)
}

func TestEntryOfARootNotHeldWaits(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	a.rootVersion = 2
	e := a.add(a.enroll("one"))
	refuse(t, w.start, e, ErrGap)
	must(t, mustRoot(t, w.start, w.root(w.start, func(*Root) {})), e)
}

func TestEntryAfterTheIssuersEnd(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	d := a.draft(revokeNode("one"))
	d.Time = epoch0 + 365*day + 1
	refuse(t, w.start, a.sign(d), ErrInvalid)
	d.Time--
	must(t, w.start, a.sign(d))
}

func TestEntryIssuerNotInTheRootItNames(t *testing.T) {
	w := newWorld(t, 1, "a")
	b := w.writer("b")
	s := mustRoot(t, w.start, w.root(w.start, func(r *Root) { r.Issuers = append(r.Issuers, issuerOf("b", allCaps)) }))
	refuse(t, s, b.sign(b.draft(b.enroll("one"))), ErrInvalid)
	b.rootVersion = 2
	must(t, s, b.add(b.enroll("one")))
}

func TestEntryByAStranger(t *testing.T) {
	w := newWorld(t, 1, "a")
	x := w.writer("nobody")
	refuse(t, w.start, x.add(x.enroll("one")), ErrInvalid)
	later := w.writer("nobody") // a newer root may list it
	later.rootVersion = 2
	refuse(t, w.start, later.add(revokeNode("one")), ErrGap)
	// In the issuer's name, signed by somebody else.
	a := w.writer("a")
	a.key = keyOf("nobody")
	d := a.draft(a.enroll("one"))
	d.Issuer = keyOf("issuer a").Public()
	refuse(t, w.start, a.sign(d), ErrInvalid)
}

func TestEntryTamperedSignature(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	e := a.add(a.enroll("one"))
	for _, i := range []int{len(e.raw) - 1, len(e.raw) - 64} {
		raw := append([]byte(nil), e.raw...)
		raw[i] ^= 1
		if _, _, err := w.start.ApplyEntry(raw); !errors.Is(err, ErrInvalid) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
}

// TestEntryEachByte flips each byte of an entry: nothing of it may be accepted.
func TestEntryEachByte(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	e := a.add(a.enroll("one", "gpu"), a.grant(AnyNode(), AnyNode(), "x"))
	for i := range e.raw {
		raw := append([]byte(nil), e.raw...)
		raw[i] ^= 1
		n, _, err := w.start.ApplyEntry(raw)
		if err == nil || n != nil {
			t.Fatalf("byte %d flipped, and accepted", i)
		}
	}
}

func TestEntryOfAnotherMesh(t *testing.T) {
	w := newWorld(t, 1, "a")
	o := newWorld(t, 1, "a", "b")
	x := o.writer("a")
	if _, _, err := w.start.ApplyEntry(x.add(x.enroll("one")).raw); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "another mesh") {
		t.Fatal(err)
	}
	// The right mesh in the payload, the other in the signature.
	a := w.writer("a")
	e := a.draft(a.enroll("one"))
	env, err := identity.ParseEnvelope(signEntry(e, w.mesh, a.key), MaxEntry)
	if err != nil {
		t.Fatal(err)
	}
	raw := identity.Seal(keys.LabelEntry, o.mesh, env.Payload, a.key).Encode()
	if _, _, err := w.start.ApplyEntry(raw); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "does not verify") {
		t.Fatal(err)
	}
	raw = identity.Seal(keys.LabelHead, w.mesh, env.Payload, a.key).Encode()
	if _, _, err := w.start.ApplyEntry(raw); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "does not verify") {
		t.Fatal(err)
	}
	raw = identity.Seal(keys.LabelEntry, w.mesh, env.Payload, a.key, keyOf("helper")).Encode()
	if _, _, err := w.start.ApplyEntry(raw); !errors.Is(err, ErrInvalid) {
		t.Fatal("two signers:", err)
	}
}

// TestOpFieldRules spoils each field of each op alone: such an entry is refused whole.
func TestOpFieldRules(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	enroll := func(change func(*OpEnroll)) Op {
		o := a.enroll("one")
		change(&o)
		return o
	}
	grant := func(change func(*OpGrant)) Op {
		o := a.grant(AnyNode(), AnyNode(), "x")
		change(&o)
		return o
	}
	for name, o := range map[string]Op{
		"enroll serial 0":        enroll(func(o *OpEnroll) { o.Serial = 0 }),
		"enroll serial large":    enroll(func(o *OpEnroll) { o.Serial = maxSeq + 1 }),
		"enroll empty window":    enroll(func(o *OpEnroll) { o.NotAfter = o.NotBefore }),
		"enroll negative time":   enroll(func(o *OpEnroll) { o.NotBefore = -1 }),
		"enroll renew_until":     enroll(func(o *OpEnroll) { o.RenewUntil = maxTime + 1 }),
		"enroll weak key":        enroll(func(o *OpEnroll) { o.Node = keys.NodeID{1} }),
		"enroll name":            enroll(func(o *OpEnroll) { o.Name = "No" }),
		"enroll tags unsorted":   enroll(func(o *OpEnroll) { o.Tags = []string{"b", "a"} }),
		"revoke reason":          OpRevokeNode{Reason: maxReason + 1},
		"revoke into itself":     OpRevokeNode{Node: nodeID("x"), Successor: &Successor{Node: nodeID("x")}},
		"revoke serial":          OpRevokeCert{},
		"revoke serial's reason": OpRevokeCert{Serial: 1, Reason: maxReason + 1},
		"group generation":       OpGroup{},
		"grant gid":              grant(func(o *OpGrant) { o.GID = 0 }),
		"grant window":           grant(func(o *OpGrant) { o.NotBefore, o.NotAfter = 5, 5 }),
		"grant note":             grant(func(o *OpGrant) { o.Note = strings.Repeat("n", MaxNote+1) }),
		"grant who":              grant(func(o *OpGrant) { o.Who = TagTarget("NO") }),
		"grant target":           grant(func(o *OpGrant) { o.What.Target = TagTarget("") }),
		"grant verb":             grant(func(o *OpGrant) { o.What.Verb = 2 }),
		"grant service":          grant(func(o *OpGrant) { o.What.Service = "a b" }),
		"grant kind of who":      grant(func(o *OpGrant) { o.Who.Kind = 3 }),
		"ungrant gid":            OpUngrant{},
		"ungrant reason":         OpUngrant{GID: 1, Reason: maxReason + 1},
		"op kind 0":              OpUnknown{Kind: 0, Raw: []byte{0x81, 0}},
		"op not canonical":       OpUnknown{Kind: 99, Raw: []byte{0x82, 0x18, 99, 0x18, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			raw := signEntry(a.draft(o), w.mesh, a.key)
			if n, _, err := w.start.ApplyEntry(raw); !errors.Is(err, ErrInvalid) || n != nil {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestEntryFieldRules(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	ok := revokeNode("one")
	many := make([]Op, MaxOps+1)
	for i := range many {
		many[i] = ok
	}
	for name, change := range map[string]func(*Entry){
		"seq 0":          func(e *Entry) { e.Seq = 0 },
		"seq large":      func(e *Entry) { e.Seq = maxSeq + 1 },
		"root version 0": func(e *Entry) { e.RootVersion = 0 },
		"time negative":  func(e *Entry) { e.Time = -1 },
		"no ops":         func(e *Entry) { e.Ops = nil },
		"257 ops":        func(e *Entry) { e.Ops = many },
	} {
		d := a.draft(ok)
		change(d)
		if _, err := ParseEntry(signEntry(d, w.mesh, a.key), w.mesh); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := ParseEntry(make([]byte, MaxEntry+1), w.mesh); err == nil {
		t.Error("too long: accepted")
	}
}

// TestCapsAreNeeded takes each right away alone: the op is ignored, the rest of the entry counts.
func TestCapsAreNeeded(t *testing.T) {
	for _, c := range []struct {
		name string
		cap  Caps
		op   func(*writer) Op
		sees func(*State) bool
	}{
		{"enroll", CapEnroll, func(a *writer) Op { return a.enroll("one") }, func(s *State) bool { return lively(s, "one") }},
		{"revoke node", CapRevoke, func(*writer) Op { return revokeNode("two") }, func(s *State) bool { _, r := s.Revoked(nodeID("two")); return r }},
		{
			"revoke cert", CapRevoke, func(a *writer) Op { return OpRevokeCert{Issuer: a.key.Public(), Serial: 77} },
			func(s *State) bool { _, r := s.CertRevoked(keyOf("issuer a").Public(), 77); return r },
		},
		{
			"grant", CapGrant, func(a *writer) Op { return a.grant(AnyNode(), AnyNode(), "x") },
			func(s *State) bool { _, r := s.Grant(GrantRef{keyOf("issuer a").Public(), 1}); return r },
		},
		{
			"ungrant", CapGrant, func(*writer) Op { return OpUngrant{Issuer: keyOf("issuer b").Public(), GID: 1} },
			func(s *State) bool {
				g, _ := s.Grant(GrantRef{keyOf("issuer b").Public(), 1})
				return g.Removed != nil
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, caps := range []Caps{allCaps, allCaps &^ c.cap} {
				w := worldWith(t, 1, issuerOf("a", caps), issuerOf("b", allCaps))
				a, b := w.writer("a"), w.writer("b")
				beside := b.grant(AnyNode(), AnyNode(), "y")
				s := must(t, w.start, b.add(beside), a.add(c.op(a), OpUnknown{Kind: 200, Raw: []byte{0x81, 0x18, 200}}))
				if seen := c.sees(s); seen != caps.Has(c.cap) {
					t.Fatalf("with caps %d it counts: %v", caps, seen)
				}
			}
		})
	}
}

func TestEnrolBeyondLimits(t *testing.T) {
	is := issuerOf("a", allCaps)
	is.Tags, is.MaxTTL = []string{"gpu"}, 10*day
	for name, from := range map[string]func(*writer) OpEnroll{
		"tag": func(a *writer) OpEnroll { return EnrollOp(a.certFor("one", "one", epoch0, epoch0+5*day, "admin")) },
		"ttl": func(a *writer) OpEnroll { return EnrollOp(a.certFor("one", "one", epoch0, epoch0+10*day+1)) },
		"end": func(a *writer) OpEnroll {
			return EnrollOp(a.certFor("one", "one", epoch0+360*day, epoch0+365*day+1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := worldWith(t, 1, is)
			a := w.writer("a")
			s := must(t, w.start, a.add(from(a), revokeNode("two")))
			if _, ok := s.Member(nodeID("one")); ok {
				t.Fatal("enrolled")
			}
			if _, ok := s.Revoked(nodeID("two")); !ok {
				t.Fatal("the removal beside it was lost")
			}
			ok := EnrollOp(a.certFor("one", "one", epoch0, epoch0+10*day, "gpu"))
			wantLive(t, must(t, s, a.add(ok)), "one", true)
		})
	}
}

func TestSerialAndGIDRise(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	first, again := a.enroll("one"), a.enroll("two")
	again.Serial = first.Serial
	g, h := a.grant(AnyNode(), AnyNode(), "x"), a.grant(AnyNode(), AnyNode(), "y")
	h.GID = g.GID
	s := must(t, w.start, a.add(first, g), a.add(again, h))
	wantLive(t, s, "one", true)
	wantLive(t, s, "two", false)
	got, _ := s.Grant(GrantRef{a.key.Public(), g.GID})
	if got.What.Service != "x" {
		t.Fatal("a grant was overwritten")
	}
	if s.MaxSerial(a.key.Public()) != first.Serial {
		t.Fatal("max serial")
	}
}

func TestGroupOnlyByTheGroupIssuerAndRising(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	c := func(s string) keys.Hash { return keys.Sum([]byte(s)) }
	s := must(t, w.start, b.add(OpGroup{Generation: 9, Commit: c("thief")}))
	if g, _ := s.GroupCommit(); g != 0 {
		t.Fatal("a commitment by another issuer counts")
	}
	s = must(t, s, a.add(OpGroup{Generation: 2, Commit: c("two")}), a.add(OpGroup{Generation: 2, Commit: c("again")}),
		a.add(OpGroup{Generation: 1, Commit: c("one")}))
	if g, h := s.GroupCommit(); g != 2 || h != c("two") {
		t.Fatalf("generation %d %s", g, h)
	}
	if s.Vector().GroupGen != 2 {
		t.Fatal("vector")
	}
}

func TestUnknownCriticalOpLeavesOnlyRemovals(t *testing.T) {
	for _, kind := range []uint64{7, 127} {
		w := newWorld(t, 1, "a", "b")
		a, b := w.writer("a"), w.writer("b")
		raw, err := wire.Marshal([]any{kind, "what", []any{uint64(1)}})
		if err != nil {
			t.Fatal(err)
		}
		s := must(t, w.start, a.add(a.enroll("one")), a.add(OpUnknown{Kind: kind, Raw: raw}, a.enroll("two")))
		wantLive(t, s, "two", true) // the known ops of that entry count
		g := a.grant(AnyNode(), AnyNode(), "x")
		s = must(t, s, a.add(a.enroll("three"), g, OpGroup{Generation: 1}, revokeNode("one")))
		wantLive(t, s, "one", false)
		wantLive(t, s, "three", false)
		if _, ok := s.Grant(GrantRef{a.key.Public(), g.GID}); ok {
			t.Fatal("a grant counts")
		}
		if gen, _ := s.GroupCommit(); gen != 0 {
			t.Fatal("a group secret counts")
		}
		st, _ := s.IssuerStatus(a.key.Public())
		if !st.Upgrade {
			t.Fatal("nothing says that an upgrade is needed")
		}
		wantLive(t, must(t, s, b.add(b.enroll("four"))), "four", true) // other issuers go on
	}
}

func TestUnknownIgnorableOpIsIgnored(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	raw, err := wire.Marshal([]any{uint64(128), map[int]string{1: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	s := must(t, w.start, a.add(OpUnknown{Kind: 128, Raw: raw}), a.add(a.enroll("one")))
	wantLive(t, s, "one", true)
	if _, err := ParseEntry(signEntry(a.draft(OpUnknown{Kind: 256, Raw: []byte{0x81, 0x19, 1, 0}}), w.mesh, a.key), w.mesh); err == nil {
		t.Fatal("kind 256 accepted")
	}
}

func TestRevokeWins(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	s := must(t, w.start, b.add(revokeNode("one")), a.add(a.enroll("one")), a.add(a.enroll("one")))
	wantLive(t, s, "one", false)
	if r, ok := s.Revoked(nodeID("one")); !ok || r.Issuer != b.key.Public() || r.Reason != 1 || r.Seq != 1 {
		t.Fatalf("%+v", r)
	}
	x := a.enroll("two")
	s = must(t, s, b.add(OpRevokeCert{Issuer: a.key.Public(), Serial: x.Serial}), a.add(x))
	wantLive(t, s, "two", false)
	wantLive(t, must(t, s, a.add(a.enroll("two"))), "two", true) // a new certificate is another thing
}

func TestRotationPassesNameAndGrantsOn(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	old, new := keyOf("node one"), nodeID("one-new")
	s := must(t, w.start,
		a.add(a.enroll("one"), a.enroll("srv"), a.grant(NodeTarget(nodeID("one")), NodeTarget(nodeID("srv")), "db")),
		a.add(a.enrollAs("one-new", "one"), OpRevokeNode{
			Node: nodeID("one"), Successor: &Successor{Node: new, Sig: RotateSignature(w.mesh, old, new)},
		}))
	if d := s.Decide(new, nodeID("srv"), "db", epoch0+day); !d.Allowed {
		t.Fatalf("the grant did not pass on: %+v", d)
	}
	if d := s.Decide(nodeID("one"), nodeID("srv"), "db", epoch0+day); d.Allowed || d.Reason != ReasonRevoked {
		t.Fatalf("the old key: %+v", d)
	}
	if !s.Succeeds(nodeID("one"), new) || s.Succeeds(new, nodeID("one")) {
		t.Fatal("succession")
	}
	if ids := s.ByName("one", epoch0+day); len(ids) != 1 || ids[0] != new {
		t.Fatalf("name: %v", ids)
	}
}

// A key that one issuer rotates and another one revokes at the same time is told from one that was only rotated, in any order of arrival.
func TestRevokedBesideItsRotation(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	rotate := func(name string) *Entry {
		return a.add(a.enrollAs(name+"-new", name), OpRevokeNode{
			Node: nodeID(name), Reason: RevokeRotated, Successor: &Successor{Node: nodeID(name + "-new"), Sig: RotateSignature(w.mesh, keyOf("node %s", name), nodeID(name+"-new"))},
		})
	}
	begin := a.add(a.enroll("one"), a.enroll("two"))
	// What an issuer calls a rotation is none: the other one may have rotated the key.
	one, two, revoke := rotate("one"), rotate("two"), b.add(OpRevokeNode{Node: nodeID("one"), Reason: RevokeRotated})
	for _, s := range []*State{must(t, w.start, begin, one, two, revoke), must(t, w.start, revoke, begin, one, two)} {
		if r, ok := s.RevokedApart(nodeID("one")); !ok || r.Issuer != b.key.Public() {
			t.Fatalf("%+v %v", r, ok)
		}
		if r, ok := s.RevokedApart(nodeID("two")); ok {
			t.Fatalf("only rotated: %+v", r)
		}
		if got := s.SignedSuccessors(nodeID("one")); len(got) != 1 || got[0] != nodeID("one-new") || s.SignedSuccessors(nodeID("nobody")) != nil {
			t.Fatal(got)
		}
		if _, ok := s.RevokedApart(nodeID("nobody")); ok {
			t.Fatal("unknown")
		}
	}
}

// TestRotationForged tries every way to take a node's grants without its key's consent.
func TestRotationForged(t *testing.T) {
	thief := nodeID("thief")
	for name, try := range map[string]func(*world, *writer) []Op{
		"no signature": func(_ *world, a *writer) []Op {
			return []Op{a.enrollAs("thief", "one"), OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: thief}}}
		},
		"signed by the new key": func(w *world, a *writer) []Op {
			sig := keyOf("node thief").Sign(keys.LabelRotate, w.mesh, append(id32(nodeID("one")), thief[:]...))
			return []Op{a.enrollAs("thief", "one"), OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: thief, Sig: sig}}}
		},
		"signed by the issuer": func(w *world, a *writer) []Op {
			sig := a.key.Sign(keys.LabelRotate, w.mesh, append(id32(nodeID("one")), thief[:]...))
			return []Op{a.enrollAs("thief", "one"), OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: thief, Sig: sig}}}
		},
		"for another key": func(w *world, a *writer) []Op {
			sig := RotateSignature(w.mesh, keyOf("node one"), nodeID("one-new"))
			return []Op{a.enrollAs("thief", "one"), OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: thief, Sig: sig}}}
		},
		"of another mesh": func(_ *world, a *writer) []Op {
			sig := RotateSignature(keys.MeshID{1}, keyOf("node one"), thief)
			return []Op{a.enrollAs("thief", "one"), OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: thief, Sig: sig}}}
		},
		"under another label": func(w *world, a *writer) []Op {
			sig := keyOf("node one").Sign(keys.LabelCSR, w.mesh, append(id32(nodeID("one")), thief[:]...))
			return []Op{a.enrollAs("thief", "one"), OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: thief, Sig: sig}}}
		},
		"not enrolled in the entry": func(w *world, _ *writer) []Op {
			return []Op{OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: thief, Sig: RotateSignature(w.mesh, keyOf("node one"), thief)}}}
		},
		"enrolled beyond the limits": func(w *world, a *writer) []Op {
			return []Op{
				EnrollOp(a.certFor("thief", "one", epoch0, epoch0+91*day)),
				OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: thief, Sig: RotateSignature(w.mesh, keyOf("node one"), thief)}},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, "a")
			a := w.writer("a")
			s := must(t, w.start,
				a.add(a.enroll("one"), a.enroll("srv"), a.grant(NodeTarget(nodeID("one")), AnyNode(), "db")),
				a.add(try(w, a)...), a.add(a.enrollAs("thief", "two")))
			if d := s.Decide(thief, nodeID("srv"), "db", epoch0+day); d.Allowed {
				t.Fatal("the grant passed on")
			}
			if s.Succeeds(nodeID("one"), thief) {
				t.Fatal("linked")
			}
			wantLive(t, s, "one", false) // a removal is a removal
		})
	}
}

func TestRotationNeedsTheRightToRevoke(t *testing.T) {
	w := worldWith(t, 1, issuerOf("a", allCaps), issuerOf("b", CapEnroll))
	a, b := w.writer("a"), w.writer("b")
	thief := nodeID("thief")
	s := must(t, w.start,
		a.add(a.enroll("one"), a.enroll("srv"), a.grant(NodeTarget(nodeID("one")), AnyNode(), "db")),
		b.add(b.enrollAs("thief", "thief"), OpRevokeNode{
			Node: nodeID("one"), Successor: &Successor{Node: thief, Sig: RotateSignature(w.mesh, keyOf("node one"), thief)},
		}))
	if s.Succeeds(nodeID("one"), thief) {
		t.Fatal("linked")
	}
	wantLive(t, s, "one", true)
}

func TestRotationToTwoKeysIsNone(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	to := func(n string) OpRevokeNode {
		return OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: nodeID(n), Sig: RotateSignature(w.mesh, keyOf("node one"), nodeID(n))}}
	}
	s := must(t, w.start, a.add(a.enroll("one")), a.add(a.enrollAs("x", "one"), to("x")), b.add(b.enrollAs("y", "one"), to("y")))
	if s.Succeeds(nodeID("one"), nodeID("x")) || s.Succeeds(nodeID("one"), nodeID("y")) {
		t.Fatal("one of two thieves was believed")
	}
}

func id32(n keys.NodeID) []byte { return n[:] }

// TestLargestObjects builds entry, evidence and head at their maximum.
func TestLargestObjects(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	var ops []Op
	var last *Entry
	for len(ops) < MaxOps {
		o := a.grant(TagTarget(strings.Repeat("t", identity.MaxTag)), TagTarget(strings.Repeat("u", identity.MaxTag)), strings.Repeat("s", identity.MaxName))
		o.Note = strings.Repeat("n", MaxNote)
		raw := signEntry(a.draft(append(ops, o)...), w.mesh, a.key)
		if len(raw) > MaxEntry {
			break
		}
		ops = append(ops, o)
		last = a.sign(a.draft(ops...))
	}
	other := a.draft(ops...)
	other.Time++
	ev := frameOf(KindEvidence, evidenceWire{Kind: KindEvidence, A: last.raw, B: signEntry(other, w.mesh, a.key)})
	t.Logf("entry %d bytes with %d ops, evidence %d", len(last.raw), len(ops), len(ev.Body))
	if 2*MaxEntry+16 > 65_518 || len(ev.Body) > MaxFrame {
		t.Fatal("evidence does not fit a control record")
	}
	h := Head{Mesh: w.mesh, Issuer: a.key.Public(), Seq: maxSeq, RootVersion: maxSeq, Time: maxTime}
	raw := signHead(&h, a.key)
	if _, err := ParseHead(raw, w.mesh); err != nil {
		t.Fatal(err)
	}
	t.Logf("head %d bytes", len(raw))
}

// TestEnrolmentsOf256Nodes is the size the design was checked with.
func TestEnrolmentsOf256Nodes(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	var ops []Op
	for i := range MaxOps {
		ops = append(ops, a.enroll(string(rune('a'+i%26))+strings.Repeat("x", i/26)))
	}
	e := a.add(ops...)
	t.Logf("%d enrolments: %d bytes", len(ops), len(e.raw))
	s := must(t, w.start, e)
	n := 0
	for range s.Members() {
		n++
	}
	if n != MaxOps {
		t.Fatalf("%d members", n)
	}
}
