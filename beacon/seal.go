package beacon

import (
	"cmp"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sovereignmesh/meshkey/keys"
)

// Nonce is the clear beginning of a datagram; it is drawn at random for each.
type Nonce [nonceSize]byte

// GenerationKey is the beacon key of one generation of the group secret.
type GenerationKey struct {
	Generation uint64
	Key        keys.BeaconKey
}

// Keys is every beacon key a node holds, immutable: seal with the newest, open with any.
type Keys struct {
	newestFirst []generation
}

type generation struct {
	number uint64
	aead   cipher.AEAD
}

// NewKeys collects keys of different generations, at least one. Beyond MaxKeys the oldest are left out.
func NewKeys(ks ...GenerationKey) (*Keys, error) {
	if len(ks) == 0 {
		return nil, errors.New("beacon: no key")
	}
	out := &Keys{}
	for _, k := range ks {
		if !k.Key.IsSet() {
			return nil, fmt.Errorf("beacon: generation %d: %w", k.Generation, keys.ErrUnset)
		}
		aead, err := chacha20poly1305.NewX(k.Key.Bytes())
		if err != nil {
			return nil, fmt.Errorf("beacon: generation %d: %w", k.Generation, err)
		}
		out.newestFirst = append(out.newestFirst, generation{k.Generation, aead})
	}
	slices.SortFunc(out.newestFirst, func(a, b generation) int { return cmp.Compare(b.number, a.number) })
	for i := 1; i < len(out.newestFirst); i++ {
		if out.newestFirst[i-1].number == out.newestFirst[i].number {
			return nil, fmt.Errorf("beacon: generation %d twice", out.newestFirst[i].number)
		}
	}
	out.newestFirst = out.newestFirst[:min(len(out.newestFirst), MaxKeys)]
	return out, nil
}

// Newest is the generation datagrams are sealed under.
func (k *Keys) Newest() uint64 { return k.newestFirst[0].number }

// recent is how many of the newest generations are tried on every datagram: the current and the previous one.
const recent = 2

func (k *Keys) hasOlder() bool { return len(k.newestFirst) > recent }

// Seal returns nonce || XChaCha20-Poly1305(newest key, nonce, AD = "meshkey/1 beacon", len u16 || envelope || zeros), padded to
// a multiple of BlockSize and to at least minBlocks of them.
func (k *Keys) Seal(nonce Nonce, envelope []byte, minBlocks int) ([]byte, error) {
	blocks := max((lengthSize+len(envelope)+BlockSize-1)/BlockSize, minBlocks, 1)
	if len(envelope) == 0 || blocks > MaxBlocks {
		return nil, fmt.Errorf("beacon: an envelope of %d bytes in %d blocks does not fit a datagram", len(envelope), blocks)
	}
	plain := make([]byte, blocks*BlockSize)
	binary.BigEndian.PutUint16(plain, uint16(len(envelope)))
	copy(plain[lengthSize:], envelope)
	out := make([]byte, nonceSize, Overhead+len(plain))
	copy(out, nonce[:])
	return k.newestFirst[0].aead.Seal(out, nonce[:], plain, []byte(keys.BeaconAD)), nil
}

// ErrSealed means that none of the keys opens a datagram, or that what it opens to is not in the one valid form.
var ErrSealed = errors.New("beacon: not sealed with a key of this mesh")

// Open opens a datagram with any generation and returns the envelope and the generation's number. It appends the plaintext to dst,
// into which the envelope points.
func (k *Keys) Open(dst, datagram []byte) (envelope []byte, generation uint64, err error) {
	if e, g, err := k.openRecent(dst, datagram); err == nil {
		return e, g, nil
	}
	return k.openOlder(dst, datagram)
}

func (k *Keys) openRecent(dst, datagram []byte) ([]byte, uint64, error) {
	return open(k.newestFirst[:min(recent, len(k.newestFirst))], dst, datagram)
}

func (k *Keys) openOlder(dst, datagram []byte) ([]byte, uint64, error) {
	if !k.hasOlder() {
		return nil, 0, ErrSealed
	}
	return open(k.newestFirst[recent:], dst, datagram)
}

// validSize reports whether a datagram has one of the four lengths there are.
func validSize(n int) bool {
	n -= Overhead
	return n > 0 && n <= MaxBlocks*BlockSize && n%BlockSize == 0
}

func open(gens []generation, dst, datagram []byte) ([]byte, uint64, error) {
	if !validSize(len(datagram)) {
		return nil, 0, ErrSealed
	}
	for _, g := range gens {
		plain, err := g.aead.Open(dst, datagram[:nonceSize], datagram[nonceSize:], []byte(keys.BeaconAD))
		if err != nil {
			continue
		}
		envelope, err := unpad(plain[len(dst):])
		if err != nil {
			return nil, 0, err
		}
		return envelope, g.number, nil
	}
	return nil, 0, ErrSealed
}

// unpad takes the envelope out of len u16 || envelope || zeros. Anything but zeros behind it is refused: nothing travels
// outside the signature.
func unpad(plain []byte) ([]byte, error) {
	if len(plain) < lengthSize {
		return nil, ErrSealed
	}
	n := int(binary.BigEndian.Uint16(plain))
	if n == 0 || n > len(plain)-lengthSize {
		return nil, ErrSealed
	}
	for _, b := range plain[lengthSize+n:] {
		if b != 0 {
			return nil, ErrSealed
		}
	}
	return plain[lengthSize : lengthSize+n], nil
}
