// Package controltest is a daemon made of fixed answers, for tests of the local API and its clients.
package controltest
