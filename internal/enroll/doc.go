// Package enroll is an issuer's side of admission: the durable book of invites and requests, the one transaction that turns an invite
// and a signed request into a certificate and a log entry, and the two files by which a machine without a network is admitted.
//
// # The book
//
// The book is a [durable.Log] named "invites" in the state directory. Each frame is one canonical CBOR map {1: kind, 2: invite
// id bstr8, 3: time, …}; what is empty is absent:
//
//	kind 1 created   4: name, 5: tags, 6: expiry, 7: uses, 8: certificate life in seconds, 9: renew_until, 10: uid of the admin,
//	                 14: [what, as in a grant op of package trust] ≤ 16, 15: true if a person decides about each request
//	                 of a rotation also 11: new node id, 19: old node id, 20: the old key's signature, label rotate, over old || new
//	kind 2 spent     4: name, 10: uid of who approved, 11: node id, 12: serial, 13: certificate envelope, 14: as above,
//	                 17: channel binding bstr32, what the confirmation words are of
//	kind 3 removed   10: uid of the admin
//	kind 4 asked     4, 5: name and tags wished for, 11: node id, 16: request id bstr8, 17: channel binding, 18: address
//	kind 5 denied    10: uid of the admin, 11: node id
//	kind 6 file      as kind 2 without an invite; 17: id of the request, H(payload)
//
// A second "asked" of one node replaces what its first said, but for the request's id and time. Books of the first release have kinds
// 1 to 3 with the fields 1 to 13. No secret is stored: an invite's secret is derived from the issuer's key and the invite id
// (keys.SigningKey.InviteSecret), so a copy of the book lets nobody enrol.
//
// # The transaction
//
// Under one lock: the invite exists, is not removed, not expired, and has a use left or was spent by this very node; the node is
// not revoked and not live under another name; the name is free. Then, in this order,
//
//  1. the certificate is signed and the spend is written and synced to the book;
//  2. one entry with the enrolment and the grants of the invite is appended and synced to the issuer's chain;
//  3. the answer is given.
//
// Before that the caller's record of the enrolment is made durable, and the entries that earlier crashes left unwritten are appended:
// serials only rise along a chain, so a later one would void them.
//
// A crash before 1 leaves the invite unspent. A crash between 1 and 2 leaves it spent by that node alone: when the node asks
// again the entry is appended with the certificate of the book. A crash after 2, or a lost answer, is repaired the same way: the
// same node with the same invite gets the same certificate until the invite expires. No order of events enrols more nodes than
// the invite has uses. Approvals, of requests and of files, are the same transaction.
//
// An invite of n > 1 uses gives NAME-1, NAME-2, …, the first that no node ever had. A node the log knows under the name it would get is
// renewed: it keeps its tags, and with its id its grants. Other tags for a live member are refused.
//
// # Approval
//
// By an invite that requires approval a node's request is noted (kind 4), and waits until a person approves or denies it, at most
// seven days from its first time, whatever the invite's own expiry; so long the invite is answered, to nodes that asked in time. Looking for
// the answer changes nothing here. A denied node stays denied for that invite. Both ends show the words of the session in which the
// node asked last.
//
// # Renewal
//
// A member that proves its key gets a certificate with the name, tags, length of life and renew_until that the log has for it, from the
// moment half of its life is over until 30 days after its end, but never after renew_until, never once revoked, and never with rights
// the issuer does not have now. Nothing but the log remembers a renewal: who asks again early gets the same certificate, made anew from
// the log, byte for byte. No certificate lasts longer than its renew_until, unless that is 0.
//
// # Rotation
//
// A member's name, tags and grants pass to a new key in the entry that enrols it and revokes the old one. The member asks with a request of
// the new key and the old key's signature over both; the issuer notes both keys as an invite of one use for the new key alone, and the new
// key enrols by it like any newcomer. Until that entry the old key is the member. The new certificate is as long as the old one was, and
// has its renew_until; one that is not renewed any more ends when the old one would have. An issuer needs the rights to enrol and to
// revoke, the old key must be a member in force and not revoked, when it asks and when the new key enrols, and the new key unknown to the
// log. A day has at most 8 rotations of a member, asked for or done, and its life at most trust.MaxRotations. Such an invite is shown to
// nobody, and its key is answered while it is a member in force, long after the invite's own end: the old one is revoked, so a machine that was
// off in between has nothing else.
//
// # Files
//
//	request  = "mk1q" || {1: request envelope bstr (package identity), 2: HPKE public key bstr1216}                 ≤ 2048 bytes
//	answer   = "mk1r" || H(payload of the request)(32) || enc(1120) || part 1 || part 2 || …                        ≤ 20 MiB
//	part     = u32 length || Seal(ad = one byte of what it is, plaintext)
//	  ad 1   {1: certificate bstr, 2: group generation, 3: group secret bstr32, 4: [beacon envelope bstr] ≤ 24, 5: n}
//	  ad 2   the genesis root
//	  ad 3   n times: a ROOT, ENTRY or EVIDENCE frame of package trust, in the order in which the issuer applied them
//
// The request's nonce is H("meshkey/1 csr-key" || HPKE public key): the node's signature and the three words of the request cover the key
// the answer is sealed to. HPKE is RFC 9180 in base mode with MLKEM768-X25519, HKDF-SHA256, ChaCha20-Poly1305 and the info of package
// keys; parts are sealed in one context, so their order is fixed. Both parsers are strict: what parses re-encodes to the same bytes.
//
// HPKE authenticates no sender. The reader believes an answer only if the genesis root has the mesh id it asked for, every frame verifies
// down to it, the certificate is this node's and in force by that log, and the log commits to the group secret.
//
// The magic's third character is the version of both files; another meaning gets another one.
//
// # Not provided
//
// The package does no network I/O and does not decide who may create invites or approve; it trusts its caller for the admin's uid. An
// answer shows the log as it was when it was made: what came later, revocations too, is learnt from peers. Words are 24 bits compared
// once: they find a swapped file or a stranger's request, not an attacker who can choose among 2²⁴ keys and watch the comparison.
package enroll
