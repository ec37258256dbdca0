package mesh

import (
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// TestJoinLongLog: a log longer than what may be asked for at once is asked for on and on, also while no answer comes.
func TestJoinLongLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nas := w.admin()
	for range 600 {
		w.sign(trust.OpRevokeNode{Node: keys.NewSigningKey().NodeID()})
	}
	cfg := joining(keys.NewSigningKey(), nas.invite("gpu1"))
	cfg.rate = 400 // 512 at once, then one answer does not bring the next question
	m, err := Join(t.Context(), cfg)
	ok(t, err)
	if len(m.Frames) < 600 {
		t.Fatalf("%d frames of the log", len(m.Frames))
	}
}
