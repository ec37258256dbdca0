// Package enroll is an issuer's side of admission: the durable book of invites and the one transaction that turns an invite
// and a signed request into a certificate and a log entry.
//
// # The book
//
// The book is a [durable.Log] named "invites" in the state directory. Each frame is one canonical CBOR map {1: kind, 2: invite
// id bstr8, 3: time, …}:
//
//	kind 1 created   4: name, 5: tags, 6: expiry, 7: uses, 8: certificate life in seconds, 9: renew_until, 10: uid of the admin
//	kind 2 spent     11: node id, 12: serial, 13: certificate envelope
//	kind 3 removed   10: uid of the admin
//
// No secret is stored: an invite's secret is derived from the issuer's key and the invite id (keys.SigningKey.InviteSecret), so
// a copy of the book lets nobody enrol.
//
// # The transaction
//
// Under one lock: the invite exists, is not removed, not expired, and has a use left or was spent by this very node; the node is
// not revoked and not live under another name; the name is free. Then, in this order,
//
//  1. the certificate is signed and the spend is written and synced to the book;
//  2. the enrol entry is appended and synced to the issuer's chain;
//  3. the answer is given.
//
// Before that the caller's record of the enrolment is made durable, and the entries that earlier crashes left unwritten are appended:
// serials only rise along a chain, so a later one would void them.
//
// A crash before 1 leaves the invite unspent. A crash between 1 and 2 leaves it spent by that node alone: when the node asks
// again the entry is appended with the certificate of the book. A crash after 2, or a lost answer, is repaired the same way: the
// same node with the same invite gets the same certificate until the invite expires. No order of events enrols two nodes.
//
// # Renewal
//
// A member that proves its key gets a certificate with the name, tags, length of life and renew_until that the log has for it, from the
// moment half of its life is over until 30 days after its end, but never after renew_until, never once revoked, and never with rights
// the issuer does not have now. Nothing but the log remembers a renewal: who asks again early gets the same certificate, made anew from
// the log, byte for byte.
//
// # Not provided
//
// The package does no network I/O and does not decide who may create invites; it trusts its caller for the admin's uid.
package enroll
