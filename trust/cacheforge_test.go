package trust

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/testrun"
	"github.com/sovereignmesh/meshkey/keys"
)

// TestCacheTampered: whatever is done to the file, the log alone decides, and somebody is told.
func TestCacheTampered(t *testing.T) {
	t.Parallel()
	w, _, fsys, s := cacheWorld(t)
	s.keepState(0)
	good, want := cacheBytes(t, fsys), deep(s.Current())
	tried := func(name string, b []byte) {
		t.Helper()
		if err := durable.WriteFile(fsys, cacheName, b); err != nil {
			t.Fatal(err)
		}
		x, words := openCached(t, w, fsys)
		if used(x) {
			t.Errorf("%s: the cache was used", name)
		}
		if got := deep(x.Current()); got != want {
			t.Errorf("%s: another state (-):\n%s", name, differ(got, want))
		}
		if !strings.Contains(words, "level=WARN") || !strings.Contains(words, "verified from its beginning") {
			t.Errorf("%s: said %q", name, words)
		}
	}
	// Of the body, which is under one hash, some bytes; of what is signed all.
	for i := 0; i < len(good); i += testrun.Stride(1) {
		if i < len(good)-300 && i%13 > 0 {
			continue
		}
		b := slices.Clone(good)
		b[i] ^= 1 << (i % 8)
		tried(fmt.Sprintf("byte %d", i), b)
	}
	for n := 0; n < len(good); n += 29 {
		tried(fmt.Sprintf("cut to %d", n), good[:n])
	}
	tried("longer", append(slices.Clone(good), 0))
	head := int(binary.BigEndian.Uint32(good[len(good)-4:])) + 4
	tried("something between", slices.Insert(slices.Clone(good), len(good)-head, 0))
	tried("in front", append([]byte{0}, good...))
}

// forgedState is what a thief would like: the state of a log in which he is a member.
func forgedState(t testing.TB, w *world, a *writer, s *Store) (*State, map[keys.PublicKey][]place) {
	evil := a.branch()
	st := must(t, s.Current(), evil.add(evil.enroll("evil")))
	entries := maps.Clone(s.rep.entries)
	id := a.key.Public()
	entries[id] = append(slices.Clone(entries[id]), place{frame: 1})
	return st, entries
}

// TestCacheForged: each of these files is well formed, and each is refused by one check alone.
func TestCacheForged(t *testing.T) {
	w, a, fsys, s := cacheWorld(t)
	s.keepState(0)
	honest := cacheHead{Version: cacheVersion, Program: "test", Frames: s.cache.frames, Log: s.cache.hash()}
	st, entries := forgedState(t, w, a, s)
	write := func(mesh keys.MeshID, key *keys.SigningKey, h cacheHead, st *State) {
		t.Helper()
		if err := writeCache(fsys, mesh, key, h, func(c *cacheWriter) { writeState(c, st, entries) }); err != nil {
			t.Fatal(err)
		}
	}
	// The control: with the right key and the right hash it is believed. So the tests below fail where one check is missing.
	write(w.mesh, cacheKey, honest, st)
	if x, _ := openCached(t, w, fsys); !used(x) || !lively(x.Current(), "evil") {
		t.Fatal("the forgery is not good enough to test anything")
	}
	otherLog, shorter, longer, version, program := honest, honest, honest, honest, honest
	otherLog.Log[0] ^= 1
	shorter.Frames--
	longer.Frames++
	version.Version++
	program.Program = "test 2"
	other := newWorld(t, 1, "a", "b", "z")
	for _, c := range []struct {
		name string
		mesh keys.MeshID
		key  *keys.SigningKey
		head cacheHead
		st   *State
	}{
		{"signed by another node", w.mesh, keyOf("node thief"), honest, st},
		{"signed for another mesh", other.mesh, cacheKey, honest, st},
		{"the state of another mesh", w.mesh, cacheKey, honest, other.start},
		{"of another log", w.mesh, cacheKey, otherLog, st},
		{"of fewer frames", w.mesh, cacheKey, shorter, st},
		{"of more frames", w.mesh, cacheKey, longer, st},
		{"of another version", w.mesh, cacheKey, version, st},
		{"of another program", w.mesh, cacheKey, program, st},
	} {
		write(c.mesh, c.key, c.head, c.st)
		x, words := openCached(t, w, fsys)
		if used(x) || lively(x.Current(), "evil") || x.Current().Mesh() != w.mesh {
			t.Errorf("%s: believed", c.name)
		}
		if !strings.Contains(words, "not used") {
			t.Errorf("%s: nobody was told: %q", c.name, words)
		}
		if a, b := deep(x.Current()), deep(s.Current()); a != b {
			t.Errorf("%s: another state", c.name)
		}
	}
	// A piece of one file in another of the same size: the signature is right, the piece is not.
	write(w.mesh, cacheKey, honest, s.Current())
	b := cacheBytes(t, fsys)
	at := bytes.Index(b, []byte("late"))
	copy(b[at:], "evil")
	if err := durable.WriteFile(fsys, cacheName, b); err != nil {
		t.Fatal(err)
	}
	if x, words := openCached(t, w, fsys); used(x) || !strings.Contains(words, "not what was written") {
		t.Errorf("a changed piece: used %v, said %q", used(x), words)
	}
}

// TestCacheOfARolledBackLog: a log that lost its end is not the one the cache came from, and the state is that of the log.
func TestCacheOfARolledBackLog(t *testing.T) {
	w, a, fsys, s := cacheWorld(t)
	s.apply(t, a.add(a.enroll("last")))
	s.Close()
	s.keepStateAfterClose(t, w, fsys)
	short := durable.NewMem()
	l, _, err := durable.OpenLog(short, logName, MaxFrame, nil)
	if err != nil {
		t.Fatal(err)
	}
	var bodies [][]byte
	if _, err := durable.ReadLog(fsys, logName, MaxFrame, func(_ uint64, b []byte) error {
		bodies = append(bodies, slices.Clone(b))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies[:len(bodies)-1] {
		if _, err := l.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(short, cacheName, cacheBytes(t, fsys)); err != nil {
		t.Fatal(err)
	}
	if ok, words := agrees(t, w, short); ok || !strings.Contains(words, "another log") {
		t.Fatalf("used %v, said %q", ok, words)
	}
}

// keepStateAfterClose writes the cache of a closed store.
func (s *Store) keepStateAfterClose(t testing.TB, w *world, fsys durable.FS) {
	t.Helper()
	x, _ := openCached(t, w, fsys)
	x.keepState(0)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}
