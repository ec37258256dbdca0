package trust

import (
	"errors"

	"github.com/sovereignmesh/meshkey/keys"
)

// Errors a caller branches on, by errors.Is. Everything else about an error is for people.
var (
	// ErrHave: known already; nothing changed.
	ErrHave = errors.New("known already")
	// ErrGap: it cannot be judged yet, because earlier entries of the issuer, or the root it names, are missing. Ask for them.
	ErrGap = errors.New("something before it is missing")
	// ErrInvalid: no honest node has it. Close the peer that sent it.
	ErrInvalid = errors.New("invalid")
	// ErrBranch: signed by the issuer, but it continues another branch of its chain than the one held. Search the fork point.
	ErrBranch = errors.New("belongs to another branch of the chain")
	// ErrFork: the issuer signed two entries for one place. The pair is evidence.
	ErrFork = errors.New("the issuer signed two entries with one number")
	// ErrVoid: a root cut the issuer off before it, or refuses this root; the peer only has an older view.
	ErrVoid = errors.New("void by a root")
	// ErrFuture: a head is dated after this node's clock.
	ErrFuture = errors.New("dated in the future")
	// ErrFull: a bounded store of what is kept for a forked issuer, or waits for the disk, is full.
	ErrFull = errors.New("no room for it")
	// ErrQuarantined: applying it made this program fail once; it is left alone until a restart, which tries once more.
	ErrQuarantined = errors.New("in quarantine since it made this program fail; report it and upgrade")
)

// invalidError is an error that errors.Is finds to be ErrInvalid.
type invalidError struct{ err error }

func (e invalidError) Error() string        { return e.err.Error() }
func (e invalidError) Unwrap() error        { return e.err }
func (e invalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(err error) error { return invalidError{err} }

func invalidf(text string) error { return invalidError{errors.New(text)} }

// Reason says why a peer or a stream is admitted, restricted or refused. The words are stable: they go into audit records.
type Reason string

// The reasons of Admit and Decide.
const (
	ReasonLive          Reason = "live"
	ReasonUnlogged      Reason = "not-logged-yet"
	ReasonSuspended     Reason = "issuer-suspended" // forked, or it uses ops this version does not know
	ReasonStale         Reason = "view-stale"
	ReasonNewerRoot     Reason = "issuer-unknown-peer-has-newer-root"
	ReasonForeign       Reason = "other-mesh"
	ReasonRevoked       Reason = "revoked"
	ReasonUnknownIssuer Reason = "issuer-unknown"
	ReasonNoRight       Reason = "issuer-may-not-enrol"
	ReasonCutOff        Reason = "issuer-cut-off"
	ReasonLimits        Reason = "outside-issuer-limits"
	ReasonMismatch      Reason = "differs-from-log"
	ReasonNotYet        Reason = "not-yet-valid"
	ReasonExpired       Reason = "expired"
	ReasonExpiredRenew  Reason = "expired-may-renew"
	ReasonNotMember     Reason = "not-a-member"
	ReasonGranted       Reason = "granted"
	ReasonNoGrant       Reason = "no-grant-matches"
	ReasonService       Reason = "no-such-service-name"
)

// Code is the close code of protocol §4 that tells a refused peer why; 0 where nothing is refused.
func (r Reason) Code() uint8 {
	switch r {
	case ReasonRevoked:
		return 5
	case ReasonExpired:
		return 6
	case ReasonLive, ReasonUnlogged, ReasonSuspended, ReasonStale, ReasonNewerRoot, ReasonExpiredRenew, ReasonGranted:
		return 0
	}
	return 4
}

// ForkError is ErrFork with the place.
type ForkError struct {
	Issuer keys.PublicKey
	Seq    uint64
}

func (e *ForkError) Error() string {
	return ErrFork.Error() + ": issuer " + e.Issuer.String()[:16]
}

// Is makes it ErrFork.
func (e *ForkError) Is(target error) bool { return target == ErrFork }
