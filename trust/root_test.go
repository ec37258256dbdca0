package trust

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// sealRoot signs a root as it is, without any check.
func sealRoot(r *Root, signers ...*keys.SigningKey) []byte {
	return identity.Seal(keys.LabelRoot, r.domain(), r.encode(), signers...).Encode()
}

// next is an unsigned successor of the current root, changed.
func next(s *State, change func(*Root)) *Root {
	r := s.Root().successor(s.Root().Issued + 1)
	if change != nil {
		change(r)
	}
	return r
}

func wantRootError(t *testing.T, s *State, raw []byte, want error, words string) {
	t.Helper()
	n, err := s.ApplyRoot(raw)
	if !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
		t.Fatalf("got %v, want %v with %q", err, want, words)
	}
	if n != nil {
		t.Fatal("an error came with a state")
	}
}

func TestRootSuccessorAccepted(t *testing.T) {
	w := newWorld(t, 3, "a")
	s := mustRoot(t, w.start, sealRoot(next(w.start, nil), w.roots[0], w.roots[2]))
	if s.Root().Version != 2 || w.start.Root().Version != 1 {
		t.Fatal("the new root is not in the new state alone")
	}
	if _, err := s.ApplyRoot(sealRoot(next(w.start, nil), w.roots[1], w.roots[2])); !errors.Is(err, ErrHave) {
		t.Fatalf("the same payload with other signatures: %v", err)
	}
}

func TestRootTooFewOldKeys(t *testing.T) {
	w := newWorld(t, 3, "a")
	fresh := []*keys.SigningKey{keyOf("fresh 1"), keyOf("fresh 2"), keyOf("fresh 3")}
	r := next(w.start, func(r *Root) {
		r.Keys = nil
		for _, k := range fresh {
			r.Keys = append(r.Keys, RootKey{Alg: 1, Pub: k.Public(), Name: "fresh"})
		}
		sortKeys(r)
	})
	wantRootError(t, w.start, sealRoot(r, append(fresh, w.roots[0])...), ErrInvalid, "previous root signed")
	mustRoot(t, w.start, sealRoot(r, append(fresh, w.roots[:2]...)...))
}

func TestRootTooFewNewKeys(t *testing.T) {
	w := newWorld(t, 3, "a")
	fresh := []*keys.SigningKey{keyOf("fresh 1"), keyOf("fresh 2"), keyOf("fresh 3")}
	r := next(w.start, func(r *Root) {
		r.Keys = nil
		for _, k := range fresh {
			r.Keys = append(r.Keys, RootKey{Alg: 1, Pub: k.Public(), Name: "fresh"})
		}
		sortKeys(r)
	})
	wantRootError(t, w.start, sealRoot(r, append(w.roots[:3:3], fresh[0])...), ErrInvalid, "of this root signed")
}

func sortKeys(r *Root) {
	slices.SortFunc(r.Keys, func(a, b RootKey) int { return strings.Compare(string(a.Pub[:]), string(b.Pub[:])) })
}

func TestRootSameKeyTwiceDoesNotCount(t *testing.T) {
	w := newWorld(t, 3, "a")
	r := next(w.start, nil)
	e, err := identity.ParseEnvelope(sealRoot(r, w.roots[0]), MaxRoot)
	if err != nil {
		t.Fatal(err)
	}
	e.Sigs = append(e.Sigs, e.Sigs[0])
	wantRootError(t, w.start, e.Encode(), ErrInvalid, "sorted and unique")
	wantRootError(t, w.start, sealRoot(r, w.roots[0]), ErrInvalid, "fewer keys")
}

func TestRootForeignSigner(t *testing.T) {
	w := newWorld(t, 3, "a")
	raw := sealRoot(next(w.start, nil), append(w.roots[:3:3], keyOf("stranger"))...)
	wantRootError(t, w.start, raw, ErrInvalid, "no root key")
}

func TestRootBadSignature(t *testing.T) {
	w := newWorld(t, 3, "a")
	e, err := identity.ParseEnvelope(sealRoot(next(w.start, nil), w.roots...), MaxRoot)
	if err != nil {
		t.Fatal(err)
	}
	e.Sigs[1].Sig[7] ^= 1
	wantRootError(t, w.start, e.Encode(), ErrInvalid, "does not verify")
}

func TestRootOfOtherMeshDomain(t *testing.T) {
	// A successor signed in the domain of another mesh, or of genesis, is not a successor.
	w := newWorld(t, 1, "a")
	r := next(w.start, nil)
	raw := identity.Seal(keys.LabelRoot, keys.MeshID{}, r.encode(), w.roots...).Encode()
	wantRootError(t, w.start, raw, ErrInvalid, "does not verify")
	raw = identity.Seal(keys.LabelEntry, w.mesh, r.encode(), w.roots...).Encode()
	wantRootError(t, w.start, raw, ErrInvalid, "does not verify")
}

func TestRootSkipsAVersion(t *testing.T) {
	w := newWorld(t, 1, "a")
	one := mustRoot(t, w.start, w.root(w.start, func(*Root) {}))
	two := w.root(one, func(*Root) {})
	wantRootError(t, w.start, two, ErrGap, "last one held")
	mustRoot(t, one, two)
	// Version 3 that claims to follow version 1 directly is refused even with version 2 held.
	r := next(one, func(r *Root) { r.Prev = w.start.Root().hash })
	wantRootError(t, one, sealRoot(r, w.roots...), ErrInvalid, "does not follow")
}

func TestRootOfAnotherMesh(t *testing.T) {
	w, o := newWorld(t, 1, "a"), newWorld(t, 1, "b")
	wantRootError(t, w.start, o.root(o.start, func(*Root) {}), ErrInvalid, "another mesh")
	wantRootError(t, w.start, o.genesis, ErrInvalid, "another mesh")
	r := next(w.start, func(r *Root) { r.Mesh = o.mesh })
	wantRootError(t, w.start, sealRoot(r, w.roots...), ErrInvalid, "another mesh")
}

func TestRootIssuedBackwards(t *testing.T) {
	w := newWorld(t, 1, "a")
	r := next(w.start, func(r *Root) { r.Issued = epoch0 - 1 })
	wantRootError(t, w.start, sealRoot(r, w.roots...), ErrInvalid, "issued before")
}

func TestRootDropsAnIssuer(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	r := next(w.start, func(r *Root) { r.Issuers = r.Issuers[:1]; r.GroupIssuer = r.Issuers[0].ID })
	wantRootError(t, w.start, sealRoot(r, w.roots...), ErrInvalid, "is gone")
}

// TestRootLowersRightsWithoutCutoff tries each right alone.
func TestRootLowersRightsWithoutCutoff(t *testing.T) {
	is := issuerOf("a", allCaps)
	is.Tags = []string{"env:*", "gpu"}
	w := worldWith(t, 1, is)
	for name, change := range map[string]func(*Issuer){
		"cap":      func(i *Issuer) { i.Caps &^= CapHead },
		"tag":      func(i *Issuer) { i.Tags = []string{"env:*"} },
		"wildcard": func(i *Issuer) { i.Tags = []string{"env:prod", "gpu"} },
		"ttl":      func(i *Issuer) { i.MaxTTL-- },
		"end":      func(i *Issuer) { i.NotAfter-- },
	} {
		t.Run(name, func(t *testing.T) {
			raw := sealRoot(next(w.start, func(r *Root) { change(&r.Issuers[0]) }), w.roots...)
			wantRootError(t, w.start, raw, ErrInvalid, "loses rights without a cutoff")
			mustRoot(t, w.start, sealRoot(next(w.start, func(r *Root) {
				change(&r.Issuers[0])
				r.GroupIssuer = keys.PublicKey{}
				r.Issuers[0].Cutoff = &Cutoff{Hash: keys.ChainStart(w.mesh, is.ID)}
			}), w.roots...))
		})
	}
	t.Run("more", func(t *testing.T) {
		mustRoot(t, w.start, sealRoot(next(w.start, func(r *Root) {
			i := &r.Issuers[0]
			i.Tags, i.MaxTTL, i.NotAfter = []string{"*"}, i.MaxTTL+1, i.NotAfter+1
		}), w.roots...))
	})
}

func TestRootCutoffNeverRaisedMovedOrRemoved(t *testing.T) {
	w := newWorld(t, 1, "a")
	id := w.start.Root().Issuers[0].ID
	at := func(seq uint64, h keys.Hash) func(*Root) {
		return func(r *Root) { cutoff(r, id, seq, h) }
	}
	h := keys.Sum([]byte("some entry"))
	s := mustRoot(t, w.start, w.root(w.start, at(5, h)))
	for words, change := range map[string]func(*Root){
		"removed": func(r *Root) { r.Issuers[0].Cutoff = nil },
		"raised":  at(6, h),
		"moved":   at(5, keys.Sum([]byte("another"))),
	} {
		wantRootError(t, s, sealRoot(next(s, change), w.roots...), ErrInvalid, words)
	}
	mustRoot(t, s, w.root(s, at(4, h)))
}

// TestRootFieldRules spoils each field of a root alone.
func TestRootFieldRules(t *testing.T) {
	w := newWorld(t, 3, "a")
	small := keys.PublicKey{1} // the neutral element: a point of small order
	for words, change := range map[string]func(*Root){
		"not more than half":             func(r *Root) { r.Threshold = 1 },
		"threshold 4":                    func(r *Root) { r.Threshold = 4 },
		"0 keys":                         func(r *Root) { r.Keys = nil },
		"16 keys":                        func(r *Root) { _, r.Keys = rootKeys(16); r.Threshold = 16 },
		"use a-z":                        func(r *Root) { r.Issuers[0].Name = "NO" },
		"algorithm":                      func(r *Root) { r.Keys[0].Alg = 2 },
		"keys not sorted":                func(r *Root) { r.Keys[0], r.Keys[1] = r.Keys[1], r.Keys[0] },
		"key 0":                          func(r *Root) { r.Keys[0].Pub = small },
		"name not allowed":               func(r *Root) { r.Name = "Home" },
		"name not allowed: length 0":     func(r *Root) { r.Keys[0].Name = "" },
		"parameter this version":         func(r *Root) { r.Params.StaleAction = 2 },
		"a parameter this":               func(r *Root) { r.Params.RequireLogged = false },
		"time is out":                    func(r *Root) { r.Issued = maxTime + 1 },
		"a time is":                      func(r *Root) { r.Params.MaxStale = -1 },
		"is out of range":                func(r *Root) { r.Issuers[0].MaxTTL = -1 },
		"right this version":             func(r *Root) { r.Issuers[0].Caps = 16 },
		"large order":                    func(r *Root) { r.Issuers[0].ID = small },
		"is no issuer":                   func(r *Root) { r.GroupIssuer = keyOf("other").Public() },
		"stands alone or behind a colon": func(r *Root) { r.Issuers[0].Tags = []string{"gpu*"} },
		"tags not sorted":                func(r *Root) { r.Issuers[0].Tags = []string{"b", "a"} },
		"17 tags":                        func(r *Root) { r.Issuers[0].Tags = strings.Split("a b c d e f g h i j k l m n o p q", " ") },
		"issuers not sorted":             func(r *Root) { r.Issuers = append(r.Issuers, r.Issuers[0]) },
		"65 issuers":                     func(r *Root) { r.Issuers = make([]Issuer, 65) },
		"hash of an empty chain":         func(r *Root) { r.GroupIssuer = keys.PublicKey{}; r.Issuers[0].Cutoff = &Cutoff{} },
		"cutoff out of range":            func(r *Root) { r.GroupIssuer = keys.PublicKey{}; r.Issuers[0].Cutoff = &Cutoff{Seq: maxSeq + 1} },
		"or cut off":                     func(r *Root) { r.Issuers[0].Cutoff = &Cutoff{Seq: 1} },
		"do not fit together":            func(r *Root) { r.Version = maxSeq + 1 },
	} {
		t.Run(words, func(t *testing.T) {
			r := next(w.start, change)
			wantRootError(t, w.start, sealRoot(r, w.roots...), ErrInvalid, words)
		})
	}
}

func TestGenesisRules(t *testing.T) {
	w := newWorld(t, 3, "a")
	bad := func(words string, raw []byte) {
		t.Helper()
		s, err := Genesis(raw)
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), words) || s != nil {
			t.Fatalf("got %v, want %q", err, words)
		}
	}
	bad("not the first", w.root(w.start, func(*Root) {}))
	bad("fewer keys", sealRoot(w.start.Root(), w.roots[0]))
	r := *w.start.Root()
	r.Issuers = []Issuer{r.Issuers[0]}
	r.Issuers[0].Cutoff = &Cutoff{}
	bad("cuts nobody off", sealRoot(&r, w.roots...))
	e, _ := identity.ParseEnvelope(w.genesis, MaxRoot)
	e.Sigs[0].Sig[0] ^= 1
	bad("does not verify", e.Encode())
	bad("envelope has", make([]byte, MaxRoot+1))
	if w.start.Mesh() != keys.MeshID(keys.Sum(e.Payload)) {
		t.Fatal("the mesh id is not the hash of the genesis payload")
	}
}

func TestRootForkStaysOnTheOlderRootInAnyOrder(t *testing.T) {
	w := newWorld(t, 1, "a", "b")
	a, b := w.writer("a"), w.writer("b")
	es := []*Entry{a.add(a.enroll("one")), a.add(a.enroll("two")), b.add(b.enroll("three"))}
	s := must(t, w.start, es...)
	left := w.root(w.start, func(r *Root) { cutoff(r, a.key.Public(), 1, es[0].hash) })
	right := w.root(w.start, func(r *Root) { r.Name = "other" })
	third := w.root(mustRoot(t, w.start, left), func(*Root) {})

	var dumps []string
	for _, order := range [][][]byte{{left, right}, {right, left}, {left, third, right}} {
		m, err := NewMemory(w.genesis, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range es {
			if _, err := m.ApplyEntry(e, 0); err != nil {
				t.Fatal(err)
			}
		}
		for _, raw := range order {
			if _, err := m.ApplyFrame(rawFrame(KindRoot, raw), 0); err != nil {
				t.Fatal(err)
			}
		}
		f := m.Current()
		if f.Root().Version != 1 || len(f.RootFork()) != 2 {
			t.Fatalf("on root %d with %d pending", f.Root().Version, len(f.RootFork()))
		}
		// What one of the two takes away adds nothing meanwhile, and nothing else is lost.
		wantLive(t, f, "one", true)
		wantLive(t, f, "two", false)
		wantLive(t, f, "three", true)
		if _, err := f.ApplyRoot(left); !errors.Is(err, ErrHave) {
			t.Fatalf("again: %v", err)
		}
		dumps = append(dumps, dump(f))

		r, err := parseRoot(right)
		if err != nil {
			t.Fatal(err)
		}
		chosen, err := f.AcceptRoot(r.hash)
		if err != nil {
			t.Fatal(err)
		}
		if chosen.Root().Name != "other" || len(chosen.RootFork()) != 0 {
			t.Fatal("the accepted root is not in force")
		}
		wantLive(t, chosen, "two", true)
		if _, err := chosen.ApplyRoot(left); !errors.Is(err, ErrVoid) {
			t.Fatalf("the root not chosen: %v", err)
		}
	}
	if dumps[0] != dumps[1] || dumps[0] != dumps[2] {
		t.Fatalf("order matters:\n%s\n%s\n%s", dumps[0], dumps[1], dumps[2])
	}
	if _, err := s.AcceptRoot(keys.Hash{}); err == nil {
		t.Fatal("a root nobody proposed was accepted")
	}
}

func TestRootForkIsBounded(t *testing.T) {
	w := newWorld(t, 1, "a")
	s := w.start
	for i := range maxForkRoots + 1 {
		raw := w.root(w.start, func(r *Root) { r.Issued += int64(i) })
		n, err := s.ApplyRoot(raw)
		if i == maxForkRoots {
			if !errors.Is(err, ErrFull) {
				t.Fatalf("root %d: %v", i, err)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		s = n
	}
}

func TestTagPatterns(t *testing.T) {
	is := Issuer{Tags: []string{"env:*", "gpu"}}
	for tag, want := range map[string]bool{"gpu": true, "gpu2": false, "env:prod": true, "env": false, "envy:x": false, "x": false} {
		if is.MayGive([]string{tag}) != want {
			t.Errorf("%s: want %v", tag, want)
		}
	}
	if !(&Issuer{Tags: []string{"*"}}).MayGive([]string{"x", "y:z"}) || !(&Issuer{}).MayGive(nil) || (&Issuer{}).MayGive([]string{"x"}) {
		t.Error("star or nothing")
	}
}

// TestLargestRoot builds a root at every maximum: it must fit.
func TestLargestRoot(t *testing.T) {
	name := strings.Repeat("n", identity.MaxName)
	ks, list := rootKeys(maxRootKeys)
	for i := range list {
		list[i].Name = name
	}
	var issuers []Issuer
	for i := range maxIssuers {
		is := Issuer{ID: keyOf("big %d", i).Public(), Caps: allCaps, MaxTTL: maxTime, NotAfter: maxTime, Name: name}
		for j := range maxIssuerTags {
			is.Tags = append(is.Tags, string(rune('a'+j))+strings.Repeat("t", identity.MaxTag-1))
		}
		issuers = append(issuers, is)
	}
	raw, _, err := NewGenesis(GenesisConfig{
		Name: name, Issued: maxTime - 1, Keys: list, Issuers: issuers, GroupIssuer: issuers[0].ID, Threshold: maxRootKeys,
		Params: Params{MaxStale: maxTime, StaleAction: 1, GroupMaxAge: maxTime},
	}, ks...)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Genesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	// A successor with all new keys, all signatures, and a cutoff of every issuer is the longest object there is.
	r := next(s, func(r *Root) {
		r.GroupIssuer = keys.PublicKey{}
		r.Version = 2
		for i := range r.Keys {
			k := keyOf("second root %d", i)
			r.Keys[i].Pub = k.Public()
			ks = append(ks, k)
		}
		sortKeys(r)
		for i := range r.Issuers {
			r.Issuers[i].Cutoff = &Cutoff{Seq: maxSeq, Hash: keys.Sum(nil)}
		}
	})
	raw = sealRoot(r, ks...)
	mustRoot(t, s, raw)
	f := rawFrame(KindRoot, raw)
	t.Logf("largest root: %d bytes, frame %d", len(raw), len(f.Body))
	if len(f.Body) > 65_518 {
		t.Fatal("does not fit a control record")
	}
}

// TestRootCheckFollowsAlone: the rule holds wherever it is asked, also where the caller has looked already.
func TestRootCheckFollowsAlone(t *testing.T) {
	w := newWorld(t, 1, "a")
	for words, change := range map[string]func(*Root){
		"another mesh": func(r *Root) { r.Mesh[0] ^= 1 },
		"skips":        func(r *Root) { r.Version = 3 },
	} {
		if err := next(w.start, change).checkFollows(w.start.Root()); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: %v", words, err)
		}
	}
}

// TestSignedObjectsAreStrict: a field of a later version, signed by the right keys, is refused.
func TestSignedObjectsAreStrict(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	extend := func(payload []byte) []byte {
		var m map[uint64]any
		if err := wire.Unmarshal(payload, &m); err != nil {
			t.Fatal(err)
		}
		m[23] = uint64(1)
		return wire.MustMarshal(m)
	}
	r := next(w.start, nil)
	wantRootError(t, w.start, identity.Seal(keys.LabelRoot, w.mesh, extend(r.encode()), w.roots...).Encode(), ErrInvalid, "root: ")
	env, err := identity.ParseEnvelope(a.sign(a.draft(revokeNode("one"))).raw, MaxEntry)
	if err != nil {
		t.Fatal(err)
	}
	raw := identity.Seal(keys.LabelEntry, w.mesh, extend(env.Payload), a.key).Encode()
	if _, _, err := w.start.ApplyEntry(raw); !errors.Is(err, ErrInvalid) {
		t.Fatalf("entry: %v", err)
	}
	h := Head{Mesh: w.mesh, Issuer: a.key.Public(), RootVersion: 1, Time: epoch0, Hash: a.prev}
	raw = identity.Seal(keys.LabelHead, w.mesh, extend(wire.MustMarshal(&h)), a.key).Encode()
	if _, err := w.start.ApplyHead(raw, epoch0); !errors.Is(err, ErrInvalid) {
		t.Fatalf("head: %v", err)
	}
}

// TestMakingRootsChecks: whoever makes a root is told at once what a receiver would refuse.
func TestMakingRootsChecks(t *testing.T) {
	w := newWorld(t, 3, "a")
	_, list := rootKeys(3)
	for name, c := range map[string]struct {
		config  GenesisConfig
		signers []*keys.SigningKey
	}{
		"no signer":   {GenesisConfig{Name: "home", Keys: list}, nil},
		"too few":     {GenesisConfig{Name: "home", Keys: list}, w.roots[:1]},
		"a stranger":  {GenesisConfig{Name: "home", Keys: list}, append(w.roots[:2:2], keyOf("x"))},
		"a bad field": {GenesisConfig{Name: "Home", Keys: list}, w.roots},
	} {
		if raw, mesh, err := NewGenesis(c.config, c.signers...); err == nil || raw != nil || !mesh.IsZero() {
			t.Errorf("genesis, %s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		change  func(*Root)
		signers []*keys.SigningKey
	}{
		"too few":     {func(*Root) {}, w.roots[:1]},
		"lost rights": {func(r *Root) { r.Issuers[0].MaxTTL-- }, w.roots},
		"a bad field": {func(r *Root) { r.Threshold = 1 }, w.roots},
	} {
		if raw, err := w.start.NewRoot(epoch0+1, c.change, c.signers...); err == nil || raw != nil {
			t.Errorf("root, %s: %v", name, err)
		}
	}
	if w.start.Root().Issuers[0].MaxTTL != 90*day {
		t.Fatal("the current root was edited")
	}
}
