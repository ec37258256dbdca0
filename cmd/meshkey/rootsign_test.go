package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// next is a chain of roots longer by one of another name.
func next(t *testing.T, st *trust.State, k *keys.SigningKey, name string) *trust.State {
	t.Helper()
	raw, err := st.NewRoot(2, func(r *trust.Root) { r.Name = name }, k)
	if err != nil {
		t.Fatal(err)
	}
	if st, err = st.ApplyRoot(raw); err != nil {
		t.Fatal(err)
	}
	return st
}

// A proposal is signed if its chain goes on from the root that is known, and refused if it goes on from an older root or another branch:
// a holder of stolen keys must not get a signature on roots nobody else has seen in this place.
func TestSignComparesChains(t *testing.T) {
	k := keys.NewSigningKey()
	raw, _, err := trust.NewGenesis(trust.GenesisConfig{Name: "home", Issued: 1, Keys: []trust.RootKey{{Pub: k.Public(), Name: "nas"}}}, k)
	if err != nil {
		t.Fatal(err)
	}
	one, err := trust.Genesis(raw)
	if err != nil {
		t.Fatal(err)
	}
	foreignRaw, _, err := trust.NewGenesis(trust.GenesisConfig{Name: "away", Issued: 1, Keys: []trust.RootKey{{Pub: k.Public(), Name: "nas"}}}, k)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := trust.Genesis(foreignRaw)
	if err != nil {
		t.Fatal(err)
	}
	two := next(t, one, k, "two")
	for _, c := range []struct {
		name           string
		follows, known *trust.State
		want           control.Code
	}{
		{"the same", two, two, control.Done},
		{"newer ones of the same chain", next(t, two, k, "three"), one, control.Done},
		{"an older one", one, two, control.Unverified},
		{"another branch", two, next(t, one, k, "other"), control.Unverified},
		{"another branch, further on", next(t, two, k, "three"), next(t, one, k, "other"), control.Unverified},
		{"another mesh", two, foreign, control.Unverified},
	} {
		p, err := c.follows.Propose(3, func(r *trust.Root) error { r.Name = "next"; return nil })
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "chain")
		if err := os.WriteFile(file, c.known.EncodeChain(), 0o600); err != nil {
			t.Fatal(err)
		}
		err = newWorld(t, "").compareChain(t.Context(), p, file)
		code := control.Done
		if err != nil {
			code = control.AsError(err).Code
		}
		if code != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
