package audit

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// TestMain fails if a goroutine of this package outlives its test.
func TestMain(m *testing.M) { os.Exit(testrun.Leaks{Tests: m, Of: []string{"meshkey/audit."}}.Run()) }

var testMesh = keys.MeshID{0x4d, 0x45, 0x53, 0x48, 1}

func testKey(t testing.TB, seed byte) *keys.SigningKey {
	t.Helper()
	k, err := keys.SigningKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openLog(t testing.TB, fsys durable.FS) *Log {
	t.Helper()
	l, err := Open(fsys, testKey(t, 1), testMesh, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func event(i int) Event {
	return Event{
		Code: StreamOpen, Actor: "laptop", Target: "gpu1/ollama", Verdict: Allowed, Grant: "g-18", Session: fmt.Sprintf("s%d", i),
		Reason: "grant matches", Bytes: uint64(i),
	}
}

func mustAppend(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(event(i)); err != nil {
			t.Fatal(err)
		}
	}
}

// fill adds n entries without one fsync each.
func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Later(event(i)); err != nil {
			t.Fatal(err)
		}
		if i%maxUnsaved != maxUnsaved-1 {
			continue
		}
		if err := l.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
}

func checkpoint(t testing.TB, l *Log) Checkpoint {
	t.Helper()
	cp, err := l.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

func verify(t testing.TB, fsys durable.FS, known ...[]byte) *Report {
	t.Helper()
	r, err := Verify(fsys, testKey(t, 1).NodeID(), testMesh, known...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustVerify(t testing.TB, fsys durable.FS, size uint64) {
	t.Helper()
	r := verify(t, fsys)
	if !r.OK() || r.Size != size || r.Signed != size {
		t.Fatalf("verify: size %d, signed %d, want %d; problems: %v", r.Size, r.Signed, size, r.Problems)
	}
}

// copyTree copies a folder of a file system into another.
func copyTree(t testing.TB, from durable.FS, to durable.FS, dir string) {
	t.Helper()
	list, err := from.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			if err := durable.MkdirAll(to, name); err != nil {
				t.Fatal(err)
			}
			copyTree(t, from, to, name)
			continue
		}
		if err := durable.WriteFile(to, name, readFile(t, from, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func readFile(t testing.TB, fsys durable.FS, name string) []byte {
	t.Helper()
	b, err := durable.ReadFile(fsys, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeFile(t testing.TB, fsys durable.FS, name string, b []byte) {
	t.Helper()
	if err := durable.MkdirAll(fsys, path.Dir(name)); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(fsys, name, b); err != nil {
		t.Fatal(err)
	}
}

// files lists all regular files below dir whose name contains part.
func files(t testing.TB, fsys durable.FS, dir, part string) []string {
	t.Helper()
	list, err := fsys.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		name := path.Join(dir, e.Name())
		if e.IsDir() {
			out = append(out, files(t, fsys, name, part)...)
		} else if strings.Contains(name, part) {
			out = append(out, name)
		}
	}
	return out
}

func clone(t testing.TB, from durable.FS) *durable.Mem {
	t.Helper()
	to := durable.NewMem()
	copyTree(t, from, to, ".")
	return to
}

func wireMarshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := wire.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
