// Package beacon announces a node on its links and hears the others: signed-then-sealed datagrams, the checks on what is
// received, the schedule of what is sent, and the sockets.
//
// # Vocabulary
//
// An [Announcement] is what a node says of itself. Its envelope (package identity) is the announcement signed by that node; the same
// bytes are forwarded over sessions as the node's peer record. A datagram is an envelope sealed with a key of the mesh. A [Heard]
// is an announcement that passed every check. A probe is a unicast beacon that asks for one unicast beacon in return; a
// solicitation is a broadcast that asks some of its hearers for one each.
//
// A beacon changes hints only: where a node may be reached, and that it was there a moment ago. Nothing is authorised, closed or
// resolved by one.
//
// # Bytes
//
// Integers are unsigned and big-endian; CBOR is the strict dialect of internal/wire.
//
//	datagram  = nonce(24, random) || XChaCha20-Poly1305(K_beacon[g], nonce, AD = "meshkey/1 beacon", plaintext)
//	plaintext = len u16 || envelope(len) || zeros, to 256, 512, 768 or 1024 bytes
//	datagram length = 40 + 256·k, k = 1..4
//	K_beacon[g] = KDF(S_g, mesh_id, "meshkey/1 beacon")       S_g is generation g of the group secret
//	envelope  = [payload: bstr, [[kid: bstr32, sig: bstr64]]]   exactly one signature, label "beacon", kid = field 1
//	payload   = {
//	   1: node_id bstr32       who; the key that signed
//	   2: epoch u64            one per start of the daemon: max(persisted + 1, unix seconds), durable before it is used
//	   3: counter u64          one per announcement within the epoch, from 1
//	   4: time_ms u64          unix milliseconds on the sender's clock
//	   5: endpoints            [[ip: bstr4 | bstr16, port u16], ...], at most 8: where to dial, the best first
//	   6: digest bstr8         of the trust vector (protocol §7)
//	   7: flags u64            1 probe, 2 reply, 4 solicit, 8 AES hardware, 16 renews certificates; other bits are ignored
//	   8: group_gen u64        equal to the g it is sealed under
//	   9: interval_ms u64      to the sender's next beacon; clamped to 5..60 s by the receiver
//	  10: boot_id bstr8        the first eight bytes of the binding's
//	  11: port u16             the sender's own UDP port, not 0
//	}                          at most 900 bytes; with every field at its maximum 290
//
// An endpoint is a unicast IP literal with a port: not unspecified, multicast, 255.255.255.255 or an IPv4-mapped address. Probe and
// reply never stand together. A datagram that asks (probe, solicit) has k ≥ 2, which fits every payload of this version, so that
// its answer is never longer than it. All bytes behind the envelope are zero.
//
// A node's health summary is an object of its own, which travels beside its record and never in a datagram:
//
//	envelope = [payload: bstr, [[kid: bstr32, sig: bstr64]]]    exactly one signature, label "health", kid = field 1
//	payload  = {
//	   1: node_id bstr32
//	   2: time_ms u64          unix milliseconds on the node's clock
//	   3: summary bstr         1..768 bytes; a heartbeat (package session) with its health alone, opaque here
//	}
//
// It is believed from two minutes before its time on and for a day after it, shown with its age, and is no sign of life.
//
// # Versioning
//
// The payload is a signed object: an unknown field is refused. New meaning comes as a flag bit, which this version ignores, or as a
// datagram that no key of this version opens.
//
// # Receiving
//
// [Receiver] checks in this order, and counts each drop by its reason ([Drop]):
//
//  1. length (size)
//  2. bucket of the source address, 20/s burst 40 (source_rate); of all sources, 2000/s (global_rate). A source is an IPv4
//     address, a link-local IPv6 address or an IPv6 /64. A datagram that no key opens gets nine tenths of its charge back
//  3. opens with the current or previous key, or with an older one under 50/s (sealed, older_rate)
//  4. one canonical announcement whose group_gen is the key's generation (malformed)
//  5. not our own (own), not of a revoked node (revoked)
//  6. (epoch, counter) above the newest verified one (replay)
//  7. bucket of source and node id, 1/s burst 5 (pair_rate)
//  8. Ed25519 under a canonical key of large order (signature); then (epoch, counter) is stored, for 10 minutes after the last
//     beacon, and the node's bucket charged, 2/s burst 6 (node_rate)
//  9. Known says whether the node is enrolled: peer table or candidate table, the caller's to keep
//  10. interval clamped; ClockSkew if its clock is more than 120 s off: a hint, but no presence. [Heard.Dialable] lists the signed
//     endpoints only, with the interface as zone of link-local ones, and loopback ones only if it came from loopback
//
// A probe counts only on the daemon's own unicast port, a solicitation only on the shared one. Either is answered (the caller
// sends, after [Receiver.Answer] allowed it) only if it is not skewed and has k ≥ 2, once a second per source and 100
// times a second in all. A reply is never answered. State per stranger is bounded: 4096 sources, 4096 pairs, 256 unknown nodes.
//
// # Sending
//
// [Schedule]: a burst at 0, 1 and 2 s, each + U(0, 250 ms), the first of them soliciting; then every I × U(0.8, 0.98), I = 5 s unless
// stretched; the last fiftieth is left to the lateness of timers, so that gaps on the wire lie in 0.8..1.0 I. [Announcer] signs
// and seals. [Sockets] sends each datagram to the directed broadcast address of every IPv4 prefix of every interface
// (255.255.255.255 if there is none or it fails), and to ff02::6d6b on every interface with a finished IPv6 link-local
// address. The shared port is 7477; sends come from the daemon's own port.
//
// With LoopbackOnly the sockets are 127.255.255.255:7477 and 127.0.0.1 only, and beacons go to 127.255.255.255.
//
// # Properties
//
// Outsiders see random bytes of four lengths at a steady rate; they learn that a mesh daemon runs here, and how many. Sealing is
// privacy and a cheap filter, never authentication: every member, and every former member for its generations, holds the key. The
// signature, with the mesh id in its input, is what makes an announcement the node's, and keeps it from being re-sealed into
// another mesh. A recorded datagram is worthless while its node is heard; 10 minutes after, it is at most a skewed hint.
//
// # Non-properties
//
// The source address is not authenticated: on a link anybody can forge it, and repeat a beacon from elsewhere before the
// true one arrives. So a beacon never closes anything, and a dial succeeds only with the expected key. Members see each other's
// addresses, boot ids and trust digests. A beacon does not prove that its sender is not revoked: the receiver's log does.
package beacon
