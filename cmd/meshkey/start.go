package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/config"
)

// startWait is how long a daemon that was started has until it serves: a log of 100,000 members takes half a second.
const startWait = 30 * time.Second

// startRequest starts a daemon that outlives the verb.
type startRequest struct {
	Paths  config.Paths
	Secret string // file of the passphrase its keys are sealed to; empty: none
}

// startedDaemon is one that serves.
type startedDaemon struct {
	PID int    `json:"pid"`
	Log string `json:"log"`
}

// logName is where a daemon writes that was started by --start: nobody else reads its stderr.
const logName = "daemon.log"

// maxLog is how large that log becomes before its older part goes, and keptLog what stays then: lines say what peers do, and nobody rotates it.
const (
	maxLog  = 4 << 20
	keptLog = 1 << 20
)

// boundedLog is the log of a daemon that was started by --start: stderr, which is the file at path, opened to append.
type boundedLog struct {
	f    *os.File
	path string
	max  int64
	keep int64
}

// Write makes room before it writes. Whatever else writes to stderr, a panic at last, goes to the same file.
func (b *boundedLog) Write(p []byte) (int, error) {
	if at, err := b.f.Stat(); err == nil && at.Mode().IsRegular() && at.Size()+int64(len(p)) > b.max {
		kept := b.end(at)
		if b.f.Truncate(0) == nil {
			_, _ = b.f.Write(kept)
		}
	}
	return b.f.Write(p)
}

// end is the newer part of the log, from the beginning of a line on; nothing if another file has its name now.
func (b *boundedLog) end(at os.FileInfo) []byte {
	f, err := os.Open(b.path)
	if err != nil {
		return nil
	}
	defer f.Close()
	if is, err := f.Stat(); err != nil || !os.SameFile(is, at) {
		return nil
	}
	all, _ := io.ReadAll(io.NewSectionReader(f, max(0, at.Size()-b.keep), b.keep))
	if i := bytes.IndexByte(all, '\n'); i >= 0 && at.Size() > b.keep {
		all = all[i+1:]
	}
	return all
}

// maxLogTail is how much of the log of a daemon that did not start is shown.
const maxLogTail = 600

// wireStart runs this program again as a daemon in a session of its own, and waits until it serves.
func wireStart(ctx context.Context, r startRequest) (*startedDaemon, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, control.Errorf(control.Failed, "meshkey daemon", "this program cannot find itself: %w", err)
	}
	name := filepath.Join(r.Paths.State, logName)
	log, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, control.Errorf(control.Failed, "meshkey daemon", "the daemon's log: %w", err)
	}
	defer log.Close()
	args := []string{"daemon", "--bound-log", name, "--state", r.Paths.State, "--config", r.Paths.Config, "--socket", r.Paths.Socket}
	if r.Secret != "" {
		args = append(args, "--passphrase-file", r.Secret)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, inviteVariable+"=") }) // it is spent
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // the terminal's end is not its own
	if err := cmd.Start(); err != nil {
		return nil, control.Errorf(control.Failed, "meshkey daemon", "starting the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := make(chan error, 1)
	go func() { ready <- control.NewClient(r.Paths.Socket).WaitReady(wctx, startWait) }()
	select {
	case err = <-ready:
		if err == nil {
			return &startedDaemon{PID: cmd.Process.Pid, Log: name}, nil
		}
	case err = <-ended:
		err = fmt.Errorf("it ended: %w", errors.Join(err, errors.New(tail(name))))
	}
	if ctx.Err() != nil {
		return nil, ctx.Err() // it goes on, or not: the person has stopped looking
	}
	return nil, control.Errorf(control.Failed, "meshkey daemon shows why; the log is "+name, "the daemon does not serve: %w", err)
}

// tail is the last line of the log.
func tail(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-maxLogTail), io.SeekStart)
	}
	b, _ := io.ReadAll(io.LimitReader(f, maxLogTail))
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if n := len(lines); n > 1 && strings.HasPrefix(lines[n-1], "  -> ") {
		return lines[n-2] + lines[n-1]
	}
	return lines[len(lines)-1]
}

// start runs the daemon after init or enroll if it was asked for, or a person says so. A failure does not undo what was done.
func (c *cli) start(ctx context.Context, asked bool, secret string) (*startedDaemon, error) {
	if c.system.Start == nil {
		return nil, nil
	}
	p, err := c.paths()
	if err != nil {
		return nil, err
	}
	if !asked {
		if !c.inTerm || c.json() || c.root { // root has a service manager, whose daemon this one would keep out
			return nil, nil
		}
		answer, err := c.ask(ctx, "Start the daemon now? [Y/n] ", "")
		if err != nil || answer != "" && answer != "y" && answer != "Y" && answer != "yes" {
			return nil, nil
		}
	}
	if secret != "" {
		if secret, err = filepath.Abs(secret); err != nil {
			return nil, err
		}
	}
	if dir := filepath.Dir(p.Socket); dir != p.State {
		if err := socketDir(dir); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return c.system.Start(ctx, startRequest{Paths: p, Secret: secret})
}

// begun shows what init or enroll has done, and starts the daemon if it is wanted. That it does not start undoes nothing.
func (c *cli) begun(ctx context.Context, doc control.Document, daemon **startedDaemon, words func(), asked bool, secret, then string) error {
	if c.json() {
		d, err := c.start(ctx, asked, secret)
		*daemon = d
		if werr := control.WriteDocument(c.out, doc); werr != nil || err == nil {
			return werr
		}
		c.say("meshkey: %s", clean(err.Error()))
		return exitWith(control.AsError(err).Code)
	}
	words()
	d, err := c.start(ctx, asked, secret)
	if err != nil {
		return err
	}
	if d == nil {
		c.say("Start it: meshkey daemon        Then: %s", then)
		return nil
	}
	c.say("Its daemon runs as process %d and writes to %s. After a boot it does not: docs/meshkey.service. Stop it: meshkey daemon --stop", d.PID, clean(d.Log))
	c.say("Next: %s", then)
	return nil
}
