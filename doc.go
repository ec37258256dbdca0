// Package meshkey is the map of the repository; it contains no code.
//
// Meshkey connects the machines and services of one owner, encrypted and by identity, with no coordination server, no cloud account,
// no root and no TUN device. Every package's doc.go is the specification of that package; where it defines bytes, it is the only
// true statement of them.
//
// From the bottom up, imports go only down (architecture_test.go holds the table):
//
//	0  internal/wire        the one CBOR dialect: canonical, strict, bounded
//	   internal/durable     the only writer of files: atomic, append-only logs, recovery, an in-memory file system that loses power
//	   internal/harden      no core files, no memory for other processes
//	   internal/forward     a local port, unix socket or pipe joined to a stream
//	   internal/netmon      interfaces and addresses, and when they change
//	   internal/netns       networks of namespaces for tests
//	   internal/testrun     how much of itself a test runs
//	1  keys                 key types, signature labels, key derivations, text forms, sealed key files
//	2  identity             envelope, certificate, binding, invite, request, names, confirmation words
//	   session              control records, streams as connections of their own, tags, heartbeats, close
//	3  handshake            Noise XXpsk0+psk2 with ML-KEM-768, admission budgets, rekey
//	   beacon               announcements, signed then sealed, and their sockets
//	   trust                root chain, issuer chains, grants, decisions, sync
//	   audit                one Merkle log per host, checkpoints, verification
//	   internal/config      the operator's TOML
//	4  internal/enroll      invites at their issuer: book and transaction
//	   internal/policy      a policy file against the grants there are
//	   mesh/core            the deterministic state machine of one node
//	   mesh                 the embedding API: Node, Listen, Dial, Peers
//	   control              the local API on a unix socket
//	5  internal/daemon      puts everything together
//	   internal/sim         whole meshes of cores in virtual time, from a seed
//	   internal/demo        the main job once, for real, with the command itself
//	   e2e                  the real binary in networks of namespaces
//	6  cmd/meshkey          the one command
//	   bench                the comparison with others, the figures that take long
//
// Start with README.md to use it, SECURITY.md for what it protects and does not, docs/decisions.md for why it is as it is,
// docs/dependencies.md for what it is built from, docs/measurements.md for its figures and how they were taken.
package meshkey
