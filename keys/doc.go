// Package keys holds the key types, signature labels, key derivations, text forms and sealed key files every other package builds on.
// It is the only package that makes signature inputs, KDF inputs and prologues, so its registry (label.go) is the whole list of domains.
//
// # Conventions
//
// Integers are unsigned, fixed-width ones big-endian; || is plain concatenation; texts are ASCII without terminator; u8, u64 are 1 and 8
// bytes. H is SHA-256. KDF(ikm, salt, info) is HKDF-SHA256 (RFC 5869) with 32 bytes of output; an empty salt is 32 zero bytes. CBOR is the
// dialect of package wire.
//
// # Signatures
//
// Ed25519 (RFC 8032, without prehash or context). The signature input is
//
//	"meshkey/1 " || label || 0x00 || mesh_id(32) || payload
//
// with one of the labels root, entry, head, cert, binding, beacon, csr, rotate, receipt, witness, audit, cache, health, leave. The mesh id is 32 zero bytes for
// a genesis root and nothing else. No label is a prefix of another and none contains 0x00, so an input belongs to one label. Signed notes
// of the audit log have an input of their own (C2SP signed-note), which begins with the log's origin "meshkey/" and eight hexadecimal
// digits: no signature input begins so, for its ninth byte is "1" followed by a space.
//
// A public key is refused when it is first seen ([CheckPublicKey]) if it is not a point of the curve, not in canonical form (y < p; no sign
// with x = 0), or one of the eight points of small order, under which one signature verifies for many messages. [PublicKey.Verify] refuses
// the last two by itself. S is canonical, as crypto/ed25519 demands.
//
// # Derivations
//
//	K_gate[g]     psk0 of the handshake     KDF(S_g, mesh_id, "meshkey/1 gate")
//	K_beacon[g]   seals beacons             KDF(S_g, mesh_id, "meshkey/1 beacon")       AD of the seal: "meshkey/1 beacon"
//	commitment    of S_g in the log         H("meshkey/1 group" || mesh_id || u64(g) || S_g)
//	psk0          of an enrolment           KDF(invite secret, mesh_id, "meshkey/1 invite")
//	psk2          from ML-KEM-768           KDF(kem_ss, H("meshkey/1 kem" || ek(1184) || ct(1088)), "meshkey/1 psk2")
//	X_g           exporter                  KDF(k1 || k2, h_g, "meshkey/1 exporter")    k1: dialer → acceptor
//	psk0          of rekey g → g+1          KDF(X_g, h_g, "meshkey/1 rk-psk")
//	tag           of a stream               KDF(X_g, "", "meshkey/1 stream tag" || 0x00 || u8(role) || u64(counter))[:16]
//	K_g           of a stream direction     KDF(X_g, "", "meshkey/1 stream key" || 0x00 || u8(role) || u64(counter) || u8(dir))
//	K_{g+1}       of a stream direction     KDF(X_{g+1}, K_g, "meshkey/1 stream rekey")
//	prev(seq 1)   of an issuer's chain      H("meshkey/1 chain" || mesh_id || issuer)
//	words         of an enrolment           H("meshkey/1 words" || h_0)
//	words         of a request file         H("meshkey/1 csr-words" || H(payload))
//	nonce         of a request file         H("meshkey/1 csr-key" || HPKE public key(1216))
//
//	handshake prologue      "meshkey/1" || 0x00 || u8(suite) || mesh_id || responder node_id
//	rekey prologue          "meshkey/1 rekey" || 0x00 || mesh_id || h_g || u64(g+1)
//	info of an answer       "meshkey/1 response" || 0x00 || mesh_id || H(payload of the request)
//
// The last is the info of HPKE (RFC 9180, base mode) with MLKEM768-X25519, HKDF-SHA256 and ChaCha20-Poly1305, which seals the answer to
// a request that travels as a file.
//
// role is 0 for streams opened by the dialer of the control session, 1 for its acceptor's; dir is 0 from the sender of S1, 1 to it. No info
// is a prefix of another; the rekey's PSK is therefore not called "rekey psk". testdata/vectors.json has one value of each, computed by a
// second implementation (testdata/vectors.py).
//
// # Text form of a node id
//
// 35 bytes = node_id || H("meshkey/1 node-check" || node_id)[:3], most significant bit first in Crockford's base32 (0-9 A-Z without I L O U):
// 56 characters in 7 groups of 8. Each group is written XXXX-XXXX-C, where C is the character of value Σ i·v_i mod 31 (i = 1..8), joined by
// " · " for people ([NodeID.String]) or "." for machines ([NodeID.Compact]). Reading ignores case, spaces, tabs, dots, middle dots and
// hyphens and takes O for 0, I and L for 1. One wrong character, or two neighbours swapped, is found in its group (0 for Z only by the
// checksum); anything else passes with probability 2⁻²⁴. The short form, three groups, is for the eye; as input it
// is a beginning of an id ([NodePrefix]): at least 9 characters, whole groups with their check character, and whoever looks it up refuses one
// that fits several ids.
//
// # Key files
//
// A key file is a binary age file (age-encryption.org/v1) whose plaintext is the map
//
//	{1: version = 1, 2: kind "root" | "issuer" | "node" | "group" | "request", 3: mesh_id bstr32, 4: generation u64, 5: secret bstr32}
//
// The secret is the Ed25519 seed (RFC 8032 §5.1.5), S_generation, or the seed of an HPKE key. It is sealed to a passphrase (scrypt, 2¹⁸), to the age identity in a
// file of this host, or to age recipients, X25519, post-quantum or of a plugin. An identity file is the text file of age-keygen, or
// lines AGE-PLUGIN-… of plugins. A plugin is a program age-plugin-NAME in the PATH; NAME is 1 to 32 of a-z 0-9 and inner hyphens and
// stands in a list of this host ([NewPlugins]): no file of anybody else can start one. A reader refuses other
// versions and kinds, a zero mesh id, files open to other users, and scrypt work above 2²⁰. Files are written by internal/durable: mode
// 0600, whole or not at all, never over another file but by [Reseal], which writes NAME.reseal, opens it, compares, and renames it.
//
// # Lines of public keys
//
// A new root or issuer key is told to those who change the root as
//
//	"meshkey-" kind "-key/1 " mesh id in hexadecimal " " name " " key in the compact text form of a node id       kind: root, issuer
//
// # Properties and what they are not
//
// Secrets are types that cannot be empty, compared with ==, printed, logged or encoded; using one that was never set panics, it does not
// yield a weak key. They do not protect against code in the same process, and memory is not wiped: Go copies values as it likes.
//
// age authenticates no sender: whoever can write the directory and knows the recipient can put another key there. Callers compare the
// public key or the commitment with what they know. An identity file on the same disk protects copies and backups of the key files, not
// the disk. A passphrase protects as much as it is hard to guess.
//
// CheckPublicKey does not refuse points with a component of small order besides a large one: only the holder of the private key can make
// them, and every byte string is its own identity.
//
// # Versioning
//
// Every byte above belongs to version 1, which every label and info names. Another meaning gets another text.
package keys
