package session

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/sovereignmesh/meshkey/keys"
)

// half is one direction of a record stream under one key: an AEAD and the counter that is its nonce. Nothing else ever uses the
// key, so a nonce cannot repeat. It belongs to one goroutine at a time.
//
// What expands from a key has 768 bytes of AES-GCM. A stream holds that; a control session, of which a node may have hundreds that say
// a word in seconds, holds the key alone and expands it for each record, in a microsecond.
type half struct {
	aead    cipher.AEAD     // nil: expanded for each record
	key     keys.TrafficKey // only then
	brief   bool
	suite   keys.Suite
	counter uint64 // of the next record
	bytes   uint64 // sealed or opened under this key, headers included
	limit   uint64 // of bytes
	orphan  bool   // limit is that of a stream whose session ended
	nonce   [12]byte
}

// newHalf keys a direction. The nonce counter is 0 at each new key.
func newHalf(suite keys.Suite, k keys.TrafficKey) half {
	h := half{suite: suite}
	h.rekey(k)
	return h
}

// newBriefHalf keys a direction that carries few records.
func newBriefHalf(suite keys.Suite, k keys.TrafficKey) half {
	h := half{suite: suite, brief: true}
	h.rekey(k)
	return h
}

// rekey replaces the key and starts the counter again.
func (h *half) rekey(k keys.TrafficKey) {
	if h.brief {
		h.key = k
	} else {
		h.aead = expand(h.suite, k)
	}
	h.counter, h.bytes, h.limit, h.orphan = 0, 0, maxKeyBytes, false
}

// cipher returns what seals and opens the next record.
func (h *half) cipher() cipher.AEAD {
	if h.brief {
		return expand(h.suite, h.key)
	}
	return h.aead
}

func expand(suite keys.Suite, k keys.TrafficKey) cipher.AEAD {
	b := k.Bytes()
	defer clear(b)
	switch suite {
	case keys.SuiteAES:
		block, err := aes.NewCipher(b)
		if err != nil {
			panic(err) // impossible for 32 bytes
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			panic(err) // impossible for AES
		}
		return aead
	case keys.SuiteChaCha, keys.SuiteEnroll:
		aead, err := chacha20poly1305.New(b)
		if err != nil {
			panic(err) // impossible for 32 bytes
		}
		return aead
	}
	panic("session: unknown suite")
}

// setNonce writes 4 zero bytes || counter u64: big-endian for AES-GCM, little-endian for ChaCha20-Poly1305, as in Noise.
func (h *half) setNonce() {
	if h.suite == keys.SuiteAES {
		binary.BigEndian.PutUint64(h.nonce[4:], h.counter)
	} else {
		binary.LittleEndian.PutUint64(h.nonce[4:], h.counter)
	}
}

// room reports whether the key may take n more bytes.
func (h *half) room(n int) bool {
	return h.counter < maxKeyRecords && h.bytes+uint64(n) <= h.limit
}

// seal writes one record, header included, to the start of dst and returns its size. plain is type || body; it may be
// dst[headerSize:] itself, or memory apart from dst. dst must have room for headerSize + len(plain) + tagSize.
func (h *half) seal(dst, plain []byte) (int, error) {
	n := headerSize + len(plain) + tagSize
	if !h.room(n) {
		return 0, ErrKeyLimit
	}
	binary.BigEndian.PutUint16(dst, uint16(len(plain)+tagSize))
	h.setNonce()
	h.cipher().Seal(dst[headerSize:headerSize], h.nonce[:], plain, dst[:headerSize])
	h.counter++
	h.bytes += uint64(n)
	return n, nil
}

// open authenticates one whole record, header included, and appends type || body to dst, which is either record's own
// ciphertext space, record[headerSize:headerSize], or memory apart from it. The result is nil on error.
func (h *half) open(dst, record []byte) ([]byte, error) {
	if !h.room(len(record)) {
		return nil, ErrKeyLimit
	}
	h.setNonce()
	plain, err := h.cipher().Open(dst, h.nonce[:], record[headerSize:], record[:headerSize])
	if err != nil {
		return nil, ErrRecord
	}
	h.counter++
	h.bytes += uint64(len(record))
	return plain, nil
}
