// Package session carries everything after the handshake: control records on the session's own connection, and streams as connections
// of their own, upgraded with keys of the session.
package session
