package keys

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// seq is the pattern of the vectors: 32 bytes counting up.
func seq(first byte) []byte {
	b := make([]byte, 32)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func mod(n, m int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % m)
	}
	return b
}

func testKey(t testing.TB, first byte) *SigningKey {
	t.Helper()
	k, err := SigningKeyFromSeed(seq(first))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestVectors compares every derivation with testdata/vectors.json, which a second implementation (testdata/vectors.py) has written.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]string
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	mesh, h := MeshID(seq(0)), Hash(seq(0x40))
	group, err := GroupSecretFromBytes(7, seq(0x20))
	if err != nil {
		t.Fatal(err)
	}
	invite, err := InviteSecretFromBytes(seq(0x20))
	if err != nil {
		t.Fatal(err)
	}
	node, issuer := testKey(t, 1), testKey(t, 2)
	k1, k2, x := TrafficKeyFromBytes(seq(0x60)), TrafficKeyFromBytes(seq(0x80)), Exporter{newSecret(seq(0xa0))}
	session := NewSession(SuiteAES, 4, k1, k2, h)
	if session.Suite != SuiteAES || session.Generation != 4 || !session.K1.Equal(k1.secret) || !session.K2.Equal(k2.secret) || session.Hash != h {
		t.Errorf("session is not what it was made of: %+v", session)
	}
	commit, chain, confirm, request := group.Commitment(mesh), ChainStart(mesh, issuer.Public()), ConfirmationHash(h), RequestHash(h)
	tag := x.StreamTag(RoleAcceptor, 258)
	pub, id := node.Public(), node.NodeID()
	cert := node.Sign(LabelCert, mesh, []byte("abc"))
	two := append(append([]byte{}, pub[:]...), seq32(issuer.Public())...)
	rotate := node.Sign(LabelRotate, mesh, two)
	got := map[string][]byte{
		"gate":                                group.Gate(mesh).Bytes(),
		"beacon":                              group.BeaconKey(mesh).Bytes(),
		"commitment of generation 7":          commit[:],
		"invite psk":                          invite.PSK(mesh).Bytes(),
		"kem psk":                             KEMPSK(seq(0x20), mod(1184, 251), mod(1088, 241)).Bytes(),
		"exporter":                            session.Exporter.Bytes(),
		"rekey psk":                           x.RekeyPSK(h).Bytes(),
		"rekey prologue to generation 9":      RekeyPrologue(mesh, h, 9),
		"handshake prologue of suite 2":       HandshakePrologue(SuiteAES, mesh, id),
		"stream tag, acceptor, counter 258":   tag[:],
		"stream key, dialer, counter 3, back": x.StreamKey(RoleDialer, 3, DirBack).Bytes(),
		"next stream key":                     x.NextStreamKey(k1).Bytes(),
		"chain start":                         chain[:],
		"confirmation":                        confirm[:],
		"request":                             request[:],
		"public key":                          pub[:],
		"signature, label cert, payload abc":  cert[:],
		"signature, label rotate, payload of two ids": rotate[:],
	}
	for name, w := range want {
		switch name {
		case "node text":
			if id.String() != w {
				t.Errorf("%s: %s, want %s", name, id, w)
			}
		case "node compact":
			if id.Compact() != w {
				t.Errorf("%s: %s, want %s", name, id.Compact(), w)
			}
		default:
			if g, ok := got[name]; !ok || hex.EncodeToString(g) != w {
				t.Errorf("%s: %x, want %s", name, g, w)
			}
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("no vector for %s", name)
	}
}

func seq32(p PublicKey) []byte { return p[:] }

// Every input of a derivation matters: another value of any gives another key.
func TestDerivationsUseEveryInput(t *testing.T) {
	m, m2, h, h2 := MeshID(seq(0)), MeshID(seq(1)), Hash(seq(2)), Hash(seq(3))
	a, b := Exporter{newSecret(seq(4))}, Exporter{newSecret(seq(5))}
	k, l := TrafficKeyFromBytes(seq(6)), TrafficKeyFromBytes(seq(7))
	s, err := GroupSecretFromBytes(1, seq(8))
	if err != nil {
		t.Fatal(err)
	}
	s2, err := GroupSecretFromBytes(1, seq(9))
	if err != nil {
		t.Fatal(err)
	}
	s3, err := GroupSecretFromBytes(2, seq(8))
	if err != nil {
		t.Fatal(err)
	}
	i, i2 := InviteSecret{newSecret(seq(8))}, InviteSecret{newSecret(seq(9))}
	n, n2 := testKey(t, 1), testKey(t, 2)
	all := map[string][]byte{}
	for name, v := range map[string][]byte{
		"gate": s.Gate(m).Bytes(), "gate secret": s2.Gate(m).Bytes(), "gate mesh": s.Gate(m2).Bytes(),
		"beacon": s.BeaconKey(m).Bytes(), "beacon secret": s2.BeaconKey(m).Bytes(), "beacon mesh": s.BeaconKey(m2).Bytes(),
		"invite": i.PSK(m).Bytes(), "invite secret": i2.PSK(m).Bytes(), "invite mesh": i.PSK(m2).Bytes(),
		"commit": hb(s.Commitment(m)), "commit secret": hb(s2.Commitment(m)), "commit mesh": hb(s.Commitment(m2)),
		"commit gen": hb(s3.Commitment(m)),
		"kem":        KEMPSK(seq(1), seq(2), seq(3)).Bytes(), "kem secret": KEMPSK(seq(9), seq(2), seq(3)).Bytes(),
		"kem key": KEMPSK(seq(1), seq(9), seq(3)).Bytes(), "kem ct": KEMPSK(seq(1), seq(2), seq(9)).Bytes(),
		"exporter": NewSession(1, 0, k, l, h).Exporter.Bytes(), "exporter order": NewSession(1, 0, l, k, h).Exporter.Bytes(),
		"exporter hash": NewSession(1, 0, k, l, h2).Exporter.Bytes(), "exporter k1": NewSession(1, 0, l, l, h).Exporter.Bytes(),
		"rekey": a.RekeyPSK(h).Bytes(), "rekey x": b.RekeyPSK(h).Bytes(), "rekey h": a.RekeyPSK(h2).Bytes(),
		"key": a.StreamKey(0, 5, 0).Bytes(), "key x": b.StreamKey(0, 5, 0).Bytes(), "key role": a.StreamKey(1, 5, 0).Bytes(),
		"key counter": a.StreamKey(0, 6, 0).Bytes(), "key dir": a.StreamKey(0, 5, 1).Bytes(),
		"next": a.NextStreamKey(k).Bytes(), "next x": b.NextStreamKey(k).Bytes(), "next k": a.NextStreamKey(l).Bytes(),
		"tag": tb(a.StreamTag(0, 5)), "tag x": tb(b.StreamTag(0, 5)), "tag role": tb(a.StreamTag(1, 5)), "tag counter": tb(a.StreamTag(0, 6)),
		"prologue": HandshakePrologue(1, m, n.NodeID()), "prologue suite": HandshakePrologue(2, m, n.NodeID()),
		"prologue mesh": HandshakePrologue(1, m2, n.NodeID()), "prologue node": HandshakePrologue(1, m, n2.NodeID()),
		"rk": RekeyPrologue(m, h, 1), "rk mesh": RekeyPrologue(m2, h, 1), "rk hash": RekeyPrologue(m, h2, 1), "rk gen": RekeyPrologue(m, h, 2),
		"chain": hb(ChainStart(m, n.Public())), "chain mesh": hb(ChainStart(m2, n.Public())), "chain issuer": hb(ChainStart(m, n2.Public())),
		"words": hb(ConfirmationHash(h)), "words h": hb(ConfirmationHash(h2)), "csr": hb(RequestHash(h)), "csr h": hb(RequestHash(h2)),
	} {
		for other, o := range all {
			if string(o) == string(v) {
				t.Errorf("%s and %s are equal", name, other)
			}
		}
		all[name] = v
	}
}

func hb(h Hash) []byte { return h[:] }
func tb(t Tag) []byte  { return t[:] }
