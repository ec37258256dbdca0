package control_test

import (
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
)

// A root of the largest size reaches the daemon; what is none does not.
func TestAcceptRootIsBounded(t *testing.T) {
	fake := controltest.New()
	c, _, _ := start(t, fake, nil)
	if _, err := c.AcceptRoot(t.Context(), &control.AcceptRootRequest{Root: make([]byte, 56<<10)}); err != nil {
		t.Fatal(err)
	}
	n := len(fake.Calls())
	hash := strings.Repeat("0f", 32)
	at := uint64(3)
	for name, err := range map[string]error{
		"too long":       second(c.AcceptRoot(t.Context(), &control.AcceptRootRequest{Root: make([]byte, 56<<10+1)})),
		"nothing":        second(c.AcceptRoot(t.Context(), &control.AcceptRootRequest{})),
		"both":           second(c.AcceptRoot(t.Context(), &control.AcceptRootRequest{Root: []byte{1}, Hash: hash})),
		"half a hash":    second(c.AcceptRoot(t.Context(), &control.AcceptRootRequest{Hash: hash[:32]})),
		"no hash":        second(c.AcceptRoot(t.Context(), &control.AcceptRootRequest{Hash: strings.Repeat("x", 64)})),
		"wait":           second(c.AcceptRoot(t.Context(), &control.AcceptRootRequest{Hash: hash, WaitMS: -1})),
		"issuer's name":  second(c.CutIssuer(t.Context(), &control.CutIssuerRequest{Issuer: "A b"})),
		"drops":          second(c.CutIssuer(t.Context(), &control.CutIssuerRequest{Issuer: "nas", At: &at, Drop: make([]string, 257)})),
		"a long drop":    second(c.CutIssuer(t.Context(), &control.CutIssuerRequest{Issuer: "nas", Drop: []string{strings.Repeat("x", 300)}})),
		"key without":    second(c.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{})),
		"key of a name ": second(c.NewIssuerKey(t.Context(), &control.NewIssuerKeyRequest{Name: "../x"})),
	} {
		if e := control.AsError(err); e == nil || e.Code != control.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	if calls := fake.Calls(); len(calls) != n {
		t.Errorf("reached the daemon: %v", calls[n:])
	}
}

func second[T any](_ T, err error) error { return err }
