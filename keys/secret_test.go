package keys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/wire"
)

// holder is what careless code looks like: a secret in an unexported field of a struct that is printed.
type holder struct {
	psk  PSK
	Pub  PSK
	sess Session
	key  *SigningKey
}

// leaks reports whether text contains the bytes of the secret in one of the forms a formatting verb gives them.
func leaks(text string, secret []byte) bool {
	dec := strings.Trim(fmt.Sprint(secret[4:12]), "[]")
	return strings.Contains(strings.ToLower(text), hex.EncodeToString(secret[4:12])) || strings.Contains(text, dec) ||
		strings.Contains(text, string(secret[4:12])) || strings.Contains(text, fmt.Sprintf("%#v", secret[4:12])[len("[]byte{"):40])
}

func TestSecretsAreNotPrinted(t *testing.T) {
	raw := seq(0x91)
	key, err := SigningKeyFromSeed(raw)
	if err != nil {
		t.Fatal(err)
	}
	group, err := GroupSecretFromBytes(1, raw)
	if err != nil {
		t.Fatal(err)
	}
	tk := TrafficKeyFromBytes(raw)
	session := Session{K1: tk, K2: tk, Exporter: Exporter{newSecret(raw)}}
	values := []any{
		newSecret(raw),
		PSK{newSecret(raw)},
		tk,
		Exporter{newSecret(raw)},
		BeaconKey{newSecret(raw)},
		InviteSecret{newSecret(raw)},
		group,
		session, &session, key, SigningMaterial(KindNode, MeshID{1}, key),
		[]PSK{{newSecret(raw)}},
		map[string]TrafficKey{"a": tk},
		holder{psk: PSK{newSecret(raw)}, Pub: PSK{newSecret(raw)}, sess: session, key: key},
		&holder{psk: PSK{newSecret(raw)}, Pub: PSK{newSecret(raw)}, sess: session, key: key},
	}
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%b", "%o", "%c", "%U", "%t", "%e"} {
			if text := fmt.Sprintf(verb, v); leaks(text, raw) {
				t.Errorf("%s of %T shows the secret: %s", verb, v, text)
			}
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
		if leaks(log.String(), raw) {
			t.Errorf("log of %T shows the secret: %s", v, log.String())
		}
		if b, err := json.Marshal(v); err == nil && leaks(string(b), raw) {
			t.Errorf("JSON of %T shows the secret: %s", v, b)
		}
		if b, err := wire.Marshal(v); err == nil && bytes.Contains(b, raw[4:12]) {
			t.Errorf("CBOR of %T holds the secret: %x", v, b)
		}
	}
}

func TestSecretsRefuseEncoding(t *testing.T) {
	for _, v := range []any{PSK{newSecret(seq(1))}, InviteSecret{newSecret(seq(1))}, testKey(t, 1)} {
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("JSON of %T: %s", v, b)
		}
		if b, err := wire.Marshal(v); err == nil {
			t.Errorf("CBOR of %T: %x", v, b)
		}
	}
}

func TestUnsetSecretFailsClosed(t *testing.T) {
	for name, f := range map[string]func(){
		"bytes":      func() { PSK{}.Bytes() },
		"gate":       func() { GroupSecret{}.Gate(MeshID{}) },
		"invite":     func() { InviteSecret{}.PSK(MeshID{}) },
		"exporter":   func() { Exporter{}.StreamTag(0, 0) },
		"session":    func() { NewSession(1, 0, TrafficKey{}, TrafficKey{}, Hash{}) },
		"next":       func() { (Exporter{newSecret(seq(1))}).NextStreamKey(TrafficKey{}) },
		"commitment": func() { GroupSecret{}.Commitment(MeshID{}) },
		"length":     func() { TrafficKeyFromBytes(make([]byte, 31)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of an unset key returned", name)
				}
			}()
			f()
		}()
	}
	if (PSK{}).IsSet() || !(PSK{newSecret(seq(1))}).IsSet() {
		t.Error("IsSet")
	}
	if (PSK{}).Equal(PSK{}.secret) || (PSK{newSecret(seq(1))}).Equal(PSK{}.secret) || (PSK{}).Equal(newSecret(seq(1))) {
		t.Error("an unset key equals something")
	}
	if !(PSK{newSecret(seq(1))}).Equal(newSecret(seq(1))) || (PSK{newSecret(seq(1))}).Equal(newSecret(seq(2))) {
		t.Error("Equal")
	}
}

// A caller that wipes or changes what it got or gave does not change the key.
func TestSecretsAreCopies(t *testing.T) {
	in := seq(1)
	k := TrafficKeyFromBytes(in)
	clear(in)
	clear(k.Bytes())
	if !bytes.Equal(k.Bytes(), seq(1)) {
		t.Error("the key changed")
	}
}

func TestFreshSecretsDiffer(t *testing.T) {
	if a, b := NewGroupSecret(1), NewGroupSecret(1); a.Equal(b.secret) {
		t.Error("two fresh group secrets are equal")
	}
	if a, b := NewInviteSecret(), NewInviteSecret(); a.Equal(b.secret) {
		t.Error("two fresh invite secrets are equal")
	}
	if a, b := NewSigningKey(), NewSigningKey(); a.Public() == b.Public() {
		t.Error("two fresh keys are equal")
	}
	if g := NewGroupSecret(9); g.Generation != 9 || !g.IsSet() {
		t.Error("generation")
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := GroupSecretFromBytes(1, make([]byte, n)); err == nil {
			t.Errorf("group secret of %d bytes", n)
		}
		if _, err := InviteSecretFromBytes(make([]byte, n)); err == nil {
			t.Errorf("invite secret of %d bytes", n)
		}
		if _, err := SigningKeyFromSeed(make([]byte, n)); err == nil {
			t.Errorf("seed of %d bytes", n)
		}
	}
}
