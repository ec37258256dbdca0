package session

import (
	"errors"
	"fmt"
)

// Code tells a peer why a session, a stream or a request ended. It is the only thing a peer is ever told; text stays local.
type Code uint8

// Codes 1 to 9 end sessions, streams and requests; 10 and above only streams and requests. Unknown codes are carried as numbers.
const (
	// CodeNormal: finished.
	CodeNormal Code = 1
	// CodeShutdown: the daemon is stopping.
	CodeShutdown Code = 2
	// CodeDuplicate: another session with the same node won.
	CodeDuplicate Code = 3
	// CodeNotAdmitted: not a member, or, for a stream, no such service or no grant: one code for both.
	CodeNotAdmitted Code = 4
	// CodeRevoked: the node's key or certificate is revoked.
	CodeRevoked Code = 5
	// CodeExpired: the certificate has expired.
	CodeExpired Code = 6
	// CodeStale: the view of the trust log is too old.
	CodeStale Code = 7
	// CodeProtocol: the peer broke the protocol.
	CodeProtocol Code = 8
	// CodeLimit: a limit was reached.
	CodeLimit Code = 9
	// CodeUnreachable: the service is granted, but its target does not answer.
	CodeUnreachable Code = 10
	// CodeDegraded: the destination cannot write its audit log and takes no new streams.
	CodeDegraded Code = 11
	// CodeAborted: the application at the other end gave up.
	CodeAborted Code = 12
)

// String names the code in words for people.
func (c Code) String() string {
	names := [...]string{
		"none", "normal", "shutting down", "duplicate", "not admitted", "revoked", "expired", "stale", "protocol error", "limit",
		"target unreachable", "audit degraded", "aborted",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Local failures. What the peer told us is a [ClosedError], [RefusedError] or [ResetError].
var (
	// ErrTruncated: the connection ended without CLOSE, EOF or RESET. Bytes may be missing; do not trust what was read as whole.
	ErrTruncated = errors.New("connection ended without a proper end")
	// ErrRecord: a record did not authenticate. The connection is closed.
	ErrRecord = errors.New("record does not authenticate")
	// ErrProtocol: an authentic peer sent what the protocol does not allow here. Close with CodeProtocol.
	ErrProtocol = errors.New("protocol violation")
	// ErrKeyLimit: a key has sealed or opened all it may. Replace the session.
	ErrKeyLimit = errors.New("key has reached its limit")
	// ErrLimited: more came over a session below FULL than it may carry. Close with CodeLimit.
	ErrLimited = errors.New("limit of a restricted session reached")
	// ErrUnknownTag: a stream connection showed a tag that is not valid, or no longer. Close it without a byte and charge the source.
	ErrUnknownTag = errors.New("unknown stream tag")
	// ErrUnanswered: the peer did not answer the first record of a stream. Try again on a new connection.
	ErrUnanswered = errors.New("stream was not answered")
	// ErrPath: the other end of a stream no longer acknowledges what was sent.
	ErrPath = errors.New("nothing that was sent is acknowledged any more: the path to the peer is dead")
	// ErrEnded: the keyring or session is no longer in use. Use the current session of the peer.
	ErrEnded = errors.New("session has ended")
)

// ClosedError is what Receive returns after a CLOSE record was received and the owner calls it again.
type ClosedError struct{ Code Code }

// Error names the peer's reason.
func (e *ClosedError) Error() string { return "peer closed the session: " + e.Code.String() }

// RefusedError is the destination's answer REFUSE to a request for a service.
type RefusedError struct {
	Code Code
	// AuditIndex is where the destination logged its decision; 0 if it says nothing.
	AuditIndex uint64
}

// Error names the destination's reason.
func (e *RefusedError) Error() string { return "stream refused: " + e.Code.String() }

// ResetError is a stream ended by the peer's RESET record.
type ResetError struct{ Code Code }

// Error names the peer's reason.
func (e *ResetError) Error() string { return "stream reset by peer: " + e.Code.String() }

// protocolError wraps ErrProtocol with the step that failed.
func protocolError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrProtocol, fmt.Sprintf(format, args...))
}
