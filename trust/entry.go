package trust

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Entry is one link of an issuer's chain.
type Entry struct {
	Issuer      keys.PublicKey
	Seq         uint64
	Prev        keys.Hash
	Time        int64
	RootVersion uint64
	Ops         []Op

	hash keys.Hash
	raw  []byte
	env  *identity.Envelope
}

type entryWire struct {
	Mesh        keys.MeshID    `cbor:"1,keyasint"`
	Issuer      keys.PublicKey `cbor:"2,keyasint"`
	Seq         uint64         `cbor:"3,keyasint"`
	Prev        keys.Hash      `cbor:"4,keyasint"`
	Time        int64          `cbor:"5,keyasint"`
	RootVersion uint64         `cbor:"6,keyasint"`
	Ops         []wireOp       `cbor:"7,keyasint"`
}

// Hash names the entry: the hash of its payload.
func (e *Entry) Hash() keys.Hash { return e.hash }

// Raw returns the envelope as transported.
func (e *Entry) Raw() []byte { return e.raw }

// ParseEntry reads an entry of the mesh. It checks everything that concerns the entry alone, but not its signature and not its
// place in the chain: State.ApplyEntry does.
func ParseEntry(raw []byte, mesh keys.MeshID) (*Entry, error) {
	env, err := identity.ParseEnvelope(raw, MaxEntry)
	if err != nil {
		return nil, fmt.Errorf("entry: %w", err)
	}
	var w entryWire
	if err := wire.Unmarshal(env.Payload, &w); err != nil {
		return nil, fmt.Errorf("entry: %w", err)
	}
	switch {
	case w.Mesh != mesh:
		return nil, errors.New("entry: of another mesh")
	case !validNumber(w.Seq, w.RootVersion) || !validTime(w.Time):
		return nil, errors.New("entry: number or time out of range")
	case len(w.Ops) == 0 || len(w.Ops) > MaxOps:
		return nil, fmt.Errorf("entry: %d ops, want 1 to %d", len(w.Ops), MaxOps)
	}
	e := &Entry{
		Issuer: w.Issuer, Seq: w.Seq, Prev: w.Prev, Time: w.Time, RootVersion: w.RootVersion, Ops: make([]Op, len(w.Ops)),
		hash: env.ID(), raw: bytes.Clone(raw), env: env,
	}
	for i, o := range w.Ops {
		e.Ops[i] = o.Op
	}
	return e, nil
}

// verify checks the signature: exactly one, by the issuer.
func (e *Entry) verify(mesh keys.MeshID) error {
	if err := e.env.VerifyOnly(keys.LabelEntry, mesh, e.Issuer); err != nil {
		return fmt.Errorf("entry: %w", err)
	}
	return nil
}

// removes reports whether the entry takes anything away: such entries go ahead of all others.
func (e *Entry) removes() bool {
	for _, o := range e.Ops {
		if removes(o) {
			return true
		}
	}
	return false
}

// signEntry makes the envelope of an entry whose fields are set.
func signEntry(e *Entry, mesh keys.MeshID, issuer *keys.SigningKey) []byte {
	w := entryWire{Mesh: mesh, Issuer: e.Issuer, Seq: e.Seq, Prev: e.Prev, Time: e.Time, RootVersion: e.RootVersion}
	for _, o := range e.Ops {
		w.Ops = append(w.Ops, wireOp{o})
	}
	return identity.Seal(keys.LabelEntry, mesh, wire.MustMarshal(w), issuer).Encode()
}

// Head is an issuer's signed statement of how long its chain is, made each 300 s: proof of freshness.
type Head struct {
	Mesh        keys.MeshID    `cbor:"1,keyasint"`
	Issuer      keys.PublicKey `cbor:"2,keyasint"`
	Seq         uint64         `cbor:"3,keyasint"`
	Hash        keys.Hash      `cbor:"4,keyasint"`
	RootVersion uint64         `cbor:"5,keyasint"`
	Time        int64          `cbor:"6,keyasint"`
}

// ParseHead reads a head of the mesh and verifies its signature.
func ParseHead(raw []byte, mesh keys.MeshID) (*Head, error) {
	env, err := identity.ParseEnvelope(raw, MaxHead)
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	var h Head
	if err := wire.Unmarshal(env.Payload, &h); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	switch {
	case h.Mesh != mesh:
		return nil, errors.New("head: of another mesh")
	case h.Seq > maxSeq || !validNumber(h.RootVersion) || !validTime(h.Time):
		return nil, errors.New("head: number or time out of range")
	}
	if err := env.VerifyOnly(keys.LabelHead, mesh, h.Issuer); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	return &h, nil
}

// RotateSignature is made by the old key and lets name and grants pass to the new one: label rotate, payload old || new.
func RotateSignature(mesh keys.MeshID, old *keys.SigningKey, next keys.NodeID) keys.Signature {
	id := old.NodeID()
	return old.Sign(keys.LabelRotate, mesh, append(id[:], next[:]...))
}

// RotateSigned reports whether a signature by the old key lets its name and grants pass to the new one.
func RotateSigned(mesh keys.MeshID, old, next keys.NodeID, sig keys.Signature) bool {
	return old.Public().Verify(keys.LabelRotate, mesh, append(old[:], next[:]...), sig)
}

func (o OpRevokeNode) successorSigned(mesh keys.MeshID) bool {
	return o.Successor != nil && RotateSigned(mesh, o.Node, o.Successor.Node, o.Successor.Sig)
}

func signHead(h *Head, issuer *keys.SigningKey) []byte {
	return identity.Seal(keys.LabelHead, h.Mesh, wire.MustMarshal(h), issuer).Encode()
}
