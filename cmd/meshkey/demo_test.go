package main

import (
	"os"
	"strings"
	"testing"
)

// The README promises the same as the demo's own words.
func TestDemoTakesWhatIsSaid(t *testing.T) {
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "in "+demoTakes+":") {
		t.Errorf("the README does not say %q", demoTakes)
	}
	w := newWorld(t, "")
	if code := w.run(t, "help", "demo"); code != 0 || !strings.Contains(w.out.String(), "Takes "+demoTakes+",") {
		t.Errorf("the help: %s", w.out)
	}
}
