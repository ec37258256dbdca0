package main

import (
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// A state directory that a process still uses is not at rest, whatever its socket says.
func TestAtRest(t *testing.T) {
	dir := t.TempDir()
	l, err := durable.Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if atRest(dir) {
		t.Error("in use, and called at rest")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if !atRest(dir) || !atRest(dir+"/none") {
		t.Error("not at rest")
	}
}
