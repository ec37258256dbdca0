package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sovereignmesh/meshkey/control"
)

type connectOptions struct {
	Target    string
	Listen    string
	Stdio     bool
	Format    string
	AllowUIDs []uint
	AnyUser   bool
	Verbose   bool
}

func newConnect(c *cli) *cobra.Command {
	o := connectOptions{}
	cmd := &cobra.Command{
		Use:   "connect NODE/SERVICE",
		Short: "Use a service of a peer through a local address",
		Example: `  meshkey connect gpu1/ollama                    an address of its own on this machine
  meshkey connect gpu1/ollama -L 127.0.0.1:8080
  meshkey connect nas/postgres --format env
  ssh -o ProxyCommand="meshkey connect nas/ssh --stdio" nas`,
		Long: `Prints the address and serves it until it is interrupted, also over a restart of the daemon; a peer whose key changes is found again by
its name. Only your own programs are served there: other users of this machine are
refused. If another program has taken the address while the daemon was away it ends with code 75. It ends with code 4 if the peer has no such service, and warns if that is down or cannot be known now. A denial names the permission that is missing, the nearest one there is, and the number of the record in the peer's audit log.`,
		Args: exactly("NODE/SERVICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Target = args[0]
			return runConnect(cmd.Context(), c, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.Listen, "listen", "L", "", "listen on this loopback `address`: PORT, IP or IP:PORT")
	f.BoolVar(&o.Stdio, "stdio", false, "join the service to stdin and stdout, for ssh's ProxyCommand")
	f.StringVar(&o.Format, "format", "", "print the address as `url` or env")
	f.UintSliceVar(&o.AllowUIDs, "allow-uid", nil, "serve this `uid` as well; may be repeated")
	f.BoolVar(&o.AnyUser, "any-user", false, "serve every user of this machine")
	f.BoolVarP(&o.Verbose, "verbose", "v", false, "report every connection on stderr")
	return cmd
}

func runConnect(ctx context.Context, c *cli, o connectOptions) error {
	r := &control.ConnectRequest{Target: o.Target, Listen: o.Listen, AnyUser: o.AnyUser}
	for _, u := range o.AllowUIDs {
		if u > 1<<32-1 {
			return control.Errorf(control.Usage, "", "%d is no uid", u)
		}
		r.AllowUIDs = append(r.AllowUIDs, uint32(u))
	}
	if o.Format != "" && o.Format != "url" && o.Format != "env" {
		return control.Errorf(control.Usage, "--json=1 for JSON", "the formats are url and env, not %q", clipArg(o.Format))
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	if o.Stdio {
		if o.Listen != "" || o.Format != "" || o.AnyUser || len(o.AllowUIDs) > 0 || c.json() {
			return control.Errorf(control.Usage, "", "--stdio goes with no other flag: its output is the service's")
		}
		return c.stdio(ctx, client, r)
	}
	return c.held(ctx, client, r, o)
}

const (
	// comeBack is how long a held address waits for its daemon, which begins anew when this machine's key changes or it is updated.
	comeBack = 30 * time.Second
	// comeBackPoll is how soon it looks, and twice as late each time up to comeBackMax: what it asks may end in others' audit logs.
	comeBackPoll = 100 * time.Millisecond
	comeBackMax  = 2 * time.Second
)

// held keeps an address until ctx ends, also over a restart of the daemon. The target is a name: after the peer's key has changed, new
// connections go to the new one.
func (c *cli) held(ctx context.Context, client *control.Client, r *control.ConnectRequest, o connectOptions) error {
	listening, broken := false, false
	var late time.Time // zero while it is held
	pause := comeBackPoll
	for {
		err := client.Connect(ctx, r, func(ev *control.ConnectEvent) error {
			again := listening
			switch ev.Event {
			case "listening":
				listening, late, r.Listen, pause = true, time.Time{}, ev.Listen, comeBackPoll
			case "failed":
				broken = true
			}
			if c.json() {
				return control.WriteDocument(c.out, ev)
			}
			if again && ev.Event == "listening" {
				c.warn(ev.Warnings)
				c.say("Serving again on %s.", clean(ev.Listen))
				return nil
			}
			c.showEvent(ev, o)
			return nil
		})
		// Once it waits, all but a mistake in the request may pass: a daemon that has just begun knows little of its peers.
		e := control.AsError(err)
		if !late.IsZero() && e != nil && e.Code == control.InUse {
			// Anybody on this machine could take it meanwhile, and has the owner's next connections.
			return control.Errorf(control.InUse, "stop what uses "+r.Listen+" on this machine, find who listens there, and connect to another address with -L",
				"while the daemon was away another program took %s and listens there now: what connects to it reaches that, not %s", r.Listen, r.Target)
		}
		gone := errors.Is(err, control.ErrGone) || !late.IsZero() && e != nil && e.Code != control.Usage
		if !gone || !listening || broken || ctx.Err() != nil {
			return err
		}
		if late.IsZero() {
			late = time.Now().Add(comeBack)
			c.say("The daemon went away; waiting for it to come back.")
		} else if time.Now().After(late) {
			return err
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, comeBackMax)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *cli) showEvent(ev *control.ConnectEvent, o connectOptions) {
	switch ev.Event {
	case "listening":
		for _, line := range address(ev, o.Format) {
			fmt.Fprintln(c.out, clean(line))
		}
		if ev.Note != "" {
			c.say("%s", clean(ev.Note))
		}
		c.warn(ev.Warnings)
		c.say("Serving your programs until Ctrl-C.")
	case "refused":
		c.say("refused %s", clean(ev.From))
		if ev.Error != nil {
			c.explain(ev.Error)
		}
	case "open":
		if o.Verbose {
			c.say("open    %s", clean(ev.From))
		}
	case "close":
		if ev.Error != nil {
			c.say("aborted %s  in %s out %s  %s", clean(ev.From), size(uint64(ev.BytesIn)), size(uint64(ev.BytesOut)), clean(ev.Error.Message))
		} else if o.Verbose {
			c.say("close   %s  in %s out %s", clean(ev.From), size(uint64(ev.BytesIn)), size(uint64(ev.BytesOut)))
		}
	case "failed":
		if ev.Error != nil {
			c.explain(ev.Error)
		}
	}
}

// address writes where a service is reached, in lines.
func address(ev *control.ConnectEvent, format string) []string {
	switch format {
	case "url":
		scheme := "tcp"
		if ev.HTTP {
			scheme = "http"
		}
		return []string{scheme + "://" + ev.Listen}
	case "env":
		host, port, _ := net.SplitHostPort(ev.Listen)
		return []string{"MESHKEY_ADDR=" + ev.Listen, "MESHKEY_HOST=" + host, "MESHKEY_PORT=" + port}
	}
	return []string{ev.Listen + " -> " + ev.Target}
}

// stdio joins a stream to stdin and stdout. The end of stdin is passed on and the answer is still read to its end; the end of the stream
// ends the program, because what stdin still brings has nobody to read it.
func (c *cli) stdio(ctx context.Context, client *control.Client, r *control.ConnectRequest) error {
	s, err := client.Stream(ctx, r)
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, s.Abort)
	defer stop()
	go func() {
		// Reading stdin cannot be interrupted: this goroutine goes with the program.
		if _, err := io.Copy(s, c.in); err != nil {
			s.Abort()
			return
		}
		s.CloseWrite()
	}()
	_, err = io.Copy(c.out, s)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET) {
		return control.Errorf(control.Failed, "meshkey audit log, here and on the peer, says why", "the connection to %s was cut", r.Target)
	}
	return err
}
