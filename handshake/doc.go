// Package handshake turns a TCP connection between two nodes into session keys: Noise XXpsk0+psk2 with ML-KEM-768.
//
// This comment is the specification of the bytes. The labels and derivations are those of package keys, the certificate and the
// binding those of package identity, the CBOR that of package wire.
//
// # Vocabulary
//
// The dialer (Noise initiator) sends message 1; the acceptor (responder) answers. A gate is psk0, derived from one generation of
// the group secret that every member holds: it keeps outsiders out before any asymmetric work, and proves nothing else. The
// identity of a peer is proved by its Noise static key together with the binding that the node's Ed25519 key signed for it.
//
// # Suites
//
// The first byte of the connection is the suite and fixes every primitive of the session:
//
//	0x01  Noise_XXpsk0+psk2_25519_ChaChaPoly_BLAKE2s   + ML-KEM-768
//	0x02  Noise_XXpsk0+psk2_25519_AESGCM_SHA256        + ML-KEM-768
//	0x11  as 0x01, psk0 from an invite: enrolment
//
// There is no suite without ML-KEM and no negotiation inside the handshake, so nothing can be downgraded. The suite is in the
// prologue. The dialer picks 0x02 if both ends have AES hardware. A new suite is a new first byte.
//
// # Messages
//
//	prologue = "meshkey/1" || 0x00 || suite || mesh_id(32) || responder node_id(32)
//	psk0     = KDF(S_g, mesh_id, "meshkey/1 gate")                      0x11: KDF(invite secret, mesh_id, "meshkey/1 invite")
//	psk2     = KDF(kem_ss, H("meshkey/1 kem" || ek || ct), "meshkey/1 psk2")
//
//	-> psk, e                M1 = suite(1) || e(32) || AEAD(P1)(1202)                               1235 bytes
//	                         0x11: suite(1) || invite_id(8) || e(32) || AEAD(P1)(1202)              1243 bytes
//	<- e, ee, s, es, psk     M2 = ct(1088) || e(32) || AEAD(s)(48) || AEAD(P2)(1040)                2208 bytes
//	-> s, se                 M3 = AEAD(s)(48) || AEAD(P3)(1040)                                     1088 bytes
//
//	P1 = 0x01 || flags(1) || ek(1184)                                                               1186 bytes
//	P2, P3 = len u16 big-endian || CBOR(len) || zeros                                               1024 bytes
//	CBOR = {1: certificate bstr, 2: binding bstr, 3: root_version, 4: digest bstr8, 5: group_gen, 6: flags, 7: time,
//	        8: conn_seq, 9: features}
//
// ek is an ML-KEM-768 encapsulation key fresh for this handshake, ct the encapsulation to it. ct travels in clear in front of the
// Noise message: psk2, which hashes ek and ct in, binds it to everything encrypted from then on, and ML-KEM itself hides whether a
// ct is genuine. Every message has exactly one size; there are no length fields outside the encryption.
//
// flags of P1: a responder ignores unknown bits 4 to 7 and is silent at unknown bits 0 to 3; version 1 knows none and sends 0.
// flags of P2 and P3 are sent as 0 and ignored. An unknown CBOR field is refused: growth is by features, whose intersection a
// session uses. time is the sender's clock in unix seconds. In an enrolment the certificate of P3 is empty and any other is
// refused; everywhere else it is required. All of field 3 to 9 is the proven peer's own word and authorises nothing.
//
// After message 3:
//
//	k1, k2 = Split()          k1: dialer to acceptor
//	h      = the Noise handshake hash, the session's channel binding
//	X_0    = KDF(k1 || k2, h, "meshkey/1 exporter")
//
// The first record under these keys is the acceptor's: READY, the key confirmation, or CLOSE with a code. Both belong to package
// session; the caller sends them.
//
// # The acceptor, in order
//
// Any failure closes the connection with zero bytes sent, and is counted under a [Reason].
//
//  1. the budget of connections (when accepted) and of handshakes per source, before anything is allocated
//  2. exactly M1, within 2 s of accept
//  3. the suite is known (looked at before 2 is read, whose size it fixes)
//  4. a gate opens M1: the current and the previous generation, then the older ones within 20/s in all and 1/s per source; or the
//     named invite does
//  5. its e is not among the last 4096 that opened
//  6. P1
//  7. a processor, of half of them, with a queue of 64; encapsulate; M2
//  8. exactly M3, within 5 s of accept
//  9. M3 opens
//  10. verify the peer
//
// The dialer: M1; exactly M2, all within 5 s; decapsulate, open; verify the peer; M3. It shows its identity only to the node it
// dialled.
//
// # Verify peer
//
// Mechanical, here, each with its [Reason]: the payload is in its one form, padding zero (payload); the binding is signed by the
// node it names, in this mesh (binding), for the static key this handshake proved, compared in constant time (static); the
// certificate is signed by the issuer it names, in this mesh (certificate), and names the same node (other-node); the node is not
// this one (self) and, for a dialer, the one dialled (not-dialled).
//
// By time, code 6: the binding is in force, the certificate has begun; both may be 300 s ahead of this clock. By policy, the
// caller's [VerifyFunc]: issuer, revocation, standing, sessions per node. A peer whose certificate has ended can only be given
// RenewOnly. A peer refused by time or policy is proved, so the acceptor finishes and returns [Result].Refused, to be sent as
// CLOSE inside the encryption; a dialer just closes, before it has shown who it is, and the acceptor of an enrolment does, too.
//
// # Rekey
//
// KKpsk0+psk2 inside the session, with the static keys of its handshake, generation g to g+1, ek and ct as above:
//
//	prologue = "meshkey/1 rekey" || 0x00 || mesh_id || h_g || u64(g+1)
//	psk0     = KDF(X_g, h_g, "meshkey/1 rk-psk")
//
//	-> psk, e, es, ss        R1 = 0x01 || e(32) || AEAD(ek)(1200)                  1233 bytes
//	<- e, ee, se, psk        R2 = 0x02 || ct(1088) || e(32) || AEAD("")(16)        1137 bytes
//	                         R3 = 0x03                                             1 byte
//
//	k1', k2' = Split(), h_{g+1} = the handshake hash, X_{g+1} = KDF(k1' || k2', h_{g+1}, "meshkey/1 exporter")
//
// Only the session's dialer starts one. R2 is the last record under its direction's old key, R3 under the other's; each side
// receives under the new key from the record after the one it has just read. R3 says only
// where the switch is: its record authenticates it, and who cannot compute g+1 can use it for nothing but ending the session.
//
// # Properties
//
// Proved symbolically (model/: ProVerif, unbounded sessions, malicious insiders, gate public): mutual authentication, forward secrecy,
// resistance to key compromise impersonation, secrecy of messages if only X25519 or only ML-KEM breaks later, and that a passive
// reader who later breaks X25519 and knows the gate learns neither certificate nor the dialer's static key. Outsiders get
// silence, and no DH is computed for them.
//
// # Non-properties
//
// Authentication is classical: Ed25519 and X25519. The acceptor's static key is visible to the reader just named; it is new with
// every binding. A thief of a node's static key can be that node until its binding ends, at most 24 h. The gate is no
// authentication: a revoked member still holds old gates and can make this node answer 20 messages 2 a second. Key material is
// erased as far as Go allows, which is not far. The dialer learns that it was refused only by the first record.
//
// # Limits
//
// All in limits.go. Memory before the peer is known is one pooled buffer of 8 KiB and the Noise state.
package handshake
