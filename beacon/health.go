package beacon

import (
	"errors"
	"fmt"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Health is a node's signed summary of itself, which others pass on beside its peer record. It is shown with its age, and is never a sign
// of life: whoever passes it on may have had it for hours.
type Health struct {
	Node    keys.NodeID `cbor:"1,keyasint"`
	TimeMS  uint64      `cbor:"2,keyasint"` // by the node's clock
	Summary []byte      `cbor:"3,keyasint"` // as package session has it, opaque here
}

// ErrHealth is returned for bytes that are no health summary of this version, or not one of the mesh.
var ErrHealth = errors.New("not a health summary")

func (h *Health) check() error {
	if len(h.Summary) == 0 || len(h.Summary) > MaxSummary {
		return fmt.Errorf("%w: a summary of %d bytes, want 1 to %d", ErrHealth, len(h.Summary), MaxSummary)
	}
	return nil
}

// Sign returns the envelope of h, signed by the node it names.
func (h *Health) Sign(mesh keys.MeshID, node *keys.SigningKey) ([]byte, error) {
	if node.NodeID() != h.Node {
		return nil, errors.New("health: signed by another key than the node it names")
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	return identity.Seal(keys.LabelHealth, mesh, wire.MustMarshal(h), node).Encode(), nil
}

// ParseHealth reads and verifies a summary. Whether the node is a member, and whether the summary is newer than the one held, is the
// caller's to ask.
func ParseHealth(raw []byte, mesh keys.MeshID) (*Health, error) {
	h, e, err := parseHealth(raw)
	if err != nil {
		return nil, err
	}
	if err := e.VerifyOnly(keys.LabelHealth, mesh, h.Node.Public()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHealth, err)
	}
	return h, nil
}

// ReadHealth reads a summary that ParseHealth has verified before, without verifying it again.
func ReadHealth(verified []byte) (*Health, error) {
	h, _, err := parseHealth(verified)
	return h, err
}

func parseHealth(raw []byte) (*Health, *identity.Envelope, error) {
	e, err := identity.ParseEnvelope(raw, MaxEnvelope)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrHealth, err)
	}
	var h Health
	if err := wire.Unmarshal(e.Payload, &h); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrHealth, err)
	}
	if err := h.check(); err != nil {
		return nil, nil, err
	}
	return &h, e, nil
}

// Fresh reports whether the summary may be believed and passed on: made within a day before now, and not after it but for what clocks
// differ. One from the future would stay the newest for as long as it is ahead.
func (h *Health) Fresh(now time.Time) bool {
	ms := uint64(max(now.UnixMilli(), 0))
	return h.TimeMS <= ms+uint64(maxSkew/time.Millisecond) && ms-min(ms, h.TimeMS) <= uint64(HealthLife/time.Millisecond)
}

// Time is when the summary was made, by the node's clock. It is meant for a summary that is Fresh.
func (h *Health) Time() time.Time { return time.UnixMilli(int64(h.TimeMS)) }
