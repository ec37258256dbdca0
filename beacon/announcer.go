package beacon

import (
	"crypto/rand"
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// NextEpoch is the epoch of a daemon that starts now, when the one it used last was persisted: max(persisted + 1, unix seconds). It
// must be durable before the first beacon is sent: if we crash in between, the next start takes a later one, and nobody has
// heard this one; the other way round a restart within a second would repeat it, and all its beacons would be replays.
func NextEpoch(persisted uint64, now time.Time) uint64 {
	return max(persisted+1, uint64(max(now.Unix(), 0)))
}

// AnnouncerConfig is who announces.
type AnnouncerConfig struct {
	Mesh  keys.MeshID
	Node  *keys.SigningKey
	Boot  Boot
	Epoch uint64 // of NextEpoch, durable
}

// Facts is what is announced. The caller gathers it anew for each beacon.
type Facts struct {
	Endpoints   []netip.AddrPort // the best first; beyond eight, and what is no unicast address, is left out
	Digest      Digest
	AES         bool
	Issuer      bool
	Interval    time.Duration
	UnicastPort uint16
}

// Announcer makes beacons. It is safe for concurrent use.
type Announcer struct {
	// immutable
	cfg AnnouncerConfig

	counter atomic.Uint64
}

// NewAnnouncer returns an announcer for one run of a daemon.
func NewAnnouncer(cfg AnnouncerConfig) (*Announcer, error) {
	switch {
	case cfg.Node == nil:
		return nil, errors.New("beacon: announcer without a node key")
	case cfg.Epoch == 0:
		return nil, errors.New("beacon: announcer without an epoch")
	}
	return &Announcer{cfg: cfg}, nil
}

// Announce makes the next beacon: a datagram sealed under the newest key, and the envelope in it, which is also this node's peer
// record. Each call uses up one counter, so a beacon is made once and may be sent on many interfaces. Ask with FlagProbe or
// FlagSolicit, answer with FlagReply.
func (an *Announcer) Announce(f Facts, flags Flags, ks *Keys, now time.Time) (datagram, envelope []byte, err error) {
	if ks == nil {
		return nil, nil, errors.New("beacon: no group secret to seal with")
	}
	a := Announcement{
		Node: an.cfg.Node.NodeID(), Epoch: an.cfg.Epoch, Counter: an.counter.Add(1), TimeMS: uint64(max(now.UnixMilli(), 0)),
		Endpoints: []identity.Endpoint{}, Digest: f.Digest, Flags: flags, GroupGen: ks.Newest(),
		IntervalMS: uint64(max(f.Interval, 0) / time.Millisecond), Boot: an.cfg.Boot, UnicastPort: f.UnicastPort,
	}
	if f.AES {
		a.Flags |= FlagAES
	}
	if f.Issuer {
		a.Flags |= FlagIssuer
	}
	for _, ap := range f.Endpoints {
		e := identity.EndpointOf(ap)
		if _, err := e.AddrPort(); err == nil && len(a.Endpoints) < identity.MaxEndpoints {
			a.Endpoints = append(a.Endpoints, e)
		}
	}
	if envelope, err = a.Sign(an.cfg.Mesh, an.cfg.Node); err != nil {
		return nil, nil, err
	}
	blocks := 1
	if flags&(FlagProbe|FlagSolicit) != 0 {
		blocks = AskingBlocks
	}
	var nonce Nonce
	rand.Read(nonce[:])
	if datagram, err = ks.Seal(nonce, envelope, blocks); err != nil {
		return nil, nil, err
	}
	return datagram, envelope, nil
}
