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
// READY is the first record of both sides, within 5 s; a session that is not full on both sides ends after 30 s, but for one that this
// node's own stale view holds down: through it the newer view comes. A session that
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
// certificate it began with; else every socket of the node is cut with code 5, 6, 7 or 4. Others go up and down by READY. Everybody
// something is known of is judged only for roots and evidence, and every 5 s if the log has changed or a time in it has passed; no
// step grows with the number of members.
//
// Nobody is full before this node has compared views with min(2, other live nodes) live nodes, the peer itself counting only where
// there is no other; or 1 s has passed and it has compared with everybody heard so far, one at least; or 2 s have passed. What became full
// only by time is marked unsynced. A node that was alone for so long waits for the first peer's view, 2 s at most.
//
// A peer that sends an invalid object, or floods (2,048 frames within 10 s dropped unseen), gets CLOSE{protocol} and no session for
// 60 s. Pushes are limited to 150 a second and session, below what receivers take; VEC tells the rest.
//
// # Overlay
//
// Up to nine members everybody keeps a session with everybody: every 5 s ± 20 % a node dials the members it has none with, and asks the
// others for those whose addresses it does not know or that do not answer, at first after 5 s, then after twice as long each time, 5 min
// at most. In a larger mesh a node keeps 6 to 12: it dials four by itself, such as it hears on its own links and such as others have
// told it of by turns, half a second after it can hear them, so that not everybody
// picks who spoke first; the others' picks bring as many again. Every 5 s ± 20 % it looks: below 6 it dials two more, below 8, or below
// 3 dialled by itself, one; above 12 it sheds one and half of the surplus with CLOSE{limit}, those whose peers have the most, never one that would be left
// with less than 6; else, once in eight times, it dials somebody not seen for 60 s, which heals a split. A pair that was shed is not
// picked again by either end for 60 s. A peer whose beacons show another view of the log twice in a row is dialled for it by four or so of
// those who hear it.
//
// A session that is suspect counts as none, so what takes its place is made before it ends, and so does a dial that has been under way for a
// second, of which no more than 12 are at once. Who was heard within its interval is dialled before those who were due and did not come:
// after half of a mesh has lost power the others have 6 again when the last dead session ends.
//
// What a user wants is dialled beside that and kept while it has streams and for ten minutes after, 256 of those without streams at
// most. A member of whom no address is known is asked for with FIND, which goes three steps; whoever knows answers with the
// peer record, and each node passes that back to those who asked. Every sixth look four records go to a random neighbour. The addresses
// of at most 1,024 members are remembered; a random one that is neither heard nor wanted makes room.
//
// On a link with more than a hundred hosts the interval of beacons grows to a twentieth of a second each, 60 s at most.
//
// # Over restarts
//
// Of every member with whom a session was full, 256 at most, the newest first, it keeps six addresses: up to three at which a dial ended
// in a session, and those of the member's newest record. One of those it has dialled itself, drawn at random, is the anchor: its session
// is kept, it is never shed, and another is drawn only when it is revoked or has been out of reach for an hour. [Persist] hands all of
// it to the shell, 15 s after the first news and then at most every five minutes, and at the stop. A start dials what was kept before
// anything is heard: in a small mesh everybody, in a large one the anchor and those the overlay picks.
//
// # Health
//
// A member's signed summary of itself goes with its record to a new session and in an answer. Every sixth look this node's own and the
// six that came last go to the random neighbour: told on while it is new, a summary gets about. It changes nothing but what is told.
//
// # What it does not decide
//
// Whether a stream may open or stay: that is decided per stream, on the destination, against the newest trust state. Nothing here
// authenticates bytes: sessions are handed in only after the handshake proved the peer's key.
//
// # Not provided
//
// A node that is cut off is not sent the entry that revokes it.
package core
