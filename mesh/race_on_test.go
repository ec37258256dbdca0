//go:build race

package mesh

// raceFactor is how much less a test does at once under the race detector, which makes everything some ten times slower while the
// protocol's deadlines stay.
const raceFactor = 10
