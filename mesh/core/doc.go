// Package core is the mesh's decisions: a deterministic state machine with one owner, Step(now, event) → effects.
//
// It contains no goroutine, clock, randomness of its own, or I/O: time arrives with every step, randomness is a generator seeded
// by the configuration, and everything it wants done leaves as an [Effect]. The same sequence of (now, event) gives the same
// sequence of effects, so a mesh of thousands of nodes can be replayed from a seed, and the daemon and a simulation run the same code.
//
// # Three facts per peer, never mixed
//
//   - enrolled: the trust log says so; only signed entries change it;
//   - session alive: authenticated traffic arrived;
//   - beacon heard: an address hint, and presence.
//
// Silence of beacons makes an address stale. It never closes a healthy session, forgets a device or touches trust.
//
// # What it decides
//
// When to send beacons, probes and heartbeats; whom to dial, where and when, with a back-off per address; which of two sessions
// with one peer stays; what each session may do (READY states), by the trust log and by whether this node has synced; what
// trust frames to send, apply and pass on; when a peer is pruned, an interface mute, a session closed.
//
// # What it does not decide
//
// Whether a stream may open or stay: that is decided per stream, on the destination, against the newest trust state. Nothing here
// authenticates bytes: sessions are handed in only after the handshake proved the peer's key.
package core
