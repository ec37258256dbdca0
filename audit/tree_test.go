package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/sovereignmesh/meshkey/internal/durable"
)

// mth is RFC 6962 §2.1, word for word, and shares no code with the package or with tlog.
func mth(d [][]byte) [32]byte {
	switch n := len(d); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256(append([]byte{0}, d[0]...))
	default:
		k := 1 << (bits.Len(uint(n-1)) - 1) // largest power of two smaller than n
		left, right := mth(d[:k]), mth(d[k:])
		return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
	}
}

func TestTreeAgainstSecondImplementation(t *testing.T) {
	var d [][]byte
	tr := &tree{}
	if tr.root() != mth(nil) {
		t.Fatal("empty tree")
	}
	for n := 1; n <= 1100; n++ {
		d = append(d, binary.BigEndian.AppendUint64([]byte("leaf"), uint64(n)))
		tr.add(tlog.RecordHash(d[n-1]), nil, nil)
		if n > 300 && n%37 != 0 && n%256 > 1 {
			continue
		}
		if got := tr.root(); got != mth(d) {
			t.Fatalf("root of %d entries is %v, want %x", n, got, mth(d))
		}
		if again := treeFromTiles(uint64(n), tr.clone().tiles); again.root() != tr.root() {
			t.Fatalf("tree of %d entries from its tiles has another root", n)
		}
	}
}

func TestTreeTiles(t *testing.T) {
	full := make(map[tlog.Tile][]tlog.Hash)
	tr, byTile := &tree{}, &tree{}
	const size = 256*256 + 600
	emitted := make(map[int]uint64)
	for i := range size {
		h := tlog.RecordHash(binary.BigEndian.AppendUint32(nil, uint32(i)))
		tr.add(h, func(n treeNode) {
			if n.n != emitted[n.level] {
				t.Fatalf("level %d emits %d, want %d", n.level, n.n, emitted[n.level])
			}
			emitted[n.level]++
		}, func(level int, n uint64, hashes []tlog.Hash) {
			full[tlog.Tile{H: tileHeight, L: level, N: int64(n), W: tileWidth}] = hashes
		})
	}
	for level := range levels(size) {
		if emitted[level] != levelCount(size, level) {
			t.Errorf("level %d has %d hashes, want %d", level, emitted[level], levelCount(size, level))
		}
	}
	if levels(size) != 3 || len(full) != 256+2+1 {
		t.Fatalf("%d levels, %d full tiles", levels(size), len(full))
	}
	for n := range uint64(size / 256) {
		byTile.addTile(subtreeHash(full[tlog.Tile{H: tileHeight, N: int64(n), W: tileWidth}]), nil, nil)
	}
	for _, h := range tr.tiles[0] {
		byTile.add(h, nil, nil)
	}
	if byTile.root() != tr.root() {
		t.Fatal("a tree made from subtrees has another root")
	}
	defer func() {
		if recover() == nil {
			t.Error("a subtree was added at an unaligned size")
		}
	}()
	byTile.addTile(tlog.Hash{}, nil, nil)
}

func TestLevelCountAtTheEnd(t *testing.T) {
	if levelCount(1<<63, 8) != 0 || levels(1<<62) != 8 || levels(0) != 0 || levels(1) != 1 {
		t.Fatal("levels of extreme sizes")
	}
}

// dirReader lets the reference implementations read the files of a log.
type dirReader struct {
	t *testing.T
	f folder
}

func (d dirReader) ReadTiles(_ context.Context, tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		b, err := durable.ReadFile(d.f.fsys, d.f.path(torchwood.TilePath(tile)), maxBundle)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (d dirReader) SaveTiles([]tlog.Tile, [][]byte) {}

func (d dirReader) ReadEndpoint(_ context.Context, name string) ([]byte, error) {
	return durable.ReadFile(d.f.fsys, d.f.path(name), maxNote)
}

// TestReferenceClientReadsTheLog proves entries of a log with x/mod's tlog and torchwood's client, from the files alone.
func TestReferenceClientReadsTheLog(t *testing.T) {
	m := history(t, 700, 150)
	node := testKey(t, 1).NodeID()
	f := folder{m, Dir(node)}
	note := readFile(t, m, f.path(checkpointName))
	plain, _, err := logVerifiers(Origin(testMesh, node), node)
	if err != nil {
		t.Fatal(err)
	}
	cp, _, err := torchwood.VerifyCheckpoint(note, torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(Origin(testMesh, node)), torchwood.SingleVerifierPolicy(plain)))
	if err != nil {
		t.Fatal(err)
	}
	reader := torchwood.TileHashReaderWithContext(t.Context(), cp.Tree, dirReader{t, f})
	l := openLog(t, m)
	defer l.Close()
	recs, err := l.Read(0, 700)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int64{0, 1, 255, 256, 511, 512, 699} {
		proof, err := tlog.ProveRecord(cp.N, i, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, cp.N, cp.Hash, i, recs[i].Hash); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
	}
	client, err := torchwood.NewClient(dirReader{t, f})
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for i, entry := range client.Entries(t.Context(), cp.Tree, 0) {
		if i != n || tlog.RecordHash(entry) != recs[i].Hash {
			t.Fatalf("entry %d read by the reference client as %d", n, i)
		}
		n++
	}
	// The client ends at the last complete bundle.
	if err := client.Err(); err != nil || n < 512 {
		t.Fatalf("the reference client read %d entries: %v", n, err)
	}
}

func TestSplitBundle(t *testing.T) {
	entries := [][]byte{[]byte("a"), {}, bytes.Repeat([]byte("b"), maxLeaf)}
	b := bundle(entries)
	got, rest := splitBundle(b, 3)
	if len(got) != 3 || len(rest) != 0 || !bytes.Equal(got[2], entries[2]) {
		t.Fatalf("%d entries, %d bytes left", len(got), len(rest))
	}
	if got, rest = splitBundle(b, 2); len(got) != 2 || len(rest) != 2+maxLeaf {
		t.Fatalf("%d entries, %d bytes left", len(got), len(rest))
	}
	if got, rest = splitBundle(b[:len(b)-1], 3); len(got) != 2 || len(rest) == 0 {
		t.Fatal("a cut entry was taken")
	}
	long := append([]byte{byte((maxLeaf + 1) >> 8), byte((maxLeaf + 1) & 0xff)}, make([]byte, maxLeaf+1)...)
	if got, _ = splitBundle(long, 1); len(got) != 0 {
		t.Fatal("an entry longer than a leaf was taken")
	}
}

func TestRandomSizesVerify(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 12 {
		m := durable.NewMem()
		l := openLog(t, m)
		size := 1
		for range 1 + rng.IntN(5) {
			n := rng.IntN(400)
			fill(t, l, n)
			size += n
			switch rng.IntN(4) {
			case 0:
			case 1:
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				l = openLog(t, m)
			default:
				checkpoint(t, l)
			}
			mustVerify(t, m, uint64(size))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, m, uint64(size))
		// Nothing is left lying around.
		for _, name := range files(t, m, ".", ".p/") {
			if strings.Contains(name, ".tmp~") {
				t.Errorf("left over: %s", name)
			}
		}
		if got, want := len(files(t, m, logPath(t, tileName), ".p/")), partials(size); got != want {
			t.Errorf("%d partial tiles at size %d, want %d", got, size, want)
		}
	}
}

func partials(size int) (n int) {
	for level := range levels(uint64(size)) {
		if levelCount(uint64(size), level)%tileWidth != 0 {
			n++
			if level == 0 {
				n++ // its bundle
			}
		}
	}
	return n
}

func TestFrameIsStrict(t *testing.T) {
	key := testKey(t, 1)
	good := newFrame(key, testMesh, 5, [][]byte{[]byte("a")}, tlog.Hash{1})
	if f, err := parseFrame(good, key.NodeID(), testMesh); err != nil || f.size() != 6 {
		t.Fatal(err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		f, err := parseFrame(bad, key.NodeID(), testMesh)
		// A leaf is covered through the root, which the reader of a journal computes.
		if leaf := i == 4; (err == nil) != leaf || err != nil && f != nil {
			t.Errorf("byte %d flipped: %v, %v", i, f, err)
		}
	}
	many := make([][]byte, batchEntries+1)
	if _, err := parseFrame(newFrame(key, testMesh, 0, many, tlog.Hash{}), key.NodeID(), testMesh); !errors.Is(err, errFrame) {
		t.Errorf("a frame of %d entries: %v", len(many), err)
	}
	if _, err := parseFrame(newFrame(key, testMesh, 0, [][]byte{make([]byte, maxLeaf+1)}, tlog.Hash{}), key.NodeID(), testMesh); !errors.Is(err, errFrame) {
		t.Errorf("a leaf that is too long: %v", err)
	}
	if _, err := parseFrame(newFrame(key, testMesh, 1<<63, nil, tlog.Hash{}), key.NodeID(), testMesh); !errors.Is(err, errFrame) {
		t.Errorf("an index that overflows: %v", err)
	}
	full := make([][]byte, batchEntries)
	for i := range full {
		full[i] = make([]byte, batchBytes/batchEntries+maxLeaf/batchEntries)
	}
	if n := len(newFrame(key, testMesh, 1<<61, full, tlog.Hash{})); n > maxFrame {
		t.Errorf("the largest frame has %d bytes, the limit is %d", n, maxFrame)
	}
}
