package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/control/controltest"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// syncBuffer is a buffer written by several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type world struct {
	*cli
	out, err *syncBuffer
	env      map[string]string
	dir      string
}

// newWorld is a cli with nothing real but its state directory.
func newWorld(t *testing.T, stdin string) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "mkw")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	w := &world{out: &syncBuffer{}, err: &syncBuffer{}, env: map[string]string{"MESHKEY_STATE": dir}, dir: dir}
	w.cli = &cli{
		in: strings.NewReader(stdin), out: w.out, err: w.err, getenv: func(k string) string { return w.env[k] },
		hostname:   func() (string, error) { return "My_Host.example.org", nil },
		readSecret: func() ([]byte, error) { return nil, errors.New("no terminal") },
	}
	w.reader = sync.OnceValue(func() *bufio.Reader { return bufio.NewReaderSize(w.in, maxLine) })
	return w
}

func (w *world) daemon(t *testing.T, change func(*controltest.Fake)) *controltest.Fake {
	fake := controltest.New()
	if change != nil {
		change(fake)
	}
	serve(t, fake, filepath.Join(w.dir, "meshkey.sock"))
	return fake
}

func (w *world) run(t *testing.T, args ...string) int {
	t.Helper()
	return execute(t.Context(), w.cli, args)
}

func changes(fake *controltest.Fake, verb string) (out []string) {
	for _, c := range fake.Calls() {
		if strings.HasPrefix(c, verb+" ") {
			out = append(out, c)
		}
	}
	return out
}

func TestRevokeAsksForTheName(t *testing.T) {
	for answer, revoked := range map[string]bool{"laptop\n": true, "lap\n": false, "y\n": false, "\n": false, "": false} {
		w := newWorld(t, answer)
		w.inTerm = true
		fake := w.daemon(t, nil)
		code := w.run(t, "revoke", "laptop")
		calls := changes(fake, "Revoke")
		if revoked {
			// What is revoked is the id that was shown, not the name that may mean another node by then.
			if code != 0 || len(calls) != 2 || !strings.Contains(calls[1], controltest.Laptop.ID) || !strings.Contains(calls[1], "DryRun:false") {
				t.Errorf("%q: code %d, %v", answer, code, calls)
			}
			continue
		}
		if code == 0 || len(calls) != 1 || !strings.Contains(calls[0], "DryRun:true") {
			t.Errorf("%q: code %d, %v", answer, code, calls)
		}
	}
}

func TestPassphraseIsAskedTwice(t *testing.T) {
	for _, c := range []struct {
		typed []string
		want  string
		code  int
	}{
		{[]string{"correct horse", "correct horse"}, "correct horse", 0},
		{[]string{"correct horse", "correct house"}, "", 2},
		{[]string{""}, "", 2}, // one is made, and has to be typed
		{[]string{"x", "x"}, "", 2},
		{[]string{"swordfish", "swordfish"}, "", 2},
		{nil, "", 2},
	} {
		w := newWorld(t, "")
		w.inTerm = true
		typed := c.typed
		w.readSecret = func() ([]byte, error) {
			if len(typed) == 0 {
				return nil, io.EOF
			}
			s := typed[0]
			typed = typed[1:]
			return []byte(s), nil
		}
		var got initRequest
		w.system.Init = func(_ context.Context, o initRequest) (*initDocument, error) {
			got = o
			return &initDocument{Mesh: control.MeshInfo{Name: o.Mesh}, Node: control.NodeRef{Name: o.Name}}, nil
		}
		code := w.run(t, "init", "--mesh", "home", "--tag", "b,a")
		if code != c.code || string(got.RootPassphrase) != c.want {
			t.Errorf("%q: code %d, passphrase %q; %s", c.typed, code, got.RootPassphrase, w.err)
		}
		if c.code == 0 && (got.Name != "my-host" || got.StateDir != w.dir || strings.Join(got.Tags, " ") != "a b") {
			t.Errorf("%+v", got)
		}
		if strings.Contains(w.out.String()+w.err.String(), "horse") {
			t.Error("the passphrase is shown")
		}
	}
}

func TestPassphraseIsMade(t *testing.T) {
	w := newWorld(t, "")
	w.inTerm = true
	shown := func() string {
		_, rest, _ := strings.Cut(w.err.String(), "not shown again:\n\n    ")
		made, _, _ := strings.Cut(rest, "\n")
		return made
	}
	first := true
	w.readSecret = func() ([]byte, error) {
		if first {
			first = false
			return nil, nil
		}
		return []byte(shown()), nil
	}
	b, err := w.passphrase(secretSource{FD: -1}, "a passphrase for the root key", true)
	if err != nil || string(b) != shown() || len(strings.Fields(string(b))) != 9 {
		t.Fatalf("%q, %v; %s", b, err, w.err)
	}
	if bytes.Equal(madePassphrase(), madePassphrase()) {
		t.Error("the same one twice")
	}
	if err := keys.CheckNewPassphrase(string(madePassphrase())); err != nil {
		t.Error(err)
	}
}

func TestPassphraseSources(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	flag, twin := file("flag", "from flag\n"), file("twin", "from twin\r\nsecond line\n")
	file(credential, "from systemd")
	get := func(env map[string]string, s secretSource) string {
		w := newWorld(t, "")
		w.env = env
		b, err := w.passphrase(s, "a passphrase", false)
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	all := map[string]string{"MESHKEY_PASSPHRASE_FILE": twin, "CREDENTIALS_DIRECTORY": dir}
	if got := get(all, secretSource{File: flag, FD: -1}); got != "from flag" {
		t.Error(got)
	}
	if got := get(all, secretSource{FD: -1}); got != "from twin" {
		t.Error(got)
	}
	if got := get(map[string]string{"CREDENTIALS_DIRECTORY": dir}, secretSource{FD: -1}); got != "from systemd" {
		t.Error(got)
	}
	if got := get(map[string]string{"CREDENTIALS_DIRECTORY": t.TempDir()}, secretSource{FD: -1}); !strings.Contains(got, "no terminal") {
		t.Error(got)
	}
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(p, "from pipe\n")
	p.Close()
	defer r.Close()
	if got, err := readSecret(r, "it"); err != nil || string(got) != "from pipe" {
		t.Error(got, err)
	}
	if _, err := readSecret(strings.NewReader(strings.Repeat("x", maxSecret+1)), "it"); err == nil {
		t.Error("an endless passphrase")
	}
}

// testInvite is an invite of the right form.
func testInvite(t *testing.T) string {
	t.Helper()
	issuer := keys.NewSigningKey()
	inv := identity.Invite{
		Mesh: keys.MeshID{1}, ID: identity.NewInviteID(), Secret: keys.NewInviteSecret(), RootVersion: 1, RootHash: keys.Hash{2},
		Endpoints:  []identity.Endpoint{identity.EndpointOf(netip.MustParseAddrPort("127.0.0.1:7477"))},
		IssuerNode: issuer.NodeID(), Expiry: time.Now().Add(time.Hour).Unix(), Name: "gpu1",
	}
	return inv.Encode()
}

func TestEnrollConfirms(t *testing.T) {
	inv := testInvite(t)
	of := offer{Mesh: control.MeshInfo{Name: "home\x1b[2J", ID: "aa"}, Name: "gpu1", Words: [3]string{"apple", "river", "stone"}}
	for _, c := range []struct {
		stdin  string
		args   []string
		joined bool
	}{
		{"y\n", []string{inv}, true},
		{"yes\n", []string{inv}, true},
		{"n\n", []string{inv}, false},
		{"\n", []string{inv}, false},
		{"", []string{inv}, false},
		{"", []string{"--yes", inv}, true},
		{inv + "\ny\n", []string{"-"}, true},
		{inv + "\n", []string{"-"}, false},
	} {
		w := newWorld(t, c.stdin)
		w.inTerm = true
		joined := false
		w.system.Enroll = func(_ context.Context, o enrollRequest) (*enrollDocument, error) {
			if !o.Confirm(of) {
				return nil, control.Errorf(control.Interrupted, "", "not joined")
			}
			joined = true
			return &enrollDocument{Mesh: of.Mesh, Node: control.NodeRef{Name: of.Name}, Members: 3}, nil
		}
		code := w.run(t, append([]string{"enroll"}, c.args...)...)
		if joined != c.joined || (code == 0) != c.joined {
			t.Errorf("%q %.8v: joined %v, code %d\n%s", c.stdin, c.args, joined, code, w.err)
		}
		if !strings.Contains(w.err.String(), "apple · river · stone") {
			t.Errorf("the words are not shown: %s", w.err)
		}
		if strings.Contains(w.err.String(), "\x1b") {
			t.Error("a mesh's name reaches the terminal as it is")
		}
	}
}

func TestEnrollWithoutATerminalWantsYes(t *testing.T) {
	w := newWorld(t, "")
	w.system.Enroll = func(context.Context, enrollRequest) (*enrollDocument, error) {
		t.Error("enrolled without a confirmation")
		return nil, errors.New("no")
	}
	if code := w.run(t, "enroll", testInvite(t)); code != 2 {
		t.Errorf("code %d", code)
	}
}

func TestDaemonEndsWithItsParent(t *testing.T) {
	r, p, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	// The daemon closes the descriptor it is given, which must not be one of this process's files.
	fd, err := syscall.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w := newWorld(t, "")
	running := make(chan struct{})
	w.system.Run = func(ctx context.Context, o runRequest) error {
		o.Ready()
		close(running)
		<-ctx.Done()
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		done <- runDaemon(t.Context(), w.cli, daemonOptions{ExitWith: fd, Secret: secretSource{FD: -1}})
	}()
	<-running
	select {
	case err := <-done:
		t.Fatal("ended early:", err)
	default:
	}
	p.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(w.err.String(), "msg=ready") {
		t.Errorf("log: %s", w.err)
	}
}

func TestDaemonTellsSystemd(t *testing.T) {
	w := newWorld(t, "")
	sock := filepath.Join(w.dir, "n")
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: sock, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	w.env["NOTIFY_SOCKET"] = sock
	w.system.Run = func(_ context.Context, o runRequest) error { o.Ready(); return nil }
	if code := w.run(t, "daemon"); code != 0 {
		t.Fatalf("code %d: %s", code, w.err)
	}
	ln.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 64)
	n, err := ln.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
}

func TestDaemonHandsItsConfigurationOver(t *testing.T) {
	w := newWorld(t, "")
	toml := "[network]\nlisten = [\"127.0.0.1:7001\"]\n[control]\nread_group = \"4242\"\n[log]\nlevel = \"error\"\nformat = \"json\"\n"
	if err := os.WriteFile(filepath.Join(w.dir, "meshkey.toml"), []byte(toml), 0o600); err != nil {
		t.Fatal(err)
	}
	var got runRequest
	w.system.Run = func(_ context.Context, o runRequest) error {
		got = o
		o.Log.Warn("not at this level")
		o.Log.Error("but this")
		return control.Errorf(control.InUse, "", "in use")
	}
	if code := w.run(t, "daemon"); code != 75 {
		t.Fatalf("code %d", code)
	}
	if got.StateDir != w.dir || got.Socket != filepath.Join(w.dir, "meshkey.sock") || got.Config.ListenAddrs()[0].Port() != 7001 || *got.ReadGroup != 4242 {
		t.Errorf("%+v", got)
	}
	if text := w.err.String(); strings.Contains(text, "not at this") || !strings.Contains(text, `"msg":"but this"`) {
		t.Errorf("log: %s", text)
	}
	w = newWorld(t, "")
	w.system.Run = func(_ context.Context, o runRequest) error { o.Log.Debug("deep"); return nil }
	if code := w.run(t, "daemon", "--log-level", "debug"); code != 0 || !strings.Contains(w.err.String(), "deep") || !strings.Contains(w.err.String(), slog.LevelDebug.String()) {
		t.Errorf("code %d, log %s", code, w.err)
	}
}

// line waits for the n-th line of a growing output.
func line(t *testing.T, b *syncBuffer, n int) string {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if lines := strings.SplitAfter(b.String(), "\n"); len(lines) > n && strings.HasSuffix(lines[n], "\n") {
			return strings.TrimSuffix(lines[n], "\n")
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("no line %d in %q", n, b)
		}
	}
}

func TestConnectServesUntilInterrupted(t *testing.T) {
	for format, want := range map[string]string{"": "127.0.0.1:%s -> gpu1/ollama", "url": "tcp://127.0.0.1:%s", "env": "MESHKEY_ADDR=127.0.0.1:%s"} {
		w := newWorld(t, "")
		w.daemon(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		args := []string{"connect", "gpu1/ollama", "-L", "127.0.0.1:" + freePort(t), "-v"}
		if format != "" {
			args = append(args, "--format", format)
		}
		done := make(chan int, 1)
		go func() { done <- execute(ctx, w.cli, args) }()
		got := line(t, w.out, 0)
		port := args[3][len("127.0.0.1:"):]
		if got != strings.ReplaceAll(want, "%s", port) {
			t.Errorf("%q", got)
		}
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "hi")
		c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); err != nil || string(b) != "hi" {
			t.Errorf("%q, %v", b, err)
		}
		c.Close()
		line(t, w.err, 2) // serving, open, close
		cancel()
		if code := <-done; code != 130 {
			t.Errorf("code %d: %s", code, w.err)
		}
		if text := w.err.String(); !strings.Contains(text, "close   127.0.0.1:") || !strings.Contains(text, "interrupted") {
			t.Errorf("stderr %s", text)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

func TestConnectAsJSONLines(t *testing.T) {
	w := newWorld(t, "")
	w.daemon(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int, 1)
	go func() { done <- execute(ctx, w.cli, []string{"connect", "gpu1/ollama", "--json", "-L", freePort(t)}) }()
	var ev control.ConnectEvent
	if err := json.Unmarshal([]byte(line(t, w.out, 0)), &ev); err != nil || ev.Schema != "meshkey.connect/1" || ev.Event != "listening" {
		t.Errorf("%+v, %v", ev, err)
	}
	cancel()
	if code := <-done; code != 130 {
		t.Errorf("code %d", code)
	}
}

func TestColourIsOnlyForTerminals(t *testing.T) {
	for _, c := range []struct {
		term, noColor, dumb, want bool
	}{{true, false, false, true}, {true, true, false, false}, {true, false, true, false}, {false, false, false, false}} {
		w := newWorld(t, "")
		w.errTerm = c.term
		if c.noColor {
			w.env["NO_COLOR"] = "1"
		}
		if c.dumb {
			w.env["TERM"] = "dumb"
		}
		w.warn([]control.Warning{{Text: "x"}})
		if got := strings.Contains(w.err.String(), "\x1b["); got != c.want {
			t.Errorf("%+v: %q", c, w.err)
		}
	}
}

func TestHostileTextIsHarmless(t *testing.T) {
	w := newWorld(t, "")
	evil := "a\x1b]0;owned\x07b\r\nc\u202e\xff"
	w.explain(&control.Error{Code: control.Failed, Message: evil, Next: evil})
	w.explain(control.Refuse(control.Denial{From: evil, Target: evil, Near: evil, Audit: evil, Command: evil}))
	w.warn([]control.Warning{{Text: evil, Next: evil}})
	table(w.err, [][]string{{evil, evil}})
	w.showStatus(&control.Status{Node: control.NodeRef{Name: evil}, Mesh: control.MeshInfo{Name: evil}, Peers: []control.Peer{{NodeRef: control.NodeRef{Name: evil}, State: evil}}}, time.Now(), true)
	for _, r := range w.out.String() + w.err.String() {
		if r != '\n' && (r < ' ' || r == 0x7f || r == '\u202e') {
			t.Fatalf("%q reaches the terminal in %q", r, w.err)
		}
	}
}

func TestEveryVerbHasExamples(t *testing.T) {
	w := newWorld(t, "")
	for _, g := range verbs(w.cli) {
		for _, v := range g.verbs {
			for _, cmd := range append(v.Commands(), v) {
				if cmd.Example == "" || cmd.Short == "" || cmd.Args == nil || cmd.RunE == nil || strings.HasSuffix(cmd.Short, ".") {
					t.Errorf("%s lacks examples, a sentence or a check of its arguments", cmd.CommandPath())
				}
			}
		}
	}
}

func TestSpans(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 999 * time.Millisecond: "999 ms", time.Second: "1 s", 59 * time.Second: "59 s", time.Minute: "1 min", 90 * time.Minute: "1 h 30 min",
		25 * time.Hour: "1 d 1 h", 48*time.Hour + 5*time.Minute: "2 d", 76 * time.Hour: "3 d 4 h", -time.Minute: "-1 min",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	for s, want := range map[string]time.Duration{"30m": 30 * time.Minute, "8h": 8 * time.Hour, "90d": 90 * 24 * time.Hour, "2w": 14 * 24 * time.Hour, "1h30m": 90 * time.Minute, "0": 0} {
		if got, err := parseSpan(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "8", "-8h", "d", "1.5d", "99999999d", "soon"} {
		if got, err := parseSpan(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestSizesAndCounts(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1.0k", 9949: "9.9k", 9950: "10k", 88e6: "88M", 999_499: "999k", 999_500: "1.0M", 1<<64 - 1: "18E"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 18204: "18,204", 1<<64 - 1: "18,446,744,073,709,551,615"} {
		if got := count(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 11, 2, 15, 4, 5, 0, time.UTC)
	for s, want := range map[string]string{
		"now": "2026-11-02T15:04:05Z", "today": "2026-11-02T00:00:00Z", "yesterday": "2026-11-01T00:00:00Z", "2h": "2026-11-02T13:04:05Z", "1d": "2026-11-01T15:04:05Z",
		"2026-01-02": "2026-01-02T00:00:00Z", "2026-01-02 03:04": "2026-01-02T03:04:00Z", "2026-01-02T03:04:05+01:00": "2026-01-02T02:04:05Z",
	} {
		if got, err := parseWhen(s, now); err != nil || got.UTC().Format(time.RFC3339) != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	if _, err := parseWhen("tomorrowish", now); err == nil {
		t.Error("accepted")
	}
}
