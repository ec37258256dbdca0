// Command testsum runs `go test -json` and prints what a person wants to see of it: the output of what failed, one line for each
// package, and what was skipped and why. Its last line is "N passed, N failed, N skipped".
//
//	testsum [flags] -- go test -race -json -- ./...
//
// What stands before the last -- is the command, which may have others of its own, what stands behind it the packages.
//
// It exits 1 if anything failed or was skipped, or if nothing ran: in continuous integration a test that does not run is a test that
// fails. So do fewer tests than -least N: a pattern that matches too little passes for nothing. With -allow TEXT skips that name the text as their reason were chosen by the caller and do not count. With -total FILE it adds
// its counts to those in FILE and prints the sum as its last line.
//
// With -again N one or two tests that failed are run N more times by themselves, and count as passed, and as flaky in a line of their own,
// if they pass every time: a machine that stands still for seconds breaks any bound on a real clock. A data race, a panic, a leak that a
// package finds at its end, a build that fails, or a third test are failures at once.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// maxAgain is how many tests that failed are run again: more than two is no accident.
const maxAgain = 2

// event is one line of `go test -json`; see `go doc cmd/test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

// counts of tests, subtests and examples.
type counts struct{ passed, failed, skipped int }

func (c counts) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", c.passed, c.failed, c.skipped)
}

func (c counts) ok() bool { return c.passed > 0 && c.failed == 0 && c.skipped == 0 }

// test names a test, or with an empty name something of a package that is none.
type test struct{ pkg, name string }

// run is what became of one run.
type run struct {
	counts
	bad    []test // the tests that failed, without their subtests
	hard   bool   // something failed that another run excuses not
	output map[test][]string
	open   map[test]bool // begun and not ended
	ran    map[string]int
	skips  []string
}

func main() {
	total := flag.String("total", "", "add the counts to this `file`")
	allow := flag.String("allow", "", "skips whose reason contains this `text` were chosen, and are only mentioned")
	least := flag.Int("least", 1, "fewer tests than `N` that pass are a failure")
	again := flag.Int("again", 0, "run one or two tests that failed `N` times more")
	flag.Parse()
	command, packages, ok := split(flag.Args())
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: testsum [flags] -- COMMAND ... -json -- PACKAGE ...")
		os.Exit(2)
	}
	c, err := whole(os.Stdout, func(args ...string) (io.ReadCloser, func() error, error) { return start(command, args) }, packages, *allow, *again)
	if err == nil && *total != "" {
		var sum counts
		if sum, err = add(*total, c); err == nil {
			fmt.Println(sum)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
		os.Exit(1)
	}
	if c.passed < *least {
		fmt.Fprintf(os.Stderr, "testsum: %d tests passed, at least %d were expected\n", c.passed, *least)
		os.Exit(1)
	}
	if !c.ok() {
		os.Exit(1)
	}
}

// split takes the command and the packages apart.
func split(args []string) (command, packages []string, ok bool) {
	for i := len(args) - 2; i > 0; i-- {
		if args[i] == "--" {
			return args[:i], args[i+1:], true
		}
	}
	return nil, nil, false
}

// starter starts the command with more arguments and returns what it prints and how it ended.
type starter func(args ...string) (io.ReadCloser, func() error, error)

func start(command, args []string) (io.ReadCloser, func() error, error) {
	cmd := exec.Command(command[0], append(slices.Clone(command[1:]), args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	return out, cmd.Wait, cmd.Start()
}

// whole runs the packages and, if it may, again what failed.
func whole(w io.Writer, start starter, packages []string, allow string, again int) (counts, error) {
	r, err := once(w, start, packages, allow)
	if err != nil || again == 0 || r.hard || len(r.bad) == 0 || len(r.bad) > maxAgain {
		fmt.Fprintln(w, r.counts)
		return r.counts, err
	}
	for _, t := range r.bad {
		fmt.Fprintf(w, "again, %d times by itself: %s.%s\n", again, t.pkg, t.name)
		more, err := once(w, start, []string{"-count", strconv.Itoa(again), "-run", "^" + t.name + "$", t.pkg}, allow)
		if err != nil || !more.ok() {
			fmt.Fprintln(w, r.counts)
			return r.counts, err
		}
	}
	for _, t := range r.bad {
		fmt.Fprintf(w, "FLAKY: %s.%s failed once and passed %d times by itself\n", t.pkg, t.name, again)
	}
	r.passed += r.failed
	r.failed = 0
	fmt.Fprintln(w, r.counts)
	return r.counts, nil
}

// once runs the command once.
func once(w io.Writer, start starter, args []string, allow string) (run, error) {
	out, wait, err := start(args...)
	if err != nil {
		return run{hard: true}, err
	}
	r, err := summarise(out, w, allow)
	if err := wait(); err != nil && r.failed == 0 {
		fmt.Fprintln(w, "no test failed, but the command did:", err)
		r.failed++
		r.hard = true
	}
	return r, err
}

// summarise reads events until the end and writes the summary.
func summarise(in io.Reader, w io.Writer, allow string) (run, error) {
	r := run{output: make(map[test][]string), open: make(map[test]bool), ran: make(map[string]int)}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if strings.TrimSpace(line) != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				// Not an event: the go command itself says something, and when it does it is about a failure.
				fmt.Fprint(w, line)
				r.failed++
				r.hard = true
			} else {
				r.event(w, e)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r, err
		}
	}
	for _, s := range r.skips {
		if allow != "" && strings.Contains(s, allow) {
			r.skipped--
			s = "left out:" + strings.TrimPrefix(s, "SKIP")
		}
		fmt.Fprintln(w, s)
	}
	return r, nil
}

func (r *run) event(w io.Writer, e event) {
	key := test{e.Package, e.Test}
	switch e.Action {
	case "output":
		r.output[key] = append(r.output[key], e.Output)
		if raced(e.Output) && !r.hard {
			// The detector writes beside whichever test spoke last, which may have passed: nothing of it is thrown away.
			r.hard = true
			fmt.Fprintf(w, "a data race, told beside %s.%s:\n%s", e.Package, e.Test, strings.Join(r.output[key], ""))
		}
		return
	case "run":
		r.open[key] = true
		return
	case "build-output":
		fmt.Fprint(w, e.Output)
		return
	case "build-fail":
		r.failed++
		r.hard = true
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	delete(r.open, key)
	if e.Test != "" {
		r.ran[e.Package]++
	}
	switch {
	case e.Action == "fail":
		said := r.output[key]
		fmt.Fprint(w, strings.Join(said, ""))
		if e.Test != "" {
			r.failed++
			name, _, _ := strings.Cut(e.Test, "/")
			if t := (test{e.Package, name}); !slices.Contains(r.bad, t) {
				r.bad = append(r.bad, t)
			}
			break
		}
		// A package fails with its tests; by itself it counts when it crashed, did not start, left a test without an end, or found something at its own.
		cut := false
		for t := range r.open {
			cut = cut || t.pkg == e.Package
		}
		if cut || crashed(said) || !slices.ContainsFunc(r.bad, func(t test) bool { return t.pkg == e.Package }) {
			r.failed++
			r.hard = true
		}
		fmt.Fprintf(w, "FAIL %s %.1f s\n", e.Package, e.Elapsed)
	case e.Test == "":
		if e.Action == "pass" {
			fmt.Fprintf(w, "ok   %s %.1f s, %d tests\n", e.Package, e.Elapsed, r.ran[e.Package])
		}
	case e.Action == "skip":
		r.skipped++
		r.skips = append(r.skips, "SKIP "+e.Package+"."+e.Test+": "+reason(r.output[key]))
	default:
		r.passed++
	}
	delete(r.output, key)
}

// raced tells the race detector's own lines, and what package testing says of a test in which it found something.
func raced(line string) bool {
	return strings.Contains(line, "WARNING: DATA RACE") || strings.Contains(line, "race detected during execution")
}

// crashed tells a test process that died from one whose tests failed.
func crashed(lines []string) bool {
	for _, l := range lines {
		if strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "fatal error:") || strings.HasPrefix(l, "exit status 2") ||
			strings.HasPrefix(l, "signal:") {
			return true
		}
	}
	return false
}

// reason is what a skipped test said.
func reason(lines []string) string {
	var said []string
	for _, l := range lines {
		if l = strings.TrimSpace(l); l != "" && !strings.HasPrefix(l, "=== ") && !strings.HasPrefix(l, "--- ") {
			said = append(said, l)
		}
	}
	return strings.Join(said, " ")
}

// add adds c to the counts in the file and returns the sum. A file that does not exist counts nothing.
func add(name string, c counts) (counts, error) {
	var sum counts
	text, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return sum, err
	default:
		if _, err := fmt.Sscanf(string(text), "%d passed, %d failed, %d skipped", &sum.passed, &sum.failed, &sum.skipped); err != nil {
			return sum, fmt.Errorf("%s: %w", name, err)
		}
	}
	sum.passed += c.passed
	sum.failed += c.failed
	sum.skipped += c.skipped
	return sum, os.WriteFile(name, []byte(sum.String()+"\n"), 0o600)
}
