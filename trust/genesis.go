package trust

import (
	"bytes"
	"errors"
	"slices"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// GenesisConfig says what a new mesh begins with. Zero Threshold: more than half of the keys. Zero Params: warn never about
// staleness, no age limit of the group secret.
type GenesisConfig struct {
	Name        string
	Issued      int64
	Threshold   uint64
	Keys        []RootKey // Alg 0 means Ed25519
	Issuers     []Issuer
	Params      Params // RequireLogged is set in any case
	GroupIssuer keys.PublicKey
}

// NewGenesis founds a mesh: it signs the first root, from whose payload the mesh gets its id.
func NewGenesis(c GenesisConfig, signers ...*keys.SigningKey) (raw []byte, mesh keys.MeshID, err error) {
	r := &Root{
		Version: 1, Issued: c.Issued, Threshold: c.Threshold, Keys: slices.Clone(c.Keys), Issuers: slices.Clone(c.Issuers),
		Params: c.Params, GroupIssuer: c.GroupIssuer, Name: c.Name,
	}
	if r.Threshold == 0 {
		r.Threshold = uint64(len(r.Keys)/2 + 1)
	}
	raw, err = r.seal(nil, signers)
	if err != nil {
		return nil, keys.MeshID{}, err
	}
	return raw, keys.MeshID(keys.Sum(r.encode())), nil
}

// NewRoot returns the signed successor of the current root: change is called with a copy of it and edits what it wants. A root
// with too few signatures is an error; a Proposal collects those of other holders.
func (s *State) NewRoot(issued int64, change func(*Root), signers ...*keys.SigningKey) ([]byte, error) {
	prev := s.Root()
	r := prev.successor(issued)
	change(r)
	return r.seal(prev, signers)
}

// successor is a copy of r as the next version, sharing no memory a caller may edit.
func (r *Root) successor(issued int64) *Root {
	n := &Root{
		Mesh: r.Mesh, Version: r.Version + 1, Prev: r.hash, Issued: issued, Threshold: r.Threshold, Keys: slices.Clone(r.Keys),
		Issuers: slices.Clone(r.Issuers), Params: r.Params, GroupIssuer: r.GroupIssuer, Name: r.Name,
	}
	for i := range n.Issuers {
		n.Issuers[i].Tags = slices.Clone(n.Issuers[i].Tags)
		if c := n.Issuers[i].Cutoff; c != nil {
			cut := *c
			n.Issuers[i].Cutoff = &cut
		}
	}
	return n
}

// seal puts the lists in order, signs, and checks the result as a receiver would.
func (r *Root) seal(prev *Root, signers []*keys.SigningKey) ([]byte, error) {
	if len(signers) == 0 {
		return nil, errors.New("root: no signer")
	}
	r.settle()
	raw := identity.Seal(keys.LabelRoot, r.domain(), r.encode(), signers...).Encode()
	got, err := parseRoot(raw)
	if err != nil {
		return nil, err
	}
	if prev != nil {
		if err := got.checkFollows(prev); err != nil {
			return nil, err
		}
	}
	if err := got.checkSignatures(prev); err != nil {
		return nil, err
	}
	return raw, nil
}

// settle brings an edited root into its one form.
func (r *Root) settle() {
	r.Params.RequireLogged = true
	for i := range r.Keys {
		if r.Keys[i].Alg == 0 {
			r.Keys[i].Alg = algEd25519
		}
	}
	slices.SortFunc(r.Keys, func(a, b RootKey) int { return bytes.Compare(a.Pub[:], b.Pub[:]) })
	slices.SortFunc(r.Issuers, func(a, b Issuer) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	for i := range r.Issuers {
		r.Issuers[i].Tags = identity.NormalTags(r.Issuers[i].Tags)
	}
}
