package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func line(action, pkg, test, output string) string {
	return `{"Action":"` + action + `","Package":"` + pkg + `","Test":"` + test + `","Elapsed":1.5,"Output":"` + output + `"}` + "\n"
}

func TestSummarise(t *testing.T) {
	for name, c := range map[string]struct {
		in    string
		want  counts
		says  []string
		allow string
	}{
		"nothing ran": {"", counts{}, nil, ""},
		"passes": {
			line("run", "a", "T", "") + line("output", "a", "T", "chatter") + line("pass", "a", "T", "") + line("pass", "a", "", ""),
			counts{1, 0, 0},
			[]string{"ok   a 1.5 s, 1 tests"},
			"",
		},
		"package without tests": {line("skip", "a", "", ""), counts{}, nil, ""},
		"fails": {
			line("output", "a", "T", "this was wrong\\n") + line("fail", "a", "T", "") + line("output", "a", "", "FAIL\\n") + line("fail", "a", "", ""),
			counts{0, 1, 0},
			[]string{"this was wrong", "FAIL a"},
			"",
		},
		"crashes": {
			line("pass", "a", "T", "") + line("output", "a", "", "panic: test timed out\\n") + line("fail", "a", "", ""),
			counts{1, 1, 0},
			[]string{"test timed out"},
			"",
		},
		"does not build": {
			`{"ImportPath":"a","Action":"build-output","Output":"undefined: x\n"}` + "\n" + `{"ImportPath":"a","Action":"build-fail"}` + "\n" +
				line("fail", "a", "", ""),
			counts{0, 2, 0},
			[]string{"undefined: x"},
			"",
		},
		"go says something": {"go: no such module\n", counts{0, 1, 0}, []string{"no such module"}, ""},
		"skips": {
			line("output", "a", "T", "=== RUN T\\n") + line("output", "a", "T", "x_test.go:1: no network\\n") + line("skip", "a", "T", "") + line("pass", "a", "", ""),
			counts{0, 0, 1},
			[]string{"SKIP a.T: x_test.go:1: no network"},
			"a long scenario",
		},
		"left out": {
			line("pass", "a", "U", "") + line("output", "a", "T", "x_test.go:1: a long scenario\\n") + line("skip", "a", "T", "") + line("pass", "a", "", ""),
			counts{1, 0, 0},
			[]string{"left out: a.T: x_test.go:1: a long scenario"},
			"a long scenario",
		},
	} {
		var out strings.Builder
		got, err := summarise(strings.NewReader(c.in), &out, c.allow)
		if err != nil || got != c.want {
			t.Errorf("%s: %v %v, want %v\n%s", name, got, err, c.want, out.String())
		}
		for _, s := range append(c.says, c.want.String()) {
			if !strings.Contains(out.String(), s) {
				t.Errorf("%s: %q is not in\n%s", name, s, out.String())
			}
		}
		if strings.Contains(out.String(), "chatter") {
			t.Errorf("%s: output of a test that passed", name)
		}
		if good := c.want == (counts{1, 0, 0}); good != got.ok() {
			t.Errorf("%s: ok is %v", name, got.ok())
		}
	}
}

func TestAdd(t *testing.T) {
	name := filepath.Join(t.TempDir(), "total")
	for _, want := range []string{"2 passed, 0 failed, 1 skipped", "4 passed, 0 failed, 2 skipped"} {
		sum, err := add(name, counts{2, 0, 1})
		if err != nil || sum.String() != want {
			t.Errorf("%v %v, want %s", sum, err, want)
		}
	}
	if err := os.WriteFile(name, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := add(name, counts{}); err == nil {
		t.Error("nonsense added to")
	}
}
