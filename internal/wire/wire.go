package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

const (
	// MaxArray is the longest array any object may hold: the largest, an entry's ops, has 256.
	MaxArray = 512
	// MaxMap is the largest number of map pairs: no object has more than 32 fields.
	MaxMap = 64
	// MaxNesting is the deepest object: envelope, payload, list, op, list, value.
	MaxNesting = 8
)

// ErrNotCanonical means the bytes decode, but are not the one encoding of their value.
var ErrNotCanonical = errors.New("not in canonical CBOR form")

var encMode, decMode = modes()

func modes() (cbor.EncMode, cbor.DecMode) {
	eo := cbor.CoreDetEncOptions()
	eo.NilContainers = cbor.NilContainerAsEmpty
	eo.IndefLength = cbor.IndefLengthForbidden
	eo.TagsMd = cbor.TagsForbidden
	em, err := eo.EncMode()
	if err != nil {
		panic(err) // constant options: a programmer's error
	}
	dm, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		UTF8:              cbor.UTF8RejectInvalid,
		MaxNestedLevels:   MaxNesting,
		MaxArrayElements:  MaxArray,
		MaxMapPairs:       MaxMap,
		IntDec:            cbor.IntDecConvertNone,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return em, dm
}

// Marshal encodes v canonically. It fails only for values no meshkey object contains (channels, functions, invalid UTF-8).
func Marshal(v any) ([]byte, error) { return encMode.Marshal(v) }

// MustMarshal is Marshal for types of this program, whose encoding cannot fail.
func MustMarshal(v any) []byte {
	b, err := encMode.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("wire: encoding %T: %v", v, err))
	}
	return b
}

// Unmarshal decodes data into v, a pointer, and refuses everything but the canonical encoding of exactly one value.
// After an error the content of v is unspecified and must not be used.
func Unmarshal(data []byte, v any) error {
	if err := decMode.Unmarshal(data, v); err != nil {
		return err
	}
	again, err := encMode.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return ErrNotCanonical
	}
	return nil
}

// Kind reads the first element of a CBOR array, an unsigned integer, without decoding the rest: control bodies and ops are
// arrays that begin with their kind.
func Kind(data []byte) (kind uint64, err error) {
	if len(data) == 0 || data[0]&0xe0 != 0x80 {
		return 0, errors.New("not a CBOR array")
	}
	switch {
	case data[0] < 0x98:
		if data[0] == 0x80 {
			return 0, errors.New("empty array has no kind")
		}
		data = data[1:]
	case data[0] == 0x98 && len(data) > 2 && data[1] >= 24:
		data = data[2:]
	case data[0] == 0x99 && len(data) > 3:
		data = data[3:]
	default:
		return 0, errors.New("array header refused")
	}
	switch {
	case len(data) >= 1 && data[0] < 24:
		return uint64(data[0]), nil
	case len(data) >= 2 && data[0] == 0x18 && data[1] >= 24:
		return uint64(data[1]), nil
	}
	return 0, errors.New("kind is not a small unsigned integer")
}
