//go:build !race

package mesh

// raceFactor: see race_on_test.go.
const raceFactor = 1
