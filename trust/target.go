package trust

import (
	"errors"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// TargetKind says how a Target names nodes.
type TargetKind uint8

// The kinds of targets.
const (
	TargetAny  TargetKind = 0
	TargetNode TargetKind = 1
	TargetTag  TargetKind = 2
)

// Target is a set of nodes: [0] any, [1, node id], or [2, tag]. It is a comparable value.
type Target struct {
	Kind TargetKind
	Node keys.NodeID
	Tag  string
}

// AnyNode is every member.
func AnyNode() Target { return Target{} }

// NodeTarget is the one node with this id, or the key that followed it by rotation.
func NodeTarget(id keys.NodeID) Target { return Target{Kind: TargetNode, Node: id} }

// TagTarget is every node whose logged certificate has the tag.
func TagTarget(tag string) Target { return Target{Kind: TargetTag, Tag: tag} }

func (t Target) check() error {
	if t.Kind == TargetTag {
		return identity.CheckTag(t.Tag)
	}
	return nil
}

type (
	targetAny struct {
		_    struct{} `cbor:",toarray"`
		Kind uint8
	}
	targetNode struct {
		_    struct{} `cbor:",toarray"`
		Kind uint8
		Node keys.NodeID
	}
	targetTag struct {
		_    struct{} `cbor:",toarray"`
		Kind uint8
		Tag  string
	}
)

// MarshalCBOR writes the array of the target's kind.
func (t Target) MarshalCBOR() ([]byte, error) {
	switch t.Kind {
	case TargetNode:
		return wire.Marshal(targetNode{Kind: uint8(t.Kind), Node: t.Node})
	case TargetTag:
		return wire.Marshal(targetTag{Kind: uint8(t.Kind), Tag: t.Tag})
	}
	return wire.Marshal(targetAny{Kind: uint8(t.Kind)})
}

// UnmarshalCBOR reads one of the three arrays, strictly.
func (t *Target) UnmarshalCBOR(b []byte) error {
	kind, err := wire.Kind(b)
	if err != nil {
		return err
	}
	*t = Target{Kind: TargetKind(kind)}
	switch kind {
	case uint64(TargetAny):
		return wire.Unmarshal(b, &targetAny{})
	case uint64(TargetNode):
		var w targetNode
		err = wire.Unmarshal(b, &w)
		t.Node = w.Node
	case uint64(TargetTag):
		var w targetTag
		err = wire.Unmarshal(b, &w)
		t.Tag = w.Tag
	default:
		err = errors.New("a target this version does not know")
	}
	return err
}

// Verb says what a grant allows.
type Verb uint8

// The verbs of a grant.
const (
	VerbOpen     Verb = 0 // use the service
	VerbEscalate Verb = 1 // let the route leave the mesh
)

// What is the right-hand side of a grant: a service, by name or "*", on a set of nodes.
type What struct {
	_       struct{} `cbor:",toarray"`
	Target  Target
	Verb    Verb
	Service string
}

// Check reports whether a grant of it could be written.
func (w What) Check() error {
	if err := w.Target.check(); err != nil {
		return err
	}
	if w.Verb > VerbEscalate {
		return errors.New("a verb this version does not know")
	}
	return checkService(w.Service)
}
