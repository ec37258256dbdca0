// Package wire is the one CBOR dialect of meshkey: RFC 8949 §4.2.1 core deterministic encoding, decoded strictly.
//
// Everything a peer, a file or an invite can contain is read by [Unmarshal]. It accepts exactly one byte string per value:
// definite lengths, shortest integers, sorted map keys, no tags, no floats beyond what the target type asks for, valid UTF-8,
// no unknown struct fields, no duplicate keys, nothing after the value. The library underneath accepts integers that are not
// in shortest form, so the rule is enforced at the end in the only way that cannot miss a case: the decoded value is encoded
// again and must give the same bytes.
//
// Bounds: nesting 8, arrays [MaxArray], maps [MaxMap]. The caller bounds the total length before calling, so an allocation is
// never larger than a small multiple of bytes already received.
package wire
