package core

import (
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// Effect is something the shell is asked to do. Effects of one step are carried out in order.
type Effect interface{ effect() }

type (
	// SendBeacon broadcasts on every interface, or sends one unicast beacon to To: a probe that asks for an answer, or an answer.
	SendBeacon struct {
		To       netip.AddrPort // zero: broadcast
		Flags    beacon.Flags
		Interval time.Duration // to be announced
		Crowd    int           // how many others are heard on the most crowded interface
	}
	// Dial opens a TCP connection and runs the handshake, expecting exactly Peer.
	Dial struct {
		ID   DialID
		Peer keys.NodeID
		At   netip.AddrPort
		AES  bool // the peer has AES hardware
	}
	// CancelDial gives a dial up.
	CancelDial struct{ ID DialID }
	// Send writes a control record.
	Send struct {
		ID   SessionID
		Body session.Body
	}
	// SendRaw writes a control record that is encoded already: a trust frame.
	SendRaw struct {
		ID     SessionID
		Raw    []byte
		Urgent bool
	}
	// Heartbeat writes a heartbeat record with the newest health summary and the given digest.
	Heartbeat struct {
		ID         SessionID
		Digest     [8]byte
		Degree     uint64
		Ping, Pong uint64
	}
	// SessionState tells what a session may do now. Streams open only over Full, which means both sides said so. Since Draining
	// new streams use another session of the peer, and the tags die Drain later.
	SessionState struct {
		ID       SessionID
		State    session.State
		Local    session.State // what this side declares; from Full on the peer's streams are awaited
		Unsynced bool          // Full was given without other peers' views
	}
	// CloseSession ends a session: CLOSE{Code} if it can be written without blocking, else a reset.
	CloseSession struct {
		ID   SessionID
		Code session.Code
		Why  string
	}
	// CutNode resets every socket of a node at once: sessions, streams, parked connections, handshakes.
	CutNode struct {
		Node keys.NodeID
		Code session.Code
		Why  string
	}
	// TellSelf sends this node's own peer record over a session, and its signed health summary.
	TellSelf struct{ ID SessionID }
	// TrustChanged says that the trust log has changed; the shell sweeps its streams against it.
	TrustChanged struct {
		From   keys.NodeID // zero: this host
		What   string      // for people and the audit log
		Change trust.Change
	}
	// TrustRejected reports a frame a peer sent that is invalid or was quarantined.
	TrustRejected struct {
		From keys.NodeID
		Kind string
		Why  string
	}
	// PeerChanged reports a peer's new presence: up, stale, offline, pruned.
	PeerChanged struct {
		Peer     keys.NodeID
		Presence Presence
		Why      string
		Silent   time.Duration
		Probes   int // that went unanswered
	}
	// Alarm reports something a person should look at: clone, mute, unmute, duplicate limit.
	Alarm struct {
		Code string
		Peer keys.NodeID
		Text string

		Interface int
	}
	// Persist asks to keep these over restarts, in place of what was kept before. It comes rarely, and losing one costs little: what
	// is heard later is kept again.
	Persist struct {
		Known  []Known
		Anchor keys.NodeID // zero: none
	}
	// PollNetwork asks for a fresh look at the interfaces.
	PollNetwork struct{}
	// SetTimer asks for a Timer event at the monotonic time.
	SetTimer struct{ At time.Duration }
)

func (SendBeacon) effect()    {}
func (Dial) effect()          {}
func (CancelDial) effect()    {}
func (Send) effect()          {}
func (SendRaw) effect()       {}
func (Heartbeat) effect()     {}
func (SessionState) effect()  {}
func (CloseSession) effect()  {}
func (CutNode) effect()       {}
func (TellSelf) effect()      {}
func (TrustChanged) effect()  {}
func (TrustRejected) effect() {}
func (PeerChanged) effect()   {}
func (Alarm) effect()         {}
func (Persist) effect()       {}
func (PollNetwork) effect()   {}
func (SetTimer) effect()      {}

// Presence is what is known of a peer's being there; it says nothing about trust.
type Presence uint8

// The presences, worst first.
const (
	Unseen  Presence = iota // never heard since this daemon started
	Offline                 // was there, is not
	Pruned                  // fell silent within the last minute
	Stale                   // heard of, no session
	Up                      // a session in state full
)

// String is the word on screen.
func (p Presence) String() string {
	return [...]string{"unseen", "offline", "pruned", "stale", "up"}[p]
}
