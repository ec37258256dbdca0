package daemon_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/daemon"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// initOptions found a mesh whose root key is sealed to an age identity: a passphrase takes a second each time.
func initOptions(dir string) daemon.InitOptions {
	return daemon.InitOptions{StateDir: dir, Mesh: "homelab", Name: "nas", RootRecipients: []string{rootRecipient}}
}

// rootRecipient has an identity nobody keeps.
const rootRecipient = "age1r2w7r3hjynlr0vr406qyv36zs43f8c8kq6p5jmpul0p4lpz3m37sdaa4c3"

// tryRun starts a daemon that should not start, and returns why.
func tryRun(t *testing.T, dir string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return daemon.Run(ctx, daemon.Options{
		StateDir: dir, Socket: filepath.Join(t.TempDir(), "s"), LoopbackOnly: true, BeaconPort: 29999,
		Ready: func() { t.Error("it runs"); cancel() },
	})
}

// sentence checks that an error says what, where and what to do, in one line.
func sentence(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
	if strings.Contains(text, "\n") || len(text) > 400 {
		t.Errorf("not one sentence: %q", text)
	}
}

func TestStateDirectoryInUse(t *testing.T) {
	t.Parallel()
	h := newHost(t, "nas", 29998)
	if _, err := daemon.Init(t.Context(), initOptions(h.dir)); err != nil {
		t.Fatal(err)
	}
	h.start()
	err := tryRun(t, h.dir)
	if !errors.Is(err, durable.ErrLocked) {
		t.Fatal(err)
	}
	sentence(t, err, h.dir)
	if _, err := daemon.Init(t.Context(), initOptions(h.dir)); !errors.Is(err, durable.ErrLocked) {
		t.Fatal(err)
	}
}

func TestStateDirectoryPermissions(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	if _, err := daemon.Init(t.Context(), initOptions(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	sentence(t, tryRun(t, dir), dir, "chmod")
}

// What is damaged is named, with what to do; and nothing is changed by trying.
func TestDamagedState(t *testing.T) {
	t.Parallel()
	whole := filepath.Join(t.TempDir(), "whole")
	if _, err := daemon.Init(t.Context(), initOptions(whole)); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"member", "node.age", "issuer.age", "group-1.age", "identity.txt"} {
		for _, how := range []string{"garbage", "truncated", "missing"} {
			if how == "missing" && file == "issuer.age" {
				continue // a node that is no issuer
			}
			t.Run(file+" "+how, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "state")
				if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
					t.Fatal(err)
				}
				private(t, dir)
				path := filepath.Join(dir, file)
				old, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				switch how {
				case "garbage":
					err = os.WriteFile(path, bytes.Repeat([]byte{0x5a}, len(old)), 0o600)
				case "truncated":
					err = os.WriteFile(path, old[:len(old)/2], 0o600)
				case "missing":
					err = os.Remove(path)
				}
				if err != nil {
					t.Fatal(err)
				}
				err = tryRun(t, dir)
				switch {
				case file == "member" && how == "missing":
					if !errors.Is(err, daemon.ErrNotMember) {
						t.Fatal(err)
					}
				case file == "group-1.age" && how == "missing":
					sentence(t, err, dir, "restore")
				default:
					sentence(t, err, file, "restore")
				}
			})
		}
	}
}

func private(t *testing.T, dir string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	}); err != nil {
		t.Fatal(err)
	}
}

// An init that was interrupted anywhere leaves a directory in which init works, and every key it had made is still there afterwards.
func TestInitInterrupted(t *testing.T) {
	testrun.Scenario(t)
	t.Parallel()
	whole := filepath.Join(t.TempDir(), "whole")
	if _, err := daemon.Init(t.Context(), initOptions(whole)); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Init(t.Context(), initOptions(whole)); !errors.Is(err, daemon.ErrMember) {
		t.Fatal(err)
	}
	// The order of writes; an interruption leaves a prefix.
	order := []string{"identity.txt", "node.age", "issuer.age", "group-1.age", "root.age", "trust", "audit"}
	for n := range len(order) + 1 {
		dir := filepath.Join(t.TempDir(), "state")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		made := map[string][]byte{}
		for _, name := range order[:n] {
			from, to := filepath.Join(whole, name), filepath.Join(dir, name)
			if b, err := os.ReadFile(from); err == nil {
				made[name] = b
				if err := os.WriteFile(to, b, 0o600); err != nil {
					t.Fatal(err)
				}
			} else if err := os.CopyFS(to, os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
		private(t, dir)
		if _, err := daemon.Init(t.Context(), initOptions(dir)); err != nil {
			t.Fatalf("after %d steps: %v", n, err)
		}
		for name, b := range made {
			kept, err := os.ReadFile(filepath.Join(dir, "leftover-1", name))
			if err != nil || !bytes.Equal(kept, b) {
				t.Fatalf("after %d steps %s is lost: %v", n, name, err)
			}
		}
	}
}

// A member file that cannot be read is still a membership.
func TestUnreadableMemberIsNotOverwritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(filepath.Join(dir, "member"), 0o700); err != nil { // cannot be opened as a file
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := daemon.Init(t.Context(), initOptions(dir)); !errors.Is(err, daemon.ErrMember) {
		t.Fatal(err)
	}
}

// An enrolment interrupted after the issuer's answer is finished by running the same command again: the invite is not burnt.
func TestEnrollInterrupted(t *testing.T) {
	t.Parallel()
	nas := newHost(t, "nas", 29997)
	if _, err := daemon.Init(t.Context(), initOptions(nas.dir)); err != nil {
		t.Fatal(err)
	}
	nas.start()
	inv, err := nas.client.CreateInvite(t.Context(), &control.InviteRequest{Name: "gpu1"})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := identity.ParseInvite(inv.Text)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "gpu1")
	first, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: dir, Invite: parsed})
	if err != nil {
		t.Fatal(err)
	}
	// As if it had died before the last write, and before more and more of the others.
	for _, gone := range []string{"member", "audit", "trust", "group-1.age"} {
		if err := os.RemoveAll(filepath.Join(dir, "member")); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		again, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: dir, Invite: parsed})
		if err != nil {
			t.Fatalf("without %s: %v", gone, err)
		}
		if again.Node != first.Node || again.NotAfter != first.NotAfter {
			t.Fatal("another node or certificate")
		}
	}
	// A member that does it again has the same certificate, not a second one; and another mesh never takes its place.
	again, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: dir, Invite: parsed})
	if err != nil || again.NotAfter != first.NotAfter || !again.Renewed {
		t.Fatal(again, err)
	}
	foreign := *parsed
	foreign.Mesh[0] ^= 1
	if _, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: dir, Invite: &foreign}); !errors.Is(err, daemon.ErrMember) {
		t.Fatal(err)
	}
	if _, err := daemon.Enroll(t.Context(), daemon.EnrollOptions{StateDir: filepath.Join(t.TempDir(), "x"), Invite: parsed}); err == nil {
		t.Fatal("two machines by one invite")
	}
}

// A daemon that stops leaves no goroutine, no open file and no socket.
func TestStopLeavesNothing(t *testing.T) {
	h := newHost(t, "nas", 29996)
	if _, err := daemon.Init(t.Context(), initOptions(h.dir)); err != nil {
		t.Fatal(err)
	}
	h.start()
	h.stop() // once, so that what the runtime opens once is open
	files := openFiles(t)
	for range 3 {
		h.start()
		h.stop()
	}
	if _, err := os.Lstat(h.socket()); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("the socket is left behind", err)
	}
	eventually(t, "files closed", patience, func() bool { return openFiles(t) <= files })
	eventually(t, "goroutines ended", patience, func() bool {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		return !strings.Contains(stacks, "meshkey/mesh.") && !strings.Contains(stacks, "internal/daemon.(") &&
			!strings.Contains(stacks, "meshkey/audit.") && !strings.Contains(stacks, "meshkey/trust.")
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc")
	}
	return len(d)
}
