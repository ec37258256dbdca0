package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sovereignmesh/meshkey/control"
)

// exitWith ends the program with a code after everything has been said.
type exitWith control.Code

func (e exitWith) Error() string { return "exit code " + control.Code(e).String() }

// execute runs the program and returns its exit code.
func execute(ctx context.Context, c *cli, args []string) int {
	root := newRoot(c)
	root.SetArgs(args)
	root.SetOut(c.out)
	root.SetErr(c.err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return int(control.Done)
	}
	if code, ok := errors.AsType[exitWith](err); ok {
		return int(code)
	}
	e := c.beginning(control.AsError(err))
	c.explain(e)
	return int(e.Code)
}

// firstSteps is what a machine that is in no mesh needs.
const firstSteps = "meshkey init --mesh NAME, or meshkey enroll INVITE"

// beginning turns "start the daemon" and "look at the keys" into the step before them, on a machine that is in no mesh yet.
func (c *cli) beginning(e *control.Error) *control.Error {
	rest, circular := strings.CutPrefix(e.Next, "meshkey daemon")
	if !circular {
		rest, circular = strings.CutPrefix(e.Next, "meshkey keys ls")
	}
	if !circular || c.system.Member == nil {
		return e
	}
	p, err := c.paths()
	if err != nil || c.system.Member(p.State) {
		return e
	}
	first := *e
	first.Message += ", and there is no membership in " + p.State
	first.Next = firstSteps + rest
	return &first
}

// explain says what went wrong and what to do about it.
func (c *cli) explain(e *control.Error) {
	if c.json() {
		control.WriteDocument(c.out, &control.ErrorDocument{Error: e})
	}
	if d := e.Denial; d != nil {
		fmt.Fprintf(c.err, "%s", c.red(clean(e.Message)))
		if d.Audit != "" {
			fmt.Fprintf(c.err, "   audit %s", clean(d.Audit))
		}
		io.WriteString(c.err, "\n")
		if d.Command != "" {
			fmt.Fprintf(c.err, "ask an admin to run:  %s\n", clean(d.Command))
		}
		return
	}
	prefix := "meshkey: "
	if e.Code == control.Interrupted {
		prefix = ""
	}
	fmt.Fprintf(c.err, "%s%s\n", prefix, clean(e.Message))
	if e.Next != "" {
		fmt.Fprintf(c.err, "  -> %s\n", clean(e.Next))
	}
}

// say writes words for people.
func (c *cli) say(format string, args ...any) { fmt.Fprintf(c.err, format+"\n", args...) }

// warn writes what needs attention.
func (c *cli) warn(warnings []control.Warning) {
	for _, w := range warnings {
		line := c.yellow("! ") + clean(w.Text)
		if w.Next != "" {
			line += "   -> " + clean(w.Next)
		}
		c.say("%s", line)
	}
}

func (c *cli) colour() bool {
	return c.errTerm && c.getenv("NO_COLOR") == "" && c.getenv("TERM") != "dumb"
}

func (c *cli) red(s string) string    { return c.paint("31", s) }
func (c *cli) yellow(s string) string { return c.paint("33", s) }

func (c *cli) paint(code, s string) string {
	if !c.colour() {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}
