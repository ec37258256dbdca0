package beacon

import (
	"os"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/netns"
	"github.com/sovereignmesh/meshkey/internal/testrun"
)

func TestMain(m *testing.M) {
	os.Exit(netns.Main(testrun.Leaks{Tests: m, Of: []string{"beacon.(*Sockets)"}}))
}
