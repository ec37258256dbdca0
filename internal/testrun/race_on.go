//go:build race

package testrun

// Race reports whether the race detector watches.
const Race = true
