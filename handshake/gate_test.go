package handshake

import (
	"crypto/rand"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// Check 4.
func TestAcceptWrongGate(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	acc := w.acceptor(a)
	foreign := keys.NewGroupSecret(1).Gate(w.mesh)
	wantSilence(t, acc, honestM1(t, w, d, a, keys.SuiteAES, foreign), source(1), ReasonGate)
	garbage := make([]byte, SizeM1)
	rand.Read(garbage)
	garbage[0] = byte(keys.SuiteAES)
	wantSilence(t, acc, garbage, source(2), ReasonGate)
}

// Check 4: the prologue names mesh and responder, so a message for another node or mesh opens nowhere.
func TestAcceptWrongResponder(t *testing.T) {
	w := newWorld("home")
	d, a, other := w.member("nas"), w.member("gpu1"), w.member("pi4")
	acc := w.acceptor(a)
	wantSilence(t, acc, honestM1(t, w, d, other, keys.SuiteAES, w.gate()), source(1), ReasonGate)
	elsewhere := *d
	elsewhere.local.Mesh[0] ^= 1
	wantSilence(t, acc, honestM1(t, w, &elsewhere, a, keys.SuiteAES, w.gate()), source(2), ReasonGate)
}

// Check 4: the trap of the library underneath: an attacker without the gate that mixes an empty PSK, or zeros, where a
// responder's own was never set.
func TestAcceptEmptyPSKAttacker(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	for _, gates := range [][]Gate{nil, {{}}, {{}, {Generation: 1, Old: true}}, {{Generation: 1, PSK: w.gate()}}} {
		cfg := w.acceptorConfig(a)
		cfg.Gates = func() []Gate { return gates }
		cfg.Invite = func(identity.InviteID) (keys.PSK, bool) { return keys.PSK{}, true }
		acc := NewAcceptor(cfg)
		for i, psk := range [][]byte{nil, {}, make([]byte, 32)} {
			for j, suite := range suites {
				x := newAttacker(t, d.local, suite, a.key.NodeID(), psk, true)
				wantSilence(t, acc, x.m1(nil, x.p1()), source(10*i+j), ReasonGate)
			}
			x := newAttacker(t, d.local, keys.SuiteEnroll, a.key.NodeID(), psk, true)
			wantSilence(t, acc, x.m1(make([]byte, 8), x.p1()), source(10*i+9), ReasonGate)
			// The same pattern without any psk token.
			x = newAttacker(t, d.local, keys.SuiteAES, a.key.NodeID(), nil, true)
			m1 := append([]byte{byte(keys.SuiteAES)}, x.write("e", x.p1())...)
			wantSilence(t, acc, m1, source(10*i+8), ReasonGate)
		}
	}
}

// TestDialEmptyPSK: a dialer without a gate, or a joiner without a secret, sends nothing.
func TestDialEmptyPSK(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	c := w.dialConfig(d, a, keys.SuiteAES)
	c.Gate = keys.PSK{}
	conn := &scriptConn{}
	_, err := Dial(t.Context(), conn, c)
	wantReason(t, err, ReasonLocal)
	if !errors.Is(err, keys.ErrUnset) || conn.sent != 0 {
		t.Errorf("%v, %d bytes sent", err, conn.sent)
	}
	j := d.local
	j.Certificate = nil
	_, err = DialEnroll(t.Context(), conn, EnrollDial{Local: j, Issuer: a.key.NodeID(), Now: testClock})
	wantReason(t, err, ReasonLocal)
	if !errors.Is(err, keys.ErrUnset) || conn.sent != 0 {
		t.Errorf("%v, %d bytes sent", err, conn.sent)
	}
}

// TestEmptyPSK2Attacker: a man in the middle who has the gate but replaces the KEM's part by an empty or a zero PSK.
func TestEmptyPSK2Attacker(t *testing.T) {
	for _, psk2 := range [][]byte{nil, make([]byte, 32)} {
		w := newWorld("home")
		d, a := w.member("nas"), w.member("gpu1")
		c := w.dialConfig(d, a, keys.SuiteAES)
		conn := &scriptConn{}
		conn.peer = func(m1 []byte) []byte {
			x := newAttacker(t, a.local, keys.SuiteAES, a.key.NodeID(), w.gate().Bytes(), false)
			if _, err := x.read(specM1, m1[1:]); err != nil {
				t.Error(err)
			}
			x.psks = append(x.psks, psk2)
			return append(make([]byte, 1088), x.write(specM2, plain(a.local))...)
		}
		_, err := Dial(t.Context(), conn, c)
		wantReason(t, err, ReasonNoise)
		if conn.sent != SizeM1 {
			t.Errorf("%d bytes sent", conn.sent)
		}
	}
}

// generations is a node's gates: current 5, previous 4, older 3 to 1.
func generations(w *world) (gates []Gate, secret map[uint64]keys.PSK) {
	secret = make(map[uint64]keys.PSK)
	for g := uint64(5); g > 0; g-- {
		psk := keys.NewGroupSecret(g).Gate(w.mesh)
		secret[g] = psk
		gates = append(gates, Gate{Generation: g, PSK: psk, Old: g < 4})
	}
	return gates, secret
}

// Check 4: current and previous generation open without a budget, older ones are marked.
func TestAcceptGenerations(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	gates, psk := generations(w)
	for g := uint64(1); g <= 5; g++ {
		cfg := w.acceptorConfig(a)
		cfg.Gates = func() []Gate { return gates }
		c := w.dialConfig(d, a, keys.SuiteAES)
		c.Gate = psk[g]
		do, ao := runBoth(t, c, NewAcceptor(cfg))
		if do.err != nil || ao.err != nil {
			t.Fatalf("generation %d: %v, %v", g, do.err, ao.err)
		}
		if ao.r.Peer.OldGeneration != (g < 4) {
			t.Errorf("generation %d: old %v", g, ao.r.Peer.OldGeneration)
		}
	}
}

// Check 4: older generations cost at most 1/s per source and 20/s in all, for those that open and those that do not.
func TestAcceptOldGenerationBudget(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	gates, psk := generations(w)
	cfg := w.acceptorConfig(a)
	cfg.Gates = func() []Gate { return gates }
	m1 := func(g uint64) []byte { return honestM1(t, w, d, a, keys.SuiteAES, psk[g]) }
	synctest.Test(t, func(t *testing.T) {
		acc := NewAcceptor(cfg)
		wantAnswer(t, acc, m1(2), "10.0.0.1")
		wantSilence(t, acc, m1(2), "10.0.0.1", ReasonOldGate) // 1/s per source
		wantAnswer(t, acc, m1(5), "10.0.0.1")                 // the current one has no such budget
		wantAnswer(t, acc, m1(4), "10.0.0.1")
		time.Sleep(time.Second)
		wantAnswer(t, acc, m1(1), "10.0.0.1")
		time.Sleep(time.Second)
		for i := range oldGatesPerSecond {
			if i%2 == 0 {
				wantAnswer(t, acc, m1(3), source(100+i))
				continue
			}
			x := newAttacker(t, d.local, keys.SuiteAES, a.key.NodeID(), make([]byte, 32), true)
			wantSilence(t, acc, x.m1(nil, x.p1()), source(100+i), ReasonGate)
		}
		wantSilence(t, acc, m1(3), source(200), ReasonOldGate) // 20/s in all
		wantAnswer(t, acc, m1(5), source(201))
		time.Sleep(time.Second)
		wantAnswer(t, acc, m1(3), source(202))
	})
}

// Check 4: an outsider's message is tried against no more gates than there can be.
func TestAcceptOldGatesAreBounded(t *testing.T) {
	w := newWorld("home")
	d, a := w.member("nas"), w.member("gpu1")
	var gates []Gate
	for range maxOldGates {
		gates = append(gates, Gate{PSK: testPSK("other"), Old: true})
	}
	gates = append(gates, Gate{PSK: w.gate(), Old: true})
	cfg := w.acceptorConfig(a)
	cfg.Gates = func() []Gate { return gates }
	acc := NewAcceptor(cfg)
	wantSilence(t, acc, honestM1(t, w, d, a, keys.SuiteAES, w.gate()), source(1), ReasonGate)
	gates = gates[1:]
	wantAnswer(t, acc, honestM1(t, w, d, a, keys.SuiteAES, w.gate()), source(2))
}

// Check 4, enrolment: unknown invite, wrong secret, foreign mesh, wrong issuer, a node that enrols nobody: all silent.
func TestAcceptEnrolmentGate(t *testing.T) {
	w := newWorld("home")
	j, a, other := w.member("new"), w.member("gpu1"), w.member("pi4")
	j.local.Certificate = nil
	id, secret := identity.NewInviteID(), keys.NewInviteSecret()
	m1 := func(mesh keys.MeshID, responder *member, id identity.InviteID, s keys.InviteSecret) []byte {
		l := j.local
		l.Mesh = mesh
		d := DialConfig{Local: l, Responder: responder.key.NodeID(), Now: testClock}
		_, m1, err := initiate(&d, keys.SuiteEnroll, s.PSK(mesh), id)
		if err != nil {
			t.Fatal(err)
		}
		return m1
	}
	acc := w.enrolling(a, id, secret)
	wantAnswer(t, acc, m1(w.mesh, a, id, secret), source(1))
	wantSilence(t, acc, m1(w.mesh, a, identity.NewInviteID(), secret), source(2), ReasonGate)
	wantSilence(t, acc, m1(w.mesh, a, id, keys.NewInviteSecret()), source(3), ReasonGate)
	wantSilence(t, acc, m1(keys.MeshID{1}, a, id, secret), source(4), ReasonGate)
	wantSilence(t, acc, m1(w.mesh, other, id, secret), source(5), ReasonGate)
	wantSilence(t, w.acceptor(a), m1(w.mesh, a, id, secret), source(6), ReasonGate)
	cfg := w.acceptorConfig(a)
	cfg.Invite = func(identity.InviteID) (keys.PSK, bool) { return secret.PSK(w.mesh), false } // used up
	wantSilence(t, NewAcceptor(cfg), m1(w.mesh, a, id, secret), source(9), ReasonGate)
	// The gate of the mesh does not open an enrolment, nor an invite a session.
	x := newAttacker(t, j.local, keys.SuiteEnroll, a.key.NodeID(), w.gate().Bytes(), true)
	wantSilence(t, acc, x.m1(id[:], x.p1()), source(7), ReasonGate)
	x = newAttacker(t, j.local, keys.SuiteAES, a.key.NodeID(), secret.PSK(w.mesh).Bytes(), true)
	wantSilence(t, acc, x.m1(nil, x.p1()), source(8), ReasonGate)
}
