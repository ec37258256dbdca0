package beacon

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// Flags are the bits of field 7. Unknown bits are carried and ignored: they are hints, and a later version may add some.
type Flags uint64

const (
	// FlagProbe asks for one unicast beacon in return. It counts only on a unicast socket.
	FlagProbe Flags = 1 << 0
	// FlagReply marks that unicast beacon. It is never answered, whatever else is set.
	FlagReply Flags = 1 << 1
	// FlagSolicit, on a broadcast, asks some of those who hear it for one unicast beacon each.
	FlagSolicit Flags = 1 << 2
	// FlagAES says that the sender has hardware for AES and would answer handshake suite 0x02 fast.
	FlagAES Flags = 1 << 3
	// FlagIssuer says that the sender is an issuer and renews certificates.
	FlagIssuer Flags = 1 << 4
)

// Has reports whether every bit of want is set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// String names the bits for people.
func (f Flags) String() string {
	var s []string
	for _, n := range []struct {
		bit  Flags
		name string
	}{{FlagProbe, "probe"}, {FlagReply, "reply"}, {FlagSolicit, "solicit"}, {FlagAES, "aes"}, {FlagIssuer, "issuer"}} {
		if f.Has(n.bit) {
			s = append(s, n.name)
			f &^= n.bit
		}
	}
	if f != 0 {
		s = append(s, "0x"+strconv.FormatUint(uint64(f), 16))
	}
	return strings.Join(s, ",")
}

// Digest is the first eight bytes of the hash of a node's trust vector (protocol §7).
type Digest [8]byte

// Boot is the first eight bytes of the boot id in the node's binding.
type Boot [8]byte

// Announcement is the payload of a beacon, in wire order.
type Announcement struct {
	Node        keys.NodeID         `cbor:"1,keyasint"`
	Epoch       uint64              `cbor:"2,keyasint"`
	Counter     uint64              `cbor:"3,keyasint"`
	TimeMS      uint64              `cbor:"4,keyasint"`
	Endpoints   []identity.Endpoint `cbor:"5,keyasint"`
	Digest      Digest              `cbor:"6,keyasint"`
	Flags       Flags               `cbor:"7,keyasint"`
	GroupGen    uint64              `cbor:"8,keyasint"`
	IntervalMS  uint64              `cbor:"9,keyasint"`
	Boot        Boot                `cbor:"10,keyasint"`
	UnicastPort uint16              `cbor:"11,keyasint"`
}

// ErrAnnouncement is returned for bytes that are no announcement of this version, or not one of the mesh.
var ErrAnnouncement = errors.New("not a beacon announcement")

// check holds everything about an announcement that needs no key and no clock.
func (a *Announcement) check() error {
	if len(a.Endpoints) > identity.MaxEndpoints {
		return fmt.Errorf("%w: %d endpoints, at most %d", ErrAnnouncement, len(a.Endpoints), identity.MaxEndpoints)
	}
	for _, e := range a.Endpoints {
		if _, err := e.AddrPort(); err != nil {
			return fmt.Errorf("%w: %w", ErrAnnouncement, err)
		}
	}
	if a.UnicastPort == 0 {
		return fmt.Errorf("%w: no unicast port", ErrAnnouncement)
	}
	if a.Flags.Has(FlagProbe | FlagReply) {
		return fmt.Errorf("%w: probe and reply at once", ErrAnnouncement)
	}
	return nil
}

// Newer reports whether a was announced later than b by the same node.
func (a *Announcement) Newer(b *Announcement) bool {
	return newer(a.Epoch, a.Counter, b.Epoch, b.Counter)
}

func newer(epoch, counter, thanEpoch, thanCounter uint64) bool {
	return epoch > thanEpoch || epoch == thanEpoch && counter > thanCounter
}

// Interval is the sender's beacon interval, clamped to what is believed of anybody.
func (a *Announcement) Interval() time.Duration {
	ms := min(max(a.IntervalMS, uint64(MinInterval/time.Millisecond)), uint64(MaxInterval/time.Millisecond))
	return time.Duration(ms) * time.Millisecond
}

// Skewed reports whether the sender's clock and now differ by more than two minutes.
func (a *Announcement) Skewed(now time.Time) bool {
	ms := uint64(max(now.UnixMilli(), 0))
	diff := max(ms, a.TimeMS) - min(ms, a.TimeMS) // in unsigned numbers, which no hostile time overflows
	return diff > uint64(maxSkew/time.Millisecond)
}

// Addresses lists where to dial the sender, for an announcement heard from an address on an interface. The list is the signed
// one. Link-local addresses get the interface as their zone. Loopback addresses count only if the beacon came from this machine:
// a peer must not make us dial our own services. For an announcement that was forwarded, from and ifindex are zero and neither
// kind is listed.
func (a *Announcement) Addresses(from netip.Addr, ifindex int) []netip.AddrPort {
	var out []netip.AddrPort
	for _, e := range a.Endpoints {
		ap, err := e.AddrPort()
		if err != nil {
			continue
		}
		ip := ap.Addr()
		switch {
		case ip.IsLoopback() && !from.Unmap().IsLoopback():
			continue
		case ip.Is6() && ip.IsLinkLocalUnicast():
			if ifindex <= 0 {
				continue
			}
			ap = netip.AddrPortFrom(ip.WithZone(strconv.Itoa(ifindex)), ap.Port())
		}
		out = append(out, ap)
	}
	return out
}

// Sign returns the envelope of a, signed by the node it names. The same bytes are sealed into datagrams and forwarded as peer
// records.
func (a *Announcement) Sign(mesh keys.MeshID, node *keys.SigningKey) ([]byte, error) {
	if node.NodeID() != a.Node {
		return nil, errors.New("beacon: signed by another key than the node it names")
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	payload := wire.MustMarshal(a)
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrAnnouncement, len(payload), MaxPayload)
	}
	return identity.Seal(keys.LabelBeacon, mesh, payload, node).Encode(), nil
}

// ParseEnvelope reads and verifies an announcement that came over a session as a peer record. Whether the node is enrolled, and
// whether the record is newer than the one held, is the caller's to ask.
func ParseEnvelope(raw []byte, mesh keys.MeshID) (*Announcement, error) {
	a, e, err := parse(raw)
	if err != nil {
		return nil, err
	}
	if err := e.VerifyOnly(keys.LabelBeacon, mesh, a.Node.Public()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnnouncement, err)
	}
	return a, nil
}

// parse reads an envelope and its payload and verifies nothing.
func parse(raw []byte) (*Announcement, *identity.Envelope, error) {
	e, err := identity.ParseEnvelope(raw, MaxEnvelope)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrAnnouncement, err)
	}
	a, err := parsePayload(e.Payload)
	if err != nil {
		return nil, nil, err
	}
	return a, e, nil
}

func parsePayload(payload []byte) (*Announcement, error) {
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrAnnouncement, len(payload), MaxPayload)
	}
	var a Announcement
	if err := wire.Unmarshal(payload, &a); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnnouncement, err)
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	return &a, nil
}
