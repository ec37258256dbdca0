package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/config"
	"github.com/sovereignmesh/meshkey/internal/durable"
)

type daemonOptions struct {
	Secret   secretSource
	LogLevel string
	// ExitWith is an inherited descriptor; the daemon stops when it reaches its end. -1 for none.
	ExitWith int
	Stop     bool
	BoundLog string // the file that stderr is, if it is to be kept small
}

func newDaemon(c *cli) *cobra.Command {
	o := daemonOptions{}
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the daemon in the foreground",
		Example: `  meshkey daemon
  meshkey daemon --state ./node2 --log-level debug
  meshkey daemon --stop
  systemctl enable --now meshkey`,
		Long: `Reads meshkey.toml (docs/configuration.md lists its keys, and their MESHKEY_ variables); a missing file is all defaults. Stops in order on SIGTERM and SIGINT. The log goes to stderr.`,
		Args: none(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDaemon(cmd.Context(), c, o) },
	}
	f := cmd.Flags()
	secretFlags(f, &o.Secret)
	f.StringVar(&o.LogLevel, "log-level", "", "debug, info, warn or error, in place of the file's `level`")
	f.BoolVar(&o.Stop, "stop", false, "stop the daemon that runs, in order")
	f.IntVar(&o.ExitWith, "exit-with-fd", -1, "stop when this inherited descriptor reaches its end")
	f.Lookup("exit-with-fd").Hidden = true
	f.StringVar(&o.BoundLog, "bound-log", "", "stderr is this `file`: keep it small")
	f.Lookup("bound-log").Hidden = true
	return cmd
}

func runDaemon(ctx context.Context, c *cli, o daemonOptions) error {
	p, err := c.paths()
	if err != nil {
		return err
	}
	if o.Stop {
		return c.stopDaemon(ctx, control.NewClient(p.Socket), p.State)
	}
	cfg, err := c.config()
	if err != nil {
		return err
	}
	if o.LogLevel != "" {
		// Checked by the same rules as the file's key.
		one, err := config.Parse("--log-level", []byte("[log]\nlevel = "+strconv.Quote(o.LogLevel)+"\n"))
		if err != nil {
			return control.Errorf(control.Usage, "", "%w", err)
		}
		cfg.Log.Level = one.Log.Level
	}
	group, err := lookupGroup(cfg)
	if err != nil {
		return err
	}
	if dir := filepath.Dir(p.Socket); dir != p.State {
		if err := socketDir(dir); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.ExitWith >= 0 {
		pipe := os.NewFile(uintptr(o.ExitWith), "exit-with-fd")
		if pipe == nil {
			return control.Errorf(control.Usage, "", "descriptor %d is not open", o.ExitWith)
		}
		defer pipe.Close()
		go func() {
			io.Copy(io.Discard, pipe)
			cancel()
		}()
	}
	ko, err := c.keyOptions(ctx, cfg, keyFlags{})
	if err != nil {
		return err
	}
	to := c.err
	if f, ok := c.err.(*os.File); ok && o.BoundLog != "" {
		to = &boundedLog{f: f, path: o.BoundLog, max: maxLog, keep: keptLog}
	}
	log := logger(cfg, to)
	err = c.system.Run(ctx, runRequest{
		StateDir: p.State, Socket: p.Socket, Config: cfg, ReadGroup: group, Version: *c.version(), Log: log, Keys: ko,
		Passphrase: func() ([]byte, error) { return c.passphrase(o.Secret, "the passphrase of this machine's keys", false) },
		Ready: func() {
			log.Info("ready", "socket", p.Socket, "state", p.State)
			if err := notifySystemd(c.getenv("NOTIFY_SOCKET"), "READY=1"); err != nil {
				log.Warn("systemd was not told", "err", err)
			}
		},
	})
	if errors.Is(err, context.Canceled) {
		return nil // asked to stop, and stopped
	}
	return err
}

// stopPoll is how often a daemon that was asked to stop is looked at.
const stopPoll = 50 * time.Millisecond

// stopDaemon asks the daemon to stop, and waits until it does not answer any more and has let go of its state directory: whoever copies or
// removes that next must find it at rest.
func (c *cli) stopDaemon(ctx context.Context, client *control.Client, state string) error {
	if err := client.Shutdown(ctx); err != nil {
		return err
	}
	for late := time.Now().Add(startWait); ; {
		if _, err := client.Version(ctx); control.AsError(err) != nil && control.AsError(err).Code == control.NotRunning && atRest(state) {
			return c.print(&control.Empty{}, func() { c.say("The daemon has stopped. Start it: meshkey daemon") })
		}
		if time.Now().After(late) {
			return control.Errorf(control.Unreachable, "look at its log", "the daemon was asked to stop, and still runs")
		}
		select {
		case <-time.After(stopPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// atRest reports whether no process uses a state directory.
func atRest(dir string) bool {
	l, err := durable.Lock(dir)
	if err == nil {
		err = l.Close()
	}
	return !errors.Is(err, durable.ErrLocked)
}

// logger writes to stderr, with the configuration's level and format.
func logger(cfg *config.Config, stderr io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: cfg.LogLevel()}
	if cfg.LogJSON() {
		return slog.New(slog.NewJSONHandler(stderr, opts))
	}
	return slog.New(slog.NewTextHandler(stderr, opts))
}

// lookupGroup finds the gid of the reading group.
func lookupGroup(cfg *config.Config) (*uint32, error) {
	name, gid, known := cfg.ReadGroup()
	if name == "" {
		return nil, nil
	}
	if known {
		return &gid, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return nil, control.Errorf(control.Usage, "correct control.read_group, or: groupadd "+name, "%w", err)
	}
	n, err := strconv.ParseUint(g.Gid, 10, 32)
	if err != nil {
		return nil, control.Errorf(control.Usage, "", "the group %s has no number", name)
	}
	gid = uint32(n)
	return &gid, nil
}

// socketDir makes the socket's directory if its parent is there, as for /run/meshkey after a boot. It is open to others because a
// reading group must get through; what lies in it is not.
func socketDir(dir string) error {
	err := os.Mkdir(dir, 0o755)
	if err == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrNotExist) {
		return nil // a missing parent: the socket's own error says more
	}
	return control.Errorf(control.Failed, "choose another place with --socket, or run it as root", "the control socket's directory: %w", err)
}
