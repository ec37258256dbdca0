package audit

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// The logs of a node's earlier keys are read back as they were, whether their entries are in tiles or only in the journal of a process that
// was killed.
func TestEarlierLogs(t *testing.T) {
	m := durable.NewMem()
	first := openLog(t, m)
	fill(t, first, 600)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := Open(m, testKey(t, 2), testMesh, Options{Previous: testKey(t, 1).NodeID()})
	if err != nil {
		t.Fatal(err)
	}
	fill(t, second, 300)
	checkpoint(t, second)
	fill(t, second, 7)
	defer second.Close() // not closed while it is read: its last entries are in the journal alone
	read := func(back int) (n uint64, r *Reader) {
		t.Helper()
		r, err := Earlier(m, testKey(t, 2).NodeID(), testMesh, func(b int, _ keys.NodeID) bool { return b == back })
		if err != nil {
			t.Fatal(err)
		}
		for rec, err := range r.Query(t.Context(), Filter{}) {
			if err != nil || rec.Err != nil || rec.Index != n {
				t.Fatalf("%d: %+v, %v", n, rec, err)
			}
			n++
		}
		return n, r
	}
	if n, r := read(0); n != second.Size() || r.Origin() != second.Origin() || r.Size() != n {
		t.Fatalf("%d of %d entries", n, second.Size())
	}
	n, r := read(1)
	if n != 601 || r.Origin() != first.Origin() {
		t.Fatalf("%d entries of %s", n, r.Origin())
	}
	got := 0
	for rec := range r.Query(t.Context(), Filter{Newest: true, Limit: 3}) {
		if got++; rec.Index != 601-uint64(got) || !strings.HasPrefix(rec.Event.Session, "s") {
			t.Fatalf("%+v", rec)
		}
	}
	for _, pick := range []func(int, keys.NodeID) bool{
		func(b int, _ keys.NodeID) bool { return b == 2 },
		func(_ int, id keys.NodeID) bool { return id == testKey(t, 3).NodeID() },
	} {
		if _, err := Earlier(m, testKey(t, 2).NodeID(), testMesh, pick); !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, err := NewReader(m, testKey(t, 3).NodeID(), testMesh); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("a log that is not there:", err)
	}
	// A checkpoint of somebody else tells nothing.
	b, err := durable.ReadFile(m, Dir(testKey(t, 2).NodeID())+"/"+checkpointName, maxNote)
	if err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(m, Dir(testKey(t, 1).NodeID())+"/"+checkpointName, b); err != nil {
		t.Fatal(err)
	}
	if _, err := NewReader(m, testKey(t, 1).NodeID(), testMesh); err == nil {
		t.Fatal("read by another log's checkpoint")
	}
}
