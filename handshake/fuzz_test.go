package handshake

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// FuzzPayload: what decodes as P2 or P3 encodes to the same bytes, and fits the bounds; else the result is nil.
func FuzzPayload(f *testing.F) {
	w := newWorld("fuzz")
	f.Add(plain(w.member("nas").local))
	f.Add(plain(largest(w).local))
	f.Add(make([]byte, sizePayload))
	f.Add(rawPayload([]byte{0xa0}, 1, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodePayload(b)
		if err != nil {
			if p != nil {
				t.Fatal("a result beside an error")
			}
			return
		}
		again, err := p.encode(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("encodes to other bytes: %v", err)
		}
	})
}

// FuzzP1: what decodes as P1, and has no ignored flag, encodes to the same bytes.
func FuzzP1(f *testing.F) {
	f.Add(encodeP1(nil, make([]byte, kemKeySize)))
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ek, err := decodeP1(b)
		if err != nil {
			if ek != nil {
				t.Fatal("a result beside an error")
			}
			return
		}
		again := encodeP1(nil, ek)
		again[1] = b[1]
		if b[1]&criticalFlags != 0 || !bytes.Equal(again, b) {
			t.Fatal("encodes to other bytes")
		}
	})
}

// FuzzReadM1 sends anything as the beginning of a connection: only M1 of a gate holder is answered, with exactly M2.
func FuzzReadM1(f *testing.F) {
	w := newWorld("fuzz")
	d, a := w.member("nas"), w.member("gpu1")
	id, secret := identity.InviteID{1}, keys.NewInviteSecret()
	cfg := w.acceptorConfig(a)
	cfg.Invite = func(identity.InviteID) (keys.PSK, bool) { return secret.PSK(w.mesh), true }
	c := w.dialConfig(d, a, keys.SuiteAES)
	good := honestM1(f, w, d, a, keys.SuiteAES, w.gate())
	f.Add(good)
	f.Add(honestM1(f, w, d, a, keys.SuiteChaCha, w.gate()))
	_, m1, err := initiate(&c, keys.SuiteEnroll, secret.PSK(w.mesh), id)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m1)
	f.Add(good[:100])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		conn := &scriptConn{}
		conn.in.Write(b[1:])
		r, err := NewAcceptor(cfg).Accept(context.Background(), conn, keys.Suite(b[0]), testSource, time.Now())
		if err == nil || r != nil || !conn.closed.Load() {
			t.Fatal("a session without M3")
		}
		if conn.sent != 0 && (conn.sent != SizeM2 || !opens(w, a, secret, b)) {
			t.Fatalf("%d bytes sent to a stranger", conn.sent)
		}
	})
}

// opens asks the second implementation whether b begins with an M1 of a gate holder.
func opens(w *world, a *member, secret keys.InviteSecret, b []byte) bool {
	size, err := messageSize(keys.Suite(b[0]))
	if err != nil || len(b) < size {
		return false
	}
	psk, rest := w.gate(), b[1:size]
	if keys.Suite(b[0]) == keys.SuiteEnroll {
		psk, rest = secret.PSK(w.mesh), rest[inviteIDSize:]
	}
	s := &spec{}
	*s = *newSpec(&testing.T{}, specName("XXpsk0+psk2", keys.Suite(b[0])), false, keys.HandshakePrologue(keys.Suite(b[0]), w.mesh, a.key.NodeID()))
	s.psks = [][]byte{psk.Bytes()}
	_, err = s.read(specM1, rest)
	return err == nil
}

// FuzzReadM2 changes a genuine M2 in any way: the mask is laid over it, and its end is cut or grown. Only the genuine one opens.
func FuzzReadM2(f *testing.F) {
	w := newWorld("fuzz")
	d, a := w.member("nas"), w.member("gpu1")
	f.Add([]byte{}, 0)
	f.Add([]byte{1}, 0)
	f.Add(make([]byte, 10), -1)
	f.Add(append(make([]byte, SizeM2-1), 0x80), 1)
	f.Fuzz(func(t *testing.T, mask []byte, grow int) {
		c := w.dialConfig(d, a, keys.SuiteAES)
		i, m1, err := initiate(&c, c.Suite, c.Gate, identity.InviteID{})
		if err != nil {
			t.Fatal(err)
		}
		r := must(openM1(&a.local, c.Suite, c.Gate, m1[1:], nil))
		m2 := must(r.answer(nil, must(r.encapsulationKey()), testNow))
		bad, changed := mangle(m2, mask, grow)
		res, m3, err := i.finish(bad, testNow)
		if changed != (err != nil) || changed != (res == nil) || changed != (m3 == nil) {
			t.Fatalf("changed %v: result %v, %v", changed, res, err)
		}
	})
}

// FuzzReadM3 does the same to M3.
func FuzzReadM3(f *testing.F) {
	w := newWorld("fuzz")
	d, a := w.member("nas"), w.member("gpu1")
	f.Add([]byte{}, 0)
	f.Add([]byte{1}, 0)
	f.Add(make([]byte, 10), -1)
	f.Add(append(make([]byte, SizeM3-1), 0x80), 1)
	f.Fuzz(func(t *testing.T, mask []byte, grow int) {
		c := w.dialConfig(d, a, keys.SuiteAES)
		i, m1, err := initiate(&c, c.Suite, c.Gate, identity.InviteID{})
		if err != nil {
			t.Fatal(err)
		}
		r := must(openM1(&a.local, c.Suite, c.Gate, m1[1:], nil))
		_, m3, err := i.finish(must(r.answer(nil, must(r.encapsulationKey()), testNow)), testNow)
		if err != nil {
			t.Fatal(err)
		}
		bad, changed := mangle(m3, mask, grow)
		res, err := r.finish(bad, full, testNow)
		if changed != (err != nil) || changed != (res == nil) {
			t.Fatalf("changed %v: result %v, %v", changed, res, err)
		}
	})
}

// FuzzReadR1 and R2 in one: anything as either message of a rekey.
func FuzzRekey(f *testing.F) {
	w := newWorld("fuzz")
	d, a := w.member("nas"), w.member("gpu1")
	do, ao := runBoth(f, w.dialConfig(d, a, keys.SuiteAES), w.acceptor(a))
	if do.err != nil || ao.err != nil {
		f.Fatal(do.err, ao.err)
	}
	dc := RekeyConfig{Mesh: w.mesh, Static: do.r.Static, Peer: do.r.Peer.Static, Current: do.r.Keys}
	ac := RekeyConfig{Mesh: w.mesh, Static: ao.r.Static, Peer: ao.r.Peer.Static, Current: ao.r.Keys}
	f.Add([]byte{}, 0, true)
	f.Add([]byte{}, 0, false)
	f.Add([]byte{1}, 0, true)
	f.Add([]byte{0, 1}, -1, false)
	f.Fuzz(func(t *testing.T, mask []byte, grow int, first bool) {
		rd, r1, err := NewRekey(dc)
		if err != nil {
			t.Fatal(err)
		}
		changed := false
		if first {
			r1, changed = mangle(r1, mask, grow)
		}
		ra, r2, err := AnswerRekey(ac, r1)
		if changed != (err != nil) || changed != (ra == nil) {
			t.Fatalf("R1 changed %v: %v", changed, err)
		}
		if err != nil {
			return
		}
		if !first {
			r2, changed = mangle(r2, mask, grow)
		}
		next, r3, err := rd.ReadR2(r2)
		if changed != (err != nil) || changed != (r3 == nil) || changed == next.Exporter.IsSet() {
			t.Fatalf("R2 changed %v: %v", changed, err)
		}
	})
}

// mangle lays mask over m, cuts or grows its end, and says whether anything changed.
func mangle(m, mask []byte, grow int) ([]byte, bool) {
	out := bytes.Clone(m)
	for i, b := range mask {
		if i < len(out) {
			out[i] ^= b
		}
	}
	switch grow = max(-len(out), min(grow, 100)); {
	case grow < 0:
		out = out[:len(out)+grow]
	default:
		out = append(out, make([]byte, grow)...)
	}
	return out, !bytes.Equal(out, m)
}
