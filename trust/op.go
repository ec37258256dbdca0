package trust

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// The op kinds of protocol §3. 7 is reserved for compaction and is, like every unknown kind below 128, critical.
const (
	kindEnroll      = 1
	kindRevokeNode  = 2
	kindRevokeCert  = 3
	kindGroup       = 4
	kindGrant       = 5
	kindUngrant     = 6
	firstIgnorable  = 128
	lastKnowableOps = 255
)

// Op is one statement of an entry: OpEnroll, OpRevokeNode, OpRevokeCert, OpGroup, OpGrant, OpUngrant, or OpUnknown.
type Op interface {
	kind() uint64
	check() error // everything about the op that needs no other bytes
	need() Caps   // the right it takes; 0 for OpGroup and OpUnknown, which have rules of their own
}

// OpEnroll logs a certificate. RenewUntil 0 means that it never renews itself.
type OpEnroll struct {
	Node       keys.NodeID
	Serial     uint64
	Cert       keys.Hash
	NotBefore  int64
	NotAfter   int64
	Name       string
	Tags       []string
	RenewUntil int64
}

// OpRevokeNode revokes a node's key for good. With Successor, signed by the old key, and an enrolment of the new key in the same
// entry, name and grants pass on.
type OpRevokeNode struct {
	Node      keys.NodeID
	Reason    uint64
	Successor *Successor
}

// Reasons of a revocation, for people: the issuer's word, and nothing is decided by them. What was rotated [State.SuccessorOf] tells.
const (
	RevokeUnsaid  = 0
	RevokeRotated = 1 // the key was rotated: its successor is in the op
	RevokeLeft    = 2 // the node asked for it
)

// Successor names the key that follows a revoked one. Sig is by the OLD key, label rotate, over old || new.
type Successor struct {
	_    struct{} `cbor:",toarray"`
	Node keys.NodeID
	Sig  keys.Signature
}

// OpRevokeCert revokes one certificate by its issuer and serial.
type OpRevokeCert struct {
	Issuer keys.PublicKey
	Serial uint64
	Reason uint64
}

// OpGroup announces a generation of the group secret by its commitment.
type OpGroup struct {
	Generation uint64
	Commit     keys.Hash
}

// OpGrant allows who to use what inside a window; NotAfter 0 is without end. Its identity is (issuer, GID).
type OpGrant struct {
	GID       uint64
	Who       Target
	What      What
	NotBefore int64
	NotAfter  int64
	Note      string
}

// OpUngrant takes a grant back, any issuer's.
type OpUngrant struct {
	Issuer keys.PublicKey
	GID    uint64
	Reason uint64
}

// OpUnknown is an op of a later version, kept as it came.
type OpUnknown struct {
	Kind uint64
	Raw  []byte
}

// critical reports whether the op must be understood.
func (o OpUnknown) critical() bool { return o.Kind < firstIgnorable }

func (OpEnroll) kind() uint64     { return kindEnroll }
func (OpRevokeNode) kind() uint64 { return kindRevokeNode }
func (OpRevokeCert) kind() uint64 { return kindRevokeCert }
func (OpGroup) kind() uint64      { return kindGroup }
func (OpGrant) kind() uint64      { return kindGrant }
func (OpUngrant) kind() uint64    { return kindUngrant }
func (o OpUnknown) kind() uint64  { return o.Kind }

func (OpEnroll) need() Caps     { return CapEnroll }
func (OpRevokeNode) need() Caps { return CapRevoke }
func (OpRevokeCert) need() Caps { return CapRevoke }
func (OpGroup) need() Caps      { return 0 }
func (OpGrant) need() Caps      { return CapGrant }
func (OpUngrant) need() Caps    { return CapGrant }
func (OpUnknown) need() Caps    { return 0 }

// removes reports whether an op only takes away.
func removes(o Op) bool {
	switch o.kind() {
	case kindRevokeNode, kindRevokeCert, kindUngrant:
		return true
	}
	return false
}

func validNumber(ns ...uint64) bool {
	for _, n := range ns {
		if n == 0 || n > maxSeq {
			return false
		}
	}
	return true
}

func (o OpEnroll) check() error {
	if !validNumber(o.Serial) || !validTime(o.NotBefore, o.NotAfter, o.RenewUntil) || o.NotAfter <= o.NotBefore {
		return errors.New("enroll: serial or window out of range")
	}
	if err := keys.CheckPublicKey(o.Node); err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	if err := identity.CheckName(o.Name); err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	if err := identity.CheckTags(o.Tags); err != nil {
		return fmt.Errorf("enroll: %w", err)
	}
	return nil
}

func (o OpRevokeNode) check() error {
	if o.Reason > maxReason {
		return errors.New("revoke: reason out of range")
	}
	if o.Successor != nil && o.Successor.Node == o.Node {
		return errors.New("revoke: a key cannot follow itself")
	}
	return nil
}

func (o OpRevokeCert) check() error {
	if !validNumber(o.Serial) || o.Reason > maxReason {
		return errors.New("revoke certificate: number out of range")
	}
	return nil
}

func (o OpGroup) check() error {
	if !validNumber(o.Generation) {
		return errors.New("group: generation out of range")
	}
	return nil
}

func (o OpGrant) check() error {
	if !validNumber(o.GID) || !validTime(o.NotBefore, o.NotAfter) || o.NotAfter != 0 && o.NotAfter <= o.NotBefore {
		return errors.New("grant: number or window out of range")
	}
	if len(o.Note) > MaxNote {
		return fmt.Errorf("grant: note of %d bytes, at most %d", len(o.Note), MaxNote)
	}
	if err := o.Who.check(); err != nil {
		return fmt.Errorf("grant: who: %w", err)
	}
	if err := o.What.Check(); err != nil {
		return fmt.Errorf("grant: what: %w", err)
	}
	return nil
}

func (o OpUngrant) check() error {
	if !validNumber(o.GID) || o.Reason > maxReason {
		return errors.New("ungrant: number out of range")
	}
	return nil
}

func (o OpUnknown) check() error {
	if o.Kind == 0 || o.Kind > lastKnowableOps {
		return errors.New("op kind out of range")
	}
	// Nothing is known of its shape but that it is canonical: the value is read and written again.
	var any []any
	return wire.Unmarshal(o.Raw, &any)
}

// checkService accepts a service or route name, "*", or a name of the protocol's own behind "!".
func checkService(s string) error {
	if s == "*" {
		return nil
	}
	return identity.CheckName(strings.TrimPrefix(s, "!"))
}

// The wire forms of the ops: arrays that begin with the kind.
type (
	wireEnroll struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		OpEnroll
	}
	wireRevokeNode struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		OpRevokeNode
	}
	wireRevokeCert struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		OpRevokeCert
	}
	wireGroup struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		OpGroup
	}
	wireGrant struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		OpGrant
	}
	wireUngrant struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		OpUngrant
	}
)

// wireOp is an op inside the payload of an entry.
type wireOp struct{ Op }

// MarshalCBOR writes the array of the op's kind.
func (w wireOp) MarshalCBOR() ([]byte, error) {
	switch o := w.Op.(type) {
	case OpEnroll:
		return wire.Marshal(wireEnroll{Kind: kindEnroll, OpEnroll: o})
	case OpRevokeNode:
		return wire.Marshal(wireRevokeNode{Kind: kindRevokeNode, OpRevokeNode: o})
	case OpRevokeCert:
		return wire.Marshal(wireRevokeCert{Kind: kindRevokeCert, OpRevokeCert: o})
	case OpGroup:
		return wire.Marshal(wireGroup{Kind: kindGroup, OpGroup: o})
	case OpGrant:
		return wire.Marshal(wireGrant{Kind: kindGrant, OpGrant: o})
	case OpUngrant:
		return wire.Marshal(wireUngrant{Kind: kindUngrant, OpUngrant: o})
	case OpUnknown:
		return o.Raw, nil
	}
	return nil, fmt.Errorf("op of type %T", w.Op)
}

// UnmarshalCBOR reads an op, strictly; one of an unknown kind is kept as it is.
func (w *wireOp) UnmarshalCBOR(b []byte) error {
	kind, err := wire.Kind(b)
	if err != nil {
		return err
	}
	switch kind {
	case kindEnroll:
		var x wireEnroll
		err = wire.Unmarshal(b, &x)
		w.Op = x.OpEnroll
	case kindRevokeNode:
		var x wireRevokeNode
		err = wire.Unmarshal(b, &x)
		w.Op = x.OpRevokeNode
	case kindRevokeCert:
		var x wireRevokeCert
		err = wire.Unmarshal(b, &x)
		w.Op = x.OpRevokeCert
	case kindGroup:
		var x wireGroup
		err = wire.Unmarshal(b, &x)
		w.Op = x.OpGroup
	case kindGrant:
		var x wireGrant
		err = wire.Unmarshal(b, &x)
		w.Op = x.OpGrant
	case kindUngrant:
		var x wireUngrant
		err = wire.Unmarshal(b, &x)
		w.Op = x.OpUngrant
	default:
		w.Op = OpUnknown{Kind: kind, Raw: append([]byte(nil), b...)}
	}
	if err != nil {
		return err
	}
	return w.Op.check()
}
