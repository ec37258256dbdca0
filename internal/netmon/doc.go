// Package netmon says which network interfaces a daemon can send beacons on, which addresses it can be reached at, and when
// either changes.
//
// # Vocabulary
//
// An [Interface] is a snapshot of one usable interface: up, with carrier, not ignored, and with at least one address. A
// [Snapshot] is all of them at one moment, sorted by index. Two snapshots are equal exactly if a beacon sender or an endpoint
// list would differ between them, so an unequal one is what "the network changed" means.
//
// # Which interfaces
//
// Loopback is left out unless asked for. Interfaces made for containers and tunnels ([DefaultIgnore]) are left out: a beacon into a
// container bridge finds nobody, and one into another overlay finds everybody's laptop through somebody else's tunnel. The
// operator can replace the list and can name exceptions.
//
// # Which addresses
//
// IPv4 prefixes as configured. IPv6: the link-local address and the global or unique local ones, only after duplicate
// address detection (not tentative, not failed) and not deprecated; privacy addresses, which live hours, are no endpoints. The kernel
// tells the state of an IPv6 address over netlink; where there is no netlink every address counts as finished.
//
// # Changes
//
// On Linux [Monitor.Run] subscribes to link and address events over netlink and needs no rights for it. An event only says "look
// again": nothing of its content is used, so a lost or garbled one costs at most a poll. Everywhere the interfaces are read again
// each [DefaultPoll]. The first event of a batch waits 200 ms for the others, and until [DefaultDebounce] has passed since the last
// look, and no longer: a flapping link is reported at most once per debounce and never starves a report.
//
// # Properties and non-properties
//
// The monitor changes nothing in the system and sends nothing to the network. What it reports is true at the moment of reading
// only: a send may still fail, and the sender reports that by itself. If netlink is not available (a sandbox that
// forbids the address family) it falls back to polling, and [Monitor.Degraded] says so.
package netmon
