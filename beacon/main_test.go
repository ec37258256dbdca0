package beacon

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(leaks{m})) }

// leaks runs the tests and then waits for every goroutine of this package to end.
type leaks struct{ tests *testing.M }

func (l leaks) Run() int {
	code := l.tests.Run()
	deadline := time.Now().Add(5 * time.Second)
	for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
		buf := make([]byte, 1<<20)
		all := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(all, "beacon.(*Sockets)") {
			return code
		}
		if time.Now().After(deadline) {
			os.Stderr.WriteString("goroutines left behind:\n" + all)
			return 1
		}
	}
}
