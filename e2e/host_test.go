package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// binary is the meshkey program under test, built once by TestMain.
var binary string

func TestMain(m *testing.M) {
	testrun.AtOnce(24) // scenarios mostly wait, each on a network of its own: as many as there are may wait together
	os.Exit(netns.Main(runner{m}))
}

type runner struct{ m *testing.M }

// Run builds the program and runs the tests; netns.Main calls it inside the namespaces.
func (r runner) Run() int {
	dir, err := os.MkdirTemp("", "meshkey-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "meshkey")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/sovereignmesh/meshkey/cmd/meshkey").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program under test: %v\n%s", err, out)
		return 1
	}
	return r.m.Run()
}

// host is one machine with a state directory and a daemon.
type host struct {
	*netns.Host
	t      *testing.T
	name   string
	dir    string
	extra  string // more of meshkey.toml
	client *control.Client
	cmd    *exec.Cmd
	hold   *os.File
	done   chan error
}

func newHost(t *testing.T, n *netns.Net, name string) *host {
	t.Helper()
	h := &host{Host: n.Host(name), t: t, name: name, dir: t.TempDir()}
	h.client = control.NewClient(h.path("sock"))
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) state() string { return h.path("state") }

// meshkey makes a command as its user types it.
func (h *host) meshkey(ctx context.Context, args ...string) *exec.Cmd {
	all := append([]string{"--state", h.state(), "--socket", h.path("sock"), "--config", h.path("meshkey.toml")}, args...)
	return h.CommandContext(ctx, binary, all...)
}

// run runs a command to its end.
func (h *host) run(args ...string) (stdout, stderr string, code int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 2*patience)
	defer cancel()
	cmd := h.meshkey(ctx, args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		h.t.Fatalf("%s: meshkey %v: %v", h.name, args, err)
	}
	return out.String(), words.String(), cmd.ProcessState.ExitCode()
}

// must runs a command that has to succeed.
func (h *host) must(args ...string) string {
	h.t.Helper()
	out, words, code := h.run(args...)
	if code != 0 {
		h.t.Fatalf("%s: meshkey %s: exit %d\n%s%s", h.name, strings.Join(args, " "), code, out, words)
	}
	return out
}

// document runs a command and reads its JSON.
func (h *host) document(v any, args ...string) {
	h.t.Helper()
	out := h.must(append([]string{"--json=1"}, args...)...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		h.t.Fatalf("%s: meshkey %v: %v\n%s", h.name, args, err, out)
	}
}

// rootRecipient is what the root keys of these meshes are sealed to: a passphrase takes a second and 256 MiB, and many hosts found
// meshes at once. The scenarios of the README and of sealed keys take passphrases.
const rootRecipient = "age1r2w7r3hjynlr0vr406qyv36zs43f8c8kq6p5jmpul0p4lpz3m37sdaa4c3"

// found makes the mesh on this host.
func (h *host) found(mesh string) {
	h.t.Helper()
	h.must("init", "--mesh", mesh, "--name", h.name, "--root-recipient", rootRecipient)
}

// start runs the daemon and waits until it serves.
func (h *host) start() {
	h.t.Helper()
	if err := netns.Guard("0.0.0.0:7477"); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(h.path("meshkey.toml"), []byte(h.extra), 0o600); err != nil {
		h.t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		h.t.Fatal(err)
	}
	defer r.Close()
	log, err := os.OpenFile(h.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	h.cmd = h.meshkey(context.Background(), "daemon", "--exit-with-fd", "3", "--log-level", "debug")
	h.cmd.ExtraFiles, h.cmd.Stderr = []*os.File{r}, log
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.hold, h.done = w, make(chan error, 1)
	go func(c *exec.Cmd, done chan error) { done <- c.Wait() }(h.cmd, h.done)
	h.t.Cleanup(h.kill)
	if err := h.client.WaitReady(h.t.Context(), patience); err != nil {
		b, _ := os.ReadFile(h.path("log"))
		h.t.Fatalf("%s: the daemon does not serve: %v\n%s", h.name, err, b)
	}
}

// kill ends the daemon at once, without a chance to clean up.
func (h *host) kill() {
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Signal(syscall.SIGCONT)
	_ = h.cmd.Process.Kill()
	<-h.done
	h.hold.Close()
	h.cmd = nil
	if h.t.Failed() {
		if b, err := os.ReadFile(h.path("log")); err == nil {
			h.t.Logf("log of %s:\n%s", h.name, b[max(0, len(b)-6000):])
		}
	}
}

// stop ends the daemon in order.
func (h *host) stop() {
	h.t.Helper()
	h.hold.Close()
	select {
	case err := <-h.done:
		if err != nil {
			h.t.Fatalf("%s: the daemon ended with %v", h.name, err)
		}
	case <-time.After(patience):
		h.t.Fatalf("%s: the daemon does not stop", h.name)
	}
	h.cmd = nil
}

// signal sends a signal to the daemon.
func (h *host) signal(s os.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(s); err != nil {
		h.t.Fatal(err)
	}
}

// join enrols the host with a fresh invite of the issuer.
func (h *host) join(issuer *host, name string, args ...string) {
	h.t.Helper()
	var inv control.InviteResult
	issuer.document(&inv, append([]string{"invite", name}, args...)...)
	h.must("enroll", "--yes", inv.Text)
}

// peer is what the host knows of another by name.
func (h *host) peer(name string) (control.Peer, bool) {
	ps, err := h.client.Peers(h.t.Context())
	if err != nil {
		return control.Peer{}, false
	}
	for _, p := range ps.Peers {
		if p.Name == name {
			return p, true
		}
	}
	return control.Peer{}, false
}

func (h *host) up(name string) bool {
	p, ok := h.peer(name)
	return ok && p.State == "up" && p.Session == "full"
}

// audit returns the records of one code.
func (h *host) audit(code string) []control.AuditRecord {
	h.t.Helper()
	page, err := h.client.AuditLog(h.t.Context(), control.AuditQuery{Code: code, Limit: 1000})
	if err != nil {
		h.t.Fatal(err)
	}
	return page.Records
}

// audited waits for n records of one code: what needs not be durable before its effect is written within a second.
func (h *host) audited(code string, n int) (records []control.AuditRecord) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if records = h.audit(code); len(records) >= n {
			return records
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: %d records of %s, want %d", h.name, len(records), code, n)
		}
		<-tick.C
	}
}

// patience is how long what takes a second may take on a machine that does other things meanwhile.
const patience = time.Minute

// eventually polls; the deadline is ten times what is promised, and the real time is printed and returned.
func eventually(t *testing.T, what string, promised time.Duration, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > 10*promised {
			t.Fatalf("%s: not within %v, ten times what is promised", what, 10*promised)
		}
		<-tick.C
	}
	d := time.Since(began)
	t.Logf("%s: %v (promised %v)", what, d.Round(time.Millisecond), promised)
	return d
}

// full waits for a full mesh of the hosts.
func full(t *testing.T, promised time.Duration, hosts ...*host) time.Duration {
	t.Helper()
	return eventually(t, "full mesh", promised, func() bool {
		for _, a := range hosts {
			for _, b := range hosts {
				if a != b && !a.up(b.name) {
					return false
				}
			}
		}
		return true
	})
}
