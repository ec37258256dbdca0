package main

import (
	"errors"
	"io"
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
		runs := func(...string) (io.ReadCloser, func() error, error) {
			return io.NopCloser(strings.NewReader(c.in)), func() error { return nil }, nil
		}
		got, err := whole(&out, runs, []string{"./..."}, c.allow, 0)
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

// What is run again, and what is not.
func TestAgain(t *testing.T) {
	bad := func(name string) string { return line("output", "a", name, "late\\n") + line("fail", "a", name, "") }
	end := line("output", "a", "", "FAIL\\n") + line("fail", "a", "", "")
	good := line("pass", "a", "U", "")
	fine := line("pass", "a", "T", "") + line("pass", "a", "", "")
	for name, c := range map[string]struct {
		first, more string
		want        counts
		runs        int
	}{
		"passes":             {good + bad("T") + end, fine, counts{2, 0, 0}, 2},
		"subtests":           {good + bad("T/x") + bad("T") + end, fine, counts{3, 0, 0}, 2},
		"two":                {good + bad("T") + bad("V") + end, fine, counts{3, 0, 0}, 3},
		"three":              {good + bad("T") + bad("V") + bad("W") + end, fine, counts{1, 3, 0}, 1},
		"fails again":        {good + bad("T") + end, bad("T") + end, counts{1, 1, 0}, 2},
		"does not run again": {good + bad("T") + end, line("pass", "a", "", ""), counts{1, 1, 0}, 2},
		"a race":             {good + line("output", "a", "T", "WARNING: DATA RACE\\n") + bad("T") + end, fine, counts{1, 1, 0}, 1},
		"a race beside a test that passed": {
			line("output", "a", "U", "WARNING: DATA RACE\\n") + good + line("output", "a", "T", "race detected during execution of test\\n") + bad("T") + end,
			fine,
			counts{1, 1, 0},
			1,
		},
		"a race said at the end only": {good + line("output", "a", "T", "testing.go:1: race detected during execution of test\\n") + bad("T") + end, fine, counts{1, 1, 0}, 1},
		"cut short":                   {line("run", "a", "X", "") + good + bad("T") + line("run", "a", "V", "") + end, fine, counts{1, 2, 0}, 1},
		"a panic":                     {good + bad("T") + line("output", "a", "", "panic: x\\n") + end, fine, counts{1, 2, 0}, 1},
		"a leak":                      {good + end, fine, counts{1, 1, 0}, 1},
		"a leak beside":               {good + bad("T") + end + line("fail", "b", "", ""), fine, counts{1, 2, 0}, 1},
		"the go command says":         {good + bad("T") + end + "go: what?\n", fine, counts{1, 2, 0}, 1},
	} {
		var out strings.Builder
		runs := 0
		got, err := whole(&out, func(args ...string) (io.ReadCloser, func() error, error) {
			runs++
			text := c.first
			if runs > 1 {
				text = c.more
				if args[0] != "-count" || args[1] != "3" || args[2] != "-run" || args[4] != "a" || args[3][0] != '^' {
					t.Error(name, args)
				}
			}
			var end error
			if strings.Contains(text, `"fail"`) {
				end = errors.New("exit status 1")
			}
			return io.NopCloser(strings.NewReader(text)), func() error { return end }, nil
		}, []string{"./..."}, "", 3)
		if err != nil || got != c.want || runs != c.runs {
			t.Errorf("%s: %v %v, want %v; %d runs, want %d\n%s", name, got, err, c.want, runs, c.runs, out.String())
		}
		if strings.Contains(out.String(), "FLAKY: a.T failed once") != (c.want.failed == 0) {
			t.Errorf("%s: flaky or not\n%s", name, out.String())
		}
	}
}

// A command that fails though no test did is a failure.
func TestCommandFails(t *testing.T) {
	var out strings.Builder
	got, err := whole(&out, func(...string) (io.ReadCloser, func() error, error) {
		return io.NopCloser(strings.NewReader(line("pass", "a", "T", ""))), func() error { return errors.New("exit status 1") }, nil
	}, []string{"./..."}, "", 3)
	if err != nil || got != (counts{1, 1, 0}) {
		t.Error(got, err, out.String())
	}
}

func TestSplit(t *testing.T) {
	c, p, ok := split([]string{"setpriv", "--", "go", "test", "--", "./..."})
	if !ok || len(c) != 4 || len(p) != 1 || p[0] != "./..." {
		t.Error(c, p, ok)
	}
	for _, bad := range [][]string{nil, {"--"}, {"go", "test"}, {"go", "--"}, {"--", "./..."}} {
		if c, p, ok := split(bad); ok {
			t.Error(bad, c, p)
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
