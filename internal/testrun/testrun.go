package testrun

import (
	"flag"
	"os"
	"strconv"
	"testing"
)

// wholeEnv is set for the whole run. Package netns takes it for more: what cannot run fails then.
const wholeEnv = "MESHKEY_E2E"

// raceStride is how much longer the steps of a walk are under the race detector, which makes each some ten times slower.
const raceStride = 8

// Whole reports whether this is the whole run.
func Whole() bool { return os.Getenv(wholeEnv) != "" }

// Scenario leaves a test that takes many seconds to the whole run.
func Scenario(t testing.TB) {
	t.Helper()
	if !Whole() {
		t.Skip("a long scenario: run it with MESHKEY_E2E=1")
	}
}

// Stride is by how much a walk over everything goes on: by one in the whole run, by n in the plain one. n should be prime to the periods
// of what is walked over, so that all of them are met.
func Stride(n int) int {
	switch {
	case Whole():
		return 1
	case Race:
		return n*raceStride + 1
	}
	return n
}

// Cases is how many of n cases are run: all of them in the whole run, some in the plain one, and one at least.
func Cases(n, some int) int {
	switch {
	case Whole():
		return n
	case Race:
		return max(1, some/raceStride)
	}
	return some
}

// AtOnce lets n of a package's parallel tests run at once, where they mostly wait, unless the command line says how many. TestMain calls
// it before anything else.
func AtOnce(n int) {
	// The command line is not parsed yet, and overrides this.
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // the flag takes numbers
	}
}
