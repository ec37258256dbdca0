package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// TestMain puts this test binary into the PATH of the scripts as meshkey.
func TestMain(m *testing.M) {
	testrun.AtOnce(6) // scripts mostly wait for daemons
	testscript.Main(m, map[string]func(){"meshkey": func() { os.Exit(realMain()) }})
}

// testKey is where a script keeps its testing.TB.
type testKey struct{}

// TestScripts runs testdata/script/*.txtar: what a user types, and what meshkey answers. These commands are ours: "exits N ARGS" runs
// meshkey and wants that exit code; "daemon" starts a daemon of fixed answers on the socket of this script's state directory, "live" a
// real one there, on loopback; "host NAME" goes on as another machine, whose own daemon would be bound to loopback; "capture VAR FILE
// REGEXP" keeps what the first group matches; "until REGEXP ARGS" runs meshkey until it prints that; "flip FILE N" changes a bit of byte N, "flipword FILE WORD" a letter of the line that begins with WORD.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: setupScript,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": runExits, "daemon": startDaemon, "live": startLive, "host": asHost, "capture": capture, "flip": flip, "flipword": flipByte,
			"readonly": makeReadOnly, "until": until,
		},
		Condition:           condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// setupScript gives the script an empty state directory, and makes its files readable by nobody else, as meshkey wants secrets to be.
func setupScript(env *testscript.Env) error {
	t := env.T().(testing.TB)
	env.Values[testKey{}] = t
	env.Values[machinesKey{}] = map[string]*machine{}
	// Not in the work directory: its path is too long for a socket on some systems.
	dir, err := os.MkdirTemp("", "mks")
	if err != nil {
		return err
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		return err
	}
	env.Setenv("HOME", env.WorkDir)
	env.Setenv("MESHKEY_STATE", state)
	env.Setenv("TZ", "UTC")
	if testing.CoverMode() != "" && env.Getenv("GOCOVERDIR") == "" {
		env.Setenv("GOCOVERDIR", t.TempDir()) // else each meshkey complains on stderr
	}
	return filepath.WalkDir(env.WorkDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
}

// runExits runs meshkey and wants an exit code; what it printed is there for the commands that follow.
func runExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: exits CODE [ARGS]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec("meshkey", args[1:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("meshkey: %v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// asHost goes on as the machine of that name: its state directory, and a configuration that opens nothing beyond loopback.
func asHost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: host NAME")
	}
	dir := filepath.Dir(ts.Getenv("MESHKEY_STATE"))
	state, file := filepath.Join(dir, args[0]), filepath.Join(dir, args[0]+".toml")
	port := ts.Getenv("BEACON_PORT") // one for the whole script: its machines hear each other
	if port == "" {
		port = strconv.Itoa(beaconPort())
		ts.Setenv("BEACON_PORT", port)
	}
	text := fmt.Sprintf("[network]\nloopback_only = true\nlisten = [\"127.0.0.1:0\"]\nbeacon_port = %s\n", port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Setenv("MESHKEY_STATE", state)
	ts.Setenv("MESHKEY_CONFIG", file)
	// One that --start began outlives a script that fails.
	ts.Defer(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = control.NewClient(filepath.Join(state, "meshkey.sock")).Shutdown(ctx)
	})
}

// capture sets a variable to what a file says.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: capture VAR FILE REGEXP")
	}
	m := regexp.MustCompile(args[2]).FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) != 2 {
		ts.Fatalf("nothing matches %q in %q", args[2], ts.ReadFile(args[1]))
	}
	ts.Setenv(args[0], m[1])
}

// flip changes one bit of a file.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip FILE N")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	b := []byte(ts.ReadFile(args[0]))
	b[n] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// startDaemon starts a daemon of fixed answers; "denied", "broken", "torn", "unknown", "silent", "unoffered", "changed" and "warned" are among its moods.
func startDaemon(ts *testscript.TestScript, neg bool, moods []string) {
	if neg {
		ts.Fatalf("usage: daemon [MOOD]")
	}
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
		case "asking":
			fake.Asking = true
		case "enrolled":
			fake.Enrolled = true
		case "silent":
			fake.Unsure = []control.Warning{{Code: "target-silent", Text: "nothing answers on 127.0.0.1:11434 yet", Next: "start the service there"}}
			fake.Offered = "unknown"
		case "unoffered":
			fake.Fail = map[string]error{"Resolve": control.Errorf(control.NotFound, "meshkey services", "gpu1 offers no service \"olama\"; it offers this machine ollama")}
		case "unknown":
			missing := control.Errorf(control.NotFound, "meshkey peers", "no peer is named gpu7")
			fake.Fail = map[string]error{"Resolve": missing, "Open": missing, "Revoke": missing, "Ungrant": control.Errorf(control.NotFound, "meshkey grants", "there is no grant g-99")}
		case "history":
			fake.Granted = []control.Grant{
				{ID: "g-1", Who: "laptop (7QK4-M2XD-C)", What: "gpu1/ollama", Issuer: "nas", State: "void", Why: "revoked by nas on 2026-11-01"},
				{ID: "g-2", Who: "laptop", What: "gpu1/web", Issuer: "nas", State: "expired", NotAfter: controltest.Began},
			}
			fake.Existing = true
		case "revoked", "shut-out":
			fake.State = m
			fake.Warnings = []control.Warning{{Code: "revoked-told", Text: "nas says that this machine's key is revoked", Next: "ask an admin"}}
			fake.Already, fake.Told = m == "revoked", m == "shut-out"
		case "changed":
			fake.Fail = map[string]error{"Resolve": control.Errorf(control.Unverified, "look at both keys, and if it is right: meshkey repin gpu1", "gpu1 was AAAA and is now BBBB")}
		case "guests":
			for i := range 10 {
				fake.Expiring = append(fake.Expiring, control.Expiry{
					Node: controltest.Laptop, Why: "guest", TierDays: 1, LeftMS: 3_600_000, Text: fmt.Sprintf("guest-%d's certificate ends in 1h0m0s, as a guest's does", i), Next: "if it shall stay: meshkey invite guest",
				})
			}
		case "warned":
			fake.Warnings = []control.Warning{{Code: "expires-soon", Text: "nas's certificate expires in 6 d", Next: "meshkey explain nas"}}
		default:
			ts.Fatalf("no mood %q", m)
		}
	}
	serve(ts.Value(testKey{}).(testing.TB), fake, filepath.Join(ts.Getenv("MESHKEY_STATE"), "meshkey.sock"))
}

// serve runs a fake daemon on a socket until the test ends.
func serve(t testing.TB, fake *controltest.Fake, path string) {
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

// condition knows [root]: whom no file mode stops.
func condition(name string) (bool, error) {
	if name != "root" {
		return false, fmt.Errorf("no condition %q", name)
	}
	return os.Geteuid() == 0, nil
}

// startLive keeps its machines per script, in the script's values.
func startLive(ts *testscript.TestScript, neg bool, args []string) {
	live(ts.Value(machinesKey{}).(map[string]*machine))(ts, neg, args)
}

// machinesKey is where a script keeps its real daemons.
type machinesKey struct{}

// flipByte changes one character in the last line but one of a file that begins with a word: "flip FILE WORD".
// until runs meshkey until what it prints matches, for a minute at most: "until REGEXP ARGS".
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until REGEXP ARGS")
	}
	want := regexp.MustCompile(args[0])
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(patience); ; <-tick.C {
		if err := ts.Exec("meshkey", args[1:]...); err == nil && want.MatchString(ts.ReadFile("stdout")) {
			return
		}
		if time.Now().After(late) {
			ts.Fatalf("meshkey %s never printed %s", strings.Join(args[1:], " "), args[0])
		}
	}
}

func flipByte(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flipword FILE WORD")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	at := bytes.LastIndex(b, []byte(args[1]+" "))
	if at < 0 {
		ts.Fatalf("no line of %s begins with %s", args[0], args[1])
	}
	at += len(args[1]) + 20
	if b[at] == 'A' {
		b[at] = 'B'
	} else {
		b[at] = 'A'
	}
	ts.Check(os.WriteFile(path, b, 0o600))
}

// makeReadOnly makes a directory nobody may write into, until the script ends.
func makeReadOnly(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: readonly DIR")
	}
	dir := ts.MkAbs(args[0])
	ts.Check(os.Chmod(dir, 0o500))
	ts.Defer(func() { os.Chmod(dir, 0o700) })
}
