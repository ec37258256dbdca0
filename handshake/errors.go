package handshake

import (
	"fmt"

	"github.com/sovereignmesh/meshkey/session"
)

// Reason says at which step a handshake ended. It is what is counted and audited; a peer never learns it.
type Reason uint8

// The reasons, in the order in which a responder meets them; the dialer uses those of reading and verifying.
const (
	// ReasonBudget: too many handshakes from this source.
	ReasonBudget Reason = iota + 1
	// ReasonSuite: no suite of this protocol.
	ReasonSuite
	// ReasonShort: the peer went away, or was silent until the deadline, before its message was complete.
	ReasonShort
	// ReasonGate: message 1 does not open with any current gate or live invite: an outsider, or meant for another node.
	ReasonGate
	// ReasonOldGate: the message needed a try of older gates and their budget was spent.
	ReasonOldGate
	// ReasonReplay: this message 1 was seen before.
	ReasonReplay
	// ReasonP1: the payload of message 1 is of an unknown version or needs something unknown.
	ReasonP1
	// ReasonBusy: all processors are taken and the queue is full.
	ReasonBusy
	// ReasonKEM: the encapsulation key is not valid.
	ReasonKEM
	// ReasonWrite: our message could not be sent.
	ReasonWrite
	// ReasonNoise: message 2 or 3 does not open.
	ReasonNoise
	// ReasonPayload: payload 2 or 3 is not in the one form.
	ReasonPayload
	// ReasonBinding: the binding is malformed, of another mesh, or not signed by the node it names.
	ReasonBinding
	// ReasonStatic: the binding is for another Noise static key than the one proved.
	ReasonStatic
	// ReasonCertificate: the certificate is missing, unwanted, malformed, of another mesh, or not signed by its issuer.
	ReasonCertificate
	// ReasonOtherNode: certificate and binding name different nodes.
	ReasonOtherNode
	// ReasonSelf: the peer is this node itself.
	ReasonSelf
	// ReasonNotDialled: the peer is a node of the mesh, but not the one that was dialled.
	ReasonNotDialled
	// ReasonRefused: the peer is who it says and policy or its validity refuses it.
	ReasonRefused
	// ReasonCancelled: the context ended.
	ReasonCancelled
	// ReasonLocal: this node's own configuration cannot make a handshake.
	ReasonLocal
	// ReasonPanic: a bug; the connection was closed.
	ReasonPanic

	numReasons
)

var reasonNames = [numReasons]string{
	ReasonBudget: "budget", ReasonSuite: "suite", ReasonShort: "short", ReasonGate: "gate", ReasonOldGate: "old-gate",
	ReasonReplay: "replay", ReasonP1: "p1", ReasonBusy: "busy", ReasonKEM: "kem", ReasonWrite: "write", ReasonNoise: "noise",
	ReasonPayload: "payload", ReasonBinding: "binding", ReasonStatic: "static", ReasonCertificate: "certificate",
	ReasonOtherNode: "other-node", ReasonSelf: "self", ReasonNotDialled: "not-dialled", ReasonRefused: "refused",
	ReasonCancelled: "cancelled", ReasonLocal: "local", ReasonPanic: "panic",
}

// String returns the reason's one word, for metrics and logs.
func (r Reason) String() string {
	if r == 0 || r >= numReasons {
		return "unknown"
	}
	return reasonNames[r]
}

// Error is a handshake that ended without a session. The connection is closed, and the peer was told nothing.
type Error struct {
	Reason Reason
	// Code is set with ReasonRefused: why this node does not want the peer.
	Code session.Code
	// Peer is set with ReasonRefused, for the audit log: the proven peer.
	Peer *Peer
	err  error
}

// Error says at which step it ended. Of the peer's words it contains at most a quoted name, as bounded as certificates are.
func (e *Error) Error() string {
	if e.err == nil {
		return "handshake: " + e.Reason.String()
	}
	return fmt.Sprintf("handshake: %s: %v", e.Reason, e.err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

func fail(r Reason, err error) *Error { return &Error{Reason: r, err: err} }
