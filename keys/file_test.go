package keys

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
)

// cheapWork keeps scrypt out of the tests' time; one test seals with what people get.
const cheapWork = 4

func cheap(t testing.TB, passphrase string) Recipient {
	t.Helper()
	r, err := passphraseRecipient(passphrase, cheapWork)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ask(passphrase string) Unlock {
	return Unlock{Passphrase: func() (string, error) { return passphrase, nil }}
}

func neverAsk(t testing.TB) func() (string, error) {
	return func() (string, error) {
		t.Error("the passphrase was asked for")
		return "", nil
	}
}

func newIdentity(t testing.TB, fsys durable.FS, name string) *FileIdentity {
	t.Helper()
	id, err := NewIdentityFile(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestKeyFileRoundTrip(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	id := newIdentity(t, fsys, "identity.txt")
	signing, group := testKey(t, 1), NewGroupSecret(7)
	with := map[string]struct {
		to     Recipient
		unlock Unlock
	}{
		"identity":   {id.Recipient(), Unlock{Identity: id, Passphrase: neverAsk(t)}},
		"passphrase": {cheap(t, "open sesame"), Unlock{Identity: id, Passphrase: ask("open sesame").Passphrase}},
	}
	for how, w := range with {
		for _, kind := range []KeyKind{KindRoot, KindIssuer, KindNode, KindGroup} {
			name := string(kind) + "-" + how + ".age"
			k := SigningMaterial(kind, mesh, signing)
			if kind == KindGroup {
				k = GroupMaterial(mesh, group)
			}
			if err := WriteKeyFile(fsys, name, w.to, k); err != nil {
				t.Fatal(err)
			}
			for _, m := range []MeshID{mesh, {}} {
				got, err := ReadKeyFile(fsys, name, kind, m, w.unlock)
				if err != nil || got.Kind != kind || got.Mesh != mesh || got.Generation != k.Generation || !got.secret.Equal(k.secret) {
					t.Fatalf("%s: %+v %v", name, got, err)
				}
				s, serr := got.SigningKey()
				g, gerr := got.GroupSecret()
				if kind == KindGroup {
					if gerr != nil || !g.Equal(group.secret) || g.Generation != 7 || !errors.Is(serr, ErrOtherKey) || s != nil {
						t.Errorf("%s: %v %v %v", name, g, gerr, serr)
					}
				} else if serr != nil || s.Public() != signing.Public() || !errors.Is(gerr, ErrOtherKey) || g.IsSet() {
					t.Errorf("%s: %v %v %v", name, s, serr, gerr)
				}
			}
		}
	}
}

func TestKeyFileIsPrivateAndDurable(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	fsys, err := durable.OS(dir)
	if err != nil {
		t.Fatal(err)
	}
	id := newIdentity(t, fsys, "identity.txt")
	if err := WriteKeyFile(fsys, "node.age", id.Recipient(), SigningMaterial(KindNode, MeshID{1}, testKey(t, 1))); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"identity.txt", "node.age"} {
		info, err := os.Stat(dir + "/" + name)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
	}
	sealed, err := os.ReadFile(dir + "/node.age")
	if err != nil || bytes.Contains(sealed, seq(1)) || bytes.Contains(sealed, MeshIDBytes(MeshID{1})) {
		t.Errorf("the sealed file shows its content: %v", err)
	}

	// A power loss at any step leaves no file or the whole file, and whole it is once WriteKeyFile has returned.
	for step := 1; ; step++ {
		m := durable.NewMem()
		m.CutPower(step, true)
		err := WriteKeyFile(m, "node.age", id.Recipient(), SigningMaterial(KindNode, MeshID{1}, testKey(t, 1)))
		m.CrashKeeping(uint64(step))
		k, rerr := ReadKeyFile(m, "node.age", KindNode, MeshID{1}, Unlock{Identity: id})
		if rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			t.Fatalf("power loss at step %d: %v", step, rerr)
		}
		if err == nil {
			if rerr != nil || !k.secret.IsSet() {
				t.Fatalf("written, and gone after a power loss: %v", rerr)
			}
			break
		}
	}
}

// MeshIDBytes is the id as bytes.
func MeshIDBytes(m MeshID) []byte { return m[:] }

func TestKeyFilesAreNeverOverwritten(t *testing.T) {
	fsys := durable.NewMem()
	id := newIdentity(t, fsys, "identity.txt")
	first := SigningMaterial(KindNode, MeshID{1}, testKey(t, 1))
	if err := WriteKeyFile(fsys, "node.age", id.Recipient(), first); err != nil {
		t.Fatal(err)
	}
	err := WriteKeyFile(fsys, "node.age", id.Recipient(), SigningMaterial(KindNode, MeshID{1}, testKey(t, 2)))
	if !errors.Is(err, fs.ErrExist) || !strings.Contains(fmt.Sprint(err), "never overwritten") {
		t.Errorf("err = %v", err)
	}
	if k, err := ReadKeyFile(fsys, "node.age", KindNode, MeshID{1}, Unlock{Identity: id}); err != nil || !k.secret.Equal(first.secret) {
		t.Errorf("the first key is gone: %v", err)
	}
	if _, err := NewIdentityFile(fsys, "identity.txt"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second identity: %v", err)
	}
	if again, err := ReadIdentityFile(fsys, "identity.txt"); err != nil {
		t.Error(err)
	} else if _, err := ReadKeyFile(fsys, "node.age", KindNode, MeshID{1}, Unlock{Identity: again}); err != nil {
		t.Errorf("the identity read again does not open: %v", err)
	}
}

// blind hides that a file exists, as for a writer that lost a race after it had looked.
type blind struct{ *durable.Mem }

func (b blind) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if flag == os.O_RDONLY {
		return nil, fs.ErrNotExist
	}
	return b.Mem.OpenFile(name, flag, perm)
}

func TestKeyFilesAreNotOverwrittenInARace(t *testing.T) {
	fsys := durable.NewMem()
	id := newIdentity(t, fsys, "identity.txt")
	first := SigningMaterial(KindNode, MeshID{1}, testKey(t, 1))
	if err := WriteKeyFile(fsys, "node.age", id.Recipient(), first); err != nil {
		t.Fatal(err)
	}
	if err := WriteKeyFile(blind{fsys}, "node.age", id.Recipient(), SigningMaterial(KindNode, MeshID{1}, testKey(t, 2))); !errors.Is(err, fs.ErrExist) {
		t.Errorf("err = %v", err)
	}
	if k, err := ReadKeyFile(fsys, "node.age", KindNode, MeshID{1}, Unlock{Identity: id}); err != nil || !k.secret.Equal(first.secret) {
		t.Errorf("the first key is gone: %v", err)
	}
}

func TestKeyFileErrors(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	id, other := newIdentity(t, fsys, "identity.txt"), newIdentity(t, fsys, "other.txt")
	node := SigningMaterial(KindNode, mesh, testKey(t, 1))
	if err := WriteKeyFile(fsys, "node.age", id.Recipient(), node); err != nil {
		t.Fatal(err)
	}
	if err := WriteKeyFile(fsys, "root.age", cheap(t, "right"), SigningMaterial(KindRoot, mesh, testKey(t, 2))); err != nil {
		t.Fatal(err)
	}
	cancelled := errors.New("cancelled")
	for name, c := range map[string]struct {
		file string
		kind KeyKind
		mesh MeshID
		with Unlock
		want error
		says string
	}{
		"no file":               {"absent.age", KindNode, mesh, Unlock{Identity: id}, fs.ErrNotExist, "absent.age"},
		"wrong passphrase":      {"root.age", KindRoot, mesh, ask("wrong"), ErrPassphrase, "root.age: wrong passphrase"},
		"empty passphrase":      {"root.age", KindRoot, mesh, ask(""), ErrPassphrase, "empty"},
		"no passphrase":         {"root.age", KindRoot, mesh, Unlock{Identity: id}, ErrLocked, "needs a passphrase"},
		"cancelled":             {"root.age", KindRoot, mesh, Unlock{Passphrase: func() (string, error) { return "", cancelled }}, cancelled, "root.age"},
		"no identity":           {"node.age", KindNode, mesh, ask("right"), ErrLocked, "needs an identity file"},
		"nothing given":         {"node.age", KindNode, mesh, Unlock{}, ErrLocked, "needs an identity file"},
		"other identity":        {"node.age", KindNode, mesh, Unlock{Identity: other}, ErrLocked, "does not open it"},
		"wrong kind":            {"node.age", KindIssuer, mesh, Unlock{Identity: id}, ErrOtherKey, "kind is node, not issuer"},
		"wrong mesh":            {"node.age", KindNode, MeshID{2}, Unlock{Identity: id}, ErrOtherKey, "mesh is 01000000, not 02000000"},
		"identity as a key":     {"identity.txt", KindNode, mesh, Unlock{Identity: id}, ErrKeyFile, "not an age file"},
		"name outside the root": {"../node.age", KindNode, mesh, Unlock{Identity: id}, fs.ErrInvalid, "node.age"},
	} {
		k, err := ReadKeyFile(fsys, c.file, c.kind, c.mesh, c.with)
		if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if k.secret.IsSet() || k.Kind != "" {
			t.Errorf("%s: a key comes with the error", name)
		}
	}
}

// writeRaw puts bytes into a file as someone with access to the directory could.
func writeRaw(t testing.TB, fsys durable.FS, name string, perm fs.FileMode, data []byte) {
	t.Helper()
	f, err := fsys.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
}

func TestKeyFileTamper(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	id := newIdentity(t, fsys, "identity.txt")
	for name, c := range map[string]struct {
		to     Recipient
		unlock Unlock
	}{
		"identity":   {id.Recipient(), Unlock{Identity: id}},
		"passphrase": {cheap(t, "right"), ask("right")},
	} {
		sealed, err := c.to.seal(wire.MustMarshal(keyBody{Version: 1, Kind: KindNode, Mesh: mesh, Secret: [32]byte(seq(1))}))
		if err != nil {
			t.Fatal(err)
		}
		writeRaw(t, fsys, "ok.age", 0o600, sealed)
		if _, err := ReadKeyFile(fsys, "ok.age", KindNode, mesh, c.unlock); err != nil {
			t.Fatal(err)
		}
		try := func(what string, b []byte, says ...string) {
			writeRaw(t, fsys, "bad.age", 0o600, b)
			k, err := ReadKeyFile(fsys, "bad.age", KindNode, mesh, c.unlock)
			if !errors.Is(err, ErrKeyFile) && !errors.Is(err, ErrPassphrase) && !errors.Is(err, ErrLocked) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			for _, s := range says {
				if !strings.Contains(fmt.Sprint(err), s) {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
			if k.secret.IsSet() {
				t.Errorf("%s, %s: a key comes with the error", name, what)
			}
		}
		for i := range sealed {
			b := bytes.Clone(sealed)
			b[i] ^= 0x01
			try(fmt.Sprintf("byte %d changed", i), b)
			try(fmt.Sprintf("cut to %d bytes", i), sealed[:i])
		}
		try("a byte behind it", append(bytes.Clone(sealed), 0))
		try("32 KiB of nothing", make([]byte, maxKeyFile))
		try("longer than any", append(bytes.Clone(sealed), make([]byte, maxKeyFile)...), "longer than")
		end := bytes.Clone(sealed)
		end[len(end)-1] ^= 1
		try("the end changed", end, "damaged")
	}
}

func TestKeyBodyChecks(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	id := newIdentity(t, fsys, "identity.txt")
	good := keyBody{Version: 1, Kind: KindNode, Mesh: mesh, Secret: [32]byte(seq(1))}
	for name, c := range map[string]struct {
		plain []byte
		says  string
	}{
		"later version":  {wire.MustMarshal(keyBody{2, KindNode, mesh, 0, good.Secret}), "format version 2"},
		"unknown kind":   {wire.MustMarshal(keyBody{1, "witness", mesh, 0, good.Secret}), "unknown kind"},
		"no kind":        {wire.MustMarshal(keyBody{1, "", mesh, 0, good.Secret}), "unknown kind"},
		"no mesh":        {wire.MustMarshal(keyBody{1, KindNode, MeshID{}, 0, good.Secret}), "no mesh"},
		"not CBOR":       {[]byte("node key"), "content is no key"},
		"empty":          {nil, "content is no key"},
		"not canonical":  {append([]byte{0xb8, 0x05}, wire.MustMarshal(good)[1:]...), "content is no key"},
		"too long":       {wire.MustMarshal(keyBody{1, KeyKind(strings.Repeat("x", maxKeyBody)), mesh, 0, good.Secret}), "damaged"},
		"short secret":   {wire.MustMarshal(map[uint64]any{1: 1, 2: "node", 3: mesh, 4: 0, 5: seq(1)[:31]}), "content is no key"},
		"another field":  {wire.MustMarshal(map[uint64]any{1: 1, 2: "node", 3: mesh, 4: 0, 5: seq(1), 6: 0}), "content is no key"},
		"missing secret": {wire.MustMarshal(map[uint64]any{1: 1, 2: "node", 3: mesh, 4: 0}), "content is no key"},
	} {
		sealed, err := id.Recipient().seal(c.plain)
		if err != nil {
			t.Fatal(err)
		}
		writeRaw(t, fsys, "bad.age", 0o600, sealed)
		if _, err := ReadKeyFile(fsys, "bad.age", KindNode, mesh, Unlock{Identity: id}); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, k := range map[string]KeyMaterial{
		"kind": {Kind: "x", Mesh: mesh, secret: newSecret(seq(1))}, "mesh": {Kind: KindNode, secret: newSecret(seq(1))},
	} {
		if err := WriteKeyFile(fsys, "new.age", id.Recipient(), k); !errors.Is(err, ErrKeyFile) {
			t.Errorf("wrote a file without %s: %v", name, err)
		}
	}
	if err := WriteKeyFile(fsys, "new.age", Recipient{}, SigningMaterial(KindNode, mesh, testKey(t, 1))); err == nil {
		t.Error("sealed to nobody")
	}
	if most := len(wire.MustMarshal(keyBody{1, KindIssuer, mesh, 1<<64 - 1, good.Secret})); most != 91 || most > maxKeyBody {
		t.Errorf("the largest body has %d bytes", most)
	}
}

func TestOpenFilesRefused(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	id := newIdentity(t, fsys, "identity.txt")
	sealed, err := id.Recipient().seal(wire.MustMarshal(keyBody{Version: 1, Kind: KindNode, Mesh: mesh, Secret: [32]byte(seq(1))}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := durable.ReadFile(fsys, "identity.txt", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, perm := range []fs.FileMode{0o640, 0o604, 0o620, 0o610, 0o660, 0o644} {
		name := fmt.Sprintf("node-%o.age", perm)
		writeRaw(t, fsys, name, perm, sealed)
		if _, err := ReadKeyFile(fsys, name, KindNode, mesh, Unlock{Identity: id}); err == nil || !strings.Contains(err.Error(), "chmod 600 "+name) {
			t.Errorf("%o: %v", perm, err)
		}
		name = fmt.Sprintf("identity-%o.txt", perm)
		writeRaw(t, fsys, name, perm, text)
		if _, err := ReadIdentityFile(fsys, name); err == nil || !strings.Contains(err.Error(), "chmod 600 "+name) {
			t.Errorf("%o: %v", perm, err)
		}
	}
	writeRaw(t, fsys, "ro.age", 0o400, sealed)
	if _, err := ReadKeyFile(fsys, "ro.age", KindNode, mesh, Unlock{Identity: id}); err != nil {
		t.Error(err)
	}
}

// A planted file must not make the daemon spend 4 GiB on scrypt.
func TestScryptWorkIsBounded(t *testing.T) {
	fsys := durable.NewMem()
	for work, want := range map[string]error{"4": ErrPassphrase, "21": ErrKeyFile, "30": ErrKeyFile, "0": ErrKeyFile, "-1": ErrKeyFile} {
		sealed, err := cheap(t, "right").seal([]byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		planted := bytes.Replace(sealed, []byte(" 4\n"), []byte(" "+work+"\n"), 1)
		if work != "4" && bytes.Equal(planted, sealed) {
			t.Fatalf("no work factor in %q", sealed[:80])
		}
		writeRaw(t, fsys, "root.age", 0o600, planted)
		with := ask("right")
		if work == "4" {
			with = ask("wrong")
		}
		if _, err := ReadKeyFile(fsys, "root.age", KindRoot, MeshID{1}, with); !errors.Is(err, want) {
			t.Errorf("work %s: %v", work, err)
		}
	}
}

func TestPassphraseRecipientWork(t *testing.T) {
	r, err := PassphraseRecipient("right")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := r.seal([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(string(sealed), "\n---")
	if !strings.Contains(header, fmt.Sprintf(" %d\n", scryptWork)) || scryptWork < 18 || maxScryptWork < scryptWork {
		t.Errorf("work factor in %q", header)
	}
	if _, err := PassphraseRecipient(""); err == nil {
		t.Error("empty passphrase accepted")
	}
}

func TestNewPassphrases(t *testing.T) {
	for pass, good := range map[string]bool{
		"": false, "x": false, "swordfish": false, "correct hors": true, "correct hor": false, "aaaaaaaaaaaaaaaaaaaaaaaa": false, "abcdeabcdeabcde": false,
		"abcdefabcdef": true, "äöüßéèäöüßéè": true, "äöüßéè": false,
	} {
		if err := CheckNewPassphrase(pass); (err == nil) != good || err != nil && !errors.Is(err, ErrWeakPassphrase) {
			t.Errorf("%q: %v", pass, err)
		}
	}
	// What a file was sealed to before stays good.
	if _, err := PassphraseRecipient("x"); err != nil {
		t.Error(err)
	}
}

func TestParseRecipients(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	classic, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	second, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	pq, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		to    []string
		opens []fmt.Stringer
	}{
		"classic":      {[]string{classic.Recipient().String()}, []fmt.Stringer{classic}},
		"two":          {[]string{classic.Recipient().String(), second.Recipient().String()}, []fmt.Stringer{classic, second}},
		"post-quantum": {[]string{pq.Recipient().String()}, []fmt.Stringer{pq}},
	} {
		r, err := ParseRecipients(c.to...)
		if err != nil {
			t.Fatal(name, err)
		}
		file := name + ".age"
		if err := WriteKeyFile(fsys, file, r, SigningMaterial(KindRoot, mesh, testKey(t, 1))); err != nil {
			t.Fatal(name, err)
		}
		for _, secret := range c.opens {
			id, err := ParseIdentity([]byte("# a comment\n" + secret.String() + "\n"))
			if err != nil {
				t.Fatal(name, err)
			}
			if _, err := ReadKeyFile(fsys, file, KindRoot, mesh, Unlock{Identity: id}); err != nil {
				t.Error(name, err)
			}
			// What an identity opens it can also seal to.
			if err := WriteKeyFile(fsys, "again-"+file+secret.String()[:20], id.Recipient(), SigningMaterial(KindRoot, mesh, testKey(t, 1))); err != nil {
				t.Error(name, err)
			}
		}
	}
	for name, list := range map[string][]string{
		"none":         {},
		"empty":        {""},
		"comment":      {"# age1"},
		"two in one":   {classic.Recipient().String() + "\n" + second.Recipient().String()},
		"secret":       {classic.String()},
		"ssh":          {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJpQ"},
		"long":         {strings.Repeat("a", maxRecipientText+1)},
		"one is wrong": {classic.Recipient().String(), "age1x"},
		"too many":     slices.Repeat([]string{classic.Recipient().String()}, maxRecipients+1),
	} {
		_, err := ParseRecipients(list...)
		if err == nil {
			t.Errorf("%s accepted", name)
		} else if strings.Contains(err.Error(), "AGE-SECRET") {
			t.Errorf("%s: the error repeats the secret", name)
		} else if name == "long" && !strings.Contains(err.Error(), "too long") {
			t.Errorf("%s: %v", name, err)
		}
	}
	mixed, err := ParseRecipients(classic.Recipient().String(), pq.Recipient().String())
	if err == nil {
		if err := WriteKeyFile(fsys, "mixed.age", mixed, SigningMaterial(KindRoot, mesh, testKey(t, 1))); err == nil {
			t.Error("a post-quantum recipient was weakened by a classic one")
		}
	}
	if n := len(pq.Recipient().String()); n > maxRecipientText {
		t.Errorf("a post-quantum recipient has %d characters", n)
	}
	var many []string
	for range maxRecipients {
		many = append(many, pq.Recipient().String())
	}
	r, err := ParseRecipients(many...)
	if err != nil {
		t.Fatal(err)
	}
	if sealed, err := r.seal(make([]byte, maxKeyBody)); err != nil || len(sealed) > maxKeyFile {
		t.Errorf("sealed to %d post-quantum recipients: %d bytes, %v", maxRecipients, len(sealed), err)
	}
}

func TestParseIdentityRefuses(t *testing.T) {
	good, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	secret := good.String()
	last := "Q"
	if strings.HasSuffix(secret, last) {
		last = "P"
	}
	for name, text := range map[string]string{
		"empty":     "",
		"comment":   "# nothing\n",
		"recipient": good.Recipient().String(),
		"damaged":   secret[:len(secret)-1] + last,
		"cut":       secret[:40],
		"not UTF-8": "\xff",
		"long":      secret + strings.Repeat("\n", maxKeyFile),
		"many":      strings.Repeat(secret+"\n", maxRecipients+1),
		"plugin":    "AGE-PLUGIN-YUBIKEY-1QQQQ",
	} {
		id, err := ParseIdentity([]byte(text))
		if !errors.Is(err, ErrKeyFile) || id != nil {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), secret[15:30]) {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
	}
	fsys := durable.NewMem()
	writeRaw(t, fsys, "bad.txt", 0o600, []byte("x"))
	if _, err := ReadIdentityFile(fsys, "bad.txt"); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), "bad.txt") {
		t.Error(err)
	}
	if _, err := ReadIdentityFile(fsys, "absent.txt"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if id := newIdentity(t, fsys, "id.txt"); fmt.Sprintf("%v %+v %#v %s %d", id, id, id, id, id) != strings.TrimSpace(strings.Repeat("[age identity] ", 5)) {
		t.Error("identity printed")
	}
}

// TestCommittedKeyFiles opens files written by an earlier build: what is sealed today opens tomorrow.
func TestCommittedKeyFiles(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID(seq(0))
	read := func(name string) []byte {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		writeRaw(t, fsys, name, 0o600, b)
		return b
	}
	id, err := ParseIdentity(read("identity.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		kind KeyKind
		with Unlock
	}{
		"node.age": {KindNode, Unlock{Identity: id}}, "group.age": {KindGroup, Unlock{Identity: id}}, "root.age": {KindRoot, ask("correct horse")},
	} {
		read(name)
		k, err := ReadKeyFile(fsys, name, c.kind, mesh, c.with)
		if err != nil || !bytes.Equal(k.secret.Bytes(), seq(byte(len(name)))) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
