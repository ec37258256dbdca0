package trust

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// samples are real objects of every kind, for the corpora.
func samples(t testing.TB) (w *world, root []byte, entries [][]byte, head []byte, vec []byte) {
	w = newWorld(t, 3, "a", "b")
	a := w.writer("a")
	other, err := wire.Marshal([]any{uint64(200), "later", map[uint64]any{1: []byte{2}}})
	if err != nil {
		t.Fatal(err)
	}
	e1 := a.add(a.enroll("one", "gpu", "env:x"), a.grant(TagTarget("gpu"), NodeTarget(nodeID("one")), "*"))
	e2 := a.add(revokeNode("two"), OpRevokeNode{Node: nodeID("one"), Successor: &Successor{Node: nodeID("x")}},
		OpRevokeCert{Issuer: a.key.Public(), Serial: 1}, OpUngrant{Issuer: a.key.Public(), GID: 1}, OpGroup{Generation: 1},
		OpUnknown{Kind: 200, Raw: other})
	s := must(t, w.start, e1, e2)
	root = w.root(s, func(r *Root) { cutoff(r, a.key.Public(), 1, e1.hash) })
	if head, err = s.NewHead(a.key, epoch0+100); err != nil {
		t.Fatal(err)
	}
	v := s.Vector()
	return w, root, [][]byte{e1.raw, e2.raw}, head, v.frame().Body
}

func FuzzRoot(f *testing.F) {
	w, root, _, _, _ := samples(f)
	f.Add(root)
	f.Add(w.genesis)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRoot(b)
		if err != nil {
			if r != nil {
				t.Fatal("an error came with a root")
			}
			return
		}
		if again := (&identity.Envelope{Payload: r.encode(), Sigs: r.env.Sigs}).Encode(); !bytes.Equal(again, b) {
			t.Fatal("two encodings of one root")
		}
		if n, err := w.start.ApplyRoot(b); err == nil && !bytes.Equal(b, root) && n.Root().hash != keys.Sum(r.env.Payload) {
			t.Fatal("a forged root")
		}
	})
}

func FuzzEntry(f *testing.F) {
	w, _, entries, _, _ := samples(f)
	for _, e := range entries {
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b, w.mesh)
		if err != nil {
			if e != nil {
				t.Fatal("an error came with an entry")
			}
			return
		}
		ew := entryWire{Mesh: w.mesh, Issuer: e.Issuer, Seq: e.Seq, Prev: e.Prev, Time: e.Time, RootVersion: e.RootVersion}
		for _, o := range e.Ops {
			ew.Ops = append(ew.Ops, wireOp{o})
		}
		if again := (&identity.Envelope{Payload: wire.MustMarshal(ew), Sigs: e.env.Sigs}).Encode(); !bytes.Equal(again, b) {
			t.Fatal("two encodings of one entry")
		}
		n, _, err := w.start.ApplyEntry(b)
		if (err == nil) != (n != nil) {
			t.Fatal("state and error")
		}
		if err == nil && !bytes.Equal(b, entries[0]) {
			t.Fatal("a forged entry")
		}
	})
}

func FuzzHead(f *testing.F) {
	w, _, _, head, _ := samples(f)
	f.Add(head)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHead(b, w.mesh)
		if err != nil {
			if h != nil {
				t.Fatal("an error came with a head")
			}
			return
		}
		env, err := identity.ParseEnvelope(b, MaxHead)
		if err != nil {
			t.Fatal(err)
		}
		if again := (&identity.Envelope{Payload: wire.MustMarshal(h), Sigs: env.Sigs}).Encode(); !bytes.Equal(again, b) {
			t.Fatal("two encodings of one head")
		}
	})
}

func FuzzVector(f *testing.F) {
	_, _, _, _, vec := samples(f)
	f.Add(vec)
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := ParseVector(b)
		if err != nil {
			if v != nil {
				t.Fatal("an error came with a vector")
			}
			return
		}
		if !bytes.Equal(v.frame().Body, b) {
			t.Fatal("two encodings of one vector")
		}
	})
}

// FuzzFrame feeds one frame after the other to a Sync: no panic, and what parses encodes to the same bytes.
func FuzzFrame(f *testing.F) {
	w, root, entries, head, vec := samples(f)
	h := keys.Sum(nil)
	issuer := keyOf("issuer a").Public()
	f.Add(vec)
	f.Add(rawFrame(KindRoot, root).Body)
	f.Add(rawFrame(KindEntry, entries[0]).Body)
	f.Add(rawFrame(KindHead, head).Body)
	f.Add(frameOf(KindEvidence, evidenceWire{Kind: KindEvidence, A: entries[0], B: entries[1]}).Body)
	f.Add(frameOf(KindWant, wantWire{Kind: KindWant, Issuer: issuer, From: 1, To: 9}).Body)
	f.Add(frameOf(KindHashAt, hashAtWire{Kind: KindHashAt, Issuer: issuer, Seq: 1}).Body)
	f.Add(frameOf(KindHashAt, hashAtWire{Kind: KindHashAt, Issuer: issuer, Seq: 1, Hash: &h}).Body)
	f.Fuzz(func(t *testing.T, b []byte) {
		kind, err := wire.Kind(b)
		if err != nil {
			return
		}
		again := func(w any, err error) {
			if err == nil && !bytes.Equal(wire.MustMarshal(w), b) {
				t.Fatal("two encodings of one frame")
			}
		}
		switch kind {
		case KindWant:
			w, err := parseWant(b)
			again(w, err)
		case KindHashAt:
			w, err := parseHashAt(b)
			again(w, err)
		case KindEvidence:
			w, err := parseEvidence(b)
			again(w, err)
		case KindRoot, KindEntry, KindHead:
			raw, err := parseRaw(b, kind, MaxRoot)
			again(rawWire{Kind: kind, Raw: raw}, err)
		}
		m, err := NewMemory(w.genesis, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := NewHub(m).NewSync(false)
		v := w.start.Vector()
		for _, f := range []Frame{v.frame(), {Kind: uint8(kind), Body: b}, {Kind: uint8(kind), Body: b}} {
			r, err := s.Receive(f, 0, epoch0)
			if err != nil && len(r.Send)+len(r.Changes) > 0 {
				t.Fatal("an error came with a result")
			}
			if len(r.Send) > 600 {
				t.Fatalf("%d frames for one", len(r.Send))
			}
		}
	})
}

// FuzzCachedState: whatever a body holds under a good signature, reading it is an error or a state that can be asked and written.
func FuzzCachedState(f *testing.F) {
	w, _, fsys, s := cacheWorld(f)
	s.keepState(0)
	whole := cacheBytes(f, fsys)
	head := int(binary.BigEndian.Uint32(whole[len(whole)-4:])) + 4
	f.Add(whole[:len(whole)-head])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<20 {
			return
		}
		fsys := durable.NewMem()
		h := cacheHead{Version: cacheVersion, Program: "test", Frames: 1 << 20}
		if err := writeCache(fsys, w.mesh, cacheKey, h, func(c *cacheWriter) { c.bytes(b) }); err != nil {
			t.Fatal(err)
		}
		held, err := newCache(Cache{Key: cacheKey, Program: "test"}).read(fsys, w.mesh)
		if err != nil {
			if held != nil {
				t.Fatal("an error came with a state")
			}
			return
		}
		_ = deep(held.state)
		held.state.NextChange(epoch0)
		if err := writeCache(fsys, w.mesh, cacheKey, h, func(c *cacheWriter) { writeState(c, held.state, held.entries) }); err != nil {
			t.Fatal(err)
		}
		again, err := newCache(Cache{Key: cacheKey, Program: "test"}).read(fsys, w.mesh)
		if err != nil || deep(again.state) != deep(held.state) {
			t.Fatalf("written again it is something else: %v", err)
		}
	})
}
