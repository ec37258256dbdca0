package daemon

import (
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// A rotation that the issuer has carried out and this machine has not finished looks like a revocation to it. It must not be told to leave, nor
// be kept from going on.
func TestRotationUnderWayIsNoRevocation(t *testing.T) {
	w := newTurning(t)
	w.must(w.issuer.Append(trust.OpRevokeNode{Node: w.old}))
	d := &Daemon{dir: w.dir, store: w.store, key: w.oldKey}
	if s, text := d.ownStanding(); s != standingRevoked || text == "" {
		t.Fatal(s, text)
	}
	w.must(w.dir.writeRotation(&rotation{Mesh: w.mesh, Old: w.old, New: keys.NewSigningKey().NodeID()}))
	if s, text := d.ownStanding(); s != standingMember || text != "" || d.notRevoked() != nil {
		t.Fatal(s, text)
	}
}
