package trust

import (
	"flag"
	"os"
	"strconv"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/testrun"
)

// TestMain sets how many random cases a property is tried on: 100 in the whole run, as rapid has it, and fewer in shorter ones.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", strconv.Itoa(testrun.Cases(100, 30))); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
