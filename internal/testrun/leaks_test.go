package testrun

import (
	"strings"
	"testing"
)

type exit int

func (e exit) Run() int { return int(e) }

func holdOn(until <-chan struct{}) { <-until }

func TestLeaks(t *testing.T) {
	if code := (Leaks{exit(3), nil}).Run(); code != 3 {
		t.Fatal("the tests' own code is lost:", code)
	}
	l := Leaks{exit(0), []string{"no such place", "testrun.holdOn"}}
	release := make(chan struct{})
	started := make(chan struct{})
	go func() { close(started); holdOn(release) }()
	<-started
	if left := l.left(); !strings.Contains(left, "holdOn") || strings.Contains(left, "testrun.TestLeaks(") {
		t.Fatalf("found %q", left)
	}
	if left := (Leaks{exit(0), []string{"testrun.TestLeaks"}}).left(); !strings.Contains(left, "TestLeaks.func") {
		t.Fatalf("what a place has started is not found: %q", left)
	}
	close(release)
	if code := l.Run(); code != 0 {
		t.Fatal("it does not wait:", code)
	}
}
