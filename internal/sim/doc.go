// Package sim runs whole meshes in one goroutine, in virtual time, from a seed: the same mesh/core and trust code as the daemon, over a
// network, clocks and disks that exist only here. The same seed gives the same trace, to the byte.
//
// # What is real and what is not
//
// Real: every decision of the core; every trust object with its signatures and its application; control bodies and heartbeats, encoded
// and read again; peer records, which are signed envelopes, one for each run and address of a node; the decision at each stream's
// destination; the floor of trusted time. Not real: the cryptography of handshakes and records (a session is an event at both ends, and
// its peer is the node at the address), the sealing of beacons and the receiver's budgets, and whatever package mesh does with sockets:
// its duties around the core are written again, in shell.go, in the same order.
//
// Nodes share what does not change. The first of them verifies an object and applies it to its state; every other one that holds this very
// state takes the result ([trust.Shared]). So 10,000 nodes hold one log, and each costs its core.
//
// # The network
//
// Nodes stand in segments, 250 to one unless told otherwise. Beacons reach everybody in a segment within a millisecond, or are lost with
// the configured odds. Connections go everywhere: within a segment 0.2–1 ms one way, between two segments a latency of their own, fixed by
// the seed, with a median of 25 ms. A record that is lost comes 200 ms late, and so does everything behind it on its connection.
//
// A connection is TCP: records arrive in order or not at all. What arrives where a path is gone, or at a host that sleeps, is repeated until
// it is through, and 15 s without acknowledgement end the connection. The other end learns that with the next it sends. A dial connects to
// whoever is at the address, then exchanges three messages that only the daemons can answer; connect and handshake have 5 s each.
//
// # Faults
//
// A node can stall (it does not run, and what comes waits), sleep (its monotonic clock stops too), be killed or lose power with what it
// has not written, lose its disk, restart with a new boot id, change its address, and have a wrong wall clock; halves, segments, single nodes
// and single directions can be cut off; a segment can hear no beacon; flooding can be switched off, so that only digests and vectors
// spread. Newcomers are enrolled, members revoked, an issuer forks itself, a root decides the fork.
//
// # Invariants
//
// Numbers as in the design. All the time: I1 no session and no stream with a node 100 ms after its revocation was applied; I2 nothing but
// frames of the log and own entries changes the trust state; I3 no two usable sessions with a peer for longer than it takes to notice a dead
// one, and none missing for 30 s (75 s between segments) where there is a path: with everybody in a small mesh, with somebody in a large one; I4
// every accepted stream has its own record, durable before, in a chain that verifies; I5 bounds on connections, dials, queues and effects.
// When faults have ended: I2 every state says what was signed; I6 equal digests, one connected overlay, degrees in bounds. I7 is a test:
// all wall clocks shifted by a year give the same trace.
//
// A run that breaks one prints its seed, the shortest list of faults found that still breaks it, and the flow of events that led there.
// MESHKEY_SIM_SEEDS=from:to has TestSeeds and TestT25Churn run these seeds.
package sim
