package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// forms stand for the real ones: they know no space and no x.
var forms = PolicyForms{
	Who: func(s string) error {
		if strings.ContainsAny(s, " x\x1b") || len(s) > 64 {
			return fmt.Errorf("no subject: %q", s)
		}
		return nil
	},
	What: func(s string) error {
		if strings.ContainsAny(s, " x") {
			return errors.New("no service")
		}
		return nil
	},
}

func TestPolicyFile(t *testing.T) {
	p, err := ParsePolicy("p.toml", []byte(`# who may use what
name = "homelab"

[[grant]]
who = "tag:dba"           # one
what = ["*/postgres", 'nas/redis']
reason = "databases"

[[grant]]
who = [
  "laptop", # mine
  "desk",
]
what = "gpu1/ollama"
from = 2026-01-01T00:00:00+01:00
until = 2027-01-01 00:00:00Z

[[test]]
who = "laptop"
allow = "gpu1/ollama"
deny = ["nas/redis"]
at = 2026-12-24T18:00:00z
`), forms)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "homelab" || len(p.Grants) != 2 || len(p.Tests) != 1 {
		t.Fatalf("%+v", p)
	}
	g := p.Grants[1]
	if g.Line != 9 || len(g.Who) != 2 || g.Who[1] != (Word{"desk", Place{12, 3}}) || g.From.Format(time.RFC3339) != "2025-12-31T23:00:00Z" || g.Until.Unix() != 1798761600 {
		t.Errorf("%+v", g)
	}
	if g := p.Grants[0]; g.What[1] != (Word{"nas/redis", Place{6, 23}}) || g.Reason != "databases" || !g.Until.IsZero() {
		t.Errorf("%+v", g)
	}
	if x := p.Tests[0]; x.Line != 18 || x.Allow[0].Text != "gpu1/ollama" || x.Deny[0].Text != "nas/redis" || x.At.Hour() != 18 {
		t.Errorf("%+v", x)
	}
	if p, err := ParsePolicy("p.toml", nil, forms); err != nil || p.Name != DefaultPolicy {
		t.Errorf("the empty policy: %+v, %v", p, err)
	}
}

func TestPolicyFileIsStrict(t *testing.T) {
	g := "[[grant]]\nwho = \"a\"\nwhat = \"b/c\"\n"
	for data, want := range map[string]string{
		"[[grant]\n":                                              "p.toml:1:",
		"nam = \"a\"\n":                                           "p.toml:1:1: unknown key \"nam\"",
		g + "whom = 1\n":                                          "p.toml:4:1: unknown key \"grant.whom\"",
		g + "for = \"8h\"\n":                                      "p.toml:4:1: a policy has no \"for\"",
		g + "who = \"b\"\n":                                       "p.toml:4:1: ",
		g + "[[test]]\nwho = \"a\"\nwhat = 1":                     "p.toml:6:1: unknown key \"test.what\"",
		"name = \"A\"\n":                                          "p.toml:1:8: name: ",
		"name = 3\n":                                              "p.toml:1:8: name must be a string",
		"name = \"a\"\nname = \"a\"\n":                            "p.toml:2:1: ",
		"[grant]\nwho = \"a\"\n":                                  "p.toml:1:2: write [[grant]]",
		"[[grants]]\n":                                            "p.toml:1:3: unknown table \"grants\"",
		"[[grant.sub]]\n":                                         "p.toml:1:3: unknown table \"grant.sub\"",
		"grant = [{who = \"a\"}]\n":                               "p.toml:1:1: unknown key \"grant\"",
		"grant.who = 1\n":                                         "p.toml:1:1: a key with a dot",
		g + "[grant.who]\n":                                       "p.toml:4:",
		"[[grant]]\nwhat = \"b/c\"\n":                             "p.toml:1:3: the grant does not say who",
		"[[grant]]\nwho = \"a\"\n\n[[test]]":                      "p.toml:1:3: the grant does not say what",
		"[[grant]]\nwho = [\"a\", 3]\n":                           "p.toml:2:13: who must be a string",
		"[[grant]]\nwho = [\"a\", [\"b\"]]\n":                     "p.toml:2:1: who must be a string",
		"[[grant]]\nwho = {a = 1}\n":                              "p.toml:2:7: who must be a string or a list of strings",
		"[[grant]]\nwho = []\n":                                   "p.toml:2:1: who is an empty list",
		"[[grant]]\nwho = \"a b\"\n":                              "p.toml:2:7: who: no subject",
		"[[grant]]\nwho = \"\\u001b[2J\"\n":                       "p.toml:2:7: who: no subject",
		"[[grant]]\nwho = \"\x1b\"\n":                             "p.toml:2:",
		"[[grant]]\nwho = \"\xff\"\n":                             "p.toml:2:",
		"[[grant]]\nwho = [\"a\", \"a\"]\n":                       "p.toml:2:13: who: \"a\" twice",
		"[[grant]]\nwho = \"" + strings.Repeat("a", 300) + "\"\n": "p.toml:2:7: who: no subject",
		g + "until = \"2027-01-01\"\n":                            "p.toml:4:9: until must be a time",
		g + "until = 2027-01-01\n":                                "p.toml:4:9: until must be a time",
		g + "until = 2027-13-01T00:00:00Z\n":                      "p.toml:4:",
		g + "until = 1969-01-01T00:00:00Z\n":                      "p.toml:4:9: until must be a time",
		g + "until = 2027-01-01T00:00:00.5Z\n":                    "p.toml:4:9: until must be a time in whole seconds",
		g + "from = 2027-01-01T00:00:00Z\nuntil = 2027-01-01T00:00:00Z\n": "p.toml:1:3: the grant ends before it begins",
		g + "reason = \"\"\"a\nb\"\"\"\n":                                 "p.toml:4:10: reason must be one line",
		g + "reason = \"" + strings.Repeat("r", 129) + "\"\n":             "p.toml:4:10: reason must be one line of at most 128 bytes",
		"[[test]]\nwho = \"a\"\n":                                         "p.toml:1:3: the test says neither",
		"[[test]]\nallow = \"a/b\"\n":                                     "p.toml:1:3: the test does not say who",
		"[[test]]\nwho = \"a\"\ndeny = \"b/*\"\n":                         "p.toml:3:8: deny: a test names the service",
		strings.Repeat("#", MaxPolicyFile+1):                              "p.toml:1:1: the file is longer than 262144 bytes",
		strings.Repeat(g, MaxPolicyGrants+1):                              "p.toml:6001:3: more than 2000 grants",
	} {
		p, err := ParsePolicy("p.toml", []byte(data), forms)
		if err == nil || p != nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", data, err, want)
		}
	}
}

// FuzzPolicy: whatever a file says, the answer is a policy or an error with its line.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte("name = \"a\"\n[[grant]]\nwho = [\"a\", # x\n\"b\"]\nwhat = 'c'\nuntil = 2027-01-01T00:00:00Z\n[[test]]\nwho=\"a\"\ndeny=\"c\""))
	f.Add([]byte("[grant.a]\nx={y=[1,2]}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePolicy("p.toml", data, forms)
		if (p == nil) == (err == nil) {
			t.Fatal(p, err)
		}
		if e, ok := errors.AsType[*Error](err); err != nil && (!ok || e.Line == 0) {
			t.Fatalf("%q: %v", data, err)
		}
	})
}

// What is wrong with a file is found where it stands, before anything reads all of it.
func TestPolicyFileOfManyKeys(t *testing.T) {
	var b strings.Builder
	for i := 0; b.Len() < MaxPolicyFile-16; i++ {
		fmt.Fprintf(&b, "k%d=1\n", i)
	}
	began := time.Now()
	_, err := ParsePolicy("p.toml", []byte(b.String()), PolicyForms{})
	if err == nil || !strings.Contains(err.Error(), "p.toml:1:1") {
		t.Fatal(err)
	}
	t.Logf("%d bytes in %v", b.Len(), time.Since(began))
	if took := time.Since(began); took > time.Second {
		t.Error(took, "for the first line of a file")
	}
}
