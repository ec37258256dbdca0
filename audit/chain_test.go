package audit

import (
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/keys"
)

// follow opens the log of key n, which follows that of key n-1, and closes it.
func follow(t *testing.T, m durable.FS, n byte) {
	t.Helper()
	l, err := Open(m, testKey(t, n), testMesh, Options{Previous: testKey(t, n-1).NodeID()})
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func chain(t *testing.T, m durable.FS, n byte) []*Report {
	t.Helper()
	rs, err := VerifyChain(m, testKey(t, n).NodeID(), testMesh)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func copyLog(t *testing.T, from, to durable.FS, n byte) {
	t.Helper()
	dir := Dir(testKey(t, n).NodeID())
	if err := durable.MkdirAll(to, dir); err != nil {
		t.Fatal(err)
	}
	copyTree(t, from, to, dir)
}

// A log of a rotated key is verified together with those before it. What was cut from an older one after its end, as a whole and
// consistently, is shown by what the newer one says of it.
func TestVerifyChain(t *testing.T) {
	m := durable.NewMem()
	l := openLog(t, m)
	mustAppend(t, l, 3)
	checkpoint(t, l)
	old := durable.NewMem()
	copyTree(t, m, old, ".") // an older state of the first log, whole and signed
	mustAppend(t, l, 4)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	follow(t, m, 2)
	follow(t, m, 3)
	rs := chain(t, m, 3)
	if len(rs) != 3 || !rs[0].OK() || !rs[1].OK() || !rs[2].OK() || rs[2].Size != 8 || rs[0].Follows.Node != testKey(t, 2).NodeID() {
		t.Fatalf("%d logs: %+v", len(rs), rs[0])
	}
	follow(t, old, 2) // the same key once more, over the shorter log: its claim is another
	if rs := chain(t, old, 2); len(rs) != 2 || !rs[1].OK() || rs[1].Size != 4 {
		t.Fatal("the shorter log under its own follower")
	}
	mixed := durable.NewMem()
	copyLog(t, m, mixed, 2)
	copyLog(t, old, mixed, 1)
	rs = chain(t, mixed, 2)
	if len(rs) != 2 || !rs[0].OK() || rs[1].OK() || rs[1].Problems[0].Kind != KindMissing || rs[1].Problems[0].First != 4 {
		t.Fatalf("a log that was cut back is not noticed: %+v", rs[1])
	}
	gone := durable.NewMem()
	copyLog(t, m, gone, 2)
	if rs := chain(t, gone, 2); len(rs) != 2 || rs[1].OK() {
		t.Fatal("a log that was removed is not noticed")
	}
}

// A log that was missing or damaged when its follower began is told as such, and proves nothing.
func TestVerifyChainEnds(t *testing.T) {
	m := durable.NewMem()
	follow(t, m, 2)
	if rs := chain(t, m, 2); len(rs) != 1 || !rs[0].OK() || rs[0].Follows.State != "missing" {
		t.Fatalf("%+v", rs[0])
	}
	m = durable.NewMem()
	l := openLog(t, m)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(m, Dir(testKey(t, 1).NodeID())+"/"+checkpointName, []byte("x")); err != nil {
		t.Fatal(err)
	}
	follow(t, m, 2)
	if rs := chain(t, m, 2); len(rs) != 1 || !rs[0].OK() || rs[0].Follows.State != "damaged" {
		t.Fatalf("%+v", rs[0])
	}
}

// What the first entry says of another log has one form.
func TestParseBefore(t *testing.T) {
	id := testKey(t, 1).NodeID()
	good := predecessorText(id, &Checkpoint{Size: 7})
	if f, err := parseBefore(good); err != nil || f.Node != id || f.size != 7 {
		t.Fatal(f, err)
	}
	if f, err := parseBefore(""); f != nil || err != nil {
		t.Fatal(f, err)
	}
	for _, bad := range []string{
		"x", good + " ", strings.Replace(good, " 7 ", " 07 ", 1), strings.Replace(good, " 7 ", " 7  ", 1), id.Compact(), id.Compact() + " lost",
		keys.NodeID{}.Compact() + " missing x",
	} {
		if f, err := parseBefore(bad); err == nil {
			t.Errorf("%q: %+v", bad, f)
		}
	}
}
