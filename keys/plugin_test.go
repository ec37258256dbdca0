package keys

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/plugin"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// TestMain makes this binary an age plugin when it is called by such a name.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if !strings.HasPrefix(name, "age-plugin-") {
		os.Exit(m.Run())
	}
	if mark := os.Getenv("MESHKEY_PLUGIN_MARK"); mark != "" {
		os.WriteFile(mark, nil, 0o600)
	}
	p, err := plugin.New(strings.TrimPrefix(name, "age-plugin-"))
	if err != nil {
		panic(err)
	}
	// The data of recipient and identity is the seed of an X25519 identity: enough to be a plugin that holds a key of its own.
	own := func(data []byte) (*age.X25519Identity, error) { return age.ParseX25519Identity(string(data)) }
	p.HandleRecipient(func(data []byte) (age.Recipient, error) {
		id, err := own(data)
		if err != nil {
			return nil, err
		}
		return id.Recipient(), nil
	})
	p.HandleIdentityAsRecipient(func(data []byte) (age.Recipient, error) {
		id, err := own(data)
		if err != nil {
			return nil, err
		}
		return id.Recipient(), nil
	})
	p.HandleIdentity(func(data []byte) (age.Identity, error) {
		if os.Getenv("MESHKEY_PLUGIN_FAILS") != "" {
			return nil, errors.New("the token is \x1b[31mnot there")
		}
		return own(data)
	})
	fs := flag.NewFlagSet(name, flag.ExitOnError)
	p.RegisterFlags(fs)
	fs.Parse(os.Args[1:])
	os.Exit(p.Main())
}

// installPlugin puts this binary into the PATH as a plugin, and returns a recipient and an identity of it, and the file that says it ran.
func installPlugin(t *testing.T, name string) (recipient, identity, ran string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "age-plugin-"+name)); err != nil {
		t.Fatal(err)
	}
	ran = filepath.Join(dir, "ran")
	t.Setenv("PATH", dir)
	t.Setenv("MESHKEY_PLUGIN_MARK", ran)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return plugin.EncodeRecipient(name, []byte(id.String())), plugin.EncodeIdentity(name, []byte(id.String())), ran
}

func allow(t *testing.T, names ...string) Plugins {
	t.Helper()
	p, err := NewPlugins(names, PluginUI{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPluginSealsAndOpens(t *testing.T) {
	to, identity, ran := installPlugin(t, "test-1")
	p := allow(t, "test-1")
	fsys, k := durable.NewMem(), SigningMaterial(KindNode, MeshID{1}, testKey(t, 1))
	recipient, err := p.ParseRecipients(to)
	if err != nil {
		t.Fatal(err)
	}
	id, err := p.ParseIdentity([]byte("# a token\n" + identity + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]Recipient{"by-recipient.age": recipient, "by-identity.age": id.Recipient()} {
		if err := WriteKeyFile(fsys, name, r, k); err != nil {
			t.Fatal(err)
		}
		got, err := ReadKeyFile(fsys, name, KindNode, MeshID{1}, Unlock{Identity: id})
		if err != nil || !got.secret.Equal(k.secret) {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(ran); err != nil {
		t.Fatal("the plugin did not run:", err)
	}
	// A plugin that fails is not a damaged file, and what it says is one harmless line.
	t.Setenv("MESHKEY_PLUGIN_FAILS", "1")
	_, err = ReadKeyFile(fsys, "by-recipient.age", KindNode, MeshID{1}, Unlock{Identity: id})
	if !errors.Is(err, ErrLocked) || errors.Is(err, ErrKeyFile) || strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Fatalf("%q", err)
	}
	// Another identity opens it all the same.
	native := newIdentity(t, fsys, "identity.txt")
	if err := WriteKeyFile(fsys, "native.age", native.Recipient(), k); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKeyFile(fsys, "native.age", KindNode, MeshID{1}, Unlock{Identity: JoinIdentities(id, nil, native)}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", t.TempDir())
	_, err = ReadKeyFile(fsys, "by-recipient.age", KindNode, MeshID{1}, Unlock{Identity: id})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "test-1") {
		t.Fatal(err)
	}
}

// A recipient or an identity out of a file never starts a program this host has not named.
func TestPluginNotAllowedIsNotRun(t *testing.T) {
	to, identity, ran := installPlugin(t, "test-1")
	for _, p := range []Plugins{{}, allow(t, "other")} {
		if _, err := p.ParseRecipients(to); !errors.Is(err, ErrPlugin) {
			t.Error(err)
		}
		if _, err := p.ParseIdentity([]byte(identity)); !errors.Is(err, ErrPlugin) {
			t.Error(err)
		}
	}
	if _, err := ParseRecipients(to); !errors.Is(err, ErrPlugin) {
		t.Error(err)
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("it ran")
	}
}

func TestPluginNames(t *testing.T) {
	for _, name := range []string{"yubikey", "tpm", "se", "fido2-hmac", "a", "0"} {
		if _, err := NewPlugins([]string{name}, PluginUI{}); err != nil {
			t.Error(name, err)
		}
	}
	for _, name := range []string{"", "Yubikey", "a b", "../x", "x/y", "-x", "x-", "é", "x.", "x_y", strings.Repeat("x", maxPluginName+1)} {
		if _, err := NewPlugins([]string{name}, PluginUI{}); err == nil {
			t.Errorf("%q is allowed", name)
		}
	}
	if _, err := NewPlugins(make([]string, maxPlugins+1), PluginUI{}); err == nil {
		t.Error("no bound")
	}
	// A name outside the alphabet inside a recipient.
	if to := plugin.EncodeRecipient("a+b", []byte("x")); to != "" {
		if _, err := (Plugins{names: []string{"a+b"}[:0]}).ParseRecipients(to); !errors.Is(err, ErrPlugin) {
			t.Error(err)
		}
	}
}

func TestIdentityErrorsDoNotQuote(t *testing.T) {
	for _, text := range []string{"AGE-SECRET-KEY-1QQQ", "AGE-PLUGIN-X-1SECRET", "secret", "AGE-SECRET-KEY-PQ-1QQQ"} {
		_, err := allow(t, "x").ParseIdentity([]byte(text))
		if !errors.Is(err, ErrKeyFile) || strings.Contains(err.Error(), "QQQ") || strings.Contains(strings.ToLower(err.Error()), "secret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
