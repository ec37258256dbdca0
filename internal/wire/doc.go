// Package wire is the one CBOR dialect of meshkey: RFC 8949 §4.2.1 core deterministic encoding, decoded strictly. Everything a peer,
// a file or an invite can contain is written by [Marshal] and read by [Unmarshal].
//
// # The dialect
//
// An input is exactly one item with nothing after it, at most [MaxInput] bytes. An item is
//
//	unsigned or negative integer    argument in its shortest form
//	byte string                     definite length
//	text string                     definite length, valid UTF-8
//	array                           definite length ≤ MaxArray
//	map                             definite length ≤ MaxMap; keys strictly ascending in the byte order of their encodings
//	false, true, null               one byte
//
// nested at most [MaxNesting] deep. There are no tags, no floats, no undefined and no other simple values. A Go value is written
// by these rules: struct with field numbers ("keyasint") is a map with integer keys, struct marked "toarray" an array, [N]byte
// and []byte a byte string, a nil slice or map an empty one.
//
// # Properties
//
// Unmarshal accepts one byte string per value and Go type, and Marshal returns that byte string: what parses re-encodes
// identically. It is shown in two steps that do not trust each other: [Check] walks the bytes and knows no Go type; then the
// library decodes them, with unknown struct fields and duplicate keys refused, and the result is encoded again and compared. The
// library alone accepts integers that are not in shortest form, null for any type, and byte strings of a wrong length.
//
// No allocation is larger than a small multiple of the bytes received: lengths are compared with what is there first.
//
// # Non-properties
//
// Meaning is the caller's: ranges, sorting of lists, required fields (an absent field reads as its zero value unless the type says
// otherwise, and re-encodes as present, so for a type without omitempty every field is required). After an error the target may be
// partly written. Signatures are made and verified over transported bytes, never over a re-encoding, although both are equal here.
package wire
