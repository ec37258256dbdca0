package forward

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/testrun"
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
	os.Exit(testrun.Leaks{Tests: m, Of: []string{"internal/forward"}}.Run())
}
