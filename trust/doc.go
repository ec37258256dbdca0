// Package trust is the mesh's signed truth: who founded it, who may speak for it, who is a member, who may use what, and what was
// taken back. Its State is a pure function of signed objects, never of a clock or of the order in which they came.
//
// # Vocabulary
//
// A root names the keys that may sign the next root, and the issuers with their rights. An issuer signs entries, numbered from 1
// without gaps, each naming the hash of the one before: its chain, with one writer. An entry holds ops. A head is an issuer's signed
// statement of how long its chain is. Two entries with one number are evidence; the issuer is then forked. A cutoff in a root names
// the last entry of a chain that counts. An entry of a branch that is not held is a stray.
//
// # Bytes
//
// Everything is strict canonical CBOR as in internal/wire, signed in an envelope as in package identity. Numbers are unsigned;
// times are unix seconds, at most 2^40; sequence numbers, serials, gids, generations and versions are at most 2^53.
//
//	Root, label root, at most 56 KiB
//	{1: mesh_id bstr32 (empty in genesis), 2: version (genesis 1), 3: prev bstr32 (hash of the previous payload; empty in genesis),
//	 4: issued, 5: threshold, 6: [Key] 1..15 sorted by pub, 7: [Issuer] 0..64 sorted by id, 8: Params, 9: group_issuer bstr32
//	 (an issuer that is not cut off, or zero: none), 10: mesh name}
//	Key    {1: alg (1 = Ed25519), 2: pub bstr32, 3: name}
//	Issuer {1: id bstr32, 2: caps, 3: [tag pattern] 0..16 sorted, 4: max_ttl, 5: not_after, 6: null | {1: seq, 2: hash bstr32}, 7: name}
//	caps   1 enroll, 2 revoke, 4 head, 8 grant; other bits are refused
//	tag pattern   a tag, or "k:*" (every tag that begins with "k:"), or "*" (every tag)
//	Params {1: max_stale, 2: stale_action (0 warn, 1 restrict), 3: group_max_age, 4: require_logged (true)}
//
//	Entry, label entry, at most 32,256 B, signed by its issuer alone
//	{1: mesh_id, 2: issuer bstr32, 3: seq, 4: prev bstr32, 5: time, 6: root_version, 7: [Op] 1..256}
//	prev of seq 1 is H("meshkey/1 chain" || mesh_id || issuer)
//	Op  [1, node_id, serial, cert_id, not_before, not_after, name, tags, renew_until]
//	    [2, node_id, reason, null | [new node_id, sig bstr64]]     sig by the old key, label rotate, over old || new
//	    [3, issuer, serial, reason]
//	    [4, generation, commit bstr32]
//	    [5, gid, who, [target, verb, service], not_before, not_after (0: without end), note at most 200 B]
//	    [6, issuer, gid, reason]
//	who, target  [0] any | [1, node_id] | [2, tag]
//	verb 0 open, 1 escalate; service: a name, "!name" for the protocol's own, or "*" (all but the protocol's own); reason 0..255
//
//	Head, label head, at most 320 B
//	{1: mesh_id, 2: issuer, 3: seq, 4: hash, 5: root_version, 6: time}
//	Of an issuer the newest counts: a later time, and no lower seq. One more than 300 s ahead of the clock is refused; one that is held
//	and turns out to be (the clock was wrong) says nothing of a view's age, and gives way to the next whatever its time.
//
//	Receipt, label receipt, at most 320 B, signed by the node that applied the entry
//	{1: mesh_id, 2: node_id, 3: issuer, 4: seq, 5: time_ms, 6: sessions closed, 7: streams closed}
//
// # Roots
//
// A genesis root has version 1, no mesh_id and no prev; its payload's hash is the mesh id. Root N+1 is accepted iff its version is
// N+1, prev is the hash of N's payload, mesh_id is the mesh's, issued is not before N's, 2·threshold > keys, at least threshold(N)
// distinct keys of N and threshold(N+1) of N+1 signed, every signature verifies, and nobody else signed. Every issuer of N is in N+1.
// One that loses a cap, a tag, ttl or not_after has a cutoff; a cutoff is never raised, moved to another hash, or removed.
// Roots do not expire.
//
// A proposal is a root that still lacks signatures, in a file that people carry from one holder of a root key to the next, with the
// whole chain it follows. A root chain is that file without the proposal. Both are lines of a word, a space and standard base64 with
// padding, each ended by one LF, at most 4 MiB; there is one way to write each:
//
//	meshkey-root-proposal/1 | meshkey-root-chain/1
//	root ENVELOPE                 1.. times, genesis first, each the accepted successor of the one before
//	next PAYLOAD                  of a proposal: the payload of the next root
//	sign KID(32) || SIG(64)       0..30 times, ascending by kid; signed by a key of the last root or of the next, as in an envelope
//
// A reader verifies all of it. What a proposal changes is shown against the root whose hash the payload, and so the signature, names: a
// made-up chain gets a signature that no mesh takes.
//
// Two valid successors of one root are a root fork: the state is the one of the root before them, neither is accepted, and what
// either of them cuts off adds nothing meanwhile. AcceptRoot ends it.
//
// # Entries
//
// An entry is valid iff: its signature verifies; seq and prev continue the chain; its time and root_version are not below those of
// the entry before; the root it names is held and lists the issuer; its time is at most the issuer's not_after there; and a cutoff
// or an invite's head for this seq names its hash. Entries after a cutoff are void. A root not held yet means: wait.
//
// An op counts by the rights its issuer has in the root the entry names. Ops outside them are ignored, the rest of the entry
// counts:
//
//   - enroll: cap enroll; serial above every earlier one of the chain; tags matched by the patterns; not_after − not_before ≤ max_ttl;
//     not_after ≤ the issuer's not_after.
//   - revoke node, revoke certificate: cap revoke. Whose member it is does not matter.
//   - group: the issuer is the root's group_issuer; generation above every earlier one of the chain. Of all chains the highest
//     generation counts, then the higher root_version, then the lower issuer id.
//   - grant: cap grant; gid above every earlier one of the chain. ungrant: cap grant, any issuer's grant.
//   - rotation: caps enroll and revoke, the old key's signature, and an enrolment of the new key that counts in the same entry. Then
//     grants that name the old key mean the new one. Two different successors of one key are none.
//
// An unknown op kind below 128 (7 is reserved) is kept; the entry's known ops count, later entries of that issuer only remove.
// Kinds 128 to 255 are ignored. Others, and known kinds with values out of their range, make the entry invalid.
//
// # State
//
// Revoked is the union of removals; a grant is the union of grants less that of ungrants. Nothing but a cutoff takes a removal back.
// A node is live iff an enrolment of it counts, is in its window, and neither node nor serial is revoked. Of several live
// enrolments the one that begins last speaks for the node: name and tags are its.
//
// Evidence freezes an issuer: entries held when it came count on, later ones only remove, until a root sets a cutoff. So the same
// objects give the same State in any order and with any duplication, but for the freezing point of a forked issuer, which is where
// each node stood; a thief of an issuer key cannot take back what was enrolled before. Removals in both entries of the pair, and in
// further strays, count on every branch. A newcomer gets evidence before entries and so counts nothing of a forked issuer but
// removals, up to its invite's head excepted.
//
// If a node holds a branch that a cutoff or an invite does not name, it asks for the named entry and the ones before it (each is
// vouched for by the hash in the next) until they meet its chain, and goes on from there. Removals of the wrong branch count
// until the right one is whole.
//
// # Sync
//
// Frames are the control bodies with these kinds:
//
//	[2, root_version, root_hash, [[issuer, seq, hash, head_time, forked 0|1]] by issuer, group_gen]     VEC
//	[3, issuer, from, to]     WANT entries, or, for the zero issuer, roots       [4, root]  ROOT       [5, entry]  ENTRY
//	[6, entry, entry]  EVIDENCE       [7, head]  HEAD       [8, issuer, seq, null | hash]  HASH_AT: null asks, a hash answers
//
// The digest is the first 8 bytes of the hash of VEC with every head_time 0. On a VEC each side pushes roots, evidence, strays and
// heads the other lacks, and asks for the entries it lacks itself. New entries are pushed at once, with Urgent set if they remove.
// Same seq and another hash start a binary search by HASH_AT for the fork, whose two entries are evidence.
//
// # Files
//
// log is a [durable.Log] of the frames ROOT, ENTRY and EVIDENCE in the order in which they were applied, the genesis root first, and
// [200, issuer, seq, hash] for each head of the invite, and [201, hash] for a root accepted by the operator. heads is an array of
// the newest head envelopes; floor is [1, time floor].
//
// cache is the State a node computed, so that its next start verifies only what came after. It is never the truth: in doubt it is not
// used, and the log is replayed. Numbers are big-endian.
//
//	cache = body || envelope, label cache, signed by the node || length u32 of the envelope
//	payload  {1: version 1, 2: program, 3: frames of the log it was computed from, 4: bstr32 SHA-256 of (len u32 || frame) … of these,
//	          5: length of the body, 6: bstr: the SHA-256 of each 262,144 bytes of the body, and of the rest}
//
// The body is this program's own and changes with the version: cachestate.go writes it. A cache counts iff the node's key signed it for
// this mesh, it is of this version and this program, all of it is there and nothing else, each piece has its hash before it is read, and
// the log begins with exactly these frames. It is written only while nothing is in doubt (no fork, no branch looked for, no op of a
// later version, nothing in quarantine, all of it on the disk). An older one is as good: the frames behind it are replayed.
//
// # Not provided
//
// A freeze (a peer that shows an old but valid view) is noticed only if an issuer signs heads. A stolen issuer key can enrol, grant
// and revoke within its limits until a root cuts it off; what it enrols can end no later than the key. Threshold many root keys
// are the mesh. An issuer with the right signs a head every 300 s while its daemon runs; a view's age is that of the newest head
// whose chain is held as far as it says, and unknown without one. Beyond the root's max_stale it is stale: told (warn), or nobody is more than RESTRICTED (restrict), the root then
// counting as the first head. Within a forked issuer, nodes agree on removals but may differ in what was added last, until a root decides.
package trust
