package core

import (
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// Now is the time of a step, read by the shell.
type Now struct {
	Mono  time.Duration // since the daemon started; stops in suspend
	Wall  int64         // local clock, unix milliseconds
	Trust int64         // unix seconds at which trust questions are asked: the local clock, never far behind the log's newest time
}

// SessionID names a session within one run of a daemon.
type SessionID uint64

// DialID names a dial within one run of a daemon.
type DialID uint64

// Event is something that happened outside.
type Event interface{ event() }

type (
	// Start is the first event.
	Start struct{}
	// Timer says that the time asked for by the last SetTimer has come.
	Timer struct{}
	// BeaconIn is a verified beacon.
	BeaconIn struct {
		Node      keys.NodeID
		Endpoints []netip.AddrPort
		ReplyTo   netip.AddrPort // its unicast beacon socket
		Interface int
		Digest    beacon.Digest
		Boot      beacon.Boot
		Interval  time.Duration
		Epoch     uint64
		Counter   uint64
		AES       bool   // the peer has AES hardware
		Skewed    bool   // its clock is far off: an address hint, not presence
		Envelope  []byte // for forwarding to others
		Told      bool   // from another peer's PEER record, not heard here
	}
	// HealthIn is another node's signed summary of itself, told by a peer: verified, newer than what was told before, and no sign of
	// life. It is passed on with the node's record.
	HealthIn struct {
		Node     keys.NodeID
		Envelope []byte
	}
	// DialFailed ends a dial without a session; successes arrive as SessionUp.
	DialFailed struct {
		ID   DialID
		Code session.Code // the peer's reason, if it gave one under encryption
	}
	// SessionUp is a finished handshake whose peer was verified.
	SessionUp struct {
		ID          SessionID
		Dial        DialID // 0: the peer dialled
		Peer        keys.NodeID
		Role        keys.Role
		Boot        identity.BootID
		ConnSeq     uint64
		Remote      netip.AddrPort
		Certificate *identity.SignedCertificate
		RootVersion uint64
	}
	// FrameIn is a control record of a session, already parsed.
	FrameIn struct {
		ID   SessionID
		Body session.Body
		Raw  []byte // as received
	}
	// HeartbeatIn is a heartbeat record: it proves life and carries hints.
	HeartbeatIn struct {
		ID         SessionID
		Digest     [8]byte
		Degree     uint64
		Ping, Pong uint64
	}
	// SessionDown says that a session's connection is gone.
	SessionDown struct {
		ID   SessionID
		Code session.Code // the peer's close code, 0 if it gave none
	}
	// TrustIn says that the trust log was changed on this host: an own entry, or a root accepted by an admin. It is durable already.
	TrustIn struct{ Changes []trust.Change }
	// NetChange carries the prefixes of this host after a change of its interfaces or addresses.
	NetChange struct{ Prefixes []netip.Prefix }
	// Want asks for a session with a peer now, because a user does.
	Want struct{ Peer keys.NodeID }
	// Using says that a peer has streams now, or has none any more: a session whose peer has streams is not shed.
	Using struct {
		Peer    keys.NodeID
		Streams bool
	}
	// AddSeed tells an address a person configured or an enrolment answer carried for a peer.
	AddSeed struct {
		Peer keys.NodeID
		At   netip.AddrPort
	}
	// Replace asks for a successor of a session whose keys are due: this node, its dialer, dials again, and the newer one wins.
	Replace struct{ ID SessionID }
	// Retire ends a session whose keys were due for too long.
	Retire struct{ ID SessionID }
	// Stop drains: every peer is told that this node goes.
	Stop struct{}
)

func (Start) event()       {}
func (Timer) event()       {}
func (BeaconIn) event()    {}
func (HealthIn) event()    {}
func (DialFailed) event()  {}
func (SessionUp) event()   {}
func (FrameIn) event()     {}
func (HeartbeatIn) event() {}
func (SessionDown) event() {}
func (TrustIn) event()     {}
func (NetChange) event()   {}
func (Want) event()        {}
func (Using) event()       {}
func (AddSeed) event()     {}
func (Replace) event()     {}
func (Retire) event()      {}
func (Stop) event()        {}
