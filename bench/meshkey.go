package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/netns"
)

// meshkey is the real program: a mesh of two, made with init and enrol, a service exposed on one and granted to the other, which uses it
// through `meshkey connect`. Policy decides on every stream, and the audit logs are written as always.
type meshkey struct {
	label, text string
	port        string // of sessions
	near        string // what connect serves
	tmpfs       bool

	server, client *node
	entrance       *process // meshkey connect
}

// node is one machine with a state directory and, at times, a daemon.
type node struct {
	rig    *rig
	host   *netns.Host
	name   string
	dir    string
	client *control.Client
	daemon *process
}

// tmpfsDir is where package netns has mounted a fresh tmpfs.
const tmpfsDir = "/run"

func newMeshkey(name string, tmpfs bool) contestant {
	if tmpfs {
		return &meshkey{label: name, text: "meshkey, audit log on tmpfs", port: "7478", near: "127.0.0.1:7207", tmpfs: true}
	}
	return &meshkey{label: name, text: "meshkey", port: "7477", near: "127.0.0.1:7206"}
}

func (m *meshkey) name() string        { return m.label }
func (m *meshkey) title() string       { return m.text }
func (m *meshkey) missing(*rig) string { return "" }

func (m *meshkey) node(r *rig, h *netns.Host, name string) (*node, error) {
	dir := r.path(m.label + "-" + name)
	if m.tmpfs {
		dir = filepath.Join(tmpfsDir, m.label+"-"+name)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	n := &node{rig: r, host: h, name: name, dir: dir}
	n.client = control.NewClient(n.path("sock"))
	text := fmt.Sprintf("[network]\nlisten = [\"0.0.0.0:%s\"]\n", m.port)
	return n, os.WriteFile(n.path("meshkey.toml"), []byte(text), 0o600)
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// command makes a command as its user types it.
func (n *node) command(args ...string) *exec.Cmd {
	all := []string{"--state", n.path("state"), "--socket", n.path("sock"), "--config", n.path("meshkey.toml")}
	return n.host.Command(n.rig.plan.program("meshkey"), append(all, args...)...)
}

func (n *node) run(args ...string) error {
	_, err := output(n.command(args...))
	return err
}

// start runs the daemon and waits until it serves.
func (n *node) start() (err error) {
	if err := netns.Guard("0.0.0.0:7477"); err != nil {
		return err
	}
	if n.daemon, err = n.rig.spawn(filepath.Base(n.dir), n.command("daemon")); err != nil {
		return err
	}
	if err := n.client.WaitReady(context.Background(), startTime); err != nil {
		return fmt.Errorf("the daemon of %s does not serve: %w: %s", n.name, err, n.daemon.tail())
	}
	return nil
}

func (m *meshkey) serve(r *rig) (err error) {
	if m.server, err = m.node(r, r.server, "server"); err != nil {
		return err
	}
	if m.client, err = m.node(r, r.client, "client"); err != nil {
		return err
	}
	s := m.server
	if err := os.WriteFile(s.path("pass"), []byte("correct horse battery staple\n"), 0o600); err != nil {
		return err
	}
	if err := s.run("init", "--mesh", m.label, "--name", s.name, "--passphrase-file", s.path("pass")); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	if err := s.run("expose", "bench", targetPort); err != nil {
		return err
	}
	if err := s.run("grant", "any", s.name+"/bench"); err != nil {
		return err
	}
	out, err := s.command("--json=1", "invite", m.client.name).Output()
	if err != nil {
		return fmt.Errorf("invite: %w", err)
	}
	var inv control.InviteResult
	if err := json.Unmarshal(out, &inv); err != nil {
		return fmt.Errorf("invite: %w", err)
	}
	return m.client.run("enroll", "--yes", inv.Text)
}

func (m *meshkey) address() string { return m.near }

func (m *meshkey) connect(r *rig) (err error) {
	if err := m.client.start(); err != nil {
		return err
	}
	name := m.label + "-connect"
	if m.entrance, err = r.spawn(name, m.client.command("--json=1", "connect", m.server.name+"/bench", "-L", m.near)); err != nil {
		return err
	}
	line, err := m.entrance.line()
	if err != nil {
		return err
	}
	var ev control.ConnectEvent
	if err := json.Unmarshal([]byte(line), &ev); err != nil || ev.Event != "listening" {
		return fmt.Errorf("%s says %q", name, strings.TrimSpace(line))
	}
	if ev.Listen != m.near {
		return fmt.Errorf("%s listens on %s, asked for %s: %s", name, ev.Listen, m.near, ev.Note)
	}
	return nil
}

func (m *meshkey) disconnect() {
	m.entrance.stop()
	m.client.daemon.stop()
	m.entrance, m.client.daemon = nil, nil
	// The server's side must have seen it go, or the next session would begin beside the last.
	for end := time.Now().Add(stopTime); time.Now().Before(end); time.Sleep(pollStep) {
		ps, err := m.server.client.Peers(context.Background())
		if err != nil || len(ps.Peers) == 0 || ps.Peers[0].State != "up" {
			return
		}
	}
}

func (m *meshkey) stop() {
	for _, n := range []*node{m.client, m.server} {
		if n != nil {
			n.daemon.stop()
		}
	}
}

// processes are the daemons: what `meshkey connect` holds goes with the program that uses the service.
func (m *meshkey) processes() (client, server []*process) {
	return []*process{m.client.daemon}, []*process{m.server.daemon}
}
