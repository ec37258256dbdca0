package beacon

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

var (
	testMesh  = keys.MeshID(keys.Sum([]byte("mesh")))
	otherMesh = keys.MeshID(keys.Sum([]byte("another mesh")))
	testTime  = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	peerAddr  = netip.MustParseAddrPort("192.0.2.7:40000")
)

// signer makes a key from a number.
func signer(n uint64) *keys.SigningKey {
	seed := keys.Sum([]byte("test key"), binary.BigEndian.AppendUint64(nil, n))
	k, err := keys.SigningKeyFromSeed(seed[:])
	if err != nil {
		panic(err)
	}
	return k
}

// generationKeys makes the keys of some generations of a mesh's secret.
func generationKeys(mesh keys.MeshID, generations ...uint64) *Keys {
	var ks []GenerationKey
	for _, g := range generations {
		s := keys.Sum([]byte("test secret"), binary.BigEndian.AppendUint64(nil, g))
		secret, err := keys.GroupSecretFromBytes(g, s[:])
		if err != nil {
			panic(err)
		}
		ks = append(ks, GenerationKey{Generation: g, Key: secret.BeaconKey(mesh)})
	}
	k, err := NewKeys(ks...)
	if err != nil {
		panic(err)
	}
	return k
}

// rig is a receiver and what it asks its node. Its own node is signer(0), generations 3, 2 and 1 are held, and signer(1) is enrolled.
type rig struct {
	*Receiver
	t        testing.TB
	now      time.Time
	keys     *Keys
	standing map[keys.NodeID]Standing
	asked    int // how often the standing of a node was asked
}

func newRig(t testing.TB) *rig {
	r := &rig{
		t: t, now: testTime, keys: generationKeys(testMesh, 3, 2, 1),
		standing: map[keys.NodeID]Standing{signer(1).NodeID(): Enrolled},
	}
	r.Receiver = NewReceiver(ReceiverConfig{
		Mesh: testMesh, Self: signer(0).NodeID(),
		Keys:     func() *Keys { return r.keys },
		Standing: func(id keys.NodeID) Standing { r.asked++; return r.standing[id] },
		Rand:     rand.New(rand.NewPCG(1, 2)),
	})
	return r
}

// hear passes a datagram to the receiver's shared port.
func (r *rig) hear(datagram []byte, from netip.AddrPort) (*Heard, error) {
	return r.Receive(Packet{Data: datagram, From: from, Interface: 2}, r.now)
}

func (r *rig) wantHeard(datagram []byte, from netip.AddrPort) *Heard {
	r.t.Helper()
	h, err := r.hear(datagram, from)
	if err != nil || h == nil {
		r.t.Fatalf("not heard: %v", err)
	}
	return h
}

// wantDrop also checks that exactly this reason was counted.
func (r *rig) wantDrop(want Drop, datagram []byte, from netip.AddrPort) {
	r.t.Helper()
	before := r.Counters().Dropped[want]
	h, err := r.hear(datagram, from)
	var got Drop
	if h != nil || !errors.As(err, &got) || got != want {
		r.t.Fatalf("got %v %v, want %v", h, err, want)
	}
	if n := r.Counters().Dropped[want] - before; n != 1 {
		r.t.Fatalf("%v counted %d times", want, n)
	}
}

// announcement is what signer(n) says at a moment.
func announcement(n, counter uint64, now time.Time) *Announcement {
	return &Announcement{
		Node: signer(n).NodeID(), Epoch: uint64(testTime.Unix()), Counter: counter, TimeMS: uint64(now.UnixMilli()),
		Endpoints: []identity.Endpoint{identity.EndpointOf(netip.MustParseAddrPort("192.0.2.7:7477"))},
		Digest:    Digest{1, 2, 3}, GroupGen: 3, IntervalMS: 5000, Boot: Boot{9, 9}, UnicastPort: 40000,
	}
}

// sealed signs and seals without any of the checks of Sign: what a hostile member can send.
func sealed(t testing.TB, a *Announcement, by *keys.SigningKey) []byte {
	t.Helper()
	return sealPayload(t, wire.MustMarshal(a), by, a.GroupGen)
}

func sealPayload(t testing.TB, payload []byte, by *keys.SigningKey, generation uint64) []byte {
	t.Helper()
	return sealEnvelope(t, identity.Seal(keys.LabelBeacon, testMesh, payload, by).Encode(), generation)
}

func sealEnvelope(t testing.TB, envelope []byte, generation uint64) []byte {
	t.Helper()
	d, err := generationKeys(testMesh, generation).Seal(Nonce{7}, envelope, 1)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// beaconOf is the honest beacon of signer(n).
func (r *rig) beaconOf(n, counter uint64) []byte {
	return sealed(r.t, announcement(n, counter, r.now), signer(n))
}

// addr makes the nth of many different sources, each in a /64 and /24 of its own.
func addr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 7000)
}
