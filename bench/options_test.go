package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		args   string
		rounds int
		quick  bool
		only   int
	}{
		{"", 7, false, 0},
		{"--quick", 3, true, 0},
		{"--quick --rounds 1 --only raw,no-crypto,meshkey --strict", 1, true, 3},
		{"--rounds 5 --doc x.md --json y", 5, false, 0},
	} {
		o, err := parseOptions(strings.Fields(c.args), io.Discard)
		if err != nil || o.rounds != c.rounds || o.quick != c.quick || len(o.only) != c.only {
			t.Errorf("%q: %+v, %v", c.args, o, err)
			continue
		}
		if want := map[bool]times{false: fullTimes, true: quickTimes}[c.quick]; o.t != want {
			t.Errorf("%q: times %+v", c.args, o.t)
		}
		if !o.wants("meshkey") || o.wants("ssh") != (c.only == 0) {
			t.Errorf("%q: takes part: meshkey %v, ssh %v", c.args, o.wants("meshkey"), o.wants("ssh"))
		}
	}
}

func TestWrongOptionsAreUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--rounds 0":             "1 to 100",
		"--rounds 101":           "1 to 100",
		"--rounds x":             "invalid value",
		"--only tinc":            `no contestant "tinc"; there are raw, no-crypto`,
		"--only":                 "needs an argument",
		"quick":                  `what is "quick"?`,
		"--quick --doc x":        "full run",
		"--rounds 4 --doc x":     "at least 5 rounds",
		"--only raw --doc x":     "not with --only",
		"--nonsense":             "not defined",
		"--only raw,,no-crypto ": `no contestant ""`,
	} {
		_, err := parseOptions(strings.Fields(args), io.Discard)
		if _, ok := errors.AsType[usageError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
	if _, err := parseOptions([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

func TestLongIsListed(t *testing.T) {
	for _, args := range [][]string{nil, {"nothing"}, {"sim-1000", "more"}} {
		if got := runLong(args); got != exitUsage {
			t.Errorf("%v: exit %d", args, got)
		}
		err := longUsage()
		if _, ok := errors.AsType[usageError](err); !ok || !strings.Contains(err.Error(), "sim-1000") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestHelperRefusesNonsense(t *testing.T) {
	for _, args := range [][]string{nil, {"{"}, {"{}"}, {`{"do":"dance"}`}, {"{}", "{}"}} {
		if err := help(args, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("%q did something", args)
		}
	}
}

func TestMissingToolsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, c := range contestants() {
		want, ok := map[string]string{nameSSH: "openssh-server", nameSSHChaCha: "openssh-server", nameStunnel: "stunnel4"}[c.name()]
		if why := c.missing(&rig{plan: &plan{}}); ok && why != "needs Debian package "+want+" ("+map[bool]string{true: "stunnel", false: "sshd"}[c.name() == nameStunnel]+")" {
			t.Errorf("%s: %q", c.name(), why)
		}
	}
	r := &rig{plan: &plan{Lacks: map[string]string{"libp2p": "cannot be built: no network", "nebula-cert": "cannot be built: no disk"}}}
	if why := newLibp2p().missing(r); why != "cannot be built: no network" {
		t.Errorf("libp2p: %q", why)
	}
	if why := newNebula().missing(r); why != "cannot be built: no disk" {
		t.Errorf("nebula: %q", why)
	}
}

func TestPlan(t *testing.T) {
	p := plan{Dir: t.TempDir(), Commit: "abc", Size: 5, Lacks: map[string]string{"x": "y"}}
	if err := p.save(); err != nil {
		t.Fatal(err)
	}
	var q plan
	if err := q.load(p.Dir); err != nil || q.Size != 5 || q.Lacks["x"] != "y" || q.program("nebula") != filepath.Join(p.Dir, "bin", "nebula") {
		t.Errorf("%+v, %v", q, err)
	}
	if err := q.load(t.TempDir()); err == nil {
		t.Error("a plan out of nothing")
	}
}

// The peers are a module of their own, in the versions that the report names.
func TestPeersArePinned(t *testing.T) {
	b, err := os.ReadFile("peers/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"github.com/libp2p/go-libp2p v0.51.0", "github.com/slackhq/nebula v1.11.1",
		"golang.zx2c4.com/wireguard v0.0.0-20260522210424-ecfc5a8d5446",
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("peers/go.mod does not pin %s", want)
		}
	}
	for _, pkg := range []string{"./libp2p", "./wireguard"} {
		if st, err := os.Stat(filepath.Join("peers", pkg)); err != nil || !st.IsDir() {
			t.Errorf("%s: %v", pkg, err)
		}
	}
}

func TestTree(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo ready; read x; exit 0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{dir: t.TempDir()}
	p, err := r.spawn("child", cmd)
	if err != nil {
		t.Fatal(err)
	}
	if s, err := p.line(); err != nil || s != "ready" {
		t.Errorf("%q, %v", s, err)
	}
	has := func() bool {
		for _, pid := range tree(os.Getpid()) {
			if pid == cmd.Process.Pid {
				return true
			}
		}
		return false
	}
	if !has() {
		t.Error("a child is not found")
	}
	if n, err := resident([]*process{p}); err != nil || n == 0 {
		t.Errorf("memory %d, %v", n, err)
	}
	in.Close()
	p.stop()
	p.stop()
	if has() {
		t.Error("an ended child is found")
	}
	var none *process
	none.stop()
}
