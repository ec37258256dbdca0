package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Major types of RFC 8949 §3.1, in the upper three bits of an item's first byte.
const (
	majorUnsigned = 0
	majorNegative = 1
	majorBytes    = 2
	majorText     = 3
	majorArray    = 4
	majorMap      = 5
	majorTag      = 6
	majorSimple   = 7
)

// The three simple values an object may hold.
const (
	simpleFalse = 20
	simpleTrue  = 21
	simpleNull  = 22
)

var (
	errTruncated = errors.New("CBOR item is cut short")
	errTrailing  = errors.New("bytes after the CBOR item")
)

// Check reports whether data is exactly one item in the dialect, whatever its type. It reads each byte once, allocates nothing and
// trusts no length field: a header's length is compared with the bytes that are there before anything else.
func Check(data []byte) error {
	if len(data) > MaxInput {
		return fmt.Errorf("CBOR of %d bytes, at most %d are read", len(data), MaxInput)
	}
	rest, err := checkItem(data, 0)
	if err != nil {
		return err
	}
	if len(rest) != 0 {
		return errTrailing
	}
	return nil
}

// checkItem checks the first item of data inside depth containers and returns what follows it.
func checkItem(data []byte, depth int) ([]byte, error) {
	major, arg, rest, err := header(data)
	if err != nil {
		return nil, err
	}
	switch major {
	case majorUnsigned, majorNegative:
		return rest, nil
	case majorBytes, majorText:
		if arg > uint64(len(rest)) {
			return nil, errTruncated
		}
		if major == majorText && !utf8.Valid(rest[:arg]) {
			return nil, errors.New("CBOR text is not UTF-8")
		}
		return rest[arg:], nil
	case majorArray, majorMap:
		if depth++; depth > MaxNesting {
			return nil, fmt.Errorf("CBOR nested deeper than %d", MaxNesting)
		}
		if major == majorArray {
			return checkArray(rest, arg, depth)
		}
		return checkMap(rest, arg, depth)
	case majorSimple:
		return checkSimple(data[0], rest)
	}
	return nil, errors.New("CBOR tag")
}

// header reads an item's first byte and its argument, which must be in its shortest form. For major type 7 the argument means
// something else and is not read.
func header(data []byte) (major byte, arg uint64, rest []byte, err error) {
	if len(data) == 0 {
		return 0, 0, nil, errTruncated
	}
	major, info := data[0]>>5, data[0]&0x1f
	data = data[1:]
	if major == majorSimple {
		return major, 0, data, nil
	}
	// Below 24 the argument is in the first byte; 24, 25, 26 and 27 announce 1, 2, 4 and 8 bytes; the others are reserved, and
	// 31 is an indefinite length.
	if info < 24 {
		return major, uint64(info), data, nil
	}
	if info > 27 {
		return 0, 0, nil, errors.New("CBOR header reserved or of indefinite length")
	}
	n := 1 << (info - 24)
	if len(data) < n {
		return 0, 0, nil, errTruncated
	}
	var wide [8]byte
	copy(wide[8-n:], data)
	arg = binary.BigEndian.Uint64(wide[:])
	least := [4]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]
	if arg < least {
		return 0, 0, nil, ErrNotCanonical
	}
	return major, arg, data[n:], nil
}

func checkArray(data []byte, n uint64, depth int) ([]byte, error) {
	if n > MaxArray {
		return nil, fmt.Errorf("CBOR array of %d items, at most %d", n, MaxArray)
	}
	var err error
	for range n {
		if data, err = checkItem(data, depth); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// checkMap wants keys strictly ascending in the order of their encodings (RFC 8949 §4.2.1), which also makes them unique.
func checkMap(data []byte, n uint64, depth int) ([]byte, error) {
	if n > MaxMap {
		return nil, fmt.Errorf("CBOR map of %d pairs, at most %d", n, MaxMap)
	}
	var last []byte
	for i := range n {
		rest, err := checkItem(data, depth)
		if err != nil {
			return nil, err
		}
		key := data[:len(data)-len(rest)]
		if i > 0 && bytes.Compare(last, key) >= 0 {
			return nil, ErrNotCanonical
		}
		last = key
		if data, err = checkItem(rest, depth); err != nil {
			return nil, err
		}
	}
	return data, nil
}

func checkSimple(first byte, rest []byte) ([]byte, error) {
	switch first & 0x1f {
	case simpleFalse, simpleTrue, simpleNull:
		return rest, nil
	}
	return nil, errors.New("CBOR float or simple value")
}
