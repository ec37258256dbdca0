package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// ErrNotCanonical means the bytes decode, but are not the one encoding of their value.
var ErrNotCanonical = errors.New("not in canonical CBOR form")

// Raw is an item kept as it was transported, for objects whose shape depends on what stands in them. [Unmarshal] has checked that it
// is one item of the dialect; what it means is checked when it is unmarshalled itself.
type Raw = cbor.RawMessage

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

// Marshal encodes v canonically. It fails only for values no meshkey object contains (channels, functions).
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
	if err := Check(data); err != nil {
		return err
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return err
	}
	// What Check cannot know is the type: the library reads null as any zero value and a byte string into an array of another
	// length, and a field that is absent when empty may be there. None of these comes out as it went in.
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
	major, n, rest, err := header(data)
	if err != nil {
		return 0, err
	}
	if major != majorArray || n == 0 || n > MaxArray {
		return 0, errors.New("CBOR is no array that begins with its kind")
	}
	major, kind, _, err = header(rest)
	if err != nil {
		return 0, err
	}
	if major != majorUnsigned || kind > MaxKind {
		return 0, errors.New("kind is not a small unsigned integer")
	}
	return kind, nil
}
