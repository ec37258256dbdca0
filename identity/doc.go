// Package identity holds the signed statements about nodes (certificate, binding, request, leave), the invite, the envelope they and every
// other signed object of the mesh travel in, and the names, tags and confirmation words people use for them.
//
// Everything here is pure: bytes in, values out, no clock, file or socket. Whether a statement counts is said elsewhere: an issuer's
// rights and revocations by package trust, the proof that a peer holds a key by package handshake.
//
// # Vocabulary
//
//	node id      Ed25519 public key of a node, 32 bytes: the only identity there is
//	issuer       Ed25519 public key that some root lists; another key than its host's node id
//	mesh id      H(payload of the genesis root); never zero in an object of this package
//	kid          the whole public key of a signer
//	times        unix seconds, 0 ≤ t ≤ 253402300799 (the end of year 9999)
//
// CBOR is the dialect of package wire, labels and signature inputs are those of package keys. Maps below are written {field: content};
// every field is present.
//
// # Envelope
//
//	[payload: bstr, sigs: [[kid: bstr32, sig: bstr64], …]]
//
// with 1 to 30 signatures, strictly ascending by kid. The transported payload bytes are what is signed and hashed, never a
// re-encoding. The id of an object is H(payload); it does not depend on the signatures, of which one key can make several.
//
// # Certificate, label cert, signed by the issuer it names
//
//	{1: mesh_id bstr32, 2: node_id bstr32, 3: serial u64 ≥ 1, 4: issuer bstr32, 5: not_before, 6: not_after,
//	 7: tags [text], 8: name text, 9: renew_until (0 = never by itself)}
//
// not_before < not_after. At most 602 bytes, which its fields at their widest have. Certificates are revoked and compared by node id or
// by (issuer, serial), never by a hash of signed bytes.
//
// # Binding, label binding, signed by the node it names
//
//	{1: mesh_id bstr32, 2: node_id bstr32, 3: x25519 bstr32, 4: not_before, 5: not_after, 6: boot_id bstr16}
//
// not_before < not_after ≤ not_before + 24 h. In force while not_before − 300 s ≤ now < not_after. x25519 is canonical (u < p, top bit
// clear) and not of small order. At most 249 bytes.
//
// # Request, label csr, signed by the node it names
//
//	{1: mesh_id bstr32, 2: node_id bstr32, 3: name text, 4: tags [text], 5: nonce bstr32}
//
// nonce is the channel binding of the session it is sent in. Name and tags are wishes. At most 562 bytes.
//
// # Leave, label leave, signed by the node it names
//
//	{1: mesh_id bstr32, 2: node_id bstr32, 3: nonce bstr32}
//
// nonce is the channel binding of the session it is sent in. 211 bytes.
//
// # Names and tags
//
// A name (of a node, mesh or service) is one DNS label: 1 to 63 of a-z 0-9, hyphens inside. A tag is 1 to 32 of a-z 0-9, inside also
// - _ . and colon. Tags of one object are strictly ascending, at most 16, at most 256 bytes together. All are ASCII in lower case, so
// look-alikes, control characters and bidirectional text cannot exist.
//
// # Invite
//
//	text = "mk1i" || base32(body || H("mk1i" || body)[:4])         RFC 4648 alphabet in lower case, no padding, unused bits zero
//	body = {1: mesh_id bstr32, 2: invite_id bstr8, 3: secret bstr32, 4: root_version u64 ≥ 1, 5: root_hash bstr32,
//	        6: heads [[issuer bstr32, seq u64 ≥ 1, hash bstr32], …] ≤ 8, strictly ascending by issuer,
//	        7: endpoints [[ip bstr4 | bstr16, port u16], …] 1 to 8, 8: issuer's node_id bstr32, 9: expiry, 10: name text}
//
// An endpoint is a unicast address, IPv4 in 4 bytes, with a port; a zone is never written. The body has at most 1033 bytes. White space
// in the text is ignored. The four check bytes tell a mistyped invite from a foreign one; they authenticate nothing. The text is a bearer
// secret: whoever has it before it is used or expired is enrolled in its place.
//
// # Confirmation words
//
// Word i (i = 1, 2, 3) is entry h[i−1] of a fixed list of 256, for h = H("meshkey/1 words" || channel binding) in an enrolment and
// h = H("meshkey/1 csr-words" || H(payload)) for a request in a file. 24 bits compared by people once.
//
// # Properties and what they are not
//
// What parses re-encodes to the same bytes; on error every other result is nil. Parse functions verify signatures: a value of type
// SignedCertificate, SignedBinding or SignedCSR was signed by the key it names, in the mesh asked for, and obeys every rule above. It does
// not say that the issuer may issue, that the certificate is logged, in force or not revoked, nor that the sender holds any key. Keys are
// checked with keys.CheckPublicKey when parsed.
//
// # Versioning
//
// Objects are strict: an unknown field refuses the object. A field can only be added under a new label or, for the invite, a new prefix.
package identity
