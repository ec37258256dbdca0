package beacon

import (
	"bytes"
	"crypto/ed25519"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

func TestHonestBeaconIsHeard(t *testing.T) {
	r := newRig(t)
	a := announcement(1, 1, r.now)
	h := r.wantHeard(sealed(t, a, signer(1)), peerAddr)
	if h.Node != a.Node || h.Counter != 1 || h.Digest != a.Digest || h.Boot != a.Boot || h.Generation != 3 ||
		h.From != peerAddr || h.Interface != 2 || h.Kind != Broadcast || h.ClockSkew || h.Asks {
		t.Errorf("heard %+v", h)
	}
	again, err := ParseEnvelope(h.Envelope, testMesh)
	if err != nil || !bytes.Equal(wire.MustMarshal(again), wire.MustMarshal(a)) {
		t.Errorf("the envelope is not the announcement: %v", err)
	}
	if c := r.Counters(); c.Received != 1 || c.Heard != 1 {
		t.Errorf("counters %+v", c)
	}
}

// The receiver reads into one buffer; what it hands out is the caller's.
func TestHeardEnvelopeIsTheCallers(t *testing.T) {
	r := newRig(t)
	h := r.wantHeard(r.beaconOf(1, 1), addr(1))
	kept := bytes.Clone(h.Envelope)
	r.wantHeard(r.beaconOf(2, 1), addr(2))
	if !bytes.Equal(h.Envelope, kept) {
		t.Error("the next beacon overwrote it")
	}
}

func TestCheckSize(t *testing.T) {
	r := newRig(t)
	good := r.beaconOf(1, 1)
	for _, n := range []int{0, 1, Overhead, Overhead + 1, len(good) - 1} {
		r.wantDrop(DropSize, good[:n], peerAddr)
	}
	r.wantDrop(DropSize, append(bytes.Clone(good), 0), peerAddr)
	r.wantDrop(DropSize, make([]byte, Overhead+5*BlockSize), peerAddr)
	r.wantDrop(DropSize, make([]byte, MaxDatagram+1), peerAddr)
	for blocks := 1; blocks <= MaxBlocks; blocks++ {
		envelope, err := announcement(1, uint64(blocks), r.now).Sign(testMesh, signer(1))
		if err != nil {
			t.Fatal(err)
		}
		d, err := r.keys.Seal(Nonce{}, envelope, blocks)
		if err != nil || len(d) != Overhead+blocks*BlockSize {
			t.Fatalf("%d blocks: %d bytes, %v", blocks, len(d), err)
		}
		r.wantHeard(d, peerAddr)
	}
}

func TestCheckSourceRate(t *testing.T) {
	r := newRig(t)
	d := make([]byte, Overhead+BlockSize)
	for range sourceBurst {
		r.wantDrop(DropSealed, d, peerAddr)
	}
	r.wantDrop(DropSource, d, peerAddr)
	r.wantDrop(DropSource, d, netip.AddrPortFrom(peerAddr.Addr(), 1)) // another port is the same source
	r.wantHeard(r.beaconOf(1, 1), addr(1))                            // another source is not
	r.now = r.now.Add(sourceEvery)
	r.wantDrop(DropSealed, d, peerAddr)
	r.wantDrop(DropSource, d, peerAddr)
}

func TestSourcesAreAddressesOrNetworks(t *testing.T) {
	same := [][2]string{
		{"192.0.2.1", "::ffff:192.0.2.1"}, {"2001:db8::1", "2001:db8::2"}, {"fe80::1%eth0", "fe80::1%eth1"},
	}
	different := [][2]string{{"192.0.2.1", "192.0.2.2"}, {"2001:db8::1", "2001:db8:0:1::1"}, {"fe80::1", "fe80::2"}}
	for _, p := range same {
		if sourceOf(netip.MustParseAddr(p[0])) != sourceOf(netip.MustParseAddr(p[1])) {
			t.Errorf("%v differ", p)
		}
	}
	for _, p := range different {
		if sourceOf(netip.MustParseAddr(p[0])) == sourceOf(netip.MustParseAddr(p[1])) {
			t.Errorf("%v are one", p)
		}
	}
}

func TestCheckGlobalRate(t *testing.T) {
	r := newRig(t)
	d := r.beaconOf(1, 1)
	r.wantHeard(d, addr(0))
	for i := 1; i < globalBurst; i++ {
		r.wantDrop(DropReplay, d, addr(i))
	}
	r.wantDrop(DropGlobal, d, addr(globalBurst))
	r.now = r.now.Add(globalEvery)
	r.wantDrop(DropReplay, d, addr(globalBurst+1))
	r.wantDrop(DropGlobal, d, addr(globalBurst+2))
}

func TestCheckSealed(t *testing.T) {
	r := newRig(t)
	r.keys = generationKeys(testMesh, 3, 2)
	envelope, err := announcement(1, 1, r.now).Sign(testMesh, signer(1))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := generationKeys(otherMesh, 3).Seal(Nonce{}, envelope, 1)
	if err != nil {
		t.Fatal(err)
	}
	r.wantDrop(DropSealed, foreign, peerAddr)
	r.wantDrop(DropSealed, make([]byte, Overhead+BlockSize), peerAddr)
	d := r.beaconOf(1, 1)
	r.keys = nil
	r.wantDrop(DropSealed, d, peerAddr)
	r.keys = generationKeys(testMesh, 3, 2)
	r.wantHeard(d, peerAddr)
}

// Each byte of a datagram, changed: nothing but a drop.
func TestTamperedDatagram(t *testing.T) {
	r := newRig(t)
	good := r.beaconOf(1, 1)
	for i := range good {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(good)
			bad[i] ^= bit
			r.now = r.now.Add(time.Second)
			if h, err := r.hear(bad, peerAddr); h != nil || err != error(DropSealed) {
				t.Fatalf("byte %d changed: %v %v", i, h, err)
			}
		}
	}
}

// Each byte of an envelope, changed by a member, who can seal it: never heard, and the genuine one is afterwards.
func TestTamperedEnvelope(t *testing.T) {
	r := newRig(t)
	good, err := announcement(1, 1, r.now).Sign(testMesh, signer(1))
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if h, err := r.hear(sealEnvelope(t, bad, 3), addr(i)); h != nil || err == nil {
				t.Fatalf("byte %d bit %d changed, and heard: %+v", i, bit, h)
			}
			if a, err := ParseEnvelope(bad, testMesh); a != nil || err == nil {
				t.Fatalf("byte %d bit %d changed, and parsed: %+v", i, bit, a)
			}
			r.now = r.now.Add(time.Second)
		}
	}
	r.wantHeard(sealEnvelope(t, good, 3), peerAddr)
}

func TestResealedIntoAnotherMesh(t *testing.T) {
	r := newRig(t)
	a := announcement(1, 1, r.now)
	envelope, err := a.Sign(otherMesh, signer(1))
	if err != nil {
		t.Fatal(err)
	}
	r.wantDrop(DropSignature, sealEnvelope(t, envelope, 3), peerAddr)
	if a, err := ParseEnvelope(envelope, testMesh); a != nil || err == nil {
		t.Error("a peer record of another mesh is accepted")
	}
	other := identity.Seal(keys.LabelCert, testMesh, wire.MustMarshal(a), signer(1)).Encode()
	r.wantDrop(DropSignature, sealEnvelope(t, other, 3), peerAddr)
}

func TestCheckOlderGenerationBudget(t *testing.T) {
	r := newRig(t)
	old := announcement(1, 1, r.now)
	old.GroupGen = 1
	h := r.wantHeard(sealed(t, old, signer(1)), peerAddr)
	if h.Generation != 1 || r.Counters().Older != 1 {
		t.Errorf("generation %d, counted %d", h.Generation, r.Counters().Older)
	}
	noise := make([]byte, Overhead+BlockSize)
	for i := 1; i < olderBurst; i++ {
		r.wantDrop(DropSealed, noise, addr(i))
	}
	r.wantDrop(DropOlder, noise, addr(100))
	old.Counter = 2
	r.wantDrop(DropOlder, sealed(t, old, signer(1)), peerAddr)
	// The current and the previous generation need no budget.
	previous := announcement(1, 3, r.now)
	previous.GroupGen = 2
	r.wantHeard(sealed(t, previous, signer(1)), peerAddr)
	r.wantHeard(r.beaconOf(1, 4), peerAddr)
	r.now = r.now.Add(olderEvery)
	old.Counter = 5
	r.wantHeard(sealed(t, old, signer(1)), peerAddr)
	r.wantDrop(DropOlder, noise, addr(101))
}

func TestCheckMalformed(t *testing.T) {
	payload := func(f func(*Announcement)) []byte {
		a := announcement(1, 1, testTime)
		f(a)
		return wire.MustMarshal(a)
	}
	good := payload(func(*Announcement) {})
	endpoint := func(s string) func(*Announcement) {
		return func(a *Announcement) {
			ap := netip.MustParseAddrPort(s)
			a.Endpoints = []identity.Endpoint{{IP: ap.Addr().AsSlice(), Port: ap.Port()}}
		}
	}
	for name, p := range map[string][]byte{
		"empty":              {},
		"trailing byte":      append(bytes.Clone(good), 0),
		"cut":                good[:len(good)-1],
		"long integer":       bytes.Replace(good, []byte{0x03, 0x01}, []byte{0x03, 0x18, 0x01}, 1),
		"unknown field":      append([]byte{0xac}, append(bytes.Clone(good[1:]), 0x0c, 0x00)...),
		"missing field":      append([]byte{0xaa}, good[1:len(good)-4]...),
		"nine endpoints":     payload(func(a *Announcement) { a.Endpoints = slices.Repeat(a.Endpoints, 9) }),
		"multicast":          payload(endpoint("224.0.0.1:1")),
		"broadcast":          payload(endpoint("255.255.255.255:1")),
		"unspecified":        payload(endpoint("[::]:1")),
		"port 0":             payload(endpoint("192.0.2.1:0")),
		"mapped":             payload(endpoint("[::ffff:192.0.2.1]:1")),
		"name for address":   payload(func(a *Announcement) { a.Endpoints[0].IP = []byte("localhost") }),
		"address of 5":       payload(func(a *Announcement) { a.Endpoints[0].IP = []byte{1, 2, 3, 4, 5} }),
		"no unicast port":    payload(func(a *Announcement) { a.UnicastPort = 0 }),
		"probe and reply":    payload(func(a *Announcement) { a.Flags = FlagProbe | FlagReply }),
		"other generation":   payload(func(a *Announcement) { a.GroupGen = 2 }),
		"no such generation": payload(func(a *Announcement) { a.GroupGen = 1 << 60 }),
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.wantDrop(DropMalformed, sealPayload(t, p, signer(1), 3), peerAddr)
		})
	}
	t.Run("envelope with a byte behind", func(t *testing.T) {
		r := newRig(t)
		e := identity.Seal(keys.LabelBeacon, testMesh, good, signer(1)).Encode()
		r.wantDrop(DropMalformed, sealEnvelope(t, append(e, 0), 3), peerAddr)
	})
	t.Run("good", func(t *testing.T) { newRig(t).wantHeard(sealPayload(t, good, signer(1), 3), peerAddr) })
}

func TestCheckOwn(t *testing.T) {
	r := newRig(t)
	r.wantDrop(DropOwn, r.beaconOf(0, 1), peerAddr)
}

// A revoked node's beacons are dropped before the signature is looked at.
func TestCheckRevoked(t *testing.T) {
	r := newRig(t)
	r.wantHeard(r.beaconOf(1, 1), peerAddr)
	r.standing[signer(1).NodeID()] = Revoked
	r.wantDrop(DropRevoked, r.beaconOf(1, 2), peerAddr)
	r.wantDrop(DropRevoked, sealed(t, announcement(1, 3, r.now), signer(2)), peerAddr)
}

func TestCheckReplay(t *testing.T) {
	r := newRig(t)
	first := r.beaconOf(1, 5)
	r.wantHeard(first, peerAddr)
	r.wantDrop(DropReplay, first, peerAddr)
	r.wantDrop(DropReplay, first, addr(1))
	r.wantDrop(DropReplay, r.beaconOf(1, 4), peerAddr)
	before := announcement(1, 100, r.now)
	before.Epoch--
	r.wantDrop(DropReplay, sealed(t, before, signer(1)), peerAddr)
	after := announcement(1, 1, r.now)
	after.Epoch++
	r.wantHeard(sealed(t, after, signer(1)), peerAddr)
	r.wantDrop(DropReplay, r.beaconOf(1, 6), peerAddr)
}

// A forged beacon from the future must not make the node's real ones look old.
func TestReplayStateComesFromVerifiedBeaconsOnly(t *testing.T) {
	r := newRig(t)
	future := announcement(1, 1<<63, r.now)
	future.Epoch = 1 << 63
	r.wantDrop(DropSignature, sealed(t, future, signer(2)), addr(1))
	r.wantHeard(r.beaconOf(1, 1), peerAddr)
}

func TestReplayIsForgottenAfterTenMinutes(t *testing.T) {
	r := newRig(t)
	d := r.beaconOf(1, 1)
	r.wantHeard(d, peerAddr)
	r.now = r.now.Add(replayMemory)
	r.wantDrop(DropReplay, d, peerAddr)
	r.now = r.now.Add(time.Second)
	// By then it is too old to say anything about presence.
	if h := r.wantHeard(d, peerAddr); !h.ClockSkew {
		t.Error("a beacon of ten minutes ago counts as presence")
	}
}

func TestForgottenNodesLeaveMemory(t *testing.T) {
	r := newRig(t)
	for n := range uint64(100) {
		r.standing[signer(n+1).NodeID()] = Enrolled
		r.wantHeard(r.beaconOf(n+1, 1), addr(int(n)))
	}
	if len(r.known.nodes) != 100 {
		t.Fatalf("%d nodes remembered", len(r.known.nodes))
	}
	r.now = r.now.Add(replayMemory + sweepEvery)
	r.wantHeard(r.beaconOf(1, 2), peerAddr)
	if len(r.known.nodes) != 1 || len(r.known.ids) != 1 {
		t.Errorf("%d nodes remembered, %d listed", len(r.known.nodes), len(r.known.ids))
	}
}

// A stranger whose enrolment arrives, and the other way round, cannot be replayed across the change.
func TestReplayStateFollowsStanding(t *testing.T) {
	r := newRig(t)
	d := r.beaconOf(2, 1)
	if h := r.wantHeard(d, peerAddr); h.Known {
		t.Error("a stranger is known")
	}
	r.standing[signer(2).NodeID()] = Enrolled
	r.wantDrop(DropReplay, d, peerAddr)
	if h := r.wantHeard(r.beaconOf(2, 2), peerAddr); !h.Known {
		t.Error("an enrolled node is a stranger")
	}
	if len(r.strangers.nodes) != 0 || len(r.known.nodes) != 1 {
		t.Errorf("%d strangers, %d known", len(r.strangers.nodes), len(r.known.nodes))
	}
	delete(r.standing, signer(2).NodeID())
	r.wantDrop(DropReplay, d, peerAddr)
}

// A member that sends under another's id costs us five verifications, and does not touch that node.
func TestCheckPairRate(t *testing.T) {
	r := newRig(t)
	forged := func(counter uint64) []byte { return sealed(t, announcement(1, counter, r.now), signer(2)) }
	for i := range uint64(pairBurst) {
		r.wantDrop(DropSignature, forged(i+1), addr(1))
	}
	r.wantDrop(DropPair, forged(100), addr(1))
	r.wantHeard(r.beaconOf(1, 1), peerAddr)
	r.now = r.now.Add(pairEvery)
	r.wantDrop(DropSignature, forged(101), addr(1))
	r.wantDrop(DropPair, forged(102), addr(1))
}

// Under the neutral element every signature of this form verifies.
func TestCheckWeakKey(t *testing.T) {
	r := newRig(t)
	a := announcement(1, 1, r.now)
	a.Node = keys.NodeID{1}
	payload := wire.MustMarshal(a)
	e := identity.Envelope{Payload: payload, Sigs: []identity.Sig{{Kid: a.Node.Public(), Sig: keys.Signature{1}}}}
	if !ed25519.Verify(a.Node[:], payload, e.Sigs[0].Sig[:]) {
		t.Fatal("the forgery does not verify in the library: the test proves nothing")
	}
	r.wantDrop(DropSignature, sealEnvelope(t, e.Encode(), 3), peerAddr)
	if a, err := ParseEnvelope(e.Encode(), testMesh); a != nil || err == nil {
		t.Error("a peer record under a weak key is accepted")
	}
}

func TestCheckSignature(t *testing.T) {
	r := newRig(t)
	a := announcement(1, 1, r.now)
	r.wantDrop(DropSignature, sealed(t, a, signer(2)), peerAddr)
	two := identity.Seal(keys.LabelBeacon, testMesh, wire.MustMarshal(a), signer(1), signer(2)).Encode()
	r.wantDrop(DropSignature, sealEnvelope(t, two, 3), peerAddr)
	e := identity.Seal(keys.LabelBeacon, testMesh, wire.MustMarshal(a), signer(1))
	e.Sigs[0].Sig[63] ^= 1
	r.wantDrop(DropSignature, sealEnvelope(t, e.Encode(), 3), peerAddr)
	r.wantHeard(sealed(t, a, signer(1)), peerAddr)
}

// The node's own budget, charged after the proof, wherever its beacons come from. What it drops is proven all the same, so it
// cannot be replayed later.
func TestCheckNodeRate(t *testing.T) {
	r := newRig(t)
	var n uint64
	for n = 1; n <= nodeBurst; n++ {
		r.wantHeard(r.beaconOf(1, n), addr(int(n)))
	}
	over := r.beaconOf(1, n)
	r.wantDrop(DropNode, over, addr(int(n)))
	r.now = r.now.Add(nodeEvery)
	r.wantDrop(DropReplay, over, addr(100))
	r.wantHeard(r.beaconOf(1, n+1), addr(101))
	r.wantDrop(DropNode, r.beaconOf(1, n+2), addr(102))
	r.wantHeard(r.beaconOf(2, 1), addr(103))
}
