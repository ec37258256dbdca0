package identity

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// decodeInvite returns the CBOR inside an invite's text, unchecked.
func decodeInvite(text string) ([]byte, error) {
	b, err := inviteBase32.DecodeString(strings.ToUpper(strings.TrimPrefix(text, invitePrefix)))
	if err != nil {
		return nil, err
	}
	return b[:len(b)-inviteCheck], nil
}

// encodeInvite gives any bytes the text form with a correct checksum.
func encodeInvite(body []byte) string {
	sum := keys.Sum([]byte(invitePrefix), body)
	return invitePrefix + strings.ToLower(inviteBase32.EncodeToString(append(bytes.Clone(body), sum[:inviteCheck]...)))
}

// manyHeads are n heads in order.
func manyHeads(t testing.TB, n int) (heads []IssuerHead) {
	for i := range n {
		heads = append(heads, IssuerHead{Issuer: testKey(t, byte(i)).Public(), Seq: 1<<64 - 1, Hash: keys.Hash(seq(1))})
	}
	slices.SortFunc(heads, func(a, b IssuerHead) int { return bytes.Compare(a.Issuer[:], b.Issuer[:]) })
	return heads
}

func largeInvite(t testing.TB) *Invite {
	v := smallInvite(t)
	v.RootVersion, v.Expiry, v.Name = 1<<64-1, MaxTime, strings.Repeat("n", MaxName)
	v.Heads, v.Endpoints = manyHeads(t, MaxInviteHeads), nil
	for i := range MaxEndpoints {
		v.Endpoints = append(v.Endpoints, Endpoint{IP: append([]byte{0xfd, 0, byte(i)}, make([]byte, 13)...), Port: 65535})
	}
	return v
}

func TestInviteRoundTrip(t *testing.T) {
	for name, v := range map[string]*Invite{"small": smallInvite(t), "large": largeInvite(t)} {
		text := v.Encode()
		for how, s := range map[string]string{
			"as it is": text, "with space around": "  " + text + "\r\n", "broken into lines": text[:40] + "\n" + text[40:80] + "\r\n  " + text[80:],
		} {
			got, err := ParseInvite(s)
			if err != nil {
				t.Fatalf("%s, %s: %v", name, how, err)
			}
			if got.Encode() != text || !bytes.Equal(got.Secret.Bytes(), v.Secret.Bytes()) {
				t.Errorf("%s, %s: reads as something else", name, how)
			}
		}
	}
	a, b := smallInvite(t), smallInvite(t)
	b.Heads[0], b.Heads[1] = b.Heads[1], b.Heads[0]
	before := b.Heads[0]
	if a.Encode() != b.Encode() || b.Heads[0] != before {
		t.Error("the order of heads matters, or the caller's was changed")
	}
}

func TestInviteTamper(t *testing.T) {
	text := smallInvite(t).Encode()
	for i := range text {
		for _, c := range []byte("abcz2735ABC018 -.=") {
			if c == text[i] {
				continue
			}
			b := []byte(text)
			b[i] = c
			v, err := ParseInvite(string(b))
			if !errors.Is(err, ErrInvite) || v != nil {
				t.Fatalf("character %d from %c to %c: %v", i, text[i], c, err)
			}
			// A mistyped letter is told from an invite that says something wrong, but for capitals and the unused bits of the last one.
			if i >= len(invitePrefix) && i < len(text)-1 && c != ' ' && (c < 'A' || c > 'C') && !strings.Contains(err.Error(), "damaged or incomplete") {
				t.Fatalf("character %d from %c to %c: %v", i, text[i], c, err)
			}
		}
		if v, err := ParseInvite(text[:i]); !errors.Is(err, ErrInvite) || v != nil {
			t.Fatalf("cut to %d characters: %v", i, err)
		}
		if v, err := ParseInvite(text[:i] + text[i:i+1] + text[i:]); !errors.Is(err, ErrInvite) || v != nil {
			t.Fatalf("character %d doubled: %v", i, err)
		}
	}
	for name, s := range map[string]string{
		"empty": "", "prefix": "mk1i", "other version": "mk2i" + text[4:], "upper case": strings.ToUpper(text), "upper case behind the prefix": "mk1i" + strings.ToUpper(text[4:]),
		"padded": text + "=", "long": text + strings.Repeat(" ", 2*MaxInvite+64), "checksum only": encodeInvite(nil), "more behind": text + "aaaaaaaa",
	} {
		if v, err := ParseInvite(s); !errors.Is(err, ErrInvite) || v != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The last character has bits that mean nothing; they must be zero.
	last := strings.IndexByte("abcdefghijklmnopqrstuvwxyz234567", text[len(text)-1])
	if unused := (len(text) - len(invitePrefix)) * 5 % 8; unused == 0 {
		t.Error("the vector has no unused bits: the test tests nothing")
	} else if v, err := ParseInvite(text[:len(text)-1] + string("abcdefghijklmnopqrstuvwxyz234567"[last|1])); !errors.Is(err, ErrInvite) || v != nil {
		t.Errorf("unused bits set: %v", err)
	}
}

func TestInviteFieldChecks(t *testing.T) {
	good := func() inviteWire {
		v := smallInvite(t)
		slices.SortFunc(v.Heads, func(a, b IssuerHead) int { return bytes.Compare(a.Issuer[:], b.Issuer[:]) })
		return inviteWire{
			Mesh: v.Mesh, ID: v.ID, Secret: [32]byte(v.Secret.Bytes()), RootVersion: v.RootVersion, RootHash: v.RootHash, Heads: v.Heads,
			Endpoints: v.Endpoints, IssuerNode: v.IssuerNode, Expiry: v.Expiry, Name: v.Name,
		}
	}
	if _, err := ParseInvite(encodeInvite(wire.MustMarshal(good()))); err != nil {
		t.Fatal(err)
	}
	endpoint := func(ip []byte, port uint16) func(*inviteWire) {
		return func(w *inviteWire) { w.Endpoints = []Endpoint{{IP: ip, Port: port}} }
	}
	changes := map[string]func(*inviteWire){
		"no mesh":               func(w *inviteWire) { w.Mesh = keys.MeshID{} },
		"root version 0":        func(w *inviteWire) { w.RootVersion = 0 },
		"no root hash":          func(w *inviteWire) { w.RootHash = keys.Hash{} },
		"no expiry":             func(w *inviteWire) { w.Expiry = 0 },
		"negative expiry":       func(w *inviteWire) { w.Expiry = -1 },
		"expiry out of time":    func(w *inviteWire) { w.Expiry = MaxTime + 1 },
		"no name":               func(w *inviteWire) { w.Name = "" },
		"bad name":              func(w *inviteWire) { w.Name = "a.b" },
		"no endpoint":           func(w *inviteWire) { w.Endpoints = nil },
		"too many endpoints":    func(w *inviteWire) { w.Endpoints = append(largeInvite(t).Endpoints, w.Endpoints...) },
		"too many heads":        func(w *inviteWire) { w.Heads = manyHeads(t, MaxInviteHeads+1) },
		"heads not sorted":      func(w *inviteWire) { w.Heads = []IssuerHead{w.Heads[1], w.Heads[0]} },
		"a head twice":          func(w *inviteWire) { w.Heads = []IssuerHead{w.Heads[0], w.Heads[0]} },
		"head without number":   func(w *inviteWire) { w.Heads = []IssuerHead{{Issuer: w.Heads[0].Issuer, Hash: w.Heads[0].Hash}} },
		"head without hash":     func(w *inviteWire) { w.Heads = []IssuerHead{{Issuer: w.Heads[0].Issuer, Seq: 1}} },
		"endpoint without port": endpoint([]byte{10, 0, 0, 1}, 0),
		"endpoint of 5 bytes":   endpoint([]byte{10, 0, 0, 1, 2}, 80),
		"endpoint empty":        endpoint(nil, 80),
		"IPv4 in IPv6":          endpoint(append(append(make([]byte, 10), 0xff, 0xff), 10, 0, 0, 1), 80),
		"IPv4 any":              endpoint([]byte{0, 0, 0, 0}, 80),
		"IPv6 any":              endpoint(make([]byte, 16), 80),
		"IPv4 multicast":        endpoint([]byte{224, 0, 0, 1}, 80),
		"IPv6 multicast":        endpoint(append([]byte{0xff, 2}, make([]byte, 14)...), 80),
		"IPv4 broadcast":        endpoint([]byte{255, 255, 255, 255}, 80),
	}
	for _, k := range weakKeys(t) {
		changes["issuer node "+keys.Hash(k).String()] = func(w *inviteWire) { w.IssuerNode = k }
		changes["head of "+keys.Hash(k).String()] = func(w *inviteWire) { w.Heads = []IssuerHead{{Issuer: k, Seq: 1, Hash: w.Heads[0].Hash}} }
	}
	for name, f := range changes {
		w := good()
		f(&w)
		if v, err := ParseInvite(encodeInvite(wire.MustMarshal(w))); !errors.Is(err, ErrInvite) || v != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, body := range map[string][]byte{
		"not CBOR": []byte("x"), "not canonical": append([]byte{0xb8, 0x0a}, wire.MustMarshal(good())[1:]...), "too long": make([]byte, MaxInvite+1),
	} {
		if v, err := ParseInvite(encodeInvite(body)); !errors.Is(err, ErrInvite) || v != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, err := ParseInvite(encodeInvite(make([]byte, MaxInvite+1))); v != nil || err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("too long: %v", err)
	}
}

func TestInviteID(t *testing.T) {
	id := NewInviteID()
	if got, err := ParseInviteID(id.String()); err != nil || got != id || NewInviteID() == id {
		t.Errorf("%v %v", got, err)
	}
	for _, s := range []string{"", "00", id.String() + "00", id.String()[:15] + "x"} {
		if got, err := ParseInviteID(s); !errors.Is(err, ErrInvite) || got != (InviteID{}) {
			t.Errorf("%q: %v %v", s, got, err)
		}
	}
}

func TestEndpointOf(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1:80", "[::ffff:10.0.0.1]:80": "10.0.0.1:80", "[fe80::1%eth0]:80": "[fe80::1]:80", "127.0.0.1:1": "127.0.0.1:1",
	} {
		got, err := EndpointOf(netip.MustParseAddrPort(in)).AddrPort()
		if err != nil || got.String() != want {
			t.Errorf("%s: %v %v", in, got, err)
		}
	}
	if _, err := EndpointOf(netip.AddrPort{}).AddrPort(); err == nil {
		t.Error("no address is an endpoint")
	}
}

// FuzzInvite: what parses is, apart from white space, what would be written, and an error comes without a value.
func FuzzInvite(f *testing.F) {
	f.Add(smallInvite(f).Encode())
	f.Add(largeInvite(f).Encode())
	f.Add("mk1i")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseInvite(s)
		if err != nil {
			if v != nil || !errors.Is(err, ErrInvite) {
				t.Fatalf("%v with %v", v, err)
			}
			return
		}
		if v.Encode() != strings.Join(strings.Fields(s), "") {
			t.Fatalf("re-encodes as %s", v.Encode())
		}
	})
}

// FuzzInviteBody gives the fuzzer's bytes a correct checksum, so that it gets past it.
func FuzzInviteBody(f *testing.F) {
	for _, v := range []*Invite{smallInvite(f), largeInvite(f)} {
		b, err := decodeInvite(v.Encode())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := ParseInvite(encodeInvite(body))
		if err != nil {
			if v != nil {
				t.Fatal("a value comes with the error")
			}
			return
		}
		if v.Encode() != encodeInvite(body) {
			t.Fatalf("re-encodes as %s", v.Encode())
		}
		for _, e := range v.Endpoints {
			if _, err := e.AddrPort(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
