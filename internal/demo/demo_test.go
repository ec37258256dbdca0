//go:build linux

package demo_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/demo"
	"github.com/sovereignmesh/meshkey/internal/netns"
)

// The demo runs in a network of its own: every socket there is the demo's.
func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

// build makes the program.
func build(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "meshkey")
	if out, err := exec.Command("go", "build", "-o", bin, "github.com/sovereignmesh/meshkey/cmd/meshkey").CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return bin
}

// shortTemp makes a temporary directory with a short path: the sockets' paths are bounded by the system.
func shortTemp(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mk")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func gone(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s", what)
		}
		<-tick.C
	}
}

func empty(dir string) bool {
	es, err := os.ReadDir(dir)
	return err == nil && len(es) == 0
}

// TestStory runs the whole demo and watches every socket of its processes: all are loopback.
func TestStory(t *testing.T) {
	netns.New(t)
	bin, tmp := build(t), shortTemp(t)
	cmd := exec.Command(bin, "demo", "--json=1")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	watch := newWatch()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var err error
	for running := true; running; {
		select {
		case err = <-done:
			running = false
		case <-tick.C:
			watch.look(t)
		}
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, words.String())
	}
	var r demo.Result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil || !r.OK || len(r.Steps) != 10 {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, s := range r.Steps {
		t.Logf("%-9s %6.0f ms  %s", s.Name, s.TookMS, s.Figure)
	}
	if r.TotalMS > 90_000 {
		t.Errorf("took %.0f ms, promised are 90 s", r.TotalMS)
	}
	watch.report(t)
	if !empty(tmp) {
		t.Error("it left files behind")
	}
}

// TestEndings ends the demo in the middle, in the two ways a person has: all processes and files go.
func TestEndings(t *testing.T) {
	bin := build(t)
	for name, sig := range map[string]syscall.Signal{"interrupt": syscall.SIGINT, "kill": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tmp := shortTemp(t)
			cmd := exec.Command(bin, "demo")
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			sc := bufio.NewScanner(out)
			for sc.Scan() && !strings.Contains(sc.Text(), "find each other") {
			}
			kids := descendants(cmd.Process.Pid)
			if len(kids) < 4 {
				t.Fatalf("only %d children run", len(kids))
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			for sc.Scan() {
			}
			err = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); sig == syscall.SIGINT && code != 130 {
				t.Errorf("interrupted: exit %d (%v), want 130", code, err)
			}
			gone(t, fmt.Sprintf("children are left: %v", kids), func() bool {
				for _, pid := range kids {
					if alive(pid) {
						return false
					}
				}
				return true
			})
			gone(t, "files are left", func() bool { return empty(tmp) })
		})
	}
}

func TestCleanUpRefuses(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{dir, "/", filepath.Join(os.TempDir(), "other"), filepath.Join(os.TempDir(), "meshkey-demo-1", "..", "x"), ""} {
		if err := demo.CleanUp(strings.NewReader(""), d); err == nil {
			t.Errorf("%q removed", d)
		}
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
}
