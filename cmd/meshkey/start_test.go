package main

import (
	"context"
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
