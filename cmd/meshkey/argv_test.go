package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/control"
)

// An invite that was an argument is so no more, and all the rest is as it was given: the program that is run then does not do it again.
func TestInviteLeavesTheArguments(t *testing.T) {
	const text = "$ meshkey enroll mk1iabc def"
	for _, c := range []struct {
		args   []string
		rest   []string
		hidden bool
	}{
		{[]string{"enroll", "$", "meshkey", "enroll", "mk1iabc", "def"}, []string{"enroll"}, true},
		{[]string{"enroll", "--yes", text, "--start", "--wait"}, []string{"enroll", "--start=true", "--wait=" + waitAll, "--yes=true"}, true},
		{
			[]string{"enroll", "--wait=10m", "--tag", "a,b", text, "--tag", "c", "--name", "-x y", "--json=1"},
			[]string{"enroll", "--json=1", "--name=-x y", "--tag=a,b,c", "--wait=10m"},
			true,
		},
		{[]string{"enroll", "--daemon-passphrase-file=a,b", "--", text}, []string{"enroll", "--daemon-passphrase-file=a,b"}, true},
		{[]string{"enroll", "-"}, nil, false},
		{[]string{"enroll"}, nil, false},
		{[]string{"enroll", ""}, nil, false},
		{[]string{"enroll", text, "--response", "file"}, nil, false}, // refused
	} {
		w := newWorld(t, "")
		w.env[inviteVariable] = ""
		var got []string
		w.system.Again = func(args []string, name, value string) error {
			if name != inviteVariable || value != text || got != nil {
				t.Errorf("%q: %s=%q", c.args, name, value)
			}
			got = args
			return errors.New("not here")
		}
		if code := execute(t.Context(), w.cli, c.args); code != int(control.Usage) {
			t.Errorf("%q: code %d: %s", c.args, code, w.err)
		}
		if (got != nil) != c.hidden || !slices.Equal(got, c.rest) {
			t.Errorf("%q: run again as %q, want %q", c.args, got, c.rest)
		}
		if strings.Contains(w.err.String(), "can read the invite") != c.hidden || strings.Contains(w.err.String(), "mk1i") && !strings.Contains(w.err.String(), "begins with mk1i") {
			t.Errorf("%q: %s", c.args, w.err)
		}
		if !c.hidden {
			continue
		}
		// What is run then has no invite to hide, and reads the same flags.
		first := got
		got = nil
		w.env[inviteVariable] = text
		if execute(t.Context(), w.cli, first); got != nil {
			t.Errorf("%q goes on for ever: %q", first, got)
		}
	}
	// One that was interrupted before ends.
	w := newWorld(t, "")
	w.system.Again = func([]string, string, string) error { t.Error("run again"); return nil }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	execute(ctx, w.cli, []string{"enroll", text})
}
