package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/netns"
)

// fails runs a command that has to fail with a code, one sentence that holds the words, and at most a line on what to do.
func (h *host) fails(want control.Code, words string, args ...string) {
	h.t.Helper()
	out, said, code := h.run(args...)
	var lines []string
	for line := range strings.Lines(said) {
		if !strings.HasPrefix(line, "time=") { // the daemon's log
			lines = append(lines, strings.TrimRight(line, "\n"))
		}
	}
	verb := args[0]
	h.t.Logf("%s: exit %d: %s", verb, code, strings.Join(lines, " "))
	if code != int(want) {
		h.t.Errorf("%s: exit %d, want %d (%s)", verb, code, int(want), want)
	}
	if out != "" {
		h.t.Errorf("%s: words on stdout: %q", verb, out)
	}
	for len(lines) > 0 && !strings.HasPrefix(lines[0], "meshkey: ") {
		lines = lines[1:] // what was shown before it failed, such as the mesh of an invite
	}
	if len(lines) == 0 || len(lines) > 2 || len(lines) == 2 && !strings.HasPrefix(lines[1], "  -> ") {
		h.t.Errorf("%s: not one sentence and one step: %q", verb, said)
	}
	if !strings.Contains(strings.Join(lines, "\n"), words) {
		h.t.Errorf("%s: %q does not say %q", verb, said, words)
	}
}

// beside is another daemon's directory on the same machine, with its own TCP port.
func (h *host) beside(name, listen string) *host {
	o := &host{Host: h.Host, t: h.t, name: name, dir: h.t.TempDir(), extra: "[network]\nlisten = [\"" + listen + "\"]\n"}
	o.client = control.NewClient(o.path("sock"))
	return o
}

func (h *host) configure() {
	h.t.Helper()
	if err := os.WriteFile(h.path("meshkey.toml"), []byte(h.extra), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// copyState gives the host a copy of another's state directory.
func (h *host) copyState(from *host) {
	h.t.Helper()
	if err := os.CopyFS(h.state(), os.DirFS(from.state())); err != nil {
		h.t.Fatal(err)
	}
	err := filepath.WalkDir(h.state(), func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// TestOperatorErrors makes the mistakes operators make, on one machine:
//
//	nas: a running daemon, and directories beside it
func TestOperatorErrors(t *testing.T) {
	t.Parallel()
	n := netns.New(t)
	nas := newHost(t, n, "nas")
	nas.extra = "[network]\nloopback_only = true\nlisten = [\"127.0.0.1:7477\"]\n"
	nas.configure()

	nas.fails(control.NotRunning, "daemon", "status")
	nas.fails(control.NotFound, "in no mesh yet", "daemon")
	nas.found("homelab")
	broken := nas.beside("broken", "127.0.0.1:7480")
	broken.copyState(nas)
	nas.start()

	// A second daemon on the directory, with a socket of its own so that this is not what stops it.
	_, _, code := nas.run("--socket", nas.path("sock2"), "daemon")
	if code != int(control.InUse) {
		t.Errorf("a second daemon on one state directory: exit %d", code)
	}
	nas.fails(control.InUse, "", "daemon")

	// Another mesh on this machine that wants the same port.
	other := nas.beside("other", "127.0.0.1:7477")
	other.extra += "loopback_only = true\n"
	other.configure()
	other.found("other")
	other.fails(control.Failed, "network.listen", "daemon")

	// A state directory that others may enter.
	broken.extra += "loopback_only = true\n"
	broken.configure()
	if err := os.Chmod(broken.state(), 0o755); err != nil {
		t.Fatal(err)
	}
	broken.fails(control.Failed, "chmod 700", "daemon")
	if err := os.Chmod(broken.state(), 0o700); err != nil {
		t.Fatal(err)
	}
	// A key file with one bit changed.
	key := filepath.Join(broken.state(), "node.age")
	b, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-10] ^= 1
	if err := os.WriteFile(key, b, 0o600); err != nil {
		t.Fatal(err)
	}
	broken.fails(control.Unverified, "node.age", "daemon")

	// Keys sealed to a passphrase, and another one.
	sealed := nas.beside("sealed", "127.0.0.1:7481")
	sealed.extra += "loopback_only = true\n"
	sealed.configure()
	for name, text := range map[string]string{"pass": "correct horse battery staple\n", "right": "a fine day for sailing\n", "wrong": "a fine day for failing\n"} {
		if err := os.WriteFile(sealed.path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sealed.must("init", "--mesh", "sealed", "--name", "sealed", "--passphrase-file", sealed.path("pass"), "--daemon-passphrase-file", sealed.path("right"))
	sealed.fails(control.Failed, "passphrase", "daemon", "--passphrase-file", sealed.path("wrong"))

	if st, err := nas.client.Status(t.Context()); err != nil || st.State != "up" {
		t.Errorf("the daemon that ran all the while: %+v, %v", st, err)
	}
}

// TestInviteErrors tries invites that are no good any more.
//
//	nas ──┐
//	gpu1 ─┼─ br0     nas invites; later another mesh answers at its address
//	laptop┘
func TestInviteErrors(t *testing.T) {
	t.Parallel()
	nas, gpu, laptop := lan(t, v4)
	nas.found("homelab")
	nas.start()
	invite := func(args ...string) string {
		var inv control.InviteResult
		nas.document(&inv, append([]string{"invite"}, args...)...)
		return inv.Text
	}
	used := invite("gpu1")
	gpu.must("enroll", "--yes", used)
	laptop.fails(control.Denied, "used", "enroll", "--yes", used)

	short := invite("late", "--ttl", "1s")
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	laptop.fails(control.Denied, "expired", "enroll", "--yes", short)

	good := invite("laptop")
	laptop.fails(control.Usage, "", "enroll", "--yes", good[:len(good)-3]+"xyz")
	if strings.Contains(good, "\n") {
		t.Error("an invite is not one line")
	}
	nas.stop()
	laptop.fails(control.Unreachable, "", "enroll", "--yes", good)
	foreign := nas.beside("foreign", "[::]:7477")
	foreign.found("foreign")
	foreign.start()
	laptop.fails(control.Unreachable, "", "enroll", "--yes", good)
	if _, err := os.Stat(filepath.Join(laptop.state(), "member")); err == nil {
		t.Error("a membership was left behind")
	}
	foreign.stop()
	nas.start()
	laptop.must("enroll", "--yes", good)
}
