package identity

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// InviteID names an invite at its issuer.
type InviteID [8]byte

// NewInviteID makes a fresh id.
func NewInviteID() InviteID {
	var id InviteID
	rand.Read(id[:])
	return id
}

// String returns the id in hexadecimal.
func (i InviteID) String() string { return hex.EncodeToString(i[:]) }

// ParseInviteID reads the hexadecimal form.
func ParseInviteID(s string) (InviteID, error) {
	var id InviteID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("%w: an invite id is %d hexadecimal digits", ErrInvite, 2*len(id))
	}
	return InviteID(b), nil
}

// Endpoint is an address a node is reached at: an IP literal and a port, [bstr 4 or 16, port] on the wire.
type Endpoint struct {
	_    struct{} `cbor:",toarray"`
	IP   []byte
	Port uint16
}

// EndpointOf converts an address; IPv4-mapped addresses become IPv4 and zones are dropped.
func EndpointOf(a netip.AddrPort) Endpoint {
	return Endpoint{IP: a.Addr().Unmap().WithZone("").AsSlice(), Port: a.Port()}
}

// AddrPort returns the address, or an error for anything that is no usable unicast IP literal.
func (e Endpoint) AddrPort() (netip.AddrPort, error) {
	a, ok := netip.AddrFromSlice(e.IP)
	if !ok || a.Is4In6() || e.Port == 0 || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.AddrPort{}, errors.New("endpoint is not a unicast address and port")
	}
	return netip.AddrPortFrom(a, e.Port), nil
}

// IssuerHead pins one issuer's chain at the time an invite was made.
type IssuerHead struct {
	_      struct{} `cbor:",toarray"`
	Issuer keys.PublicKey
	Seq    uint64
	Hash   keys.Hash
}

// Invite is everything a newcomer needs to authenticate the mesh before it sends anything. Its text is a bearer secret.
type Invite struct {
	Mesh        keys.MeshID
	ID          InviteID
	Secret      keys.InviteSecret
	RootVersion uint64
	RootHash    keys.Hash
	Heads       []IssuerHead
	Endpoints   []Endpoint
	IssuerNode  keys.NodeID
	Expiry      int64
	Name        string
}

type inviteWire struct {
	Mesh        keys.MeshID  `cbor:"1,keyasint"`
	ID          InviteID     `cbor:"2,keyasint"`
	Secret      [32]byte     `cbor:"3,keyasint"`
	RootVersion uint64       `cbor:"4,keyasint"`
	RootHash    keys.Hash    `cbor:"5,keyasint"`
	Heads       []IssuerHead `cbor:"6,keyasint"`
	Endpoints   []Endpoint   `cbor:"7,keyasint"`
	IssuerNode  keys.NodeID  `cbor:"8,keyasint"`
	Expiry      int64        `cbor:"9,keyasint"`
	Name        string       `cbor:"10,keyasint"`
}

// invitePrefix opens the text form and carries its version.
const invitePrefix = "mk1i"

// inviteCheck is the number of checksum bytes behind the CBOR, so that a mistyped invite is told apart from a foreign one.
const inviteCheck = 4

// ErrInvite is returned for text that is no invite.
var ErrInvite = errors.New("not a meshkey invite")

var inviteBase32 = base32.StdEncoding.WithPadding(base32.NoPadding)

// Encode returns the one line a person pastes: "mk1i" + base32(CBOR || H("mk1i" || CBOR)[:4]) in lower case. Heads are written in
// their one order, by issuer.
func (v *Invite) Encode() string {
	heads := slices.SortedFunc(slices.Values(v.Heads), func(a, b IssuerHead) int { return bytes.Compare(a.Issuer[:], b.Issuer[:]) })
	w := inviteWire{
		Mesh: v.Mesh, ID: v.ID, Secret: [32]byte(v.Secret.Bytes()), RootVersion: v.RootVersion, RootHash: v.RootHash,
		Heads: heads, Endpoints: v.Endpoints, IssuerNode: v.IssuerNode, Expiry: v.Expiry, Name: v.Name,
	}
	b := wire.MustMarshal(w)
	sum := keys.Sum([]byte(invitePrefix), b)
	return invitePrefix + strings.ToLower(inviteBase32.EncodeToString(append(b, sum[:inviteCheck]...)))
}

// ParseInvite reads an invite's text. Surrounding white space and line breaks inside, as a terminal may add, are ignored.
func ParseInvite(s string) (*Invite, error) {
	if len(s) > 2*MaxInvite+64 {
		return nil, fmt.Errorf("%w: too long", ErrInvite)
	}
	s = strings.Join(strings.Fields(s), "")
	rest, ok := strings.CutPrefix(s, invitePrefix)
	if !ok {
		return nil, fmt.Errorf("%w: it begins with %q", ErrInvite, invitePrefix)
	}
	b, err := inviteBase32.DecodeString(strings.ToUpper(rest))
	if err != nil || len(b) <= inviteCheck {
		return nil, fmt.Errorf("%w: damaged or incomplete; copy the whole line again", ErrInvite)
	}
	body, check := b[:len(b)-inviteCheck], b[len(b)-inviteCheck:]
	if sum := keys.Sum([]byte(invitePrefix), body); [inviteCheck]byte(check) != [inviteCheck]byte(sum[:inviteCheck]) {
		return nil, fmt.Errorf("%w: damaged or incomplete; copy the whole line again", ErrInvite)
	}
	if len(body) > MaxInvite {
		return nil, fmt.Errorf("%w: too long", ErrInvite)
	}
	v, err := parseInviteBody(body)
	if err != nil {
		return nil, err
	}
	if v.Encode() != s { // upper case, or unused bits of the last base32 character
		return nil, fmt.Errorf("%w: %w", ErrInvite, wire.ErrNotCanonical)
	}
	return v, nil
}

func parseInviteBody(body []byte) (*Invite, error) {
	var w inviteWire
	if err := wire.Unmarshal(body, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvite, err)
	}
	if len(w.Heads) > MaxInviteHeads || len(w.Endpoints) == 0 || len(w.Endpoints) > MaxEndpoints {
		return nil, fmt.Errorf("%w: too many or no addresses or heads", ErrInvite)
	}
	for i, h := range w.Heads {
		if i > 0 && bytes.Compare(w.Heads[i-1].Issuer[:], h.Issuer[:]) >= 0 {
			return nil, fmt.Errorf("%w: heads not sorted and unique", ErrInvite)
		}
		if err := keys.CheckPublicKey(h.Issuer); err != nil || h.Seq == 0 || h.Hash.IsZero() {
			return nil, fmt.Errorf("%w: head %d names no entry", ErrInvite, i)
		}
	}
	for _, e := range w.Endpoints {
		if _, err := e.AddrPort(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvite, err)
		}
	}
	if w.Mesh.IsZero() || w.RootVersion == 0 || w.RootHash.IsZero() || w.Expiry <= 0 || w.Expiry > MaxTime {
		return nil, fmt.Errorf("%w: a field is empty or out of range", ErrInvite)
	}
	if err := keys.CheckPublicKey(w.IssuerNode); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvite, err)
	}
	if err := CheckName(w.Name); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvite, err)
	}
	secret, err := keys.InviteSecretFromBytes(w.Secret[:])
	if err != nil {
		return nil, err
	}
	return &Invite{
		Mesh: w.Mesh, ID: w.ID, Secret: secret, RootVersion: w.RootVersion, RootHash: w.RootHash, Heads: w.Heads,
		Endpoints: w.Endpoints, IssuerNode: w.IssuerNode, Expiry: w.Expiry, Name: w.Name,
	}, nil
}
