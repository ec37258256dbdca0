package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/wire"
)

// TestOperating runs docs/operating.md: each line "host$ command" of a console block, in order, against real daemons on loopback, and
// looks for the lines below it in what it prints, "…" standing for anything. Comments in the document, <!-- mesh --> and others, say
// what has happened before. What a person types when asked is done here: --yes, and root keys sealed to an age identity instead of a
// passphrase, which takes a second each time.
func TestOperating(t *testing.T) {
	if testing.Short() {
		t.Skip("starts daemons")
	}
	t.Parallel()
	runDocument(t, "../../docs/operating.md", 25)
}

// TestPolicyDocument runs docs/policy.md in the same way; a block of "toml NAME" is a file.
func TestPolicyDocument(t *testing.T) {
	if testing.Short() {
		t.Skip("starts daemons")
	}
	t.Parallel()
	runDocument(t, "../../docs/policy.md", 14)
}

func runDocument(t *testing.T, name string, least int32) {
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var ran atomic.Int32
	t.Cleanup(func() {
		if n := ran.Load(); n < least && !t.Failed() {
			t.Errorf("only %d commands of the document ran", n)
		}
	})
	for _, chapter := range strings.Split(string(text), "\n## ")[1:] {
		title, body, _ := strings.Cut(chapter, "\n")
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			o := &operator{t: t}
			defer o.end()
			ran.Add(int32(o.chapter(body)))
		})
	}
}

// operator is somebody with a few machines and the document.
type operator struct {
	t    *testing.T
	dir  string // where files are carried about
	port int
	at   map[string]*machine
	hash string // stands for HASH
}

var directive = regexp.MustCompile(`^<!-- (.*) -->$`)

func (o *operator) chapter(body string) (ran int) {
	in, file := false, ""
	var want, lines []string
	var out string
	check := func() {
		for _, w := range want {
			w = strings.ReplaceAll(w, "HASH", o.hash)
			parts := strings.Split(w, "…")
			for i := range parts {
				parts[i] = regexp.QuoteMeta(parts[i])
			}
			if !regexp.MustCompile(`(?m)^` + strings.Join(parts, ".*") + `$`).MatchString(out) {
				o.t.Fatalf("the document says\n%s\nand there is\n%s", w, out)
			}
		}
		want = nil
	}
	for _, line := range strings.Split(body, "\n") {
		switch d := directive.FindStringSubmatch(line); {
		case d != nil:
			o.happen(d[1])
		case strings.HasPrefix(line, "```toml "):
			file, lines = strings.TrimPrefix(line, "```toml "), nil
		case file != "" && line == "```":
			if err := os.WriteFile(filepath.Join(o.dir, file), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
				o.t.Fatal(err)
			}
			file = ""
		case file != "":
			lines = append(lines, line)
		case line == "```console":
			in = true
		case line == "```":
			check()
			in = false
		case in:
			if host, cmd, ok := strings.Cut(line, "$ meshkey "); ok {
				check()
				out = o.command(host, cmd)
				ran++
			} else {
				want = append(want, line)
			}
		}
	}
	return ran
}

// command runs one line of the document, with what it redirects, and wants its exit code.
func (o *operator) command(host, line string) string {
	o.t.Helper()
	line, comment, _ := strings.Cut(line, " # ")
	want := 0
	if n, ok := strings.CutPrefix(comment, "exit "); ok {
		want, _ = strconv.Atoi(n)
	}
	line, file, redirect := strings.Cut(line, " > ")
	args := strings.Fields(strings.ReplaceAll(line, "HASH", o.hash))
	switch verb := strings.Join(args[:min(2, len(args))], " "); {
	case verb == "keys new" && args[2] == "root":
		args = append(args, "--to", o.recipient())
	case strings.HasPrefix(line, "root sign"), strings.HasPrefix(line, "root stale"), line == "doctor --reset-time-floor", strings.HasPrefix(line, "root issuer add"), strings.HasPrefix(line, "root accept HASH"),
		strings.HasPrefix(line, "root issuer cutoff") && !strings.Contains(line, "--dry-run"), (args[0] == "revoke" || line == "rotate" || args[0] == "leave" || strings.HasPrefix(line, "policy apply")) && !strings.Contains(line, "--dry-run"):
		args = append(args, "--yes")
	}
	stdout, stderr, code := o.run(host, args...)
	if code != want {
		o.t.Fatalf("%s$ meshkey %s: exit code %d\n%s%s", host, line, code, stdout, stderr)
	}
	if redirect {
		if err := os.WriteFile(filepath.Join(o.dir, strings.TrimSpace(file)), []byte(stdout), 0o600); err != nil {
			o.t.Fatal(err)
		}
	}
	return stdout + stderr
}

func (o *operator) run(host string, args ...string) (stdout, stderr string, code int) {
	o.t.Helper()
	m := o.at[host]
	if m == nil {
		o.t.Fatalf("the document uses a machine %q", host)
	}
	cmd := exec.CommandContext(o.t.Context(), "meshkey", args...)
	var out, errs strings.Builder
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = o.dir, m.env, &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errs.String(), exit.ExitCode()
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return out.String(), errs.String(), 0
}

func (o *operator) must(host string, args ...string) string {
	o.t.Helper()
	out, errs, code := o.run(host, args...)
	if code != 0 {
		o.t.Fatalf("%s$ meshkey %s: %d %s", host, strings.Join(args, " "), code, errs)
	}
	return out
}

func (o *operator) document(host string, doc any, args ...string) {
	o.t.Helper()
	out, errs, code := o.run(host, append(args, "--json=1")...)
	if code != 0 && code != int(control.Degraded) {
		o.t.Fatalf("%s$ meshkey %s: %d %s", host, strings.Join(args, " "), code, errs)
	}
	if err := json.Unmarshal([]byte(out), doc); err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) machine(name string) *machine {
	o.t.Helper()
	m := &machine{t: o.t, dir: filepath.Join(o.dir, "state", name)}
	m.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + o.dir, "MESHKEY_STATE=" + m.dir, "TZ=UTC"}
	if testing.CoverMode() != "" {
		m.env = append(m.env, "GOCOVERDIR="+o.t.TempDir())
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		o.t.Fatal(err)
	}
	keys := fmt.Sprintf("[keys]\nidentity = %q\n", filepath.Join(o.dir, "id.txt"))
	if err := os.WriteFile(filepath.Join(m.dir, "meshkey.toml"), []byte(keys), 0o600); err != nil {
		o.t.Fatal(err)
	}
	loopback(o.t, m.dir, o.port)
	o.at[name] = m
	return m
}

func (o *operator) start(name string) {
	o.t.Helper()
	if err := o.at[name].start(); err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) recipient() string {
	b, err := os.ReadFile(filepath.Join(o.dir, "id.txt"))
	if err != nil {
		o.t.Fatal(err)
	}
	id, err := age.ParseX25519Identity(strings.TrimSpace(string(b)))
	if err != nil {
		o.t.Fatal(err)
	}
	return id.Recipient().String()
}

func (o *operator) end() {
	for _, m := range o.at {
		m.stop()
	}
}

// happen makes what a comment of the document says.
func (o *operator) happen(what string) {
	o.t.Helper()
	switch what {
	case "mesh":
		o.mesh()
	case "members":
		o.members()
	case "stop nas":
		o.at["nas"].stop()
	case "laptop":
		o.laptop()
	case "wild clock":
		o.wildClock()
	case "whole again":
		o.eventually("nas and pi4 meet again", func() bool { return o.sees("nas", "pi4") && o.sees("pi4", "nas") })
	case "root fork":
		o.rootFork()
	case "issuer fork":
		o.issuerFork()
	default:
		o.t.Fatalf("nobody knows how %q happens", what)
	}
}

// mesh is nas, which founded it, and pi4; anna and ben have machines without a network.
func (o *operator) mesh() {
	o.t.Helper()
	o.end()
	dir, err := os.MkdirTemp("", "mko") // a socket's path is short
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { os.RemoveAll(dir) })
	o.dir, o.port, o.at = dir, beaconPort(), map[string]*machine{}
	id, err := age.GenerateX25519Identity()
	if err != nil {
		o.t.Fatal(err)
	}
	for name, text := range map[string]string{"id.txt": id.String(), "new.pass": "a new passphrase"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text+"\n"), 0o600); err != nil {
			o.t.Fatal(err)
		}
	}
	for _, name := range []string{"nas", "pi4", "anna", "ben"} {
		o.machine(name)
	}
	o.must("nas", "init", "--mesh", "homelab", "--name", "nas", "--root-recipient", o.recipient())
	o.start("nas")
	var inv control.InviteResult
	o.document("nas", &inv, "invite", "pi4")
	o.must("pi4", "enroll", "--yes", inv.Text)
	o.start("pi4")
	o.eventually("nas and pi4 meet", func() bool { return o.sees("nas", "pi4") && o.sees("pi4", "nas") })
}

// members are nas, and machines it has let in that are off: a laptop of a developer and a machine with a graphics card.
func (o *operator) members() {
	o.t.Helper()
	o.mesh()
	for name, tag := range map[string]string{"laptop": "dev", "gpu1": "gpu"} {
		o.machine(name)
		var inv control.InviteResult
		o.document("nas", &inv, "invite", name, "--tag", tag)
		o.must(name, "enroll", "--yes", inv.Text)
	}
}

// laptop is a third machine, which may use a service of nas. Its owner has it no more.
func (o *operator) laptop() {
	o.t.Helper()
	o.mesh()
	o.machine("laptop")
	var inv control.InviteResult
	o.document("nas", &inv, "invite", "laptop")
	o.must("laptop", "enroll", "--yes", inv.Text)
	o.must("nas", "grant", "laptop", "nas/web", "--wait", "0s")
	o.start("laptop")
	o.eventually("all know how old their view is", func() bool {
		var s control.Status
		o.document("pi4", &s, "status")
		return o.sees("nas", "laptop") && o.sees("pi4", "laptop") && s.Trust.AgeMS != nil
	})
}

// wildClock leaves on nas what a clock leaves that was in the future: the time floor.
func (o *operator) wildClock() {
	o.t.Helper()
	o.mesh()
	o.at["nas"].stop()
	writeFloor(o.t, o.at["nas"].dir, time.Now().Add(199*24*time.Hour+time.Hour))
	o.start("nas")
}

// writeFloor is the file of the time floor as package trust keeps it.
func writeFloor(t testing.TB, state string, at time.Time) {
	t.Helper()
	b := wire.MustMarshal([]uint64{1, uint64(at.Unix())})
	if err := os.WriteFile(filepath.Join(state, "trust", "floor"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (o *operator) sees(host, peer string) bool {
	var p control.Peers
	o.document(host, &p, "peers")
	for _, x := range p.Peers {
		if x.Name == peer && x.Session == "full" {
			return true
		}
	}
	return false
}

func (o *operator) root(host string) *control.Root {
	var r control.Root
	o.document(host, &r, "root", "show")
	return &r
}

func (o *operator) eventually(what string, ok func() bool) {
	o.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			o.t.Fatalf("not in time: %s", what)
		}
	}
}

// rootFork has the one root key sign two successors, and each accepted where the other is not known yet.
func (o *operator) rootFork() {
	o.t.Helper()
	o.mesh()
	o.must("nas", "root", "export", "--out", "homelab-root.age")
	o.at["pi4"].stop()
	for _, name := range []string{"anna", "ben"} {
		o.newIssuerLine(name)
		o.must("nas", "root", "issuer", "add", name+".key", "--out", name+".root")
		o.must("nas", "root", "sign", name+".root", "--yes")
	}
	o.must("nas", "root", "accept", "anna.root")
	o.at["nas"].stop()
	o.start("pi4")
	o.must("pi4", "root", "accept", "ben.root")
	o.start("nas")
	o.eventually("both see the fork", func() bool { return len(o.root("nas").Pending) == 2 && len(o.root("pi4").Pending) == 2 })
	o.hash = o.root("nas").Pending[0].Hash
}

// newIssuerLine writes the line of an issuer that exists nowhere: a root key's line names a key as well.
func (o *operator) newIssuerLine(name string) {
	o.t.Helper()
	o.must("nas", "root", "export", "--chain", "--out", name+".chain")
	line := o.must(name, "keys", "new", "root", "--name", name, "--chain", name+".chain", "--to", o.recipient())
	line = strings.Replace(line, "meshkey-root-key/1", "meshkey-issuer-key/1", 1)
	if err := os.WriteFile(filepath.Join(o.dir, name+".key"), []byte(line), 0o600); err != nil {
		o.t.Fatal(err)
	}
}

// issuerFork runs nas and a copy of its state directory, one after the other.
func (o *operator) issuerFork() {
	o.t.Helper()
	o.mesh()
	o.must("nas", "root", "export", "--out", "homelab-root.age")
	line := o.must("pi4", "keys", "new", "issuer")
	if err := os.WriteFile(filepath.Join(o.dir, "pi4.key"), []byte(line), 0o600); err != nil {
		o.t.Fatal(err)
	}
	o.must("nas", "root", "issuer", "add", "pi4.key", "--yes")
	o.eventually("pi4 has the root", func() bool { return o.root("pi4").Version == 2 })
	o.at["pi4"].stop()
	o.at["nas"].stop()
	copied := o.machine("copy")
	if err := os.RemoveAll(copied.dir); err != nil {
		o.t.Fatal(err)
	}
	if err := os.CopyFS(copied.dir, os.DirFS(o.at["nas"].dir)); err != nil {
		o.t.Fatal(err)
	}
	if err := filepath.WalkDir(copied.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return errors.Join(err, os.Chmod(path, 0o600))
		}
		return os.Chmod(path, 0o700)
	}); err != nil {
		o.t.Fatal(err)
	}
	o.start("nas")
	o.must("nas", "grant", "pi4", "web", "--wait", "0s")
	o.at["nas"].stop()
	o.start("copy")
	o.must("copy", "grant", "pi4", "db", "--wait", "0s")
	o.start("pi4")
	o.eventually("pi4 has the copy's entry", func() bool {
		return o.root("pi4").Issuers[o.issuer("nas")].Entries == o.root("copy").Issuers[o.issuer("nas")].Entries
	})
	o.at["copy"].stop()
	o.start("nas")
	o.eventually("pi4 has the evidence", func() bool { return o.root("pi4").Issuers[o.issuer("nas")].Evidence != nil })
}

// issuer is the place of an issuer in pi4's root.
func (o *operator) issuer(name string) int {
	for i, is := range o.root("pi4").Issuers {
		if is.Name == name {
			return i
		}
	}
	o.t.Fatalf("no issuer %s", name)
	return -1
}
