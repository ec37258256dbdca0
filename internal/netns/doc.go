// Package netns builds the networks that tests run real daemons in: hosts, bridges and links made of Linux namespaces, without
// root and without touching the machine's own network.
//
// # Entering
//
// A package whose tests need namespaces has this and nothing more:
//
//	func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }
//
// [Main] starts the test binary again in fresh user, network, mount and process namespaces (what `unshare -Urnmpf` makes), and
// passes its exit code on. Two processes stand between the caller and the tests:
//
//	go test ── test binary (outside; waits) ── init (pid 1 inside; reaps orphans) ── test binary (runs the tests)
//
// Inside, the caller's uid is mapped to 0 and holds every capability over the new namespaces and none outside. /proc and /run are
// mounted anew. When init goes, for whatever reason, the kernel kills every process inside and drops every interface, address,
// rule and mount with the namespaces: nothing is left behind, also after kill −9 of any of the three.
//
// Where the kernel or a sandbox forbids user namespaces, [Main] runs the tests outside and [New] skips each of them with the
// reason; with MESHKEY_E2E=1 in the environment it fails instead.
//
// # Networks
//
// [New] makes a network for one test; its end removes it. [Net.Bridge] is a switch, [Net.Host] a machine with a network
// namespace of its own, [Bridge.Attach] a cable, [Net.Cable] one without a switch. Several networks can exist at once, with equal addresses. A host runs programs
// with [Host.Command] and Go code with [Host.Do], is filtered with [Host.NFT], observed with [Host.Capture].
//
// # The guard
//
// [Guard] is asked before any test or helper binds a socket or starts a daemon. It allows loopback everywhere and everything else
// only in a namespace made by [Main], which it recognises by two facts: MESHKEY_NETNS in the environment names the network and
// user namespace outside, and the kernel says that the calling thread is in neither. So a marker that was exported by hand, or
// inherited by a process that went back, opens nothing.
//
// # What this is not
//
// No part of the product: only tests and the benchmark import it. It is the one package besides the command that reads the environment, because a
// re-executed test binary has no other place to be told where it came from.
package netns
