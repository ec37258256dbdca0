// Package forward joins a local connection (TCP or unix socket) to a stream of the mesh, byte for byte and end for end.
//
// # Vocabulary
//
//	local    the connection on this machine: from the program that uses a service, or to the service itself
//	stream   the connection to the peer, seen here only as a [Stream]
//	end      an orderly end of one direction: FIN on the local side, EOF record on the stream
//	abort    anything else that stops a direction: RST, truncation, a revoked peer, a cancelled context
//
// # What is passed on
//
//	on one side            on the other side
//	end of a direction     end of the same direction; the other direction goes on, for as long as it likes
//	abort, read or write   abort of both directions at once (TCP: RST by SO_LINGER 0, never a FIN)
//
// So a program can tell a complete answer from a torn one, through the mesh as well as without it. A [Splice] returns when
// both directions are over and both connections are closed, with the bytes of each direction and the first abort.
// A unix socket has no RST: there an abort reads like an end. Users of unix sockets who must know use a protocol that says so.
//
// # The owner check
//
// A listener on loopback speaks for this node to everybody who can connect to it, which is every user of the machine. [PeerUID]
// names the user at the other end of an accepted loopback connection, by asking the kernel (sock_diag) for the client's own
// socket, and [OwnerOnly] refuses all but the wanted users. It fails closed: where the uid cannot be known, nobody is served.
// The look-up refuses
//
//   - a socket no process holds any more (inode 0): the kernel reports such orphans as root's, so accepting them would serve
//     anyone who connects, writes and closes quickly;
//   - the overflow uid (65534): in a user namespace it stands for every user of the host that is not mapped;
//   - an address that is not loopback: the client's socket is then not in this kernel, or not in this network namespace.
//
// Non-property: root, and anybody who may enter the owner's processes, passes.
//
// # Limits
//
// See limits.go. Nothing in this package writes to a log, and nothing but a closed connection is told to a refused client.
package forward
