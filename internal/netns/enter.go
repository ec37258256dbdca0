package netns

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	// markerEnv names, inside, the namespaces outside: "net:[4026531840] user:[4026531837]".
	markerEnv = "MESHKEY_NETNS"
	// stageEnv is set for pid 1 inside only.
	stageEnv = "MESHKEY_NETNS_INIT"
	// requireEnv is set by CI: what cannot run fails.
	requireEnv = "MESHKEY_E2E"
	// whyEnv is set by Main outside, when it could not get inside.
	whyEnv = "MESHKEY_NETNS_WHY"
)

// initFailed is the exit code of an init that could not set the namespace up. No test binary exits with it.
const initFailed = 125

// Runner is the part of [testing.M] that Main needs.
type Runner interface{ Run() int }

// Main runs the tests of m inside fresh namespaces and returns the exit code for TestMain to exit with. See the package
// documentation for where it cannot.
func Main(m Runner) int {
	switch {
	case os.Getenv(stageEnv) != "":
		return runInit()
	case Inside() == nil:
		return m.Run()
	}
	code, err := enter(os.Args[1:], os.Environ())
	if err == nil && code != initFailed {
		return code
	}
	if err == nil {
		err = errors.New("namespaces could be made, but not set up")
	}
	// The environment carries the reason to New: this process has no other state.
	if err := os.Setenv(whyEnv, err.Error()); err != nil {
		return 1
	}
	return m.Run()
}

// Inside returns nil if the calling thread is in namespaces that Main made, else why not.
func Inside() error {
	mark := os.Getenv(markerEnv)
	if mark == "" {
		return errors.New("not in a test's namespace")
	}
	here, err := namespaces()
	if err != nil {
		return err
	}
	return compare(mark, here)
}

// Why is [Inside] with the reason why [Main] could not get in, if it tried.
func Why() error {
	err := Inside()
	if why := os.Getenv(whyEnv); err != nil && why != "" {
		return errors.New(why)
	}
	return err
}

// compare refuses a marker that does not name two namespaces, and a place that is one of those it names.
func compare(mark, here string) error {
	outside, inside := strings.Fields(mark), strings.Fields(here)
	if len(outside) != 2 || len(inside) != 2 || !strings.HasPrefix(outside[0], "net:[") || !strings.HasPrefix(outside[1], "user:[") {
		return fmt.Errorf("%s=%q does not name the namespaces outside", markerEnv, mark)
	}
	for i := range outside {
		if outside[i] == inside[i] {
			return fmt.Errorf("still in %s, the machine's own namespace, although %s is set", inside[i], markerEnv)
		}
	}
	return nil
}
