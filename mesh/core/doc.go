// Package core is the mesh's decisions: a deterministic state machine with one owner, Step(now, event) → effects.
//
// It contains no goroutine, clock, randomness of its own, or I/O: time arrives with every step, randomness is a generator seeded
// by the configuration, and everything it wants done leaves as an [Effect]. The same sequence of (now, event) gives the same
// sequence of effects, so a mesh of thousands of nodes can be replayed from a seed, and the daemon and a simulation run the same
// code. Whichever event comes first starts it; after [Stop] it does nothing but refuse.
//
// # Three facts per peer, never mixed
//
//   - enrolled: the trust log says so; only signed entries change it;
//   - session alive: authenticated traffic arrived;
//   - beacon heard: an address hint, and presence.
//
// Silence of beacons makes an address stale. It never closes a healthy session, forgets a device or touches trust.
//
// # Presence
//
// The count of a peer's silence begins at its last sign of life of any kind: beacon or session. Probes at 15 and 17.5 s, pruned at
// 20 s with its sessions, offline at 60 s, when hints that nothing repeats are dropped too; four intervals if the peer announces a
// longer one. Nobody is pruned
//
//   - for the silence of a mute interface: at least two enrolled peers were heard on it up to one moment, and no beacon for 15 s
//     after it. Silence counts anew from the moment it is heard again;
//   - for the time in which this node itself did not run: timers that are more than 500 ms late move everybody's last sign of life;
//   - while the sessions with several peers, and all of them, are silent at once, for 60 s: more likely this host hears nothing.
//
// A peer of which something was heard or told but which the log does not name is a candidate: 256 at most, a random idle one makes
// room, dialled when something is heard of it and forgotten after 60 s without.
//
// # Sessions
//
// READY is the first record of both sides, within 5 s; a session that is not full on both sides ends after 30 s. A session that
// brings nothing is suspect after 10 s: it is pinged, and the peer's other addresses are dialled; after 20 s it ends. A change of
// the network, and a beacon with a new boot id, ping at once, and no answer within 2 s makes suspect. After sleep of more than 20 s
// no answer ends the session; after more than 10 min all end at once, and views are waited for as after a start.
//
// Which of two sessions with a peer stays is the rule in duplicates.go.
//
// # Trust
//
// A change is applied, nodes it revokes are cut off, it is pushed to every session but its source, and whoever it names is judged
// anew, all in the step that brought it. A session that is full stays as long as the node has a live enrolment, whichever
// certificate it began with; else every socket of the node is cut with code 5, 6, 7 or 4. Others go up and down by READY. All members
// are walked only for roots and evidence, and every 5 s if the log has changed or a time in it has passed; other steps do not grow
// with the number of members.
//
// Nobody is full before this node has compared views with min(2, other live nodes) live nodes, the peer itself counting only where
// there is no other, or 2 s have passed; what became full only by that is marked unsynced.
//
// A peer that sends an invalid object, or floods (2,048 frames within 10 s dropped unseen), gets CLOSE{protocol} and no session for
// 60 s. Pushes are limited to 150 a second and session, below what receivers take; VEC tells the rest.
//
// # What it does not decide
//
// Whether a stream may open or stay: that is decided per stream, on the destination, against the newest trust state. Nothing here
// authenticates bytes: sessions are handed in only after the handshake proved the peer's key.
//
// # Not provided
//
// Everybody who is heard of is dialled: the overlay of few sessions for many nodes is not here, nor are longer beacon intervals on
// crowded segments; those of others are understood. A node that is cut off is not sent the entry that revokes it.
package core
