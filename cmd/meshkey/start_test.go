package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
)

// A person is asked whether to start the daemon; a script, and root, who has a service manager, say it or are told how.
func TestStartIsAsked(t *testing.T) {
	for _, c := range []struct {
		stdin    string
		terminal bool
		root     bool
		args     []string
		started  bool
	}{
		{"\n", true, false, nil, true},
		{"y\n", true, false, nil, true},
		{"n\n", true, false, nil, false},
		{"", true, false, nil, false},
		{"\n", true, true, nil, false},
		{"\n", false, false, nil, false},
		{"\n", true, false, []string{"--json=1"}, false},
		{"", false, true, []string{"--start"}, true},
		{"", true, false, []string{"--start", "--json=1"}, true},
	} {
		w := newWorld(t, c.stdin)
		w.inTerm, w.cli.root = c.terminal, c.root
		w.system.Init = func(_ context.Context, o initRequest) (*initDocument, error) {
			return &initDocument{Mesh: control.MeshInfo{Name: o.Mesh}, Node: control.NodeRef{Name: o.Name}}, nil
		}
		var got []startRequest
		w.system.Start = func(_ context.Context, r startRequest) (*startedDaemon, error) {
			got = append(got, r)
			return &startedDaemon{PID: 7, Log: r.Paths.State + "/daemon.log"}, nil
		}
		code := w.run(t, append([]string{"init", "--mesh", "home", "--root-recipient", "age1x"}, c.args...)...)
		if code != 0 || (len(got) == 1) != c.started || len(got) > 1 {
			t.Errorf("%q %v: code %d, started %v\n%s", c.stdin, c.args, code, got, w.err)
			continue
		}
		if c.started && (got[0].Paths.State != w.dir || got[0].Paths.Socket == "") {
			t.Errorf("started in %+v", got[0])
		}
		words := w.err.String() + w.out.String()
		if c.started && !strings.Contains(words, "7") || !c.started && w.flags.json == "" && !strings.Contains(words, "Start it: meshkey daemon") {
			t.Errorf("%q %v: %s", c.stdin, c.args, words)
		}
	}
}

// What a daemon writes beside nobody's eyes stays small, and is whole lines, the newest of them.
func TestBoundedLog(t *testing.T) {
	name := filepath.Join(t.TempDir(), logName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	log := &boundedLog{f: f, path: name, max: 4000, keep: 1000}
	line := func(i int) string { return fmt.Sprintf("line %06d %s\n", i, strings.Repeat("x", 40)) }
	for i := range 1000 {
		if _, err := io.WriteString(log, line(i)); err != nil {
			t.Fatal(err)
		}
		if s, err := f.Stat(); err != nil || s.Size() > 4000 || i > 20 && s.Size() < 900 {
			t.Fatalf("after %d lines: %d bytes, %v", i, s.Size(), err)
		}
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n")
	for i := range lines {
		if want := line(1000 - len(lines) + i); strings.TrimSuffix(lines[i], "\n") != strings.TrimSuffix(want, "\n") {
			t.Fatalf("line %d of %d is %q, want %q", i, len(lines), lines[i], want)
		}
	}
	// A file that somebody has put in its place stays as it is.
	if err := os.Rename(name, name+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		if _, err := io.WriteString(log, line(i)); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(name); err != nil || string(b) != "another\n" {
		t.Errorf("%q %v", b, err)
	}
	if b, err := os.ReadFile(name + ".1"); err != nil || len(b) > 4000 || strings.Contains(string(b), "another") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}
