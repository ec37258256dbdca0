package session

import (
	"fmt"
	"unicode"

	"github.com/sovereignmesh/meshkey/internal/wire"
)

// ServiceState is what a node's own check of a service's target found.
type ServiceState uint8

// The states of a service.
const (
	ServiceUp       ServiceState = 1
	ServiceDown     ServiceState = 2
	ServiceDraining ServiceState = 3
)

// Service is [name, proto, state, since, reason] in SERVICES: proto is a short word such as "tcp" or "http", since unix seconds,
// reason a sentence that is shown and never interpreted.
type Service struct {
	_      struct{} `cbor:",toarray"`
	Name   string
	Proto  string
	State  ServiceState
	Since  uint64
	Reason string
}

// Services is SERVICES [21, seq, [service] by name]: everything the receiver may use on the sender. It replaces the list before it.
type Services struct {
	_    struct{} `cbor:",toarray"`
	K    Kind
	Seq  uint64
	List []Service
}

// Kind returns the body's kind.
func (b Services) Kind() Kind { return KindServices }

func (b Services) check() error {
	if len(b.List) > maxServices {
		return fmt.Errorf("%d services, at most %d", len(b.List), maxServices)
	}
	for i := range b.List {
		s := &b.List[i]
		if err := checkService(s.Name); err != nil {
			return err
		}
		if i > 0 && b.List[i-1].Name >= s.Name {
			return errOrder
		}
		if s.Proto != "" {
			if err := checkService(s.Proto); err != nil {
				return fmt.Errorf("protocol of %s: %w", s.Name, err)
			}
		}
		if s.State < ServiceUp || s.State > ServiceDraining {
			return fmt.Errorf("service %s in state %d", s.Name, s.State)
		}
		if err := checkText(s.Reason, maxReason); err != nil {
			return fmt.Errorf("reason of %s: %w", s.Name, err)
		}
	}
	return nil
}

// checkService accepts one DNS label of a–z, 0–9 and inner hyphens.
func checkService(s string) error {
	if s == "" || len(s) > maxServiceName {
		return fmt.Errorf("service name of %d bytes, want 1 to %d", len(s), maxServiceName)
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' && i > 0 && i < len(s)-1) {
			return fmt.Errorf("service name %q; use a-z, 0-9 and inner hyphens", s)
		}
	}
	return nil
}

// checkText bounds text a person will read, and keeps control characters from their terminal.
func checkText(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("text of %d bytes, at most %d", len(s), limit)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("text holds the unprintable character %U", r)
		}
	}
	return nil
}

// AuditState is how a node's audit log fares.
type AuditState uint8

// The states of an audit log.
const (
	AuditHealthy  AuditState = 1
	AuditDegraded AuditState = 2
)

// Health is a node's summary of itself. Fields that are zero are absent on the wire. It is authenticated by the session and says
// nothing a decision may rest on.
type Health struct {
	Seq        uint64     `cbor:"1,keyasint,omitzero"`  // rises with every summary of this boot
	Version    string     `cbor:"2,keyasint,omitzero"`  // of the program
	Uptime     uint64     `cbor:"3,keyasint,omitzero"`  // seconds since the daemon started
	Load       uint64     `cbor:"4,keyasint,omitzero"`  // one-minute load average × 100
	DiskFree   uint64     `cbor:"5,keyasint,omitzero"`  // bytes free where the state is kept
	ClockDrift int64      `cbor:"6,keyasint,omitzero"`  // own clock minus its peers' median, ms
	Expiry     uint64     `cbor:"7,keyasint,omitzero"`  // end of the certificate, unix seconds
	Audit      AuditState `cbor:"8,keyasint,omitzero"`  // whether the audit log can be written
	AuditSize  uint64     `cbor:"9,keyasint,omitzero"`  // entries in it
	AuditHead  [32]byte   `cbor:"10,keyasint,omitzero"` // its root hash at that size
	Time       uint64     `cbor:"11,keyasint,omitzero"` // own clock when the summary was made, unix ms
}

// Heartbeat is the body of a heartbeat record:
//
//	{1: health, 2: degree, 3: digest bstr8, 4: ping, 5: pong}
//
// Fields that are zero are absent. A ping is answered at once by a heartbeat whose pong has its number.
type Heartbeat struct {
	Health *Health `cbor:"1,keyasint,omitempty"`
	Degree uint64  `cbor:"2,keyasint,omitzero"` // control sessions the sender has
	Digest [8]byte `cbor:"3,keyasint,omitzero"` // of the sender's VEC
	Ping   uint64  `cbor:"4,keyasint,omitzero"` // a number to be sent back
	Pong   uint64  `cbor:"5,keyasint,omitzero"` // the number of the ping this answers
}

func (h *Heartbeat) check() error {
	if h.Health == nil {
		return nil
	}
	if err := checkText(h.Health.Version, maxVersion); err != nil {
		return fmt.Errorf("version: %w", err)
	}
	if h.Health.Audit > AuditDegraded {
		return fmt.Errorf("audit state %d", h.Health.Audit)
	}
	return nil
}

// EncodeHeartbeat returns the canonical bytes of a heartbeat.
func EncodeHeartbeat(h Heartbeat) ([]byte, error) {
	if err := h.check(); err != nil {
		return nil, fmt.Errorf("encoding heartbeat: %w", err)
	}
	return wire.Marshal(h)
}

// ParseHeartbeat reads the body of a heartbeat record. Keys ≥ 128, in the heartbeat or in its health, are ignored and their number
// is returned; lower unknown keys are errors. A body that is empty or all zeros is padding: a heartbeat that says nothing.
func ParseHeartbeat(data []byte) (h Heartbeat, ignored int, err error) {
	if isZero(data) {
		return Heartbeat{}, 0, nil
	}
	if len(data) > 2*maxHealth {
		return Heartbeat{}, 0, protocolError("heartbeat of %d bytes", len(data))
	}
	var fields map[uint64]any
	if err := wire.Unmarshal(data, &fields); err != nil {
		return Heartbeat{}, 0, protocolError("heartbeat: %v", err)
	}
	ignored = dropUnknown(fields)
	if health, ok := fields[1].(map[any]any); ok {
		b, err := wire.Marshal(health)
		if err != nil || len(b) > maxHealth {
			return Heartbeat{}, 0, protocolError("heartbeat: health of %d bytes", len(b))
		}
		ignored += dropUnknown(health)
	}
	known, err := wire.Marshal(fields)
	if err != nil {
		return Heartbeat{}, 0, protocolError("heartbeat: %v", err)
	}
	if err := wire.Unmarshal(known, &h); err != nil {
		return Heartbeat{}, 0, protocolError("heartbeat: %v", err)
	}
	if err := h.check(); err != nil {
		return Heartbeat{}, 0, protocolError("heartbeat: %v", err)
	}
	return h, ignored, nil
}

// dropUnknown removes the keys that later versions may have added.
func dropUnknown[K comparable](m map[K]any) (n int) {
	for k := range m {
		if v, ok := any(k).(uint64); ok && v >= firstIgnored {
			delete(m, k)
			n++
		}
	}
	return n
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
