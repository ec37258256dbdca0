// Package mesh runs a node: it composes handshake, session, beacon, trust and audit, and implements no protocol of its own.
//
// # Vocabulary
//
//   - core: the deterministic state machine of package [github.com/sovereignmesh/meshkey/mesh/core]. It decides.
//   - shell: this package. It owns sockets, clocks and goroutines, feeds the core events and carries its effects out.
//   - link: one control session as the shell holds it.
//   - stream: one service connection, on a TCP connection of its own. [Conn] is what programs see.
//
// # Goroutines
//
// [Node.Run] starts all of them and returns after all have ended: one loop that owns the core; one that accepts TCP connections, and one for
// each accepted connection, which becomes the stream's server or ends with the handshake, as one per dial does; one per link that waits
// for a record, reads it and leaves the waiting for the next to a fresh goroutine, so that the stack of an idle session is as small as
// one can be; a writer per link while something is to be written; the beacon sockets' readers; the interface monitor; housekeeping. The
// core never waits for any of them: control records are queued, and a peer that does not take its own is cut off.
//
// # The opening of a stream, on the destination
//
//	first byte 0x20 → tag → the session's own READY is full → the stream joins its peer's set
//	→ decide, noting the sweep count → audit record durable, while the service prepares (dials its target)
//	→ under the set's lock: still in the set, and no sweep since the decision; else decide again → ACCEPT → serve
//
// Sweeps run on every change of trust, at the next moment the passing of time changes an answer, and every five seconds. A sweep
// first counts itself, then judges every stream of the sets. So a stream is either in a set when the sweep looks, or sees that a sweep came
// and decides again: none slips between. No byte of the peer reaches a service before ACCEPT.
//
// # Streams and sessions
//
// A stream belongs to a peer's node id and boot id. It outlives its control session as long as a full session with the same node
// and boot exists, or for 30 seconds without one. A revoked or expired peer, a withdrawn grant or service, and another boot id reset
// it at once.
//
// A stream on its way over a session that has just lost against a duplicate is taken, for it joins the peer; over a session that ended
// for another reason it is reset without an answer, and the opener tries another. What a session is told because it became full
// (services, the group secret, peer records) follows the READY that allows it, and the receiver looks at it only when its core
// has seen that READY.
//
// # New keys
//
// The keys of a session and of its streams are replaced in band (rekey.go) every two minutes if data moved, every quarter of an hour if
// none did, and after 64 GiB under one key: by the session's dialer, or because its acceptor asked, which counts once in 30 s. A peer that
// does not offer it gets a successor of the session, make before break. Keys that were due for a minute end the session.
//
// # Connections kept ready
//
// A peer to which streams are opened has 2 to 4 connections parked (warm.go), which are closed after 60 s without use. A peer that dialled the
// session and cannot be dialled is asked by DIAL: it connects to the address it dialled the session at, never to one a message names,
// with up to 4 connections for each of 8 DIALs a second. A parked connection gives no right: its OPEN is decided as any other.
//
// # Enrolment
//
// [Join] is the newcomer's side. It authenticates the mesh by the invite before it sends anything of itself: the issuer proves the
// invite's secret and the node key the invite names, and the trust log must lead from the mesh id to that node's membership. The
// issuer's side is one transaction of internal/enroll, recorded in the audit log before it has any effect. It serves 16 newcomers at a
// time, 4 of one host and 8 of one invite, each for 30 seconds and, while a person there is asked, three minutes; those beyond are closed with code 9.
// Meanwhile it lists them with the words of their sessions (Node.Newcomers), so that two people can compare before one says yes. A newcomer
// that closes normally in place of its request has said no, which is recorded; what it does not believe it closes as a protocol error.
//
// # A member's own key
//
// [Node.AskRotation] and [Node.AskLeave] ask an issuer over a session, with a signature that is good in this session only; who issues is what
// beacons claim, so an answer is believed as far as it proves itself: a rotation by the enrolment that follows, a leave by the entry that
// revokes. The answer to LEAVE goes out when the entry is durable and before it cuts the session. Both are offered by a feature bit, so that
// an older issuer is not asked.
//
// # Limits
//
// See limits.go. A peer may open 5,000 streams a second. After 50 denied in a second its opens, granted or not, are refused with
// code 9 and without a decision until the budget refills; they are counted in the audit log with the denials. Of the peer records and
// health summaries of a session 256 are looked at, and then 80 a second.
//
// # Files
//
// pins holds the node each name meant at its first use. A name that means another one is refused ([PinError]) unless signed rotations lead
// there, or the old key is revoked and the enrolment is by this node's own issuer; [Node.AcceptName] is a person's decision. known holds, for at most 256 members, where they were last reached and what
// they announced, and the anchor: [1, mesh_id, anchor bstr32 (zero: none), [[node_id, [[ip bstr4|bstr16, port, good]]]]], good being
// unix seconds of the last handshake with the expected key there, or 0. It is written at most every five minutes, and at the stop; one
// that is damaged, of another mesh or another format is told in the log and passed over.
//
// # Properties and non-properties
//
// Identity is only the key proven in the handshake; name and tags come from the log. Beacons and peer records are address hints: a
// wrong one costs a failed dial. One that is told, or was made at an unknown time, counts only if it is newer than all others of its
// node. A peer's health, services and digest are its own word, and nothing is decided by them. Health of members without a session
// comes by way of others, signed by the member, and is shown with the time at which that was said; it is no presence. The package does not protect against
// the owner of the process, nor does it hide from a member that it is a member.
package mesh
