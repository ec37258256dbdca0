package trust

import (
	"errors"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// A log that is looked at says what it says when it is opened, verified as then, and nothing of it is changed.
func TestReadState(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	fsys := durable.NewMem()
	if _, err := ReadState(fsys, w.mesh); err == nil {
		t.Fatal("read a log that is not there")
	}
	s := newStore(t, w, fsys)
	s.apply(t, a.add(a.enroll("one")))
	s.apply(t, a.add(revokeNode("one")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fsys.Fail(durable.Fault{Op: durable.OpWrite, Stay: true, Err: errors.New("written to")})
	st, err := ReadState(fsys, w.mesh)
	if err != nil || st.Digest() != s.Current().Digest() {
		t.Fatal(err)
	}
	if name, ok := st.NameOf(nodeID("one")); !ok || name != "one" {
		t.Fatal(name)
	}
	other := newWorld(t, 1, "a", "b")
	if _, err := ReadState(fsys, other.mesh); err == nil {
		t.Fatal("read another mesh's log")
	}
}
