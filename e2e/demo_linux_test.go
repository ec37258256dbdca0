package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/demo"
	"github.com/sovereignmesh/meshkey/internal/netns"
)

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

func empty(dir string) bool {
	es, err := os.ReadDir(dir)
	return err == nil && len(es) == 0
}

// TestDemo runs the whole demo and watches every socket of its processes: all are loopback.
func TestDemo(t *testing.T) {
	netns.New(t)
	t.Parallel()
	tmp := shortTemp(t)
	cmd := exec.Command(binary, "demo", "--json=1")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	watch := newSockets(cmd.Process.Pid)
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

// TestDemoEndings ends the demo in the middle, in the two ways a person has: all processes and files go.
func TestDemoEndings(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"interrupt": syscall.SIGINT, "kill": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tmp := shortTemp(t)
			cmd := exec.Command(binary, "demo")
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
			eventually(t, fmt.Sprintf("all children %v are gone", kids), 3*time.Second, func() bool {
				for _, pid := range kids {
					if alive(pid) {
						return false
					}
				}
				return true
			})
			eventually(t, "all files are gone", 3*time.Second, func() bool { return empty(tmp) })
		})
	}
}
