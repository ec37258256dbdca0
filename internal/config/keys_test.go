package config

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/netmon"
)

// tagged lists the keys of a struct by the tags the decoder reads.
func tagged(t reflect.Type, prefix string) (out []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := prefix + f.Tag.Get("toml")
		if f.Type.Kind() == reflect.Struct {
			out = append(out, tagged(f.Type, name+".")...)
			continue
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func paths(keys []key) (out []string) {
	for _, k := range keys {
		out = append(out, k.path)
	}
	slices.Sort(out)
	return out
}

func TestEveryKeyIsListed(t *testing.T) {
	if got, want := paths(fileKeys(&Config{})), tagged(reflect.TypeFor[Config](), ""); !slices.Equal(got, want) {
		t.Errorf("listed %v\ndecoded %v", got, want)
	}
	if got, want := paths(serviceKeys(&serviceFile{})), tagged(reflect.TypeFor[serviceFile](), ""); !slices.Equal(got, want) {
		t.Errorf("listed %v\ndecoded %v", got, want)
	}
}

// line is "- word: `code`" or "- word: text" of a key's section.
var line = regexp.MustCompile("(?m)^- (type|unit|default|example|variable): (.+)$")

// documented reads docs/configuration.md: the facts of each key, and the keys in their order.
func documented(t *testing.T) (facts map[string]map[string]string, order []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	facts = map[string]map[string]string{}
	for _, section := range regexp.MustCompile(`(?m)^##+ `).Split(string(text), -1)[1:] {
		title, body, _ := strings.Cut(section, "\n")
		if !strings.Contains(title, ".") {
			continue
		}
		if facts[title] != nil {
			t.Errorf("%s twice", title)
		}
		facts[title] = map[string]string{}
		for _, m := range line.FindAllStringSubmatch(body, -1) {
			facts[title][m[1]] = strings.Trim(m[2], "`")
		}
		if words := strings.SplitN(strings.TrimSpace(body), "\n- ", 2)[0]; len(words) < 40 {
			t.Errorf("%s: not a word about what it is", title)
		}
		order = append(order, title)
	}
	return facts, order
}

// meaning is what the daemon takes from a configuration.
func meaning(c *Config) string {
	ignore := c.Network.IgnoreInterfaces
	if ignore == nil {
		ignore = netmon.DefaultIgnore()
	}
	return fmt.Sprint(c.ListenAddrs(), c.LoopbackOnly(), c.BeaconPort(), ignore, c.Network.Interfaces, c.Mesh, c.ExtraEndpoints(), c.Control, c.LogLevel(), c.LogJSON(), c.AuditMode(), c.Keys)
}

// TestDocumentedKeys holds docs/configuration.md to the code: each key is there with its type, a default that changes nothing, an example
// that is accepted and changes something, and its variable.
func TestDocumentedKeys(t *testing.T) {
	facts, order := documented(t)
	if got, want := slices.Sorted(slices.Values(order)), paths(fileKeys(&Config{})); !slices.Equal(got, want) {
		t.Fatalf("documented %v\nthe code has %v", got, want)
	}
	usual := meaning(&Config{})
	for _, k := range fileKeys(&Config{}) {
		f := facts[k.path]
		for _, word := range []string{"type", "unit", "default", "example", "variable"} {
			if f[word] == "" {
				t.Errorf("%s: no %s", k.path, word)
			}
		}
		if f["type"] != k.wants() {
			t.Errorf("%s: the type is %q, documented as %q", k.path, k.wants(), f["type"])
		}
		if f["variable"] != k.env() {
			t.Errorf("%s: the variable is %s, documented as %s", k.path, k.env(), f["variable"])
		}
		table, name, _ := strings.Cut(k.path, ".")
		c, err := Parse("default", []byte("["+table+"]\n"+name+" = "+f["default"]+"\n"))
		if err != nil || meaning(c) != usual {
			t.Errorf("%s: the documented default is not the default: %v\n%s\n%s", k.path, err, meaning(c), usual)
		}
		if !strings.HasPrefix(f["example"], name+" = ") {
			t.Errorf("%s: the example is %q", k.path, f["example"])
		}
		for _, example := range []string{f["example"], name + " = " + k.example} {
			c, err := Parse("example", []byte("["+table+"]\n"+example+"\n"))
			if err != nil {
				t.Errorf("%s: %v", k.path, err)
				continue
			}
			if k.path != "network.beacon_port" && meaning(c) == usual {
				t.Errorf("%s: %s changes nothing", k.path, example)
			}
			// Its variable says the same.
			e := &Config{}
			value := strings.Trim(strings.TrimPrefix(example, name+" = "), `"`)
			if strings.HasPrefix(value, "[") {
				value = strings.ReplaceAll(strings.Trim(value[1:len(value)-1], `"`), `", "`, ", ")
			}
			if err := e.Environment(func(n string) string {
				if n == f["variable"] {
					return value
				}
				return ""
			}); err != nil || meaning(e) != meaning(c) {
				t.Errorf("%s=%s: %v\n%s\n%s", k.env(), value, err, meaning(e), meaning(c))
			}
		}
	}
}

func TestEnvironmentGoesBeforeTheFile(t *testing.T) {
	env := map[string]string{"MESHKEY_NETWORK_LISTEN": "127.0.0.1:1, [::1]:1", "MESHKEY_LOG_LEVEL": "warn"}
	c, err := Parse("f", []byte("[network]\nlisten = [\"[::]:7477\"]\n[log]\nlevel = \"debug\"\nformat = \"json\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Environment(func(n string) string { return env[n] }); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.ListenAddrs(), c.LogLevel(), c.LogJSON()); got != "[127.0.0.1:1 [::1]:1] WARN true" {
		t.Error(got)
	}
	for name, bad := range map[string]string{
		"MESHKEY_NETWORK_BEACON_PORT": "x", "MESHKEY_NETWORK_LOOPBACK_ONLY": "yes", "MESHKEY_LOG_LEVEL": "loud", "MESHKEY_NETWORK_LISTEN": "127.0.0.1:1,127.0.0.1:2",
		"MESHKEY_MESH_SEEDS": strings.Repeat("a", maxFile+1),
	} {
		err := (&Config{}).Environment(func(n string) string {
			if n == name {
				return bad
			}
			return ""
		})
		if err == nil || len(err.Error()) > 300 {
			t.Errorf("%s=%.20s: %v", name, bad, err)
		}
	}
}

func TestLoopbackAddressesAreLoopbackOnly(t *testing.T) {
	for listen, want := range map[string]bool{
		`["127.0.0.1:7001"]`:                    true,
		`["127.0.0.1:7001", "[::1]:7001"]`:      true,
		`["127.0.0.1:7001", "10.0.0.1:7001"]`:   false,
		`["[::]:7001"]`:                         false,
		`["0.0.0.0:7001"]`:                      false,
		`[]`:                                    false,
		`["[fe80::1%eth0]:7001", "[::1]:7001"]`: false,
	} {
		c, err := Parse("f", []byte("[network]\nlisten = "+listen+"\n"))
		if err != nil || c.LoopbackOnly() != want {
			t.Errorf("%s: %v", listen, err)
		}
	}
	if c, err := Parse("f", []byte("[network]\nloopback_only = true\n")); err != nil || !c.LoopbackOnly() {
		t.Error(err)
	}
}

func TestWrongTypesAreSaidInWordsOfTheFile(t *testing.T) {
	for data, want := range map[string]string{
		"[network]\n\nlisten = 7477":              `f:3:10: network.listen must be a list of strings, e.g. ["192.168.1.5:7477"]`,
		"[network]\nlisten = \"127.0.0.1:1\"":     "f:2:10: network.listen must be a list of strings",
		"[network]\nlisten = [\"127.0.0.1:1\",7]": "network.listen must be a list of strings",
		"[network]\nlisten = [[\"127.0.0.1:1\"]]": "network.listen must be a list of strings",
		"[network]\nbeacon_port = \"x\"":          "f:2:15: network.beacon_port must be a whole number, e.g. 7477",
		"[network]\nbeacon_port = 1.5":            "network.beacon_port must be a whole number",
		"[network]\nloopback_only = 1":            "network.loopback_only must be true or false",
		"[log]\nlevel = 1979-05-27":               `log.level must be a string, e.g. "debug"`,
		"[log.level]\nx = 1":                      "log.level must be a string",
		"[[log]]\nlevel = \"info\"":               "log must be a table: [log] on a line of its own",
		"network = 7477":                          "network must be a table",
		"network = \"x\"\n[log]\nlevel = 5":       "network must be a table",
		"[log]\nlevel = 5\n[network]\nlisten = 5": "f:2:9: log.level must be a string", // the first one
	} {
		_, err := Parse("f", []byte(data))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %s", data, err, want)
		}
		for _, word := range []string{"struct", "Go ", "[]string", "int64", "config.", "reflect", "slice", "cannot decode", "cannot store"} {
			if err != nil && strings.Contains(err.Error(), word) {
				t.Errorf("%q: %v speaks of the program", data, err)
			}
		}
	}
	_, err := ParseService("web", []byte("version = 1\ntarget = 80\n"))
	if err == nil || !strings.Contains(err.Error(), `web.toml:2:10: target must be a string, e.g. "127.0.0.1:11434"`) {
		t.Error(err)
	}
}
