package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sovereignmesh/meshkey/control"
)

// patience bounds what these tests wait for: ten times what it takes.
const patience = 60 * time.Second

// machine is a state directory with a real daemon of this binary, on loopback only.
type machine struct {
	t    testing.TB
	dir  string // state directory
	env  []string
	cmd  *exec.Cmd
	log  *bytes.Buffer
	done chan error
}

// loopback writes the configuration of a daemon that opens nothing beyond this machine.
func loopback(t testing.TB, dir string, port int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("[network]\nloopback_only = true\nlisten = [\"127.0.0.1:0\"]\nbeacon_port = %d\n", port)
	path := filepath.Join(dir, "meshkey.toml")
	if old, err := os.ReadFile(path); err == nil {
		text += string(old) // a script's own tables
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func beaconPort() int { return 20000 + rand.IntN(10000) }

// start runs the daemon and waits until it serves.
func (m *machine) start() error {
	path, err := exec.LookPath("meshkey")
	if err != nil {
		return err
	}
	m.log = &bytes.Buffer{}
	m.cmd = exec.Command(path, "daemon")
	m.cmd.Env, m.cmd.Stdout, m.cmd.Stderr = m.env, m.log, m.log
	if err := m.cmd.Start(); err != nil {
		return err
	}
	m.done = make(chan error, 1)
	go func() { m.done <- m.cmd.Wait() }()
	ready := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { ready <- control.NewClient(filepath.Join(m.dir, "meshkey.sock")).WaitReady(ctx, patience) }()
	select {
	case err = <-ready:
	case err = <-m.done:
		m.cmd = nil
		return fmt.Errorf("the daemon ended: %v\n%s", err, m.log)
	}
	return err
}

// stop ends the daemon in order.
func (m *machine) stop() {
	if m.cmd == nil {
		return
	}
	m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-m.done:
		if err != nil {
			m.t.Errorf("the daemon of %s: %v\n%s", m.dir, err, m.log)
		}
	case <-time.After(patience):
		m.cmd.Process.Kill()
		<-m.done
		m.t.Errorf("the daemon of %s does not stop", m.dir)
	}
	m.cmd = nil
}

// live is the script command that runs a real daemon in $MESHKEY_STATE: "live" starts it, "live stop" stops it.
func live(machines map[string]*machine) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		dir := ts.Getenv("MESHKEY_STATE")
		key := ts.Getenv("WORK") + dir
		switch {
		case neg || len(args) > 1 || len(args) == 1 && args[0] != "stop":
			ts.Fatalf("usage: live [stop]")
		case len(args) == 1:
			if m := machines[key]; m != nil {
				m.stop()
			}
			return
		}
		t := ts.Value(testKey{}).(testing.TB)
		m := &machine{t: t, dir: dir}
		for _, k := range []string{"PATH", "HOME", "MESHKEY_STATE", "MESHKEY_PASSPHRASE_FILE", "CREDENTIALS_DIRECTORY", "GOCOVERDIR", "TMPDIR"} {
			m.env = append(m.env, k+"="+ts.Getenv(k))
		}
		if b, err := os.ReadFile(filepath.Join(dir, "meshkey.toml")); err != nil || !strings.Contains(string(b), "loopback_only") {
			loopback(t, dir, beaconPort())
		}
		ts.Check(m.start())
		ts.Defer(m.stop)
		machines[key] = m
	}
}
