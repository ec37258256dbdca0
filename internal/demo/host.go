package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/control"
)

// host is one machine of the demo: a state directory, and maybe a daemon.
type host struct {
	name   string
	story  *story
	state  string
	socket string
	config string
	log    string
	client *control.Client

	cmd  *exec.Cmd
	hold *os.File // writing end of the pipe the daemon ends with
	done chan error
}

func (s *story) newHost(name string) (*host, error) {
	h := &host{
		name: name, story: s, state: filepath.Join(s.dir, name), socket: filepath.Join(s.dir, name+".sock"),
		config: filepath.Join(s.dir, name+".toml"), log: filepath.Join(s.dir, name+".log"),
	}
	h.client = control.NewClient(h.socket)
	text := fmt.Sprintf("[network]\nloopback_only = true\nlisten = [\"127.0.0.1:0\"]\nbeacon_port = %d\n", s.port)
	return h, os.WriteFile(h.config, []byte(text), 0o600)
}

// command makes a meshkey command on this host.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	all := append([]string{"--state", h.state, "--socket", h.socket, "--config", h.config}, args...)
	cmd := exec.CommandContext(ctx, h.story.opts.Binary, all...)
	cmd.SysProcAttr = dieWithParent()
	cmd.WaitDelay = 2 * time.Second
	return cmd
}

// run runs a command to its end and returns its output and exit code.
func (h *host) run(ctx context.Context, args ...string) (stdout, stderr string, code int, err error) {
	cmd := h.command(ctx, args...)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	err = cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		err = nil
	}
	return out.String(), words.String(), cmd.ProcessState.ExitCode(), err
}

// must runs a command that has to succeed.
func (h *host) must(ctx context.Context, args ...string) (string, error) {
	out, words, code, err := h.run(ctx, args...)
	if err != nil {
		return "", err
	}
	if code != 0 {
		return "", fmt.Errorf("meshkey %s: exit %d: %s", args[0], code, strings.TrimSpace(words))
	}
	return out, nil
}

// start runs the daemon as a process and waits until it serves.
func (h *host) start(ctx context.Context) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(h.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	h.cmd = h.command(context.WithoutCancel(ctx), "daemon", "--exit-with-fd", "3")
	h.cmd.ExtraFiles = []*os.File{r}
	h.cmd.Stderr = log
	if err := h.cmd.Start(); err != nil {
		r.Close()
		w.Close()
		return err
	}
	r.Close()
	h.hold = w
	h.done = make(chan error, 1)
	go func() { h.done <- h.cmd.Wait() }()
	if err := h.client.WaitReady(ctx, 15*time.Second); err != nil {
		return fmt.Errorf("the daemon of %s does not serve: %w\n%s", h.name, err, h.tail())
	}
	return nil
}

// tail is the end of the daemon's log, for an error.
func (h *host) tail() string {
	b, err := os.ReadFile(h.log)
	if err != nil {
		return ""
	}
	return string(b[max(0, len(b)-2000):])
}

// stop ends the daemon in order, by closing the pipe it ends with.
func (h *host) stop(ctx context.Context) error {
	h.hold.Close()
	select {
	case err := <-h.done:
		h.cmd = nil
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kill ends whatever is left.
func (h *host) kill() {
	if h.cmd == nil {
		return
	}
	h.hold.Close()
	_ = h.cmd.Process.Kill()
	<-h.done
	h.cmd = nil
}

// peer returns what the host knows of another.
func (h *host) peer(ctx context.Context, name string) (control.Peer, error) {
	ps, err := h.client.Peers(ctx)
	if err != nil {
		return control.Peer{}, err
	}
	for _, p := range ps.Peers {
		if p.Name == name {
			return p, nil
		}
	}
	return control.Peer{}, fmt.Errorf("%s does not know %s: %w", h.name, name, errState)
}

// wait polls until ok, or says what did not come.
func wait(ctx context.Context, what string, within time.Duration, ok func() (bool, error)) (time.Duration, error) {
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		good, err := ok()
		if good {
			return time.Since(began), nil
		}
		last = err
		if time.Since(began) > within {
			return 0, errors.Join(fmt.Errorf("%s: not within %v", what, within), last)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, errors.Join(fmt.Errorf("%s: %w", what, context.Cause(ctx)), last)
		}
	}
}
