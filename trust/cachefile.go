package trust

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// cacheHead is the signed part of the cache file: what the body was computed from, by which program, and the hash of each of its pieces.
type cacheHead struct {
	Version uint64    `cbor:"1,keyasint"`
	Program string    `cbor:"2,keyasint"`
	Frames  uint64    `cbor:"3,keyasint"` // of the log, from the first
	Log     keys.Hash `cbor:"4,keyasint"` // H of these frames, each as len u32 || payload
	Size    uint64    `cbor:"5,keyasint"` // of the body
	Chunks  []byte    `cbor:"6,keyasint"` // the hashes of the body's pieces of cacheChunk bytes, the last one shorter
}

// errCache is everything wrong with a cache file but its absence.
var errCache = errors.New("cache")

func cacheErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errCache, fmt.Errorf(format, args...))
}

// cacheWriter writes a body in pieces and hashes each.
type cacheWriter struct {
	w    io.Writer
	buf  []byte
	sums []byte
	n    uint64
	err  error
}

func (c *cacheWriter) bytes(b []byte) {
	for len(b) > 0 {
		if c.buf == nil {
			c.buf = make([]byte, 0, cacheChunk)
		}
		k := min(len(b), cacheChunk-len(c.buf))
		c.buf = append(c.buf, b[:k]...)
		b = b[k:]
		if len(c.buf) == cacheChunk {
			c.flush()
		}
	}
}

func (c *cacheWriter) flush() {
	if len(c.buf) == 0 || c.err != nil {
		c.buf = c.buf[:0]
		return
	}
	h := keys.Sum(c.buf)
	c.sums = append(c.sums, h[:]...)
	c.n += uint64(len(c.buf))
	_, c.err = c.w.Write(c.buf)
	c.buf = c.buf[:0]
}

func (c *cacheWriter) uint(n uint64) {
	var b [binary.MaxVarintLen64]byte
	c.bytes(b[:binary.PutUvarint(b[:], n)])
}

func (c *cacheWriter) int(n int64) {
	var b [binary.MaxVarintLen64]byte
	c.bytes(b[:binary.PutVarint(b[:], n)])
}

func (c *cacheWriter) text(s string) {
	c.uint(uint64(len(s)))
	c.bytes([]byte(s))
}

// end writes what follows the body: the signed head and its length.
func (c *cacheWriter) end(h cacheHead, mesh keys.MeshID, key *keys.SigningKey) error {
	c.flush()
	if c.err != nil {
		return c.err
	}
	if len(c.sums) > maxCacheChunks*len(keys.Hash{}) {
		return cacheErrorf("the state is larger than %d MiB", maxCacheChunks*cacheChunk>>20)
	}
	h.Size, h.Chunks = c.n, c.sums
	env := identity.Seal(keys.LabelCache, mesh, wire.MustMarshal(h), key).Encode()
	_, err := c.w.Write(binary.BigEndian.AppendUint32(env, uint32(len(env))))
	return err
}

// cacheReader reads a body, each piece only after its hash was found right. Its first error stays; then it yields zeros.
type cacheReader struct {
	f    io.ReaderAt
	head cacheHead
	next int // the piece to read next
	buf  []byte
	err  error
}

// openCache reads and verifies the head of a cache file. The caller closes the file.
func openCache(f durable.File, mesh keys.MeshID, key keys.PublicKey) (*cacheReader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var tail [4]byte
	size := info.Size()
	if size < int64(len(tail)) {
		return nil, cacheErrorf("cut off")
	}
	if _, err := f.ReadAt(tail[:], size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	n := int64(binary.BigEndian.Uint32(tail[:]))
	if n > maxCacheHead || n > size-int64(len(tail)) {
		return nil, cacheErrorf("cut off, or no cache")
	}
	raw := make([]byte, n)
	body := size - int64(len(tail)) - n
	if _, err := f.ReadAt(raw, body); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	env, err := identity.ParseEnvelope(raw, maxCacheHead)
	if err != nil {
		return nil, cacheErrorf("%w", err)
	}
	if err := env.VerifyOnly(keys.LabelCache, mesh, key); err != nil {
		return nil, cacheErrorf("not signed by this node in this mesh: %w", err)
	}
	r := &cacheReader{f: f}
	if err := wire.Unmarshal(env.Payload, &r.head); err != nil {
		return nil, cacheErrorf("%w", err)
	}
	chunks := (r.head.Size + cacheChunk - 1) / cacheChunk
	switch {
	case r.head.Size != uint64(body):
		return nil, cacheErrorf("its body has %d bytes, signed are %d", body, r.head.Size)
	case chunks > maxCacheChunks || chunks*uint64(len(keys.Hash{})) != uint64(len(r.head.Chunks)):
		return nil, cacheErrorf("as many hashes as pieces are wanted")
	}
	return r, nil
}

// left is how many bytes of the body were not read yet.
func (r *cacheReader) left() uint64 {
	return uint64(len(r.buf)) + r.head.Size - min(r.head.Size, uint64(r.next)*cacheChunk)
}

// fill has n bytes ready, if there are as many.
func (r *cacheReader) fill(n int) bool {
	for r.err == nil && len(r.buf) < n {
		at := uint64(r.next) * cacheChunk
		if at >= r.head.Size {
			r.err = cacheErrorf("ends too early")
			break
		}
		piece := make([]byte, len(r.buf), len(r.buf)+int(min(cacheChunk, r.head.Size-at)))
		copy(piece, r.buf)
		fresh := piece[len(r.buf):cap(piece)]
		if _, err := r.f.ReadAt(fresh, int64(at)); err != nil && !errors.Is(err, io.EOF) {
			r.err = fmt.Errorf("%w: %w", errCache, err)
			break
		}
		if h := keys.Sum(fresh); string(h[:]) != string(r.head.Chunks[r.next*len(h):(r.next+1)*len(h)]) {
			r.err = cacheErrorf("piece %d is not what was written", r.next)
			break
		}
		r.buf = piece[:cap(piece)]
		r.next++
	}
	if r.err != nil {
		r.buf = nil
	}
	return r.err == nil
}

// bytes returns the next n bytes, valid until the next call.
func (r *cacheReader) bytes(n int) []byte {
	if !r.fill(n) {
		return nil
	}
	b := r.buf[:n]
	r.buf = r.buf[n:]
	return b
}

func (r *cacheReader) uint() uint64 {
	r.ahead()
	n, k := binary.Uvarint(r.buf)
	return r.took(n, k)
}

func (r *cacheReader) int() int64 {
	r.ahead()
	n, k := binary.Varint(r.buf)
	return int64(r.took(uint64(n), k))
}

// ahead has the longest number ready, or what there is.
func (r *cacheReader) ahead() {
	if len(r.buf) < binary.MaxVarintLen64 {
		r.fill(int(min(binary.MaxVarintLen64, r.left())))
	}
}

func (r *cacheReader) took(n uint64, k int) uint64 {
	if k <= 0 {
		r.fail("no number where one is wanted")
		return 0
	}
	r.buf = r.buf[k:]
	return n
}

// number reads one below a bound.
func (r *cacheReader) number(below uint64) uint64 {
	n := r.uint()
	if n >= below {
		r.fail("number out of range")
		return 0
	}
	return n
}

// count reads how many follow, of which each takes so many bytes at least: what is allocated for them is bounded by what is there.
func (r *cacheReader) count(least uint64) int {
	n := r.uint()
	if r.err == nil && n > r.left()/least {
		r.fail("more announced than there is")
	}
	if r.err != nil {
		return 0
	}
	return int(n)
}

func (r *cacheReader) text(most int) string { return string(r.raw(most)) }

// raw reads a length and as many bytes, valid until the next call.
func (r *cacheReader) raw(most int) []byte {
	n := r.count(1)
	if n > most {
		r.fail("text too long")
		return nil
	}
	return r.bytes(n)
}

func (r *cacheReader) hash() (h keys.Hash) {
	copy(h[:], r.bytes(len(h)))
	return h
}

func (r *cacheReader) fail(why string) {
	if r.err == nil {
		r.err = cacheErrorf("%s", why)
	}
	r.buf = nil
}

// writeCache writes the cache file as a whole: a crash leaves the old one or the new one, or a new one that its hashes refuse.
func writeCache(fsys durable.FS, mesh keys.MeshID, key *keys.SigningKey, h cacheHead, body func(*cacheWriter)) error {
	return durable.WriteFileFunc(fsys, cacheName, func(w io.Writer) error {
		c := &cacheWriter{w: w}
		body(c)
		return c.end(h, mesh, key)
	})
}
