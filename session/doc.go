// Package session carries everything after the handshake: control records on the session's own connection, and streams, each a TCP
// connection of its own that is upgraded with keys of the session. It knows neither handshake nor trust: it is given traffic keys
// and an exporter, and asks nobody whether a stream is allowed.
//
// # Vocabulary
//
//	session     two nodes, one connection, the keys a handshake or rekey gave: [keys.Session]
//	dialer      the side that dialled the control session; the other is its acceptor ([keys.Role])
//	generation  0 after the handshake, one more with each rekey; each has an exporter X_g
//	ring        what makes tags and keys of a session's streams: [Keyring]
//	opener      who sent S1 on a stream connection; requester: who sent OPEN; destination: who answers it
//	hole        a counter that was overtaken by a higher one and may still come
//
// All integers are big-endian but the nonce of ChaCha20-Poly1305. CBOR is the dialect of internal/wire: one encoding per value.
//
// # Records
//
//	record = len u16 || AEAD(type u8 || body)        AD = len; len counts the bytes that follow, tag(16) included
//	nonce  = 4 zero bytes || counter u64             big-endian for AES-256-GCM, little-endian for ChaCha20-Poly1305
//	counter 0 at each new key, then 1, 2, …; one key per direction
//
//	control  len 17..65535   k1 dialer → acceptor, k2 back
//	stream   len 17..16401   that is at most 16,384 bytes of data
//
// The first record that does not authenticate closes the connection. A key stops at 128 GiB or 2^33 records.
//
// # Control records
//
//	1 control    a control body
//	2 rekey      a message of the in-band rekey, opaque here
//	3 heartbeat  a heartbeat, or padding: empty or all zeros
//	4 close      [code], the last record of its direction
//
// A connection that ends without type 4 is truncated: [ErrTruncated]. Types 0 and 5..127 are protocol errors; from 128 on they are
// ignored and counted, and so are unknown kinds and heartbeat keys from 128 on, so that later versions can add some without a
// flag day.
//
// Control bodies are arrays [kind, …], each a canonical encoding:
//
//	 1 READY       [1, state 1..5, unsynced 0|1]      12 CERT_UPDATE [12, certificate bstr]
//	 2 VEC         specified by trust                 13 RENEW       [13, request bstr]
//	 3 WANT        specified by trust                 14 DIAL        [14, n 1..4]
//	 4 ROOT        specified by trust                 15 SKIP        [15, counter]
//	 5 ENTRY       specified by trust                 16 PEER        [16, beacon envelope bstr]
//	 6 EVIDENCE    specified by trust                 17 FIND        [17, node id bstr32, hops 0..3]
//	 7 HEAD        specified by trust                 18 RECEIPT     [18, envelope bstr]
//	 8 HASH_AT     specified by trust                 19 GOAWAY      [19, code]
//	 9 ACK         [9, n ≥ 1]                         20 REKEY_ASK   [20]
//	10 GROUP_GET   [10, generation]                   21 SERVICES    [21, seq, [service] by name]
//	11 GROUP       [11, generation, secret bstr32]    22 WITNESS     [22, message bstr]
//
// and of those that a version which does not know them ignores:
//
//	128 HEALTH     [128, health envelope bstr]        specified by beacon; only on a session that is full
//
//	service = [name, proto, state 1 up | 2 down | 3 draining, since, reason]
//
// and, only in an enrolment session (suite 0x11, which has no READY and else carries only 2..7 and 9):
//
//	23 ENROLL  [23, request bstr]
//	24 GRANTED [24, certificate bstr, group generation, group secret bstr32, [beacon envelope bstr]]
//	25 PENDING [25]       to the newcomer: a person decides; from it: what became of the request made before?
//	26 REFUSED [26, code]
//
// and, with feature 4, between a member and a node that issues:
//
//	27 ROTATE   [27, request bstr, signature bstr64]     the member's name shall pass to the key that made the request
//	28 ROTATION [28, code, invite bstr]                  code 0: the invite by which the new key enrols; else the bstr is empty
//	29 LEAVE    [29, envelope bstr]                      the member shall be revoked
//	30 LEFT     [30, code, entry bstr]                   code 0: it is, by this entry of the log; else the bstr is empty
//
// A heartbeat is a map; fields that are zero are absent:
//
//	{1: health, 2: degree, 3: trust digest bstr8, 4: ping, 5: pong}
//	health {1: seq, 2: version, 3: uptime s, 4: load ×100, 5: disk free B, 6: clock drift ms (signed), 7: certificate expiry s,
//	        8: audit 1 healthy | 2 degraded, 9: audit size, 10: audit root hash bstr32, 11: time ms}        ≤ 512 B
//
// The receiver of a ping sends the number back as pong at once.
//
// # Features
//
// Optional parts are bits both sides offered in the handshake: 1 the in-band rekey, 2 parked connections and DIAL, 4 the
// kinds 27 to 30, 8 AES-256-GCM for streams, which else have the session's suite. Bits this version does not know are never used.
//
// # States
//
// READY is the first control body of each direction and is sent again on every change. States 1 sync only, 2 restricted and
// 3 renew only are below 4 full; then come 5 draining and closed. Below full a session carries only what the table in state.go
// allows, lives 30 s and receives 4 MiB. Streams are opened only while both sides are full. There is no step back.
//
// # Streams
//
//	S1      = 0x20 || tag(16) || record 0            record 0 ≤ 512 B with its len; complete 2 s after accept
//	role    0 the session's dialer sent S1, 1 its acceptor did       dir 0 from the sender of S1, 1 to it
//	counter u64 per (session, role), from 0, never given out twice, not reset by a rekey
//	tag     = KDF(X_g, "", "meshkey/1 stream tag" || 0x00 || role u8 || counter u64)[:16]
//	K_g     = KDF(X_g, "", "meshkey/1 stream key" || 0x00 || role u8 || counter u64 || dir u8)
//	K_{g+1} = KDF(X_{g+1}, K_g, "meshkey/1 stream rekey")            per direction; nonce back to 0
//
//	0 data    bytes                    may follow OPEN at once, ≤ 64 KiB before ACCEPT
//	1 OPEN    [service, flags]         or ["!relay" | "!relay-in", node id bstr32]
//	2 ACCEPT  []                       3 REFUSE [code, audit index]
//	4 EOF     []                       5 RESET  [code]
//	6 REKEY   [generation]             7 WARM   [reverse 0|1]
//
// Record 0 is OPEN or WARM. A destination answers OPEN with ACCEPT or REFUSE, and WARM with the same WARM or REFUSE; then the
// connection is parked until the requester, the opener or on a reverse connection the other side, sends OPEN. Before the answer a destination reads
// nothing behind OPEN: early data stays in the kernel, whose window before the first read is about 64 KiB.
// An opener sends at most 4 KiB early, in one write with OPEN. After REFUSE or RESET it may send the same with another OPEN; without an
// answer it never does.
//
// EOF is the last record of its direction; the other direction goes on. RESET ends both. What follows EOF, a type below 128 out of
// its place, a malformed body and an impossible len end the stream with RESET{8}. A TCP end without EOF or RESET is a
// truncation, an error to the application. Every reset also sends RST.
//
// REKEY{n} is sealed under the old key of its direction; all that follows is under K_n. n may pass generations over. A sender puts
// it before its next record after its switch, and sends it alone when 16 generations are unannounced; a receiver keeps at most 64
// keys for generations to come. A parked connection is not rekeyed: its opener closes it.
//
// When its session ends a stream keeps its last key, for 64 GiB more in each direction and at most 24 h; what is parked is closed.
//
// # Accepting
//
// One table maps every valid tag of every session to its ring. Per ring the tags of the next 32 counters are valid; each open of the
// last 10 to 20 s adds 4, up to 4096. Holes stay valid 10 s, at most 4096 of them. SKIP{counter} makes a counter invalid and
// moves the window behind it; further ahead than the window reaches, only the 32 counters before it become holes. A tag is used up,
// atomically and in all generations, after record 0 opened under its key. An unknown or used tag gets a closed connection and not one
// byte. Connections overtake each other, so for addresses that have a full session a tag the window has not reached yet is
// waited for until S1's deadline (patient, in [ReadS1]), by at most 4096 connections in all. Tags of generation g are erased 10 s
// after g+1 is in use on both sides, those of a session that lost to a duplicate 5 s after its end.
//
// # Buffers
//
// All buffers come from pools of four sizes, and none is held while nothing is on its way: idle streams wait for readiness, and
// an idle control session waits for the two bytes of a length ([Control.Await]), which takes next to no stack. A stream gathers up to 16 records, 256 KiB, per read and writes them with one write; when 8 MiB are out it gathers
// 4 records, from 24 MiB on one. Sealing and opening a stream's records allocate nothing; a control record costs what its key expands to,
// which nothing holds between records.
//
// # Not properties
//
// The package does not decide who may open what, does not limit opens per peer, does not watch for silence and sends no heartbeat
// by itself: the mesh does. Sizes and times of records are visible outside, and so is that 0x20 begins a stream. RESET and CLOSE
// are told only if the socket takes them without waiting; RST comes in any case. [Stream.ReadFrom] holds one record's buffer
// while it waits for a reader that is not a socket of package net.
package session
