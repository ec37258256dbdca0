package trust

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
	"pgregory.net/rapid"
)

func propose(t testing.TB, s *State, change func(*Root) error) *Proposal {
	t.Helper()
	p, err := s.Propose(epoch0+1, change)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func addIssuer(name string) func(*Root) error {
	return func(r *Root) error { return r.AddIssuer(issuerOf(name, allCaps)) }
}

func encoded(t testing.TB, p *Proposal) []byte {
	t.Helper()
	b, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func reopened(t testing.TB, p *Proposal) *Proposal {
	t.Helper()
	q, err := ParseProposal(encoded(t, p))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// A root travels from holder to holder as a file, and is a root as soon as enough have signed.
func TestProposalCollectsSignatures(t *testing.T) {
	w := newWorld(t, 3, "nas")
	p := propose(t, w.start, addIssuer("pi"))
	for i := range 2 {
		if _, err := p.Root(); !errors.Is(err, ErrTooFew) {
			t.Fatalf("%d of 2 signatures: %v", i, err)
		}
		p = reopened(t, p)
		if err := p.Sign(w.roots[i]); err != nil {
			t.Fatal(err)
		}
	}
	p = reopened(t, p)
	g := p.Progress()
	if !g.Enough() || g.Old != 2 || g.New != 2 || len(g.Signed) != 2 || len(g.Missing) != 1 || g.Missing[0].Pub != w.roots[2].Public() {
		t.Fatalf("%+v", g)
	}
	raw, err := p.Root()
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.start.ApplyRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Root().FindIssuer("pi"); err != nil {
		t.Fatal(err)
	}
}

// One key signs once, also if its signature comes by another copy of the file.
func TestProposalSameKeyTwice(t *testing.T) {
	w := newWorld(t, 3, "nas")
	p := propose(t, w.start, addIssuer("pi"))
	if err := p.Sign(w.roots[0]); err != nil {
		t.Fatal(err)
	}
	copy := reopened(t, p)
	if err := p.Sign(w.roots[0]); !errors.Is(err, ErrSigned) {
		t.Fatal(err)
	}
	if err := p.Merge(copy); err != nil {
		t.Fatal(err)
	}
	if g := p.Progress(); g.Old != 1 || g.Enough() {
		t.Fatalf("%+v", g)
	}
	// By hand: the same line twice.
	text := string(encoded(t, p))
	sign := text[strings.LastIndex(text, "sign "):]
	if _, err := ParseProposal([]byte(text + sign)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

// Copies signed apart come together.
func TestProposalMerge(t *testing.T) {
	w := newWorld(t, 3, "nas")
	p := propose(t, w.start, addIssuer("pi"))
	a, b := reopened(t, p), reopened(t, p)
	if err := errors.Join(a.Sign(w.roots[2]), b.Sign(w.roots[1]), a.Merge(b)); err != nil {
		t.Fatal(err)
	}
	if _, err := reopened(t, a).Root(); err != nil {
		t.Fatal(err)
	}
	other := propose(t, w.start, addIssuer("laptop"))
	if err := a.Merge(other); !errors.Is(err, ErrOtherProposal) {
		t.Fatal(err)
	}
}

func TestProposalByAStranger(t *testing.T) {
	w := newWorld(t, 1, "nas")
	p := propose(t, w.start, addIssuer("pi"))
	stranger := keyOf("stranger")
	if err := p.Sign(stranger); !errors.Is(err, ErrNotRootKey) {
		t.Fatal(err)
	}
	// By hand.
	p.next.env = identity.Seal(keys.LabelRoot, w.mesh, p.next.env.Payload, stranger)
	if _, err := ParseProposal(encoded(t, p)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	// A signature of a holder over something else.
	p = propose(t, w.start, addIssuer("pi"))
	p.next.env = identity.Seal(keys.LabelRoot, w.mesh, []byte("something else"), w.roots[0])
	p.next.env.Payload = propose(t, w.start, addIssuer("pi")).next.env.Payload
	if _, err := ParseProposal(encoded(t, p)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

// A key that joins has to sign where the new threshold needs it; one that leaves may sign.
func TestProposalOldAndNewKeys(t *testing.T) {
	w := newWorld(t, 1, "nas")
	second := keyOf("second")
	p := propose(t, w.start, func(r *Root) error { return r.AddKey(RootKey{Alg: 1, Pub: second.Public(), Name: "second"}, 0) })
	if p.Next().Threshold != 2 {
		t.Fatalf("threshold %d of 2", p.Next().Threshold)
	}
	if err := p.Sign(w.roots[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Root(); !errors.Is(err, ErrTooFew) {
		t.Fatal(err)
	}
	if err := p.Sign(second); err != nil {
		t.Fatal(err)
	}
	raw, err := p.Root()
	if err != nil {
		t.Fatal(err)
	}
	s, err := w.start.ApplyRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	p = propose(t, s, func(r *Root) error { return r.RemoveKey("root-0", 0) })
	if p.Next().Threshold != 1 {
		t.Fatalf("threshold %d of 1", p.Next().Threshold)
	}
	if err := p.Sign(second); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Root(); !errors.Is(err, ErrTooFew) {
		t.Fatal("the old root's threshold is not asked for:", err)
	}
	if err := p.Sign(w.roots[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Root(); err != nil {
		t.Fatal(err)
	}
}

// A file whose chain is not a chain, or whose root does not follow it, is refused before anybody sees what it says.
func TestProposalTampered(t *testing.T) {
	w := newWorld(t, 1, "nas")
	p := propose(t, w.start, addIssuer("pi"))
	if err := p.Sign(w.roots[0]); err != nil {
		t.Fatal(err)
	}
	whole := encoded(t, p)
	step := testrun.Stride(7)
	for i := 0; i < len(whole); i += step {
		for _, flip := range []byte{1, 0x20} {
			b := bytes.Clone(whole)
			b[i] ^= flip
			if _, err := ParseProposal(b); !errors.Is(err, ErrInvalid) {
				t.Fatalf("byte %d changed: %v", i, err)
			}
		}
	}
	for i := range whole {
		// Whole lines taken off leave a proposal with fewer signatures: the only thing a carrier can do.
		if q, err := ParseProposal(whole[:i]); err == nil && q.Progress().Old != 0 {
			t.Fatalf("cut at %d: still signed", i)
		}
	}
	if _, err := ParseProposal(append(bytes.Clone(whole), '\n')); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	// Other ways to write the same bytes, of a proposal with padded lines.
	text := ""
	for _, name := range []string{"p", "pi", "pi4"} {
		if text = string(encoded(t, propose(t, w.start, addIssuer(name)))); strings.Contains(text, "=") {
			break
		}
	}
	for name, other := range map[string]string{
		"carriage return": strings.Replace(text, "\nnext ", "\r\nnext ", 1),
		"no last newline": strings.TrimSuffix(text, "\n"),
		"two spaces":      strings.Replace(text, "next ", "next  ", 1),
		"no padding":      strings.Replace(text, "=", "", 1),
		"spare bits":      spareBits(text),
	} {
		if other == text {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if _, err := ParseProposal([]byte(other)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseProposal(make([]byte, MaxProposal+1)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	if _, err := ParseChain(whole); !errors.Is(err, ErrInvalid) {
		t.Fatal("a proposal is no chain:", err)
	}
}

// spareBits sets the bits of the last character of a padded line that mean nothing.
func spareBits(text string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	at := strings.Index(text, "=")
	return text[:at-1] + string(alphabet[strings.IndexByte(alphabet, text[at-1])+1]) + text[at:]
}

// Lines exchanged between two meshes, or between two roots of one, make nothing.
func TestProposalForeignParts(t *testing.T) {
	a, b := newWorld(t, 1, "nas"), newWorld(t, 1, "other")
	pa, pb := propose(t, a.start, addIssuer("pi")), propose(t, b.start, addIssuer("pi"))
	mix := func(roots []*Root, next *Proposal) []byte {
		return encoded(t, &Proposal{roots: roots, next: next.next})
	}
	if _, err := ParseProposal(mix(b.start.roots, pa)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	if _, err := ParseProposal(mix([]*Root{a.start.Root(), b.start.Root()}, pb)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	// A version skipped.
	if err := pa.Sign(a.roots[0]); err != nil {
		t.Fatal(err)
	}
	raw, err := pa.Root()
	if err != nil {
		t.Fatal(err)
	}
	two, err := a.start.ApplyRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	third := propose(t, two, addIssuer("laptop"))
	if _, err := ParseProposal(mix(a.start.roots, third)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	if _, err := ParseProposal(mix(two.roots, pa)); !errors.Is(err, ErrInvalid) {
		t.Fatal("follows a root that is not the last of the chain:", err)
	}
	if got := reopened(t, third).Base().Version; got != 2 {
		t.Fatal(got)
	}
}

// A chain that a machine off the network is given says the same as the state it came from.
func TestChainFile(t *testing.T) {
	w := newWorld(t, 1, "nas")
	p := propose(t, w.start, addIssuer("pi"))
	if err := p.Sign(w.roots[0]); err != nil {
		t.Fatal(err)
	}
	raw, _ := p.Root()
	s, err := w.start.ApplyRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	text := s.EncodeChain()
	if !IsChain(text) || IsProposal(text) {
		t.Fatal("not told apart")
	}
	c, err := ParseChain(text)
	if err != nil {
		t.Fatal(err)
	}
	if c.Mesh() != w.mesh || c.Root().Hash() != s.Root().Hash() || !bytes.Equal(c.EncodeChain(), text) {
		t.Fatal("another chain")
	}
	if _, err := ParseChain(append(text, "next AAAA\n"...)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
	// A second successor in the file is a fork, not the newer root.
	q := propose(t, w.start, addIssuer("laptop"))
	if err := q.Sign(w.roots[0]); err != nil {
		t.Fatal(err)
	}
	other, _ := q.Root()
	if _, err := ParseChain(append(text, "root "+base64.StdEncoding.EncodeToString(other)+"\n"...)); !errors.Is(err, ErrInvalid) {
		t.Fatal(err)
	}
}

// While two roots contradict each other nothing is proposed on top of either.
func TestProposeWhileForked(t *testing.T) {
	w := newWorld(t, 1, "nas")
	s := w.start
	for _, name := range []string{"pi", "laptop"} {
		p := propose(t, w.start, addIssuer(name))
		if err := p.Sign(w.roots[0]); err != nil {
			t.Fatal(err)
		}
		raw, _ := p.Root()
		var err error
		if s, err = s.ApplyRoot(raw); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Propose(epoch0, addIssuer("x")); !errors.Is(err, ErrRootFork) {
		t.Fatal(err)
	}
}

func TestAmendments(t *testing.T) {
	w := newWorld(t, 3, "nas", "pi")
	nas, _ := w.start.Root().FindIssuer("nas")
	for name, change := range map[string]func(*Root) error{
		"key twice":          func(r *Root) error { return r.AddKey(RootKey{Pub: w.roots[0].Public(), Name: "again"}, 0) },
		"key name twice":     func(r *Root) error { return r.AddKey(RootKey{Pub: keyOf("x").Public(), Name: "root-1"}, 0) },
		"no such key":        func(r *Root) error { return r.RemoveKey("root-9", 0) },
		"threshold too low":  func(r *Root) error { r.Threshold = 1; return nil },
		"threshold too high": func(r *Root) error { r.Threshold = 4; return nil },
		"issuer twice":       addIssuer("nas"),
		"rights lost":        func(r *Root) error { r.Issuers[0].Caps = 0; return nil },
		"issuer gone":        func(r *Root) error { r.Issuers = r.Issuers[:1]; return nil },
		"group issuer cut": func(r *Root) error {
			return r.CutIssuer(nas.ID, Cutoff{Hash: keys.ChainStart(w.mesh, nas.ID)}, true, nas.ID)
		},
		"cut nobody": func(r *Root) error { return r.CutIssuer(keys.PublicKey{1}, Cutoff{}, true, nas.ID) },
	} {
		if _, err := w.start.Propose(epoch0, change); err == nil {
			t.Errorf("%s: proposed", name)
		}
	}
	p := propose(t, w.start, func(r *Root) error { return r.RemoveKey(keyText(w.roots[1].Public()), 2) })
	if len(p.Next().Keys) != 2 || p.Next().Threshold != 2 {
		t.Fatalf("%+v", p.Next())
	}
	one := newWorld(t, 1, "nas")
	if _, err := one.start.Propose(epoch0, func(r *Root) error { return r.RemoveKey("root-0", 0) }); err == nil {
		t.Error("the last root key removed")
	}
	// The guard counts rights, not issuers.
	cut := propose(t, w.start, func(r *Root) error {
		return r.CutIssuer(nas.ID, Cutoff{Hash: keys.ChainStart(w.mesh, nas.ID)}, true, issuerOf("pi", 0).ID)
	})
	if lost := cut.Next().Stranded(cut.Base(), epoch0); lost != 0 {
		t.Errorf("stranded %s", lost)
	}
	both := propose(t, w.start, func(r *Root) error {
		for _, is := range r.Issuers {
			if err := r.CutIssuer(is.ID, Cutoff{Hash: keys.ChainStart(w.mesh, is.ID)}, true, keys.PublicKey{}); err != nil {
				return err
			}
		}
		return nil
	})
	if lost := both.Next().Stranded(both.Base(), epoch0); lost != allCaps&^CapHead {
		t.Errorf("stranded %s", lost)
	}
	if lost := cut.Next().Stranded(cut.Base(), epoch0+366*day); lost != 0 {
		t.Errorf("what had ended before is not lost by the change: %s", lost)
	}
}

// Every field that differs is shown: a change that nobody sees is a change nobody has agreed to.
func TestChangesShowEveryField(t *testing.T) {
	w := newWorld(t, 3, "nas", "pi")
	is := issuerOf("nas", allCaps)
	at := func(r *Root) *Issuer { i, _ := r.FindIssuer("nas"); return i }
	for name, change := range map[string]func(*Root) error{
		"Name":           func(r *Root) error { r.Name = "away"; return nil },
		"key added":      func(r *Root) error { return r.AddKey(RootKey{Pub: keyOf("x").Public(), Name: "x"}, 0) },
		"key removed":    func(r *Root) error { return r.RemoveKey("root-0", 2) },
		"key renamed":    func(r *Root) error { r.Keys[0].Name = "y"; return nil },
		"threshold":      func(r *Root) error { r.Threshold = 3; return nil },
		"issuer added":   addIssuer("x"),
		"issuer renamed": func(r *Root) error { at(r).Name = "y"; return nil },
		"tags":           func(r *Root) error { at(r).Tags = []string{"*", "a"}; return nil },
		"ttl":            func(r *Root) error { at(r).MaxTTL++; return nil },
		"not_after":      func(r *Root) error { at(r).NotAfter++; return nil },
		"cutoff": func(r *Root) error {
			return r.CutIssuer(is.ID, Cutoff{Hash: keys.ChainStart(w.mesh, is.ID)}, false, issuerOf("pi", 0).ID)
		},
		"caps": func(r *Root) error {
			return r.CutIssuer(is.ID, Cutoff{Hash: keys.ChainStart(w.mesh, is.ID)}, true, keys.PublicKey{})
		},
		"max_stale":     func(r *Root) error { r.Params.MaxStale = 60; return nil },
		"stale_action":  func(r *Root) error { r.Params.StaleAction = 1; return nil },
		"group_max_age": func(r *Root) error { r.Params.GroupMaxAge = 60; return nil },
		"group issuer":  func(r *Root) error { r.GroupIssuer = issuerOf("pi", 0).ID; return nil },
	} {
		p := propose(t, w.start, change)
		if len(p.Changes()) == 0 {
			t.Errorf("%s: not shown", name)
		}
		for _, c := range p.Changes() {
			if c.Before == c.After || c.What == "" {
				t.Errorf("%s: %+v", name, c)
			}
		}
	}
	if got := propose(t, w.start, func(*Root) error { return nil }).Changes(); len(got) != 0 {
		t.Errorf("no change: %+v", got)
	}
}

// Whatever the holders and thresholds are, and in whatever order and copies they sign: the file is a root if and only if every node
// takes it.
func TestProposalIsWhatNodesTake(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 4).Draw(rt, "keys")
		w := newWorld(t, n, "nas")
		joined := keyOf("joined")
		signers := append([]*keys.SigningKey{joined}, w.roots...)
		p := propose(t, w.start, func(r *Root) error {
			switch rapid.IntRange(0, 2).Draw(rt, "change") {
			case 0:
				return r.AddKey(RootKey{Pub: joined.Public(), Name: "joined"}, 0)
			case 1:
				if n > 1 {
					return r.RemoveKey("root-0", 0)
				}
			}
			return r.AddIssuer(issuerOf("pi", allCaps))
		})
		copies := []*Proposal{reopened(t, p), reopened(t, p)}
		for range rapid.IntRange(0, 6).Draw(rt, "signatures") {
			c := copies[rapid.IntRange(0, 1).Draw(rt, "copy")]
			err := c.Sign(signers[rapid.IntRange(0, n).Draw(rt, "signer")])
			if err != nil && !errors.Is(err, ErrSigned) && !errors.Is(err, ErrNotRootKey) {
				rt.Fatal(err)
			}
		}
		if err := copies[0].Merge(copies[1]); err != nil {
			rt.Fatal(err)
		}
		q := reopened(t, copies[0])
		_, err := w.start.ApplyRoot(q.next.env.Encode())
		if raw, mine := q.Root(); (mine == nil) != (err == nil) || (mine == nil) != q.Progress().Enough() || (mine == nil) != (raw != nil) {
			rt.Fatalf("proposal says %v, a node says %v, progress %+v", mine, err, q.Progress())
		}
	})
}

func FuzzProposal(f *testing.F) {
	w := newWorld(f, 2, "nas")
	p := propose(f, w.start, addIssuer("pi"))
	f.Add(encoded(f, p))
	if err := p.Sign(w.roots[0]); err != nil {
		f.Fatal(err)
	}
	f.Add(encoded(f, p))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := ParseProposal(b)
		if err != nil {
			if q != nil {
				t.Fatal("a result beside an error")
			}
			return
		}
		if again := encoded(t, q); !bytes.Equal(again, b) {
			t.Fatal("two ways to write one proposal")
		}
	})
}

// What a cutoff takes back is what is gone after it.
func TestVoidedIsWhatACutoffTakes(t *testing.T) {
	w := newWorld(t, 1, "nas", "pi")
	x, y := w.writer("nas"), w.writer("pi")
	s := w.start
	apply := func(e *Entry) {
		t.Helper()
		n, _, err := s.ApplyEntry(e.Raw())
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	grant := func(x *writer, who string) OpGrant {
		x.gid++
		return OpGrant{GID: x.gid, Who: NodeTarget(nodeID(who)), What: What{Target: AnyNode(), Service: "web"}}
	}
	apply(x.add(x.enroll("gpu1"), x.enroll("laptop"), x.enroll("phone"), grant(x, "gpu1"), grant(x, "laptop")))
	cut, _ := s.HashAt(x.key.Public(), 1)
	// After the cutoff: two revocations, one of them repeated by another; an ungrant; a member; a grant that is taken back too.
	apply(x.add(OpRevokeNode{Node: nodeID("laptop"), Reason: 3}, OpRevokeNode{Node: nodeID("phone")}, OpUngrant{Issuer: x.key.Public(), GID: 1}))
	apply(x.add(x.enroll("thief"), grant(x, "thief"), grant(x, "gpu1"), OpUngrant{Issuer: x.key.Public(), GID: 4}))
	apply(y.add(OpRevokeNode{Node: nodeID("phone")}, y.enroll("tablet")))
	v := s.Voided(x.key.Public(), 1)
	want := fmt.Sprint([]Op{OpRevokeNode{Node: nodeID("laptop"), Reason: 3}, OpUngrant{Issuer: x.key.Public(), GID: 1}})
	if fmt.Sprint(v.Removals) != want || len(v.Members) != 1 || v.Members[0].Name != "thief" || len(v.Grants) != 1 || v.Grants[0].Ref.GID != 3 {
		t.Fatalf("%+v", v)
	}
	if v := s.Voided(x.key.Public(), 3); len(v.Removals)+len(v.Members)+len(v.Grants) != 0 {
		t.Fatalf("a cutoff at the end: %+v", v)
	}
	// Repeated first, nothing is undone by the cutoff.
	for _, ops := range RepeatOps(v.Removals) {
		apply(y.add(ops...))
	}
	if v := s.Voided(x.key.Public(), 1); len(v.Removals) != 0 {
		t.Fatalf("%+v", v.Removals)
	}
	p := propose(t, s, func(r *Root) error {
		return r.CutIssuer(x.key.Public(), Cutoff{Seq: 1, Hash: cut}, true, y.key.Public())
	})
	if err := p.Sign(w.roots[0]); err != nil {
		t.Fatal(err)
	}
	raw, err := p.Root()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = s.ApplyRoot(raw); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"laptop", "phone"} {
		if _, revoked := s.Revoked(nodeID(name)); !revoked {
			t.Errorf("%s is back", name)
		}
	}
	if _, ok := s.Member(nodeID("thief")); ok {
		t.Error("the thief's member is still in")
	}
	if _, ok := s.LiveMember(nodeID("gpu1"), epoch0+1); !ok {
		t.Error("a member from before the cutoff is out")
	}
	if g, ok := s.Grant(GrantRef{x.key.Public(), 1}); !ok || g.Removed == nil {
		t.Error("the ungrant is undone")
	}
}

// A removal on a branch that is not held counts until the cutoff, and is part of what the cutoff takes back.
func TestVoidedStrays(t *testing.T) {
	w := newWorld(t, 1, "nas", "pi")
	x := w.writer("nas")
	s := w.start
	first := x.add(x.enroll("gpu1"), x.enroll("laptop"))
	y := x.branch()
	mine, theirs := x.add(x.enroll("phone")), y.add(OpRevokeNode{Node: nodeID("gpu1")})
	for _, e := range []*Entry{first, mine} {
		n, _, err := s.ApplyEntry(e.Raw())
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
	s, err := s.AddEvidence(mine.Raw(), theirs.Raw())
	if err != nil {
		t.Fatal(err)
	}
	if _, revoked := s.Revoked(nodeID("gpu1")); !revoked {
		t.Fatal("the stray does not count")
	}
	v := s.Voided(x.key.Public(), 2)
	if fmt.Sprint(v.Removals) != fmt.Sprint([]Op{OpRevokeNode{Node: nodeID("gpu1")}}) || len(v.Members) != 0 {
		t.Fatalf("%+v", v)
	}
	if v := s.Voided(x.key.Public(), 1); len(v.Removals) != 1 || len(v.Members) != 1 || v.Members[0].Name != "phone" {
		t.Fatalf("%+v", v)
	}
	if v := s.Voided(keys.PublicKey{1}, 0); v.Removals != nil {
		t.Fatal("of nobody")
	}
}
