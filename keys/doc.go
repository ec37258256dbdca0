// Package keys holds the key types, signature labels, key derivations and text forms every other package builds on.
package keys
