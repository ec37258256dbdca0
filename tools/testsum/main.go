// Command testsum reads the output of `go test -json` and prints what a person wants to see of it: the output of what failed, one
// line for each package, and what was skipped and why. Its last line is "N passed, N failed, N skipped".
//
// It exits 1 if anything failed or was skipped, or if nothing ran: in continuous integration a test that does not run is a test that
// fails. With -allow TEXT skips that name the text as their reason were chosen by the caller and do not count. With -total FILE it adds its counts to those in FILE and prints the sum as its last line.
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
	"strings"
)

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

func main() {
	total := flag.String("total", "", "add the counts to this `file`")
	allow := flag.String("allow", "", "skips whose reason contains this `text` were chosen, and are only mentioned")
	flag.Parse()
	c, err := summarise(os.Stdin, os.Stdout, *allow)
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
	if !c.ok() {
		os.Exit(1)
	}
}

// summarise reads events until the end and writes the summary.
func summarise(r io.Reader, w io.Writer, allow string) (counts, error) {
	var c counts
	output := make(map[string][]string) // of a test, or under the bare package name of the package
	ran := make(map[string]int)
	var skips []string
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if strings.TrimSpace(line) != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil {
				// Not an event: the go command itself says something, and when it does it is about a failure.
				fmt.Fprint(w, line)
				c.failed++
			} else {
				c.event(w, e, output, ran, &skips)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return c, err
		}
	}
	for _, s := range skips {
		if allow != "" && strings.Contains(s, allow) {
			c.skipped--
			s = "left out:" + strings.TrimPrefix(s, "SKIP")
		}
		fmt.Fprintln(w, s)
	}
	fmt.Fprintln(w, c)
	return c, nil
}

func (c *counts) event(w io.Writer, e event, output map[string][]string, ran map[string]int, skips *[]string) {
	key := e.Package + "." + e.Test
	if e.Test == "" {
		key = e.Package
	}
	switch e.Action {
	case "output":
		output[key] = append(output[key], e.Output)
		return
	case "build-output":
		fmt.Fprint(w, e.Output)
		return
	case "build-fail":
		c.failed++
		return
	case "pass", "fail", "skip":
	default:
		return
	}
	if e.Test != "" {
		ran[e.Package]++
	}
	switch {
	case e.Action == "fail":
		// A package fails with its tests; alone it counts when it crashed or did not start.
		if e.Test != "" || ran[e.Package] == 0 || crashed(output[key]) {
			c.failed++
		}
		fmt.Fprint(w, strings.Join(output[key], ""))
		if e.Test == "" {
			fmt.Fprintf(w, "FAIL %s %.1f s\n", e.Package, e.Elapsed)
		}
	case e.Test == "":
		if e.Action == "pass" {
			fmt.Fprintf(w, "ok   %s %.1f s, %d tests\n", e.Package, e.Elapsed, ran[e.Package])
		}
	case e.Action == "skip":
		c.skipped++
		*skips = append(*skips, "SKIP "+key+": "+reason(output[key]))
	default:
		c.passed++
	}
	delete(output, key)
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
