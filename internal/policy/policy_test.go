package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

const now = 1_800_000_000

// tester is a test, or a rapid one.
type tester interface {
	Helper()
	Fatal(args ...any)
}

// world is a mesh of four machines: a has tag x, b has x and y, c has none; d's certificate has ended. Its issuer grants.
type world struct {
	st     *trust.State
	issuer keys.PublicKey
	ids    map[string]keys.NodeID
}

func newWorld(t tester) *world {
	t.Helper()
	root, issuer := keys.NewSigningKey(), keys.NewSigningKey()
	raw, _, err := trust.NewGenesis(trust.GenesisConfig{
		Name: "home", Issued: 1, Keys: []trust.RootKey{{Pub: root.Public(), Name: "root"}},
		Issuers: []trust.Issuer{{
			ID: issuer.Public(), Name: "a", Caps: trust.CapEnroll | trust.CapRevoke | trust.CapGrant, Tags: []string{"*"}, MaxTTL: 1 << 30, NotAfter: now << 1,
		}},
		GroupIssuer: issuer.Public(),
	}, root)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{issuer: issuer.Public(), ids: map[string]keys.NodeID{}}
	if w.st, err = trust.Genesis(raw); err != nil {
		t.Fatal(err)
	}
	for i, m := range []struct {
		name string
		tags []string
		ends int64
	}{{"a", []string{"x"}, now + 1000}, {"b", []string{"x", "y"}, now + 1000}, {"c", nil, now + 1000}, {"d", []string{"x"}, now}} {
		w.ids[m.name] = keys.NewSigningKey().NodeID()
		w.suppose(t, trust.OpEnroll{Node: w.ids[m.name], Serial: uint64(i + 1), NotBefore: now - 1000, NotAfter: m.ends, Name: m.name, Tags: m.tags})
	}
	return w
}

func (w *world) suppose(t tester, ops ...trust.Op) {
	t.Helper()
	st, err := w.st.Suppose(w.issuer, now, ops...)
	if err != nil {
		t.Fatal(err)
	}
	w.st = st
}

func (w *world) target(word string) (trust.Target, error) {
	if tag, ok := strings.CutPrefix(word, "tag:"); ok {
		return trust.TagTarget(tag), nil
	}
	if word == "any" {
		return trust.AnyNode(), nil
	}
	id, ok := w.ids[word]
	if !ok {
		return trust.Target{}, errors.New("nobody is named " + word)
	}
	return trust.NodeTarget(id), nil
}

func (w *world) names() Names {
	return Names{Who: w.target, What: func(word string) (trust.What, error) {
		on, service, _ := strings.Cut(word, "/")
		t, err := w.target(on)
		return trust.What{Target: t, Service: service}, err
	}}
}

func parse(t tester, text string) *config.Policy {
	t.Helper()
	ok := func(string) error { return nil }
	p, err := config.ParsePolicy("p.toml", []byte(text), config.PolicyForms{Who: ok, What: func(string) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) plan(t tester, text string) *Plan {
	t.Helper()
	f := parse(t, text)
	rules, _, err := Compile(f, w.names(), now)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Make(w.st, w.issuer, f, rules, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// text writes a policy of grants "who what".
func text(name string, grants ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "name = %q\n", name)
	for _, g := range grants {
		who, what, _ := strings.Cut(g, " ")
		fmt.Fprintf(&b, "[[grant]]\nwho = %q\nwhat = %q\n", who, what)
	}
	return b.String()
}

// all lists every access there is, by asking the decision about every pair and every service.
// "other" is a service no grant names, and so are those of s and u that none does.
func (w *world) all(st, named *trust.State) (out []string) {
	services := []string{"other"}
	for g := range named.Grants() {
		if s := g.What.Service; s != "*" && !slices.Contains(services, s) {
			services = append(services, s)
		}
	}
	for _, from := range []string{"a", "b", "c", "d"} {
		for _, at := range []string{"a", "b", "c", "d"} {
			for _, s := range services {
				if from != at && st.Decide(w.ids[from], w.ids[at], s, now).Allowed {
					out = append(out, from+">"+at+"/"+s)
				}
			}
		}
	}
	return out
}

func (w *world) words(list []Access) (out []string) {
	name := map[keys.NodeID]string{}
	for n, id := range w.ids {
		name[id] = n
	}
	for _, a := range list {
		s := a.Service
		if s == "*" {
			s = "other"
		}
		out = append(out, name[a.From]+">"+name[a.At]+"/"+s)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func minus(a, b []string) (out []string) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	slices.Sort(out)
	return out
}

// TestPolicies applies policies by chance, one after the other: a second apply changes nothing, what is not of the policy stays, and what is
// told of gains, losses and ways in is what asking about everything shows.
func TestPolicies(t *testing.T) {
	t.Parallel()
	start := newWorld(t)
	who := []string{"a", "b", "c", "d", "tag:x", "tag:y", "tag:z", "any"}
	what := []string{"a/s", "b/s", "c/u", "d/s", "tag:x/s", "tag:y/u", "any/s", "any/*", "b/*", "a/u"}
	rapid.Check(t, func(rt *rapid.T) {
		w := *start
		pair := rapid.Custom(func(rt *rapid.T) string {
			return rapid.SampledFrom(who).Draw(rt, "who") + " " + rapid.SampledFrom(what).Draw(rt, "what")
		})
		gid := uint64(0)
		for _, g := range rapid.SliceOfNDistinct(pair, 0, 2, rapid.ID[string]).Draw(rt, "by hand") {
			gid++
			a, b, _ := strings.Cut(g, " ")
			t, _ := w.target(a)
			x, _ := w.names().What(b)
			w.suppose(rt, trust.OpGrant{GID: gid, Who: t, What: x, Note: "by hand"})
		}
		hand := owned(w.st, "", now)
		for range rapid.IntRange(1, 4).Draw(rt, "applies") {
			name := rapid.SampledFrom([]string{"main", "ops"}).Draw(rt, "name")
			other := "main"
			if name == other {
				other = "ops"
			}
			theirs := owned(w.st, other, now)
			grants := rapid.SliceOfNDistinct(pair, 0, 4, rapid.ID[string]).Draw(rt, "grants")
			p := w.plan(rt, text(name, grants...))
			if n := len(p.Keep) + len(p.Add); n != len(grants) {
				rt.Fatalf("%d of %d grants", n, len(grants))
			}
			before, after := w.all(p.Before, p.After), w.all(p.After, p.After)
			e := p.Effect()
			if got, want := w.words(e.Gained), minus(after, before); !slices.Equal(got, want) || e.More {
				rt.Fatalf("gains %q, want %q", got, want)
			}
			if got, want := w.words(e.Lost), minus(before, after); !slices.Equal(got, want) {
				rt.Fatalf("loses %q, want %q", got, want)
			}
			to := func(list []string) bool {
				return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(s, ">a/") })
			}
			want := LocksNobody
			switch {
			case len(before) > 0 && len(after) == 0:
				want = LocksAll
			case to(before) && !to(after):
				want = LocksIssuers
			}
			if got := p.LockOut([]keys.NodeID{w.ids["a"]}); got != want {
				rt.Fatalf("locks out %d, want %d: %q then %q", got, want, before, after)
			}
			for _, ops := range p.Entries() {
				w.suppose(rt, ops...)
			}
			if !slices.Equal(w.all(w.st, p.After), after) {
				rt.Fatal("what was supposed is not what was made")
			}
			if again := w.plan(rt, text(name, grants...)); again.Changes() {
				rt.Fatalf("not idempotent: %+v %+v", again.Add, again.Remove)
			}
			if !slices.Equal(owned(w.st, other, now), theirs) || !slices.Equal(owned(w.st, "", now), hand) {
				rt.Fatal("grants of others changed")
			}
		}
	})
}

func TestTwiceTheSameGrantIsKeptOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := trust.OpGrant{GID: 1, Who: trust.AnyNode(), What: trust.What{Service: "s"}, Note: "policy:main"}
	w.suppose(t, g)
	g.GID = 2
	w.suppose(t, g)
	if p := w.plan(t, text("main", "any any/s")); len(p.Keep) != 1 || len(p.Remove) != 1 || p.Remove[0].Ref.GID != 2 || len(p.Add) != 0 {
		t.Errorf("%+v", p)
	}
}

func TestAGrantFollowsTheMachine(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.plan(t, text("main", "b a/s"))
	w.suppose(t, p.Entries()[0]...)
	// b is enrolled anew under a key that is no rotation: the grant of the old key is no longer what the file asks for.
	old := w.ids["b"]
	w.ids["b"] = keys.NewSigningKey().NodeID()
	w.suppose(t, trust.OpRevokeNode{Node: old}, trust.OpEnroll{Node: w.ids["b"], Serial: 9, NotBefore: now - 1, NotAfter: now + 1000, Name: "b"})
	if p := w.plan(t, text("main", "b a/s")); len(p.Add) != 1 || len(p.Remove) != 1 || w.words(p.Effect().Gained)[0] != "b>a/s" {
		t.Errorf("%+v", p)
	}
}

func TestOwners(t *testing.T) {
	for note, want := range map[string]string{"policy:main": "main", "policy:a-b why not": "a-b", "": "", "by hand": "", "policy": "", " policy:x": "", "policy:": ""} {
		if got := OwnerOf(note); got != want {
			t.Errorf("%q is of %q", note, got)
		}
	}
	if n := len(NoteOf(strings.Repeat("n", 63), strings.Repeat("r", config.MaxPolicyReason))); n > trust.MaxNote {
		t.Errorf("the longest note has %d bytes", n)
	}
}

func TestWindowsAreGrantsOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := "[[grant]]\nwho = \"b\"\nwhat = \"a/s\"\nuntil = 2027-01-20T00:00:00Z\n[[grant]]\nwho = \"b\"\nwhat = \"a/s\"\nfrom = 2028-01-01T00:00:00Z\n"
	p := w.plan(t, file)
	if len(p.Add) != 2 {
		t.Fatalf("%+v", p.Add)
	}
	w.suppose(t, p.Entries()[0]...)
	if p := w.plan(t, file); p.Changes() || len(p.Keep) != 2 {
		t.Errorf("%+v", p)
	}
	// Another end is another grant, and a longer reason too; who has access never lacks it, for what is given comes first.
	p = w.plan(t, strings.Replace(file, "2027-01-20", "2027-02-20", 1))
	if len(p.Add) != 1 || len(p.Remove) != 1 || len(p.Effect().Lost)+len(p.Effect().Gained) != 0 {
		t.Errorf("%+v", p)
	}
	if _, given := p.Entries()[0][0].(trust.OpGrant); !given {
		t.Error("something is taken before it is given again")
	}
}

func TestTestsAreAskedOfEveryPair(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.plan(t, text("main", "tag:x any/s")+"[[test]]\nwho = \"any\"\nallow = \"any/s\"\n[[test]]\nwho = \"c\"\ndeny = [\"any/s\", \"c/s\"]\n[[test]]\nwho=\"b\"\nallow=\"a/s\"\nat=2040-01-01T00:00:00Z\n")
	r, err := p.Test(w.names())
	if err != nil {
		t.Fatal(err)
	}
	// a, b, c live: six pairs, of which the two of c are denied; c's two denials hold; c about itself is no question; in 2040 nobody is a member.
	if r.Asked != 9 || len(r.Failed) != 3 || len(r.Vacuous) != 1 || r.Failed[0].From != w.ids["c"] && r.Failed[1].From != w.ids["c"] || r.Failed[2].Decision.Reason != trust.ReasonExpired {
		t.Errorf("%+v", r)
	}
}

// Cases about nobody ask no decision, and are bounded all the same.
func TestCasesAboutNobodyAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list := func(form string) string {
		words := make([]string, 256)
		for i := range words {
			words[i] = fmt.Sprintf(form, i)
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	test := "[[test]]\nwho = " + list(`"tag:t%d"`) + "\ndeny = " + list(`"tag:t%d/s"`) + "\n"
	p := w.plan(t, text("main", "tag:x any/s")+strings.Repeat(test, 1+maxAsked/(256*256)))
	r, err := p.Test(w.names())
	if err == nil || !strings.Contains(err.Error(), "name machines") || len(r.Vacuous) > maxAsked {
		t.Fatal(err, len(r.Vacuous))
	}
}
