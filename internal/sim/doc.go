// Package sim runs whole meshes in one goroutine, in virtual time, from a seed: the same mesh/core and trust code as the daemon, over a
// network, clocks and disks that exist only here. The same seed gives the same trace, to the byte.
//
// # What is real and what is not
//
// Real: every decision of the core, every trust frame with its signatures and its application, the bodies of control records, the
// decision at each stream's destination. Not real: the cryptography of handshakes and records (a session is an event at both ends, and its
// peer is the node at the address), the sealing of beacons, and whatever package mesh does with sockets.
//
// # The network
//
// Nodes stand in segments, 250 to one unless told otherwise. Beacons reach everybody in a segment within a millisecond, or are lost with
// the configured odds. Connections go everywhere: within a segment 0.2–1 ms one way, between two segments a latency of their own, fixed by
// the seed, with a median of 25 ms. A record that is lost comes 200 ms late, and so does everything behind it on its connection. What
// is sent into a path that is gone is lost; if data is under way, the sender's connection ends after 15 s.
//
// # Faults
//
// A node can stall (it does not run, and what comes waits), sleep (its monotonic clock stops too), crash with or without what it has not
// written, restart with a new boot id, change its address, and have a wrong wall clock; segments and single nodes can be cut off from each
// other, in one direction too; flooding can be switched off, so that only digests and vectors spread.
//
// # Invariants
//
// Checked all the time (numbers as in the design): I1 no session or stream with a node once its revocation was applied; I3 at most one
// usable session per pair for longer than a few seconds; I4 no stream without its record. Checked when faults have ended: I2 and I6 equal
// digests, a connected overlay, degrees in bounds. I7 is a test: all wall clocks shifted by a year give the same trace.
//
// A run that breaks one prints its seed, the shortest list of faults found that still breaks it, and the flow of events that led there.
package sim
