package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
)

// runAsMeshkey makes the test binary be meshkey.
const runAsMeshkey = "MESHKEY_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runAsMeshkey) != "" {
		os.Exit(realMain())
	}
	os.Exit(m.Run())
}

// TestScripts runs testdata/script/*.txtar: what a user types, and what meshkey answers. The language is the part of testscript's that
// these need: # comments, [!] exec PROG ARGS, [!] stdout PATTERN, [!] stderr PATTERN, stdin FILE, cmp FILE FILE, env NAME=VALUE,
// mkdir, chmod MODE FILE, [!] exists FILE; files follow, each after "-- NAME --". Two commands are ours: "exits N ARGS" runs meshkey and
// wants that exit code, "daemon" starts a daemon of fixed answers on the socket of this script's state directory.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txtar"), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			newScript(t).run(string(data))
		})
	}
}

type script struct {
	t              *testing.T
	dir            string
	env            map[string]string
	stdin          string
	stdout, stderr string
	code           int
	line           int
}

func newScript(t *testing.T) *script {
	dir, err := os.MkdirTemp("", "mks")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &script{t: t, dir: dir, env: map[string]string{
		runAsMeshkey: "1", "HOME": dir, "WORK": dir, "PATH": os.Getenv("PATH"), "MESHKEY_STATE": filepath.Join(dir, "state"), "TZ": "UTC",
	}}
	if testing.CoverMode() != "" {
		s.env["GOCOVERDIR"] = t.TempDir() // else each meshkey complains on stderr
	}
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	return s
}

// run writes the files and runs the commands.
func (s *script) run(text string) {
	head, files, _ := strings.Cut("\n"+text, "\n-- ")
	for _, part := range strings.Split(files, "\n-- ") {
		name, body, ok := strings.Cut(part, " --\n")
		if ok {
			s.must(os.MkdirAll(filepath.Dir(s.path(name)), 0o700))
			s.must(os.WriteFile(s.path(name), []byte(strings.TrimSuffix(body, "\n")+"\n"), 0o600))
		}
	}
	for i, line := range strings.Split(strings.TrimPrefix(head, "\n"), "\n") {
		s.line = i + 1
		words := s.words(line)
		if len(words) == 0 {
			continue
		}
		not := words[0] == "!"
		if not {
			words = words[1:]
		}
		s.do(not, words[0], words[1:])
	}
}

func (s *script) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("line %d: %s\nlast exit code %d\n[stdout]\n%s\n[stderr]\n%s", s.line, fmt.Sprintf(format, args...), s.code, s.stdout, s.stderr)
}

func (s *script) must(err error) {
	s.t.Helper()
	if err != nil {
		s.fail("%v", err)
	}
}

func (s *script) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

// words splits a line at spaces outside single quotes and expands $NAME outside them.
func (s *script) words(line string) []string {
	var out []string
	word, in, quoted := "", false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted, in = !quoted, true
		case !quoted && !in && r == '#':
			goto end
		case !quoted && (r == ' ' || r == '\t'):
			if in {
				out = append(out, word)
			}
			word, in = "", false
		case !quoted && r == '$':
			word, in = word+"\x00", true
		default:
			word, in = word+string(r), true
		}
	}
end:
	if in {
		out = append(out, word)
	}
	for i, w := range out {
		out[i] = os.Expand(strings.ReplaceAll(w, "\x00", "$"), func(name string) string {
			if !strings.Contains(w, "\x00") {
				return "$" + name
			}
			return s.env[name]
		})
	}
	return out
}

func (s *script) do(not bool, cmd string, args []string) {
	s.t.Helper()
	switch cmd {
	case "exec":
		s.exec(args)
		if (s.code == 0) == not {
			s.fail("exit code %d", s.code)
		}
	case "exits":
		s.exec(append([]string{"meshkey"}, args[1:]...))
		if strconv.Itoa(s.code) != args[0] {
			s.fail("exit code %d, want %s", s.code, args[0])
		}
	case "stdout":
		s.match(not, s.stdout, args[0])
	case "stderr":
		s.match(not, s.stderr, args[0])
	case "stdin":
		s.stdin = s.read(args[0])
	case "cmp":
		if a, b := s.read(args[0]), s.read(args[1]); a != b {
			s.fail("%s and %s differ:\n%s\n--\n%s", args[0], args[1], a, b)
		}
	case "env":
		name, value, _ := strings.Cut(args[0], "=")
		s.env[name] = value
	case "mkdir":
		s.must(os.MkdirAll(s.path(args[0]), 0o700))
	case "chmod":
		mode, err := strconv.ParseUint(args[0], 8, 32)
		s.must(err)
		s.must(os.Chmod(s.path(args[1]), os.FileMode(mode)))
	case "exists":
		if _, err := os.Lstat(s.path(args[0])); (err == nil) == not {
			s.fail("%s: %v", args[0], err)
		}
	case "daemon":
		s.daemon(args)
	default:
		s.fail("no command %q", cmd)
	}
}

func (s *script) read(name string) string {
	switch name {
	case "stdout":
		return s.stdout
	case "stderr":
		return s.stderr
	}
	b, err := os.ReadFile(s.path(name))
	s.must(err)
	return string(b)
}

func (s *script) match(not bool, text, pattern string) {
	s.t.Helper()
	re, err := regexp.Compile("(?m)" + pattern)
	s.must(err)
	if re.MatchString(text) == not {
		s.fail("match of %q: %v", pattern, not)
	}
}

func (s *script) exec(args []string) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	name := args[0]
	if name == "meshkey" {
		exe, err := os.Executable()
		s.must(err)
		name = exe
	}
	cmd := exec.CommandContext(ctx, name, args[1:]...)
	cmd.Dir = s.dir
	for k, v := range s.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Stdin = strings.NewReader(s.stdin)
	s.stdin = ""
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	s.stdout, s.stderr, s.code = out.String(), errs.String(), 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		s.code = exit.ExitCode()
	} else {
		s.must(err)
	}
}

// daemon starts a daemon of fixed answers; "denied", "broken", "torn", "unknown" and "warned" are its moods.
func (s *script) daemon(moods []string) {
	fake := controltest.New()
	denial := control.Denial{From: "laptop", Target: "gpu1/postgres", Reason: "no grant matches", Near: "g-09 tag:dba -> */postgres", Audit: "gpu1#18211", Command: "meshkey grant laptop gpu1/postgres --for 2h"}
	for _, m := range moods {
		switch m {
		case "denied":
			fake.LocallyDenied = map[string]control.Denial{"gpu1/postgres": denial}
			fake.Denied = fake.LocallyDenied
		case "broken":
			fake.Broken = &control.AuditReport{Log: "meshkey/9f86d081/audit/gpu1", Size: 18204, Signed: 18204, Checkpoint: controltest.Began, Findings: []control.AuditFinding{
				{Kind: "missing", First: 2003, Last: 2040, Text: "entries were removed"}, {Kind: "entry", First: 9000, Last: 9000, File: "tile/entries/035", Text: "it is not the one that was signed"},
			}}
		case "torn":
			fake.Torn = true
		case "unknown":
			missing := control.Errorf(control.NotFound, "meshkey peers", "no peer is named gpu7")
			fake.Fail = map[string]error{"Resolve": missing, "Open": missing, "Revoke": missing, "Ungrant": control.Errorf(control.NotFound, "meshkey grants", "there is no grant g-99")}
		case "warned":
			fake.Warnings = []control.Warning{{Code: "expires-soon", Text: "nas's certificate expires in 6 d", Next: "meshkey explain nas"}}
		default:
			s.fail("no mood %q", m)
		}
	}
	serve(s.t, fake, filepath.Join(s.env["MESHKEY_STATE"], "meshkey.sock"))
}

// serve runs a fake daemon on a socket until the test ends.
func serve(t *testing.T, fake *controltest.Fake, path string) {
	t.Helper()
	ln, err := control.Listen(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	srv := control.NewServer(control.ServerConfig{Backend: fake.Backend(), Owner: uint32(os.Getuid())})
	go func() { done <- srv.Run(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
