// Package testrun says how much of itself a test runs. Three runs exist, and together they leave nothing out:
//
//   - the plain one, `go test ./...`, in minutes: of an exhaustive walk (each byte changed, each write failed) it takes every nth step,
//     of many seeds the first, and scenarios that wait for minutes are skipped, with their reason;
//   - the whole one, with MESHKEY_E2E=1: every step, every seed, every scenario;
//   - the one under the race detector, which is there for what runs at the same time: walks in one goroutine are shorter still.
//
// And it says for how long the machine did not run a test at all: Stalls, for tests that hold a promise on a real clock.
package testrun
