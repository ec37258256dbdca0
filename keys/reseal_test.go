package keys

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

func hybrid(t testing.TB) *FileIdentity {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	out, err := ParseIdentity([]byte(id.String()))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReseal(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	id, pq := newIdentity(t, fsys, "identity.txt"), hybrid(t)
	k := SigningMaterial(KindIssuer, mesh, testKey(t, 1))
	if err := WriteKeyFile(fsys, "issuer.age", cheap(t, "old"), k); err != nil {
		t.Fatal(err)
	}
	seals := func(want ...string) {
		t.Helper()
		if got, err := Seals(fsys, "issuer.age"); err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v %v", got, err)
		}
	}
	seals("passphrase")
	for _, step := range []struct {
		with  Unlock
		to    Recipient
		again Unlock
		seals string
	}{
		{ask("old"), id.Recipient(), Unlock{Identity: id}, "age"},
		{Unlock{Identity: id}, pq.Recipient(), Unlock{Identity: pq}, "age-pq"},
		{Unlock{Identity: pq}, cheap(t, "new"), ask("new"), "passphrase"},
	} {
		if err := Reseal(fsys, "issuer.age", KindIssuer, mesh, step.with, step.to, step.again); err != nil {
			t.Fatal(err)
		}
		seals(step.seals)
		got, err := ReadKeyFile(fsys, "issuer.age", KindIssuer, mesh, step.again)
		if err != nil || !got.secret.Equal(k.secret) {
			t.Fatal(err)
		}
		if _, err := ReadKeyFile(fsys, "issuer.age", KindIssuer, mesh, step.with); err == nil {
			t.Fatal("still opened by the old one")
		}
	}
}

// What does not open here is not put in place, and the old file is as it was, to the byte.
func TestResealKeepsTheOldFile(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	id, pq := newIdentity(t, fsys, "identity.txt"), hybrid(t)
	if err := WriteKeyFile(fsys, "node.age", id.Recipient(), SigningMaterial(KindNode, mesh, testKey(t, 1))); err != nil {
		t.Fatal(err)
	}
	before, err := durable.ReadFile(fsys, "node.age", maxKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	mine := Unlock{Identity: id}
	for name, err := range map[string]error{
		"the new one does not open": Reseal(fsys, "node.age", KindNode, mesh, mine, pq.Recipient(), mine),
		"the old one does not open": Reseal(fsys, "node.age", KindNode, mesh, Unlock{Identity: pq}, pq.Recipient(), Unlock{Identity: pq}),
		"another kind":              Reseal(fsys, "node.age", KindRoot, mesh, mine, id.Recipient(), mine),
		"another mesh":              Reseal(fsys, "node.age", KindNode, MeshID{2}, mine, id.Recipient(), mine),
		"nobody":                    Reseal(fsys, "node.age", KindNode, mesh, mine, Recipient{}, mine),
		"no file":                   Reseal(fsys, "other.age", KindNode, mesh, mine, id.Recipient(), mine),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	after, err := durable.ReadFile(fsys, "node.age", maxKeyFile)
	if err != nil || !bytes.Equal(before, after) {
		t.Fatal("changed", err)
	}
	if f, err := fsys.OpenFile("node.age"+resealSuffix, os.O_RDONLY, 0); err == nil {
		f.Close()
		t.Error("a second copy is left")
	}
}

// The power may go, and the disk may fail, at every step: the key is in the file in place, whole, by the old seal or the new one; and
// the next attempt works.
func TestResealCrash(t *testing.T) {
	mesh, k := MeshID{1}, SigningMaterial(KindNode, MeshID{1}, testKey(t, 1))
	a, b := hybrid(t), hybrid(t)
	both := Unlock{Identity: JoinIdentities(a, b)}
	for step := 1; ; step++ {
		m := durable.NewMem()
		if err := WriteKeyFile(m, "node.age", a.Recipient(), k); err != nil {
			t.Fatal(err)
		}
		m.CutPower(step, true)
		err := Reseal(m, "node.age", KindNode, mesh, both, b.Recipient(), both)
		m.CrashKeeping(uint64(step))
		got, rerr := ReadKeyFile(m, "node.age", KindNode, mesh, both)
		if rerr != nil || !got.secret.Equal(k.secret) {
			t.Fatalf("step %d: %v after %v", step, rerr, err)
		}
		if err == nil {
			if _, rerr := ReadKeyFile(m, "node.age", KindNode, mesh, Unlock{Identity: b}); rerr != nil {
				t.Fatalf("step %d: said done, and is not: %v", step, rerr)
			}
		}
		if rerr := Reseal(m, "node.age", KindNode, mesh, both, b.Recipient(), both); rerr != nil {
			t.Fatalf("step %d: the next attempt: %v", step, rerr)
		}
		if err == nil {
			if step < 5 {
				t.Fatalf("only %d steps", step)
			}
			return
		}
	}
}

func TestSeals(t *testing.T) {
	fsys := durable.NewMem()
	pq, other := hybrid(t), hybrid(t)
	if err := WriteKeyFile(fsys, "two.age", Recipient{to: append(pq.Recipient().to, other.Recipient().to...)}, SigningMaterial(KindNode, MeshID{1}, testKey(t, 1))); err != nil {
		t.Fatal(err)
	}
	if got, err := Seals(fsys, "two.age"); err != nil || !slices.Equal(got, []string{"age-pq", "age-pq"}) {
		t.Error(got, err)
	}
	if err := durable.WriteNew(fsys, "bad.age", []byte("age-encryption.org/v1\n-> \x1b")); err != nil {
		t.Fatal(err)
	}
	if _, err := Seals(fsys, "bad.age"); !errors.Is(err, ErrKeyFile) {
		t.Error(err)
	}
	if _, err := Seals(fsys, "none.age"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestPublicLine(t *testing.T) {
	l := PublicLine{Kind: KindIssuer, Mesh: MeshID{7}, Name: "pi4", Key: testKey(t, 3).Public()}
	for _, kind := range []KeyKind{KindIssuer, KindRoot} {
		l.Kind = kind
		got, err := ParsePublicLine("  " + l.String() + "\n")
		if err != nil || got != l {
			t.Fatalf("%+v %v", got, err)
		}
	}
	whole := l.String()
	for i := range whole {
		b := []byte(whole)
		b[i] ^= 1
		got, err := ParsePublicLine(string(b))
		// A name and a mesh id have no checksum of their own: both are shown to who signs. A key has.
		if err == nil && got.Key != l.Key {
			t.Errorf("byte %d changed: another key", i)
		}
		if err == nil && i < len("meshkey-root-key/1") {
			t.Errorf("byte %d changed: another kind", i)
		}
	}
	for _, s := range []string{"", "x", whole + " y", strings.Repeat("x", maxPublicLine+1), strings.Replace(whole, l.Mesh.String(), MeshID{}.String(), 1), strings.Replace(whole, "root", "node", 1)} {
		if _, err := ParsePublicLine(s); !errors.Is(err, ErrPublicLine) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// swapFS shows another file where the newly sealed one is read: a disk that errs, or somebody else in the directory.
type swapFS struct {
	*durable.Mem
	shown string
}

func (f swapFS) OpenFile(name string, flag int, perm fs.FileMode) (durable.File, error) {
	if strings.HasSuffix(name, resealSuffix) && flag == os.O_RDONLY {
		if _, err := f.Mem.OpenFile(name, flag, perm); err == nil {
			name = f.shown
		}
	}
	return f.Mem.OpenFile(name, flag, perm)
}

func TestResealComparesTheKey(t *testing.T) {
	fsys, mesh := durable.NewMem(), MeshID{1}
	id := newIdentity(t, fsys, "identity.txt")
	for i, name := range []string{"node.age", "other.age"} {
		if err := WriteKeyFile(fsys, name, id.Recipient(), SigningMaterial(KindNode, mesh, testKey(t, byte(i+1)))); err != nil {
			t.Fatal(err)
		}
	}
	mine := Unlock{Identity: id}
	err := Reseal(swapFS{fsys, "other.age"}, "node.age", KindNode, mesh, mine, id.Recipient(), mine)
	if !errors.Is(err, ErrKeyFile) {
		t.Fatal(err)
	}
	if got, err := ReadKeyFile(fsys, "node.age", KindNode, mesh, mine); err != nil || !bytes.Equal(got.secret.Bytes(), testKey(t, 1).Seed()) {
		t.Fatal("another key", err)
	}
}
