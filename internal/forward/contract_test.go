package forward_test

import (
	"testing"

	"github.com/sovereignmesh/meshkey/internal/forward"
	"github.com/sovereignmesh/meshkey/internal/forward/streamtest"
)

func TestStreamContract(t *testing.T) {
	streamtest.Contract(t, forward.TCPPair)
}
