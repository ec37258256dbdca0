package e2e

import (
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/netns"
)

// readmeLines returns the "host$ command" lines of the README's block on two machines.
func readmeLines(t *testing.T) (lines [][2]string) {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "## Two machines in eight lines\n")
	if !ok {
		t.Fatal("the README has no section on two machines")
	}
	parts := strings.SplitN(rest, "```", 3)
	if len(parts) < 3 {
		t.Fatal("the section has no block")
	}
	for _, l := range strings.Split(strings.TrimSpace(parts[1]), "\n") {
		host, cmd, ok := strings.Cut(l, "$")
		if !ok {
			t.Fatalf("line %q names no host", l)
		}
		cmd, _, _ = strings.Cut(cmd, " # ")
		lines = append(lines, [2]string{host, strings.TrimSpace(cmd)})
	}
	return lines
}

// TestReadme runs the README's two machines as they stand there:
//
//	nas ─ br0 ─ gpu1
//
// What a person does by hand is done here: the passphrase, the paste of the invite, the confirmation.
func TestReadme(t *testing.T) {
	n := netns.New(t)
	br := n.Bridge("br0")
	hosts := map[string]*host{"nas": newHost(t, n, "nas"), "gpu1": newHost(t, n, "gpu1")}
	br.Attach(hosts["nas"].Host, "10.9.0.1/24")
	br.Attach(hosts["gpu1"].Host, "10.9.0.2/24")
	for _, h := range hosts {
		h.WaitDAD()
	}
	ln := hosts["gpu1"].Listen("tcp", "127.0.0.1:11434")
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "a model\n") })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { srv.Close(); <-done })

	invite, connected := "", false
	for _, l := range readmeLines(t) {
		h := hosts[l[0]]
		if h == nil {
			t.Fatalf("the README uses a host %q", l[0])
		}
		args := strings.Fields(l[1])
		if len(args) < 2 || args[0] != "meshkey" {
			t.Fatalf("the README runs %q", l[1])
		}
		t.Logf("%s$ %s", l[0], l[1])
		switch args = args[1:]; args[0] {
		case "init":
			if err := os.WriteFile(h.path("pass"), []byte("a passphrase\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			h.must(append(args, "--passphrase-file", h.path("pass"))...)
		case "daemon":
			h.start()
		case "invite":
			var inv control.InviteResult
			h.document(&inv, args...)
			invite = inv.Text
		case "enroll":
			if !strings.HasPrefix(args[1], invite[:4]) {
				t.Errorf("the README's invite looks like %q", args[1])
			}
			h.must("enroll", "--yes", invite)
		case "grant":
			eventually(t, "the two know each other", 2*time.Second, func() bool { return hosts["nas"].up("gpu1") && hosts["gpu1"].up("nas") })
			h.must(args...)
		case "connect":
			addr := h.connect(args[1])
			if got := h.Run("curl", "-sS", "--max-time", "10", "http://"+addr+"/"); got != "a model\n" {
				t.Fatalf("curl got %q", got)
			}
			connected = true
		default:
			h.must(args...)
		}
	}
	if !connected {
		t.Error("the README's story does not use the service")
	}
}
