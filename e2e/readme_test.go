package e2e

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netns"
)

// mostCommands is what the README promises from a clone to a page through the mesh.
const mostCommands = 8

// readmeBlocks returns the "host$ command" lines of the README's two blocks on two machines.
func readmeBlocks(t *testing.T) (first, then [][2]string) {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "## Two machines in eight commands\n")
	if !ok {
		t.Fatal("the README has no section on two machines")
	}
	section, _, _ := strings.Cut(rest, "\n## ")
	parts := strings.Split(section, "```")
	if len(parts) != 5 {
		t.Fatalf("the section has %d blocks, not two", len(parts)/2)
	}
	lines := func(block string) (out [][2]string) {
		for _, l := range strings.Split(strings.TrimSpace(block), "\n") {
			host, cmd, ok := strings.Cut(l, "$")
			if !ok {
				t.Fatalf("line %q names no host", l)
			}
			cmd, _, _ = strings.Cut(cmd, " # ")
			out = append(out, [2]string{host, strings.TrimSpace(cmd)})
		}
		return out
	}
	return lines(parts[1]), lines(parts[3])
}

// TestReadme runs the README's two machines as they stand there:
//
//	nas ─ br0 ─ laptop
//
// What a person does by hand is done here: the passphrase, the paste of the invite, the confirmation. The program is built already.
func TestReadme(t *testing.T) {
	n := netns.New(t)
	br := n.Bridge("br0")
	hosts := map[string]*host{"nas": newHost(t, n, "nas"), "laptop": newHost(t, n, "laptop")}
	br.Attach(hosts["nas"].Host, "10.9.0.1/24")
	br.Attach(hosts["laptop"].Host, "10.9.0.2/24")
	for _, h := range hosts {
		h.WaitDAD()
	}
	serves(t, hosts["nas"], "127.0.0.1:8080", "a page\n")
	serves(t, hosts["laptop"], "127.0.0.1:11434", "a model\n")

	first, then := readmeBlocks(t)
	if len(first) > mostCommands {
		t.Errorf("the README needs %d commands, it promises %d", len(first), mostCommands)
	}
	w := &walk{t: t, hosts: hosts}
	for _, l := range first {
		w.line(l[0], l[1])
	}
	if w.pages != 1 || !strings.HasPrefix(first[len(first)-1][1], "curl ") {
		t.Error("the README's story does not end with a page through the mesh")
	}
	for _, l := range then {
		w.line(l[0], l[1])
	}
	if w.models != 1 {
		t.Error("the README's story goes on without the other service")
	}
}

// serves runs an HTTP server on a host.
func serves(t *testing.T, h *host, at, page string) {
	t.Helper()
	ln := h.Listen("tcp", at)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })
}

// walk is somebody with the README.
type walk struct {
	t             *testing.T
	hosts         map[string]*host
	invite        string
	pages, models int
}

func (w *walk) line(name, command string) {
	t := w.t
	t.Helper()
	h := w.hosts[name]
	if h == nil {
		t.Fatalf("the README uses a host %q", name)
	}
	t.Logf("%s$ %s", name, command)
	args := strings.Fields(command)
	switch args[0] {
	case "go":
		if command != "go install ./cmd/meshkey" {
			t.Fatalf("the README builds it by %q", command)
		}
		if _, err := os.Stat("../cmd/meshkey/main.go"); err != nil {
			t.Fatal(err)
		}
		return
	case "curl":
		if got := h.Run("curl", append([]string{"-sS", "--max-time", "60"}, args[1:]...)...); got != "a page\n" {
			t.Fatalf("curl got %q", got)
		}
		w.pages++
		return
	case "meshkey":
	default:
		t.Fatalf("the README runs %q", command)
	}
	switch args = args[1:]; args[0] {
	case "init":
		if err := os.WriteFile(h.path("pass"), []byte("correct horse battery staple\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		h.must(append(args, "--passphrase-file", h.path("pass"))...)
		h.stopsAtEnd()
	case "invite":
		out := strings.TrimSpace(h.must(args...))
		if !strings.HasPrefix(out, "meshkey enroll mk1i") || strings.ContainsAny(out, "\n\r") {
			t.Fatalf("invite prints %.40q, which is no one command", out)
		}
		w.invite = strings.Fields(out)[2]
	case "enroll":
		if !strings.HasPrefix(args[1], w.invite[:4]) {
			t.Errorf("the README's invite looks like %q", args[1])
		}
		h.must(append([]string{"enroll", "--yes", w.invite}, args[2:]...)...)
		h.stopsAtEnd()
	case "grant":
		eventually(t, "the two know each other", 2*time.Second, func() bool { return w.hosts["nas"].up("laptop") && w.hosts["laptop"].up("nas") })
		h.must(args...)
	case "connect":
		if args[len(args)-1] == "&" {
			w.held(h, args[:len(args)-1]...)
			return
		}
		addr := h.connect(args[1])
		if got := h.Run("curl", "-sS", "--max-time", "60", "http://"+addr+"/"); got != "a model\n" {
			t.Fatalf("curl got %q", got)
		}
		w.models++
	default:
		h.must(args...)
	}
}

// held runs a connect beside the walk, as "&" does, until it has printed its address.
func (w *walk) held(h *host, args ...string) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := h.meshkey(ctx, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	first := make([]byte, 64)
	if n, err := out.Read(first); err != nil || !strings.HasPrefix(string(first[:n]), "127.0.0.1:8080 -> nas/web") {
		w.t.Fatalf("it prints %q: %v", first[:n], err)
	}
}

// stopsAtEnd ends a daemon that --start began.
func (h *host) stopsAtEnd() {
	h.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		cmd := h.meshkey(ctx, "daemon", "--stop")
		if out, err := cmd.CombinedOutput(); err != nil {
			h.t.Errorf("%s: the daemon does not stop: %v %s", h.name, err, out)
		}
	})
	if err := h.client.WaitReady(h.t.Context(), patience); err != nil {
		h.t.Fatal(err)
	}
}
