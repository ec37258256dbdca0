// Package e2e runs the real binary on real networks: hosts in network namespaces, bridges between them, programs as users run them.
//
// `go test ./e2e` needs no root; it re-executes itself in namespaces of its own (see internal/netns) and leaves nothing behind. The plain
// run takes the short scenarios; MESHKEY_E2E=1 takes all of them and makes a skip a failure. Each test draws its topology. The demo runs
// here too, beside scenarios that wait as it does.
package e2e
