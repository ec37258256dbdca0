package session

import (
	"fmt"
	"time"
)

// Features are the optional parts of the protocol a side speaks: bits in the handshake's P2 and P3. A session uses those both sides
// have; bits this version does not know are never used.
type Features uint64

const (
	// FeatureRekey: control records of type 2 and REKEY_ASK.
	FeatureRekey Features = 1 << 0
	// FeatureWarm: parked connections and DIAL.
	FeatureWarm Features = 1 << 1
	// FeatureLife: ROTATE and LEAVE are answered.
	FeatureLife Features = 1 << 2
	// FeatureAES: the processor has instructions for AES, so streams are sealed with AES-256-GCM, whatever the suite of the session:
	// who dials must choose that before it knows the peer's processor.
	FeatureAES Features = 1 << 3
)

// Common returns what a session may use, given what each side offered.
func Common(ours, theirs uint64) Features {
	return Features(ours&theirs) & (FeatureRekey | FeatureWarm | FeatureLife | FeatureAES)
}

// Has reports whether all of g may be used.
func (f Features) Has(g Features) bool { return f&g == g }

// State says what a session may be used for. Both sides send theirs in READY, first and again on every change; a stream is opened
// only while both are Full.
type State uint8

// The states, with their numbers in READY. Closed is never sent.
const (
	// SyncOnly: the issuer of the peer's certificate is unknown here, but the peer has a newer root. Roots, evidence and entries
	// are taken from it; nothing is sent.
	SyncOnly State = 1
	// Restricted: certificate valid, enrolment not in the log yet. Sync both ways, no group secret.
	Restricted State = 2
	// RenewOnly: certificate expired. As Restricted, and RENEW.
	RenewOnly State = 3
	// Full: member.
	Full State = 4
	// Draining: streams go on, none is opened, the session ends soon.
	Draining State = 5
	// Closed: over.
	Closed State = 6
)

// String names the state.
func (s State) String() string {
	names := [...]string{"unset", "sync only", "restricted", "renew only", "full", "draining", "closed"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// next reports whether READY{t} may follow READY{s}: the states below Full among each other and up, then Full, then Draining, and
// never back. A member that stops being one has its session closed, not demoted.
func (s State) next(t State) bool {
	if t < SyncOnly || t > Draining || s == Closed {
		return false
	}
	return s < Full || t >= s
}

// States is the life of one control session as a pure state machine: what either side has declared, and what that permits. It does
// no I/O and belongs to one goroutine.
type States struct {
	// immutable
	began time.Time
	enrol bool // an enrolment session, suite 0x11
	// owned by the session's goroutine
	local, peer State
	received    int  // control bytes received while either side was below Full
	ended       bool // CLOSE sent or received
	reason      Code // of the first end
}

// NewStates begins the life of a session at now. enrol says that its suite is 0x11, which has no READY: enrolment bodies are
// exchanged at once.
func NewStates(now time.Time, enrol bool) *States {
	return &States{began: now, enrol: enrol}
}

// Local returns the state this side last declared, 0 before its first READY, Closed after End.
func (s *States) Local() State { return s.local }

// Peer returns the state the peer last declared, 0 before its first READY.
func (s *States) Peer() State { return s.peer }

// Declare notes that READY{t} is sent. It fails on a step that does not exist: that is an error of this program.
func (s *States) Declare(t State) error {
	if !s.local.next(t) || s.enrol {
		return fmt.Errorf("session may not go from %s to %s", s.local, t)
	}
	s.local = t
	return nil
}

// Received judges an incoming control body of the given kind and size before it is acted on. An error means CLOSE with
// CodeProtocol, or with CodeLimit if it is [ErrLimited].
func (s *States) Received(b Body, size int) error {
	if s.ended {
		return protocolError("record after CLOSE")
	}
	k := b.Kind()
	if s.enrol {
		if !k.enrolment() {
			return protocolError("%s in an enrolment session", k)
		}
		return s.count(size)
	}
	if k.onlyEnrolment() {
		return protocolError("%s outside an enrolment session", k)
	}
	if r, ok := b.(Ready); ok {
		if !s.peer.next(r.State) {
			return protocolError("peer goes from %s to %s", s.peer, r.State)
		}
		s.peer = r.State
		return s.count(size)
	}
	if s.peer == 0 {
		return protocolError("%s before READY", k)
	}
	if s.local == 0 {
		return protocolError("%s before our READY, which the peer must wait for", k)
	}
	if k < firstIgnored && (!s.local.takes(k) || !s.peer.mayAsk(k)) {
		return protocolError("%s while we are %s and the peer is %s", k, s.local, s.peer)
	}
	return s.count(size)
}

// count enforces LimitedBytes below Full.
func (s *States) count(size int) error {
	if s.Usable() {
		return nil
	}
	s.received += size
	if s.received > LimitedBytes {
		return fmt.Errorf("%w: %d bytes before the session was full", ErrLimited, s.received)
	}
	return nil
}

// Usable reports whether both sides have reached Full, Draining included.
func (s *States) Usable() bool { return s.local >= Full && s.peer >= Full }

// MayOpen reports whether a stream may be opened or taken: both sides are Full.
func (s *States) MayOpen() bool { return !s.ended && s.local == Full && s.peer == Full }

// Expired reports whether the session has been below Full for too long.
func (s *States) Expired(now time.Time) bool { return !s.Usable() && now.Sub(s.began) >= LimitedLife }

// End notes that the session ends. The first reason wins; later ones are forgotten.
func (s *States) End(c Code) Code {
	if !s.ended {
		s.ended, s.reason, s.local = true, c, Closed
	}
	return s.reason
}

// takes reports what a side in state s accepts from its peer.
func (s State) takes(k Kind) bool {
	switch s {
	case SyncOnly:
		// The peer, seen from here, is of an unknown issuer: what lets us judge it is welcome, and what it says of its own view.
		return k == KindVec || k == KindRoot || k == KindEvidence || k == KindEntry || k == KindHead || k == KindAck ||
			k == KindHashAt || k == KindGoAway
	case Restricted:
		return k.sync()
	case RenewOnly:
		return k.sync() || k == KindRenew
	case Full, Draining:
		return true
	}
	return false
}

// mayAsk reports what a peer that declared s about us may still send: a peer that only syncs sends nothing of its own trust.
func (s State) mayAsk(k Kind) bool {
	switch s {
	case SyncOnly:
		return k == KindVec || k == KindWant || k == KindAck || k == KindHashAt || k == KindGoAway
	case Restricted, RenewOnly:
		return k.sync() || k == KindCertUpdate
	case Full, Draining:
		return true
	}
	return false
}

// sync reports the kinds that carry or ask for trust objects.
func (k Kind) sync() bool {
	return k >= KindVec && k <= KindAck || k == KindGoAway
}
