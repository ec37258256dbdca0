package mesh

import (
	"testing"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// A node that was away while the group secret changed hears nothing that is sealed with the new one. It is heard with its old one, and
// dialled with that; then it learns the log, and the new secret.
func TestNodeFromHolidayIsDialled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	b.open() // with the log as it was
	newest := keys.NewGroupSecret(4)
	w.sign(trust.OpGroup{Generation: 4, Commit: newest.Commitment(w.id)})
	a.open()
	ok(t, a.secrets.Add(a.State(), newest))
	b.run()
	a.run()
	eventually(t, "a has a session with the node that was away", patience, func() bool { return a.link(b) != nil })
	eventually(t, "it holds the new secret", patience, func() bool { return b.secrets.Newest().Generation == 4 })
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.links {
		if l.role != keys.RoleDialer {
			t.Fatal("the node that was away dialled, which it could not know where to")
		}
	}
}
