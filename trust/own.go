package trust

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// Errors of making an own entry. Everything a receiver would ignore or refuse is refused here first, with what to do.
var (
	// ErrNotIssuer: the key is no issuer of the current root, or is cut off.
	ErrNotIssuer = errors.New("this key is no issuer of the mesh (any more); the root has to name it")
	// ErrNoRight: the root does not give the issuer the right.
	ErrNoRight = errors.New("the root does not give this issuer the right")
	// ErrLimits: the root does not let the issuer give so long a life, or such a tag.
	ErrLimits = errors.New("outside the limits the root sets for this issuer")
	// ErrSuspended: the issuer has contradicted itself, or uses ops this version does not know: it can only remove.
	ErrSuspended = errors.New("this issuer can only revoke and ungrant until a new root decides")
	// ErrNumber: a serial, gid or generation is not above all before it.
	ErrNumber = errors.New("number not above the ones before it; build the ops again from IssuerStatus")
)

// EnrollOp is the op that logs a certificate.
func EnrollOp(c *identity.SignedCertificate) OpEnroll {
	return OpEnroll{
		Node: c.Node, Serial: c.Serial, Cert: c.ID, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Name: c.Name, Tags: c.Tags,
		RenewUntil: c.RenewUntil,
	}
}

// nextEntry makes the next entry of an own chain. Everything in it will count when it is applied.
func (s *State) nextEntry(issuer *keys.SigningKey, now int64, ops []Op) (*Entry, error) {
	is, ok := s.Root().Issuer(issuer.Public())
	if !ok || is.Cutoff != nil {
		return nil, ErrNotIssuer
	}
	c, _ := s.chain(is.ID)
	if err := s.checkOwn(c, is, ops); err != nil {
		return nil, err
	}
	e := &Entry{
		Issuer: is.ID, Seq: c.seq + 1, Prev: c.hash, Time: max(now, c.time), RootVersion: s.Root().Version, Ops: slices.Clone(ops),
	}
	if e.Time > is.NotAfter {
		return nil, fmt.Errorf("%w: its key has expired", ErrNotIssuer)
	}
	raw := signEntry(e, s.mesh, issuer)
	// Read it as everybody else will.
	e, err := ParseEntry(raw, s.mesh)
	if err != nil {
		return nil, err
	}
	if _, _, err := s.applyEntry(e); err != nil {
		return nil, err
	}
	return e, nil
}

// checkOwn refuses what a receiver would silently ignore.
func (s *State) checkOwn(c *chain, is *Issuer, ops []Op) error {
	serial, gid := c.maxSerial, c.maxGID
	gen := uint64(0)
	if c.group != nil {
		gen = c.group.op.Generation
	}
	if all, _ := s.GroupCommit(); all > gen {
		gen = all
	}
	for i, o := range ops {
		if err := o.check(); err != nil {
			return fmt.Errorf("op %d: %w", i+1, err)
		}
		if !is.Caps.Has(o.need()) {
			return fmt.Errorf("op %d: %w", i+1, ErrNoRight)
		}
		if !removes(o) && s.adds[c.index] != math.MaxUint64 {
			return fmt.Errorf("op %d: %w", i+1, ErrSuspended)
		}
		number, last := uint64(1), new(uint64)
		switch o := o.(type) {
		case OpEnroll:
			number, last = o.Serial, &serial
			switch enrollAllowed(is, o.Tags, o.NotBefore, o.NotAfter) {
			case ReasonNoRight:
				return fmt.Errorf("op %d: %w", i+1, ErrNoRight)
			case ReasonLimits:
				return fmt.Errorf("op %d: %w", i+1, ErrLimits)
			}
		case OpGrant:
			number, last = o.GID, &gid
		case OpGroup:
			if s.Root().GroupIssuer != is.ID {
				return fmt.Errorf("op %d: %w: it is not the group issuer", i+1, ErrNoRight)
			}
			number, last = o.Generation, &gen
		case OpUnknown:
			return fmt.Errorf("op %d: of a kind this version does not know", i+1)
		}
		if number <= *last {
			return fmt.Errorf("op %d: %w", i+1, ErrNumber)
		}
		*last = number
	}
	return nil
}
