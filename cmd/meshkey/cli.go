package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"

	"github.com/sovereignmesh/meshkey/control"
	"github.com/sovereignmesh/meshkey/internal/config"
)

// cli is what the verbs see of the world: no verb touches os itself.
type cli struct {
	// immutable
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	hostname func() (string, error)
	root     bool
	uid      int
	// terminals tells which streams are terminals; inTerm asks for a line without showing it.
	inTerm, outTerm, errTerm bool
	readSecret               func() ([]byte, error)
	system                   system

	// set once, by the global flags
	flags globalFlags

	reader func() *bufio.Reader // of in, made once: confirmations and an invite may follow each other
}

type globalFlags struct {
	json   string
	state  string
	config string
	socket string
}

// newCLI returns the real world.
func newCLI() *cli {
	c := &cli{
		in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv, hostname: os.Hostname, root: os.Geteuid() == 0, uid: os.Geteuid(),
		inTerm: term.IsTerminal(int(os.Stdin.Fd())), outTerm: term.IsTerminal(int(os.Stdout.Fd())), errTerm: term.IsTerminal(int(os.Stderr.Fd())),
		readSecret: readFromTerminal,
		system:     wired(),
	}
	c.reader = sync.OnceValue(func() *bufio.Reader { return bufio.NewReaderSize(c.in, maxLine) })
	return c
}

// maxLine bounds one line read from stdin: an invite at its largest with the breaks a terminal adds.
const maxLine = 16 << 10

// paths finds the places: flags first, their MESHKEY_ twins next, the system's habits last.
func (c *cli) paths() (config.Paths, error) {
	pick := func(flag, env string) string {
		if flag != "" {
			return flag
		}
		return c.getenv(env)
	}
	p, err := config.Find(config.Surroundings{
		Root: c.root, Home: c.getenv("HOME"), XDGConfig: c.getenv("XDG_CONFIG_HOME"), XDGState: c.getenv("XDG_STATE_HOME"), XDGRuntime: c.getenv("XDG_RUNTIME_DIR"),
	}, config.Paths{
		State: pick(c.flags.state, "MESHKEY_STATE"), Config: pick(c.flags.config, "MESHKEY_CONFIG"), Socket: pick(c.flags.socket, "MESHKEY_SOCKET"),
	})
	if err != nil {
		return p, control.Errorf(control.Usage, "give --state DIR", "%w", err)
	}
	return p, nil
}

// client returns the client of the daemon in the places found.
func (c *cli) client() (*control.Client, error) {
	p, err := c.paths()
	if err != nil {
		return nil, err
	}
	return control.NewClient(p.Socket), nil
}

// json reports whether stdout is for machines.
func (c *cli) json() bool { return c.flags.json != "" }

// print writes a document as JSON, or calls words to write it for people.
func (c *cli) print(d control.Document, words func()) error {
	if c.json() {
		return control.WriteDocument(c.out, d)
	}
	words()
	return nil
}

// ask puts a question on stderr and reads a line. It needs a terminal: what no person sees must not be taken as confirmed.
func (c *cli) ask(ctx context.Context, question, without string) (string, error) {
	if !c.inTerm {
		return "", control.Errorf(control.Usage, without, "this asks for a confirmation, and there is no terminal to ask on")
	}
	io.WriteString(c.err, question)
	return c.line(ctx)
}

// askName asks for a machine's name, which confirms what is about to happen to it; any other answer ends the command with the sentence
// that nothing was done.
func (c *cli) askName(ctx context.Context, question, without string, n control.NodeRef, nothing string) error {
	answer, err := c.ask(ctx, question, without)
	if err != nil {
		return err
	}
	if answer == "" || answer != node(n) {
		return control.Errorf(control.Failed, "", "%s", nothing)
	}
	return nil
}

// line reads one line of stdin, without its end.
func (c *cli) line(ctx context.Context) (string, error) {
	type answer struct {
		text string
		err  error
	}
	// Reading stdin cannot be interrupted; the goroutine goes with the program.
	ch := make(chan answer, 1)
	go func() {
		s, err := c.reader().ReadSlice('\n')
		if err == io.EOF && len(s) > 0 {
			err = nil
		}
		ch <- answer{strings.TrimRight(string(s), "\r\n"), err}
	}()
	select {
	case a := <-ch:
		if a.err == io.EOF {
			return "", control.Errorf(control.Usage, "", "nothing on stdin")
		}
		return a.text, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
