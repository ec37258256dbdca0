package config

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEmptyFileIsAllDefaults(t *testing.T) {
	for _, data := range []string{"", "# nothing\n", "[network]\n[mesh]\n[control]\n[log]\n[audit]\n"} {
		c, err := Parse("f", []byte(data))
		if err != nil {
			t.Fatal(err)
		}
		if l := c.ListenAddrs(); len(l) != 1 || l[0].String() != "[::]:7477" {
			t.Errorf("listens on %v", l)
		}
		if c.BeaconPort() != 7477 || c.LogLevel() != slog.LevelInfo || c.LogJSON() || c.AuditMode() != AuditDegraded || len(c.ExtraEndpoints()) != 0 {
			t.Errorf("%+v", c)
		}
		if name, _, known := c.ReadGroup(); name != "" || known {
			t.Errorf("group %q", name)
		}
	}
}

const full = `
[network]
listen = ["127.0.0.1:7001", "[::1]:7001"]
beacon_port = 7000
loopback_only = true
interfaces = ["eth*", "lo"]
ignore_interfaces = ["docker?"]

[mesh]
seeds = ["nas.example:7477", "192.0.2.1:7477"]
endpoints = ["203.0.113.9:7477"]

[control]
read_group = "adm"

[log]
level = "debug"
format = "json"

[audit]
mode = "strict"
`

func TestFullFile(t *testing.T) {
	c, err := Parse("f", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprintln(c.ListenAddrs(), c.BeaconPort(), c.Network.LoopbackOnly, c.Network.Interfaces, c.Network.IgnoreInterfaces, c.Mesh.Seeds,
		c.ExtraEndpoints(), c.Control.ReadGroup, c.LogLevel(), c.LogJSON(), c.AuditMode())
	want := "[127.0.0.1:7001 [::1]:7001] 7000 true [eth* lo] [docker?] [nas.example:7477 192.0.2.1:7477] [203.0.113.9:7477] adm DEBUG true strict\n"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestLoopbackOnlyListensOnLoopback(t *testing.T) {
	c, err := Parse("f", []byte("[network]\nloopback_only = true\n"))
	if err != nil || c.ListenAddrs()[0].String() != "127.0.0.1:7477" {
		t.Fatalf("%v, %v", c.ListenAddrs(), err)
	}
	if _, err := Parse("f", []byte("[network]\nloopback_only = true\nlisten = [\"[::]:7477\"]\n")); err == nil {
		t.Fatal("loopback only, and a listener on all addresses")
	}
}

func TestGroupByNumber(t *testing.T) {
	c, err := Parse("f", []byte("[control]\nread_group = \"1234\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, id, known := c.ReadGroup(); !known || id != 1234 {
		t.Fatalf("%d, %v", id, known)
	}
}

func TestUnknownKeyIsRefusedWithItsPlace(t *testing.T) {
	for data, place := range map[string]string{
		"[network]\nlisten = []\nlisen = []\n":  "meshkey.toml:3:1: unknown key \"network.lisen\"",
		"[netwrok]\nlisten = []\n":              "meshkey.toml:1:",
		"level = \"info\"\n":                    "meshkey.toml:1:1: unknown key \"level\"",
		"[mesh]\n  seedz = [\"a:1\"]\n":         "meshkey.toml:2:3: unknown key",
		"[log]\nlevel = \"info\"\n[log.x]\na=1": "meshkey.toml:",
	} {
		c, err := Parse("meshkey.toml", []byte(data))
		if err == nil || c != nil || !strings.HasPrefix(err.Error(), place) {
			t.Errorf("%q: %v, want %s…", data, err, place)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Line == 0 {
			t.Errorf("%q: no line", data)
		}
	}
}

func TestMistakesNameTheirKey(t *testing.T) {
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprintf("host%d:1", i))
	}
	for data, want := range map[string]string{
		"[network]\nbeacon_port = 70000":                         "network.beacon_port",
		"[network]\nbeacon_port = -1":                            "network.beacon_port",
		"[network]\nbeacon_port = \"x\"":                         "2:",
		"[network]\nlisten = [\"7477\"]":                         "network.listen",
		"[network]\nlisten = [\"host:1\"]":                       "network.listen",
		"[network]\nlisten = [\"224.0.0.1:1\"]":                  "network.listen",
		"[network]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]": "twice",
		"[network]\nlisten = 7477":                               "2:",
		"[network]\ninterfaces = [\"\"]":                         "network.interfaces",
		"[network]\ninterfaces = [\"a/b\"]":                      "network.interfaces",
		"[network]\nignore_interfaces = [\"[\"]":                 "network.ignore_interfaces",
		"[mesh]\nseeds = [\"host\"]":                             "mesh.seeds",
		"[mesh]\nseeds = [\"unix:/a\"]":                          "mesh.seeds",
		"[mesh]\nseeds = [\"80\"]":                               "mesh.seeds",
		"[mesh]\nseeds = [" + strings.Join(many, ",") + "]":      "mesh.seeds",
		"[mesh]\nendpoints = [\"0.0.0.0:1\"]":                    "mesh.endpoints",
		"[mesh]\nendpoints = [\"1.2.3.4:0\"]":                    "mesh.endpoints",
		"[mesh]\nendpoints = [\"[fe80::1%eth0]:1\"]":             "mesh.endpoints",
		"[control]\nread_group = \"a b\"":                        "control.read_group",
		"[log]\nlevel = \"loud\"":                                "log.level",
		"[log]\nformat = \"xml\"":                                "log.format",
		"[audit]\nmode = \"off\"":                                "audit.mode",
		"[audit\nmode = \"open\"":                                "1:",
		"[log]\nlevel = \"info\"\nlevel = \"warn\"":              "3:",
		"\x00":                             "1:",
		strings.Repeat("#", 64<<10) + "\n": "longer than",
	} {
		c, err := Parse("f", []byte(data))
		if err == nil || c != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v; want %s", data, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	if c, err := Load(filepath.Join(dir, "none.toml")); err != nil || c.BeaconPort() != 7477 {
		t.Fatalf("a missing file: %v", err)
	}
	name := filepath.Join(dir, "f.toml")
	if err := os.WriteFile(name, []byte(full), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := Load(name); err != nil || c.BeaconPort() != 7000 {
		t.Fatal(err)
	}
	if _, err := Load(dir); err == nil {
		t.Fatal("a directory was read")
	}
	if err := os.WriteFile(name, []byte(full+strings.Repeat("#", 64<<10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(name); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Fatalf("an oversized file: %v", err)
	}
}

func TestPaths(t *testing.T) {
	user := Surroundings{Home: "/home/me"}
	xdg := Surroundings{Home: "/home/me", XDGConfig: "/c", XDGState: "/s", XDGRuntime: "/run/user/1000"}
	for name, c := range map[string]struct {
		s           Surroundings
		given, want Paths
	}{
		"root":         {Surroundings{Root: true, Home: "/root"}, Paths{}, Paths{"/var/lib/meshkey", "/etc/meshkey/meshkey.toml", "/run/meshkey/meshkey.sock"}},
		"user":         {user, Paths{}, Paths{"/home/me/.local/state/meshkey", "/home/me/.config/meshkey/meshkey.toml", "/home/me/.local/state/meshkey/meshkey.sock"}},
		"XDG":          {xdg, Paths{}, Paths{"/s/meshkey", "/c/meshkey/meshkey.toml", "/run/user/1000/meshkey/meshkey.sock"}},
		"relative XDG": {Surroundings{Home: "/home/me", XDGState: "s", XDGRuntime: "."}, Paths{}, Paths{"/home/me/.local/state/meshkey", "/home/me/.config/meshkey/meshkey.toml", "/home/me/.local/state/meshkey/meshkey.sock"}},
		"state":        {xdg, Paths{State: "/tmp/a"}, Paths{"/tmp/a", "/tmp/a/meshkey.toml", "/tmp/a/meshkey.sock"}},
		"state, root":  {Surroundings{Root: true}, Paths{State: "/tmp/a/"}, Paths{"/tmp/a", "/tmp/a/meshkey.toml", "/tmp/a/meshkey.sock"}},
		"socket":       {xdg, Paths{Socket: "/x"}, Paths{"/s/meshkey", "/c/meshkey/meshkey.toml", "/x"}},
		"all given":    {Surroundings{}, Paths{"/a", "/b", "/c"}, Paths{"/a", "/b", "/c"}},
		"no home":      {Surroundings{}, Paths{State: "/a"}, Paths{"/a", "/a/meshkey.toml", "/a/meshkey.sock"}},
	} {
		if got, err := Find(c.s, c.given); err != nil || got != c.want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if p, err := Find(Surroundings{}, Paths{}); err == nil || p != (Paths{}) {
		t.Errorf("without a home: %+v", p)
	}
	if _, err := Find(Surroundings{Home: "relative"}, Paths{}); err == nil {
		t.Error("a relative home")
	}
	if _, err := Find(user, Paths{State: strings.Repeat("x", maxPath+1)}); err == nil {
		t.Error("an endless path")
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Find(user, Paths{State: "here"}); err != nil || p.State != filepath.Join(wd, "here") {
		t.Errorf("a relative state: %+v, %v", p, err)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("[network]\nlisten = [\"[::]:7477\"]\n"))
	f.Add([]byte("[log]\nlevel = 'info'\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("f", data)
		if err != nil {
			if c != nil {
				t.Fatal("an error and a configuration")
			}
			if len(err.Error()) > 2000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		// Whatever is accepted has usable values.
		if len(c.ListenAddrs()) == 0 || len(c.ListenAddrs()) > maxListen || c.BeaconPort() == 0 || c.AuditMode() == "" || len(c.ExtraEndpoints()) != len(c.Mesh.Endpoints) {
			t.Fatalf("%+v", c)
		}
		for _, a := range c.ListenAddrs() {
			if c.Network.LoopbackOnly && !a.Addr().IsLoopback() {
				t.Fatalf("loopback only, and %v", a)
			}
		}
	})
}

func TestKeysTable(t *testing.T) {
	const recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj" // from age's own documents
	c, err := Parse("x", []byte("[keys]\nplugins = [\"yubikey\"]\nidentity = \"/etc/meshkey/id.txt\"\nrecipients = [\""+recipient+"\"]\n"))
	if err != nil || len(c.Keys.Plugins) != 1 || c.Keys.Identity != "/etc/meshkey/id.txt" || len(c.Keys.Recipients) != 1 {
		t.Fatal(c, err)
	}
	for _, bad := range []string{`plugins = ["../evil"]`, `plugins = ["A"]`, `identity = "id.txt"`, `recipients = ["age1"]`, `recipients = ["ssh-ed25519 AAAA"]`} {
		if _, err := Parse("x", []byte("[keys]\n"+bad+"\n")); err == nil {
			t.Error(bad)
		}
	}
}
