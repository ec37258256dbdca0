// Package daemon puts a node together: it makes and opens the state directory, founds and joins meshes, runs a mesh node with its
// stores, its control socket and its services, and answers the local API.
//
// # The state directory
//
// Mode 0700, owned by the user of the daemon, locked while in use:
//
//	lock            held by the one process that uses the directory
//	identity.txt    the age identity that opens the key files below; whoever has both has the keys. It is not made where the [keys]
//	                table, a credential or a passphrase says what to seal to
//	node.age        the node's Ed25519 identity
//	node-next.age   the key that shall follow it; rotation: which follows which, by which invite, with which certificate (rotation.go)
//	node-old-N.age  keys before it, rotated; node-unused-N.age: keys that never took its place
//	issuer.age      on issuers: the key that signs the issuer's chain; it may wait for the root to name it
//	issuer-old-N.age  keys before it, cut off or ended
//	root.age        where a root key is: sealed to a passphrase or to age recipients; no daemon reads it
//	group-N.age     the group secret of generation N
//	member          CBOR {1: version, 2: mesh id, 3: certificate, 4: [beacon envelope], 5: node id before the last rotation};
//	                written last
//	waiting         on a newcomer: CBOR {1: version, 2: mesh id, 3: invite id, 4: channel binding}: its request waits for approval
//	request         on a newcomer: CBOR {1: version, 2: mesh id, 3: request envelope, 4: id of the
//	                certificate it had, or zeros}: a request went out in a file
//	request.age     the HPKE key the answer to that is sealed to
//	epoch           CBOR {1: version, 2: the beacon epoch of the last start}
//	pins            which node each used name meant at its first use
//	invites.*       on issuers: the invite book
//	trust/          the trust log, and the state computed from it (cache): removing that costs the next start time, and nothing else
//	audit/          the audit log
//	services.d/     one TOML file per exposed service
//	left-N/         what was here of a mesh this host has left, but the group secrets: a state directory for audit verify --offline
//
// # Order of writes
//
// init and enroll write keys, trust log and audit log first and the member file last. If they crash before it, the directory
// counts as in no mesh: the next init or enroll moves the leftovers aside into a directory named leftover-N, because a key file is
// never overwritten and never deleted, and begins anew. The one exception is request.age, which is removed when the answer has been taken:
// after the member file, by the daemon's next start at the latest. Removing a file does not wipe the disk below it.
//
// enroll in the directory of a member renews it, in the same order: a new generation of the group secret, the entries of the trust log
// it lacks, the audit record, and last the member file, replaced as a whole.
//
// A rotation of the node's key is argued in rotation.go. leave moves the member file first, then removes the group secrets, then moves
// the rest: without the member file no daemon starts here, and what a crash leaves is moved aside by the next enrolment.
//
// A group secret is on disk before its commitment
// is in the log, and not in use before that. An issuer's entry is on disk before anybody sees it.
//
// What a cutoff would undo is repeated by this host's issuer, durably, before there is a root with the cutoff. Accepting a root is in the
// audit log before the root holds, and on disk before the command says so. A root that would contradict the one held is refused here,
// though a peer's would be taken as a fork: an operator's mistake must not stop the mesh.
package daemon
