package trust

import (
	"errors"
	"fmt"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// The kinds of sync frames: the control kinds of protocol §5 with these numbers.
const (
	KindVec      = 2
	KindWant     = 3
	KindRoot     = 4
	KindEntry    = 5
	KindEvidence = 6
	KindHead     = 7
	KindHashAt   = 8
)

// Frame is one control body: Body is the whole CBOR array, its kind included.
type Frame struct {
	Kind   uint8
	Body   []byte
	Urgent bool // takes something away: goes ahead of everything that waits
}

// The bodies. WANT with the zero issuer asks for roots by version.
type (
	vecWire struct {
		_       struct{} `cbor:",toarray"`
		Kind    uint64
		Version uint64
		Hash    keys.Hash
		Issuers []Position
		Group   uint64
	}
	wantWire struct {
		_      struct{} `cbor:",toarray"`
		Kind   uint64
		Issuer keys.PublicKey
		From   uint64
		To     uint64
	}
	rawWire struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		Raw  []byte
	}
	evidenceWire struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		A    []byte
		B    []byte
	}
	hashAtWire struct {
		_      struct{} `cbor:",toarray"`
		Kind   uint64
		Issuer keys.PublicKey
		Seq    uint64
		Hash   *keys.Hash // null asks
	}
)

// ParseVector reads the body of a VEC.
func ParseVector(body []byte) (*Vector, error) {
	w, err := parseBody[vecWire](body, KindVec)
	if err != nil {
		return nil, err
	}
	if !validNumber(w.Version) || w.Group > maxSeq || len(w.Issuers) > maxIssuers {
		return nil, errors.New("vector: number out of range")
	}
	for i, p := range w.Issuers {
		if p.Seq > maxSeq || !validTime(p.HeadTime) || p.Forked > 1 {
			return nil, errors.New("vector: number out of range")
		}
		if i > 0 && string(w.Issuers[i-1].Issuer[:]) >= string(p.Issuer[:]) {
			return nil, errors.New("vector: issuers not sorted and unique")
		}
	}
	return &Vector{RootVersion: w.Version, RootHash: w.Hash, Issuers: w.Issuers, GroupGen: w.Group}, nil
}

func (v *Vector) frame() Frame {
	return frameOf(KindVec, vecWire{Kind: KindVec, Version: v.RootVersion, Hash: v.RootHash, Issuers: v.Issuers, Group: v.GroupGen})
}

// of returns an issuer's line; without one it is empty.
func (v *Vector) of(issuer keys.PublicKey) (Position, bool) {
	for _, p := range v.Issuers {
		if p.Issuer == issuer {
			return p, true
		}
	}
	return Position{}, false
}

func frameOf(kind uint8, body any) Frame { return Frame{Kind: kind, Body: wire.MustMarshal(body)} }

// parseBody reads a body of the given kind, strictly.
func parseBody[T any](body []byte, kind uint64) (*T, error) {
	if len(body) > MaxFrame {
		return nil, fmt.Errorf("frame of %d bytes, at most %d", len(body), MaxFrame)
	}
	if k, err := wire.Kind(body); err != nil || k != kind {
		return nil, fmt.Errorf("frame: not of kind %d", kind)
	}
	var w T
	if err := wire.Unmarshal(body, &w); err != nil {
		return nil, fmt.Errorf("frame: %w", err)
	}
	return &w, nil
}

func parseWant(body []byte) (*wantWire, error) {
	w, err := parseBody[wantWire](body, KindWant)
	if err != nil {
		return nil, err
	}
	if !validNumber(w.From, w.To) || w.To < w.From {
		return nil, errors.New("want: range out of order")
	}
	return w, nil
}

func parseHashAt(body []byte) (*hashAtWire, error) {
	w, err := parseBody[hashAtWire](body, KindHashAt)
	if err != nil {
		return nil, err
	}
	if !validNumber(w.Seq) {
		return nil, errors.New("hash_at: number out of range")
	}
	return w, nil
}

func parseRaw(body []byte, kind uint64, most int) ([]byte, error) {
	w, err := parseBody[rawWire](body, kind)
	if err != nil {
		return nil, err
	}
	if len(w.Raw) == 0 || len(w.Raw) > most {
		return nil, fmt.Errorf("frame of kind %d: content of %d bytes", kind, len(w.Raw))
	}
	return w.Raw, nil
}

func rawFrame(kind uint8, raw []byte) Frame {
	return frameOf(kind, rawWire{Kind: uint64(kind), Raw: raw})
}

// parseEvidence reads the body of EVIDENCE. The entries are not looked into.
func parseEvidence(body []byte) (*evidenceWire, error) {
	w, err := parseBody[evidenceWire](body, KindEvidence)
	if err != nil {
		return nil, err
	}
	if len(w.A) == 0 || len(w.A) > MaxEntry || len(w.B) == 0 || len(w.B) > MaxEntry {
		return nil, errors.New("evidence: an entry is empty or too long")
	}
	return w, nil
}
