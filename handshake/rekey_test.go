package handshake

import (
	"bytes"
	"errors"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// rekeyPair is an established session seen from both ends.
func rekeyPair(t testing.TB, suite keys.Suite) (d, a RekeyConfig) {
	t.Helper()
	w := newWorld("home")
	dm, am := w.member("nas"), w.member("gpu1")
	do, ao := runBoth(t, w.dialConfig(dm, am, suite), w.acceptor(am))
	if do.err != nil || ao.err != nil {
		t.Fatal(do.err, ao.err)
	}
	return RekeyConfig{Mesh: w.mesh, Static: do.r.Static, Peer: do.r.Peer.Static, Current: do.r.Keys},
		RekeyConfig{Mesh: w.mesh, Static: ao.r.Static, Peer: ao.r.Peer.Static, Current: ao.r.Keys}
}

// rekeyOnce plays one rekey.
func rekeyOnce(t testing.TB, dc, ac RekeyConfig) (keys.Session, keys.Session) {
	t.Helper()
	d, r1, err := NewRekey(dc)
	if err != nil || len(r1) != SizeR1 {
		t.Fatal(err, len(r1))
	}
	a, r2, err := AnswerRekey(ac, r1)
	if err != nil || len(r2) != SizeR2 {
		t.Fatal(err, len(r2))
	}
	dn, r3, err := d.ReadR2(r2)
	if err != nil || len(r3) != SizeR3 {
		t.Fatal(err, len(r3))
	}
	early := a.Next()
	an, err := a.ReadR3(r3)
	if err != nil {
		t.Fatal(err)
	}
	if !same(early.Exporter, an.Exporter) {
		t.Error("the keys before R3 are not those after it")
	}
	return dn, an
}

func TestRekeyAgrees(t *testing.T) {
	for _, suite := range suites {
		dc, ac := rekeyPair(t, suite)
		seen := map[keys.Hash]bool{dc.Current.Hash: true}
		for g := uint64(1); g <= 3; g++ {
			dn, an := rekeyOnce(t, dc, ac)
			if !same(dn.K1, an.K1) || !same(dn.K2, an.K2) || !same(dn.Exporter, an.Exporter) || dn.Hash != an.Hash {
				t.Fatalf("generation %d: ends disagree", g)
			}
			if dn.Generation != g || an.Generation != g || dn.Suite != suite || seen[dn.Hash] || same(dn.Exporter, dc.Current.Exporter) {
				t.Fatalf("generation %d: %d, %d, suite %v", g, dn.Generation, an.Generation, dn.Suite)
			}
			seen[dn.Hash] = true
			dc.Current, ac.Current = dn, an
		}
	}
}

// TestRekeyTamper flips a bit of every byte of R1 and R2, and of R3.
func TestRekeyTamper(t *testing.T) {
	t.Parallel()
	dc, ac := rekeyPair(t, keys.SuiteAES)
	step := testrun.Stride(7)
	_, r1, err := NewRekey(dc)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < SizeR1; i += step {
		r1[i] ^= 1 << (i % 8)
		if a, r2, err := AnswerRekey(ac, r1); !errors.Is(err, errRekey) || a != nil || r2 != nil {
			t.Fatalf("R1, byte %d changed: %v", i, err)
		}
		r1[i] ^= 1 << (i % 8)
	}
	for i := 0; i < SizeR2; i += step {
		d, r1, err := NewRekey(dc)
		if err != nil {
			t.Fatal(err)
		}
		_, r2, err := AnswerRekey(ac, r1)
		if err != nil {
			t.Fatal(err)
		}
		r2[i] ^= 1 << (i % 8)
		next, r3, err := d.ReadR2(r2)
		if !errors.Is(err, errRekey) || r3 != nil || next.Exporter.IsSet() {
			t.Fatalf("R2, byte %d changed: %v", i, err)
		}
		r2[i] ^= 1 << (i % 8)
		if _, _, err := d.ReadR2(r2); !errors.Is(err, errRekey) { // one-shot
			t.Fatalf("R2 read again: %v", err)
		}
	}
	for _, n := range []int{0, 1, 2, kemCiphertextSize, SizeR1 - 1, SizeR1 + 1, SizeR2 - 1, SizeR2 + 1} {
		m := append(bytes.Clone(r1), make([]byte, 10)...)[:n]
		if _, _, err := AnswerRekey(ac, m); !errors.Is(err, errRekey) {
			t.Errorf("R1 of %d bytes: %v", n, err)
		}
		d, r1, _ := NewRekey(dc)
		_, r2, _ := AnswerRekey(ac, r1)
		if _, _, err := d.ReadR2(append(bytes.Clone(r2), make([]byte, 200)...)[:n]); !errors.Is(err, errRekey) {
			t.Errorf("R2 of %d bytes: %v", n, err)
		}
	}
	for _, r3 := range [][]byte{nil, {}, {0}, {1}, {2}, {3, 3}} {
		d, r1, _ := NewRekey(dc)
		a, r2, _ := AnswerRekey(ac, r1)
		if _, _, err := d.ReadR2(r2); err != nil {
			t.Fatal(err)
		}
		if _, err := a.ReadR3(r3); !errors.Is(err, errRekey) {
			t.Errorf("R3 %x: %v", r3, err)
		}
		if _, err := a.ReadR3([]byte{stepR3}); !errors.Is(err, errRekey) {
			t.Errorf("R3 after an error: %v", err)
		}
	}
}

// TestRekeyNeedsTheSession: who lacks any one part of the session cannot rekey it: another exporter, binding, generation, mesh or
// static key on either side, another suite.
func TestRekeyNeedsTheSession(t *testing.T) {
	dc, ac := rekeyPair(t, keys.SuiteAES)
	other, _ := rekeyPair(t, keys.SuiteAES)
	for name, change := range map[string]func(c *RekeyConfig){
		"exporter":    func(c *RekeyConfig) { c.Current.Exporter = other.Current.Exporter },
		"binding":     func(c *RekeyConfig) { c.Current.Hash[0] ^= 1 },
		"generation":  func(c *RekeyConfig) { c.Current.Generation++ },
		"mesh":        func(c *RekeyConfig) { c.Mesh[0] ^= 1 },
		"own static":  func(c *RekeyConfig) { c.Static = NewStatic() },
		"peer static": func(c *RekeyConfig) { c.Peer = NewStatic().Public() },
		"suite":       func(c *RekeyConfig) { c.Current.Suite = keys.SuiteChaCha },
	} {
		bad := dc
		change(&bad)
		_, r1, err := NewRekey(bad)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, _, err := AnswerRekey(ac, r1); !errors.Is(err, errRekey) {
			t.Errorf("%s differs at the dialer: %v", name, err)
		}
		_, r1, err = NewRekey(dc)
		if err != nil {
			t.Fatal(err)
		}
		bad = ac
		change(&bad)
		if _, _, err := AnswerRekey(bad, r1); !errors.Is(err, errRekey) {
			t.Errorf("%s differs at the acceptor: %v", name, err)
		}
	}
	last := dc
	last.Current.Generation = ^uint64(0)
	if _, _, err := NewRekey(last); !errors.Is(err, errRekey) {
		t.Errorf("generation after the last: %v", err)
	}
}

// TestRekeyReplay: R1 of one rekey is no R1 of the next.
func TestRekeyReplay(t *testing.T) {
	dc, ac := rekeyPair(t, keys.SuiteAES)
	_, r1, err := NewRekey(dc)
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := AnswerRekey(ac, r1)
	if err != nil {
		t.Fatal(err)
	}
	ac.Current = a.Next()
	if _, _, err := AnswerRekey(ac, r1); !errors.Is(err, errRekey) {
		t.Errorf("R1 accepted in generation %d: %v", ac.Current.Generation, err)
	}
}
