package trust

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Caps are the rights of an issuer, a set of bits.
type Caps uint8

// The rights of protocol §3.
const (
	CapEnroll Caps = 1
	CapRevoke Caps = 2
	CapHead   Caps = 4
	CapGrant  Caps = 8

	allCaps = CapEnroll | CapRevoke | CapHead | CapGrant
)

// Has reports whether c holds all of want.
func (c Caps) Has(want Caps) bool { return c&want == want }

// RootKey is one of the keys that sign roots.
type RootKey struct {
	Alg  uint64         `cbor:"1,keyasint"` // 1: Ed25519
	Pub  keys.PublicKey `cbor:"2,keyasint"`
	Name string         `cbor:"3,keyasint"`
}

const algEd25519 = 1

// Cutoff ends an issuer's chain: the entry Seq with this hash is its last. Seq 0 voids the whole chain.
type Cutoff struct {
	Seq  uint64    `cbor:"1,keyasint"`
	Hash keys.Hash `cbor:"2,keyasint"`
}

// Issuer is what a root says about an issuer.
type Issuer struct {
	ID       keys.PublicKey `cbor:"1,keyasint"`
	Caps     Caps           `cbor:"2,keyasint"`
	Tags     []string       `cbor:"3,keyasint"` // patterns: a tag, "k:*", or "*"
	MaxTTL   int64          `cbor:"4,keyasint"`
	NotAfter int64          `cbor:"5,keyasint"`
	Cutoff   *Cutoff        `cbor:"6,keyasint"`
	Name     string         `cbor:"7,keyasint"`
}

// Params are the mesh's settings.
type Params struct {
	MaxStale      int64  `cbor:"1,keyasint"` // seconds without a head before the view counts as stale; 0: never
	StaleAction   uint64 `cbor:"2,keyasint"` // 0 warn, 1 restrict
	GroupMaxAge   int64  `cbor:"3,keyasint"`
	RequireLogged bool   `cbor:"4,keyasint"` // always true in version 1
}

// Root is one accepted or proposed root.
type Root struct {
	Mesh        keys.MeshID // of a genesis root: the mesh it founds
	Version     uint64
	Prev        keys.Hash // zero in genesis
	Issued      int64
	Threshold   uint64
	Keys        []RootKey // sorted by Pub
	Issuers     []Issuer  // sorted by ID
	Params      Params
	GroupIssuer keys.PublicKey // zero: none
	Name        string

	hash keys.Hash
	raw  []byte
	env  *identity.Envelope
}

type rootWire struct {
	Mesh        []byte         `cbor:"1,keyasint"`
	Version     uint64         `cbor:"2,keyasint"`
	Prev        []byte         `cbor:"3,keyasint"`
	Issued      int64          `cbor:"4,keyasint"`
	Threshold   uint64         `cbor:"5,keyasint"`
	Keys        []RootKey      `cbor:"6,keyasint"`
	Issuers     []Issuer       `cbor:"7,keyasint"`
	Params      Params         `cbor:"8,keyasint"`
	GroupIssuer keys.PublicKey `cbor:"9,keyasint"`
	Name        string         `cbor:"10,keyasint"`
}

// Hash names the root: the hash of its payload.
func (r *Root) Hash() keys.Hash { return r.hash }

// Raw returns the envelope as transported.
func (r *Root) Raw() []byte { return r.raw }

// Issuer returns what the root says about an issuer.
func (r *Root) Issuer(id keys.PublicKey) (*Issuer, bool) {
	i, ok := slices.BinarySearchFunc(r.Issuers, id, func(a Issuer, id keys.PublicKey) int { return bytes.Compare(a.ID[:], id[:]) })
	if !ok {
		return nil, false
	}
	return &r.Issuers[i], true
}

// MayGive reports whether every tag matches one of the issuer's patterns.
func (i *Issuer) MayGive(tags []string) bool {
	for _, t := range tags {
		if !slices.ContainsFunc(i.Tags, func(p string) bool { return covers(p, t) }) {
			return false
		}
	}
	return true
}

// covers reports whether pattern p allows the tag or pattern t.
func covers(p, t string) bool {
	prefix, wild := strings.CutSuffix(p, "*")
	return p == t || wild && strings.HasPrefix(t, prefix)
}

func checkPattern(p string) error {
	prefix, wild := strings.CutSuffix(p, "*")
	if !wild {
		return identity.CheckTag(p)
	}
	if prefix == "" {
		return nil
	}
	key, ok := strings.CutSuffix(prefix, ":")
	if !ok {
		return fmt.Errorf("tag pattern %q: a star stands alone or behind a colon", p)
	}
	return identity.CheckTag(key)
}

func validTime(ts ...int64) bool {
	for _, t := range ts {
		if t < 0 || t > maxTime {
			return false
		}
	}
	return true
}

// encode returns the payload.
func (r *Root) encode() []byte {
	w := rootWire{
		Version: r.Version, Issued: r.Issued, Threshold: r.Threshold, Keys: r.Keys, Issuers: r.Issuers,
		Params: r.Params, GroupIssuer: r.GroupIssuer, Name: r.Name,
	}
	if r.Version > 1 {
		w.Mesh, w.Prev = r.Mesh[:], r.Prev[:]
	}
	return wire.MustMarshal(w)
}

// parseRoot reads a root and checks all that concerns it alone, signatures excepted.
func parseRoot(raw []byte) (*Root, error) {
	e, err := identity.ParseEnvelope(raw, MaxRoot)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	r, err := parseRootPayload(e)
	if err != nil {
		return nil, err
	}
	r.raw = bytes.Clone(raw)
	return r, nil
}

// parseRootPayload is parseRoot for an envelope that may have no signature yet.
func parseRootPayload(e *identity.Envelope) (*Root, error) {
	var w rootWire
	if err := wire.Unmarshal(e.Payload, &w); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	r := &Root{
		Version: w.Version, Issued: w.Issued, Threshold: w.Threshold, Keys: w.Keys, Issuers: w.Issuers, Params: w.Params,
		GroupIssuer: w.GroupIssuer, Name: w.Name, hash: e.ID(), env: e,
	}
	switch {
	case w.Version == 1 && len(w.Mesh) == 0 && len(w.Prev) == 0:
		r.Mesh = keys.MeshID(r.hash)
	case w.Version > 1 && w.Version <= maxSeq && len(w.Mesh) == len(r.Mesh) && len(w.Prev) == len(r.Prev):
		r.Mesh, r.Prev = keys.MeshID(w.Mesh), keys.Hash(w.Prev)
	default:
		return nil, errors.New("root: version, mesh id and prev do not fit together")
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	return r, nil
}

func (r *Root) check() error {
	if !validTime(r.Issued, r.Params.MaxStale, r.Params.GroupMaxAge) {
		return errors.New("a time is out of range")
	}
	if r.Params.StaleAction > 1 || !r.Params.RequireLogged {
		return errors.New("a parameter this version does not know")
	}
	if err := identity.CheckName(r.Name); err != nil {
		return err
	}
	if err := r.checkKeys(); err != nil {
		return err
	}
	if len(r.Issuers) > maxIssuers {
		return fmt.Errorf("%d issuers, at most %d", len(r.Issuers), maxIssuers)
	}
	for i := range r.Issuers {
		is := &r.Issuers[i]
		if i > 0 && bytes.Compare(r.Issuers[i-1].ID[:], is.ID[:]) >= 0 {
			return errors.New("issuers not sorted and unique")
		}
		if err := r.checkIssuer(is); err != nil {
			return fmt.Errorf("issuer %s: %w", is.ID.String()[:16], err)
		}
	}
	if !r.GroupIssuer.IsZero() {
		if is, ok := r.Issuer(r.GroupIssuer); !ok || is.Cutoff != nil {
			return errors.New("the group issuer is no issuer, or cut off")
		}
	}
	return nil
}

func (r *Root) checkKeys() error {
	n := uint64(len(r.Keys))
	if n == 0 || n > maxRootKeys {
		return fmt.Errorf("%d keys, want 1 to %d", n, maxRootKeys)
	}
	// More than half, or two disjoint sets of holders could sign two successors.
	if r.Threshold > n || 2*r.Threshold <= n {
		return fmt.Errorf("threshold %d of %d keys is not more than half", r.Threshold, n)
	}
	for i, k := range r.Keys {
		if k.Alg != algEd25519 {
			return fmt.Errorf("key algorithm %d is not known", k.Alg)
		}
		if err := keys.CheckPublicKey(k.Pub); err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		if err := identity.CheckName(k.Name); err != nil {
			return err
		}
		if i > 0 && bytes.Compare(r.Keys[i-1].Pub[:], k.Pub[:]) >= 0 {
			return errors.New("keys not sorted and unique")
		}
	}
	return nil
}

func (r *Root) checkIssuer(is *Issuer) error {
	if err := keys.CheckPublicKey(is.ID); err != nil {
		return err
	}
	if is.Caps&^allCaps != 0 {
		return errors.New("a right this version does not know")
	}
	if !validTime(is.MaxTTL, is.NotAfter) {
		return errors.New("a time is out of range")
	}
	if err := identity.CheckName(is.Name); err != nil {
		return err
	}
	if len(is.Tags) > maxIssuerTags {
		return fmt.Errorf("%d tags, at most %d", len(is.Tags), maxIssuerTags)
	}
	for i, p := range is.Tags {
		if err := checkPattern(p); err != nil {
			return err
		}
		if i > 0 && is.Tags[i-1] >= p {
			return errors.New("tags not sorted and unique")
		}
	}
	if is.Cutoff == nil {
		return nil
	}
	switch {
	case r.Version == 1:
		return errors.New("a genesis root cuts nobody off")
	case is.Cutoff.Seq > maxSeq:
		return errors.New("cutoff out of range")
	case is.Cutoff.Seq == 0 && is.Cutoff.Hash != keys.ChainStart(r.Mesh, is.ID):
		return errors.New("a cutoff at 0 has the hash of an empty chain")
	}
	return nil
}

// domain is the mesh id in the signature input: zero for a genesis root, which cannot know its own hash.
func (r *Root) domain() keys.MeshID {
	if r.Version == 1 {
		return keys.MeshID{}
	}
	return r.Mesh
}

// signedBy counts the distinct keys of by among the signers. The envelope has each signer once.
func (r *Root) signedBy(by *Root) (n uint64) {
	for _, s := range r.env.Sigs {
		if by.hasKey(s.Kid) {
			n++
		}
	}
	return n
}

func (r *Root) hasKey(p keys.PublicKey) bool {
	return slices.ContainsFunc(r.Keys, func(k RootKey) bool { return k.Pub == p })
}

// checkSignatures wants the threshold of r and, if there is one, of its predecessor; every signature must verify and be by a
// key of one of the two.
func (r *Root) checkSignatures(prev *Root) error {
	if r.signedBy(r) < r.Threshold {
		return errors.New("root: fewer keys of this root signed than its threshold")
	}
	if prev != nil && r.signedBy(prev) < prev.Threshold {
		return errors.New("root: fewer keys of the previous root signed than its threshold")
	}
	for _, s := range r.env.Sigs {
		if !r.hasKey(s.Kid) && (prev == nil || !prev.hasKey(s.Kid)) {
			return errors.New("root: signed by a key that is no root key")
		}
	}
	return r.env.VerifyAll(keys.LabelRoot, r.domain())
}

// checkFollows holds the rules for N+1 behind N but for the signatures.
func (r *Root) checkFollows(prev *Root) error {
	switch {
	case r.Mesh != prev.Mesh:
		return errors.New("root: of another mesh")
	case r.Version != prev.Version+1:
		return errors.New("root: skips a version")
	case r.Prev != prev.hash:
		return errors.New("root: does not follow the root before it")
	case r.Issued < prev.Issued:
		return errors.New("root: issued before the root before it")
	}
	for i := range prev.Issuers {
		old := &prev.Issuers[i]
		is, ok := r.Issuer(old.ID)
		if !ok {
			return fmt.Errorf("root: issuer %q is gone; keep it with caps 0 and a cutoff", old.Name)
		}
		if err := is.checkFollows(old); err != nil {
			return fmt.Errorf("root: issuer %q: %w", old.Name, err)
		}
	}
	return nil
}

// checkFollows refuses a loss of rights without a cutoff, and a cutoff that is raised, moved or removed.
func (i *Issuer) checkFollows(old *Issuer) error {
	if c := old.Cutoff; c != nil {
		switch {
		case i.Cutoff == nil:
			return errors.New("its cutoff is removed")
		case i.Cutoff.Seq > c.Seq:
			return errors.New("its cutoff is raised")
		case i.Cutoff.Seq == c.Seq && i.Cutoff.Hash != c.Hash:
			return errors.New("its cutoff is moved to another branch")
		}
	}
	if i.Cutoff != nil {
		return nil
	}
	lost := old.Caps&^i.Caps != 0 || i.MaxTTL < old.MaxTTL || i.NotAfter < old.NotAfter
	for _, t := range old.Tags {
		lost = lost || !slices.ContainsFunc(i.Tags, func(p string) bool { return covers(p, t) })
	}
	if lost {
		return errors.New("it loses rights without a cutoff; cut it off and give a new key the fewer rights")
	}
	return nil
}
