package forward

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// dialHelper makes the test binary a client: it connects to the address in the variable and stays until its input ends.
const dialHelper = "FORWARD_TEST_DIAL"

func TestMain(m *testing.M) {
	if addr := os.Getenv(dialHelper); addr != "" {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdin.Read(make([]byte, 1))
		c.Close()
		os.Exit(0)
	}
	code := m.Run()
	if code == 0 {
		code = leaks()
	}
	os.Exit(code)
}

// leaks waits for goroutines of this package to end and complains about those that do not.
func leaks() int {
	var stacks string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		stacks = string(buf[:runtime.Stack(buf, true)])
		n := 0
		for _, g := range strings.Split(stacks, "\n\n") {
			if strings.Contains(g, "internal/forward") && !strings.Contains(g, "TestMain") {
				n++
			}
		}
		if n == 0 {
			return 0
		}
	}
	fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+stacks)
	return 1
}
