package meshkey_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dependency is one row of docs/dependencies.md.
type dependency struct {
	module, version string
	importers       []string
	binary, tests   bool
}

// dependencies reads the tables of docs/dependencies.md.
func dependencies(t *testing.T) map[string]*dependency {
	t.Helper()
	text, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]*dependency)
	section := ""
	for _, line := range strings.Split(string(text), "\n") {
		if s, ok := strings.CutPrefix(line, "## "); ok {
			section = s
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !strings.HasPrefix(line, "|") || len(cells) < 3 || !strings.HasPrefix(cells[1], "v") || cells[1] == "version" {
			continue
		}
		d := &dependency{module: cells[0], version: cells[1], binary: section == "In the binary", tests: section == "For tests only"}
		if d.binary {
			if len(cells) != 4 || cells[2] == "" || cells[3] == "" {
				t.Errorf("row of %s is not complete", d.module)
				continue
			}
			if !strings.HasPrefix(cells[3], "(") {
				for _, p := range strings.Split(cells[3], ",") {
					d.importers = append(d.importers, strings.TrimSpace(p))
				}
			}
		}
		if out[d.module] != nil {
			t.Errorf("%s is listed twice", d.module)
		}
		out[d.module] = d
	}
	if len(out) < 10 {
		t.Fatalf("only %d rows understood", len(out))
	}
	return out
}

// moduleOf finds the row whose module holds the package imported.
func moduleOf(deps map[string]*dependency, imported string) *dependency {
	for p := imported; p != "." && p != "/"; p = filepath.ToSlash(filepath.Dir(p)) {
		if d := deps[p]; d != nil {
			return d
		}
	}
	return nil
}

// TestDependenciesListed compares the list with the binary and with go.mod.
func TestDependenciesListed(t *testing.T) {
	deps := dependencies(t)
	inBinary := modules(t)
	for m, v := range inBinary {
		switch d := deps[m]; {
		case d == nil:
			t.Errorf("%s %s is in the binary and not in docs/dependencies.md", m, v)
		case !d.binary:
			t.Errorf("%s is in the binary, docs/dependencies.md lists it elsewhere", m)
		case d.version != v:
			t.Errorf("%s is %s in the binary and %s in docs/dependencies.md", m, v, d.version)
		}
	}
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^(?:require )?\s*([\w./-]+\.[\w./-]+) (v\S+)`).FindAllStringSubmatch(string(text), -1) {
		required[m[1]] = m[2]
	}
	for m, v := range required {
		if d := deps[m]; d == nil || d.version != v {
			t.Errorf("go.mod requires %s %s, docs/dependencies.md has %+v", m, v, d)
		}
	}
	for m, d := range deps {
		if required[m] != d.version {
			t.Errorf("docs/dependencies.md lists %s %s, go.mod has %q", m, d.version, required[m])
		}
		if _, ok := inBinary[m]; d.binary && !ok {
			t.Errorf("docs/dependencies.md lists %s as in the binary, where it is not", m)
		}
	}
}

// modules returns module and version of everything in the command: the modules of the packages it is linked from, which is what the
// linker writes into it. The program itself is built by the tests that run it.
func modules(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	const row = "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{with .Replace}} => {{.Path}}{{end}}{{end}}{{end}}"
	for line := range strings.Lines(goTool(t, "list", "-deps", "-f", row, "./cmd/meshkey")) {
		f := strings.Fields(line)
		if len(f) > 2 {
			t.Errorf("a module is replaced: %s", line)
		}
		if len(f) >= 2 {
			out[f[0]] = f[1]
		}
	}
	if len(out) == 0 {
		t.Fatal("go list names no module")
	}
	return out
}

func goTool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// The tools are pinned, and none of their modules is required by the product.
func TestToolsArePinned(t *testing.T) {
	text, err := os.ReadFile("tools/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"honnef.co/go/tools v0.8.2", "mvdan.cc/gofumpt v0.12.0"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("tools/go.mod does not pin %s", want)
		}
	}
	deps := dependencies(t)
	for _, m := range []string{"honnef.co/go/tools", "mvdan.cc/gofumpt"} {
		if deps[m] != nil {
			t.Errorf("%s is no dependency of the product", m)
		}
	}
	if slices.ContainsFunc(strings.Split(string(text), "\n"), func(l string) bool { return strings.HasPrefix(l, "replace") }) {
		t.Error("tools/go.mod replaces a module")
	}
}
