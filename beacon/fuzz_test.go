package beacon

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// FuzzPayload: what parses encodes to the same bytes, may be signed again by nobody but its node, and names only unicast
// addresses; what does not parse gives nothing.
func FuzzPayload(f *testing.F) {
	for _, a := range []*Announcement{announcement(1, 1, testTime), largest(1)} {
		f.Add(wire.MustMarshal(a))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parsePayload(b)
		if err != nil {
			if a != nil {
				t.Fatal("an announcement beside an error")
			}
			return
		}
		if again := wire.MustMarshal(a); !bytes.Equal(again, b) {
			t.Fatalf("parsed %x, encoded %x", b, again)
		}
		if !bytes.Equal(byHand(a), b) {
			t.Fatal("the second encoder differs")
		}
		if d := a.Interval(); d < MinInterval || d > MaxInterval {
			t.Fatalf("interval %v", d)
		}
		for _, ap := range a.Addresses(netip.MustParseAddr("192.0.2.1"), 2) {
			if ip := ap.Addr(); ip.IsLoopback() || ip.IsMulticast() || ip.IsUnspecified() || ap.Port() == 0 {
				t.Fatalf("address %v", ap)
			}
		}
		a.Skewed(testTime)
	})
}

// FuzzEnvelope: what parses, before any signature is looked at, encodes to the same bytes.
func FuzzEnvelope(f *testing.F) {
	for _, n := range []uint64{1, 2} {
		raw, err := announcement(n, n, testTime).Sign(testMesh, signer(n))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, e, err := parse(b)
		if err != nil {
			if a != nil || e != nil {
				t.Fatal("a result beside an error")
			}
			if v, err := ParseEnvelope(b, testMesh); v != nil || err == nil {
				t.Fatal("verified what does not parse")
			}
			return
		}
		if !bytes.Equal(e.Encode(), b) {
			t.Fatalf("parsed %x, encoded %x", b, e.Encode())
		}
		// A signature covers the transported payload and the mesh, so whatever verifies is in its node's own words.
		if v, err := ParseEnvelope(b, testMesh); err == nil && (!bytes.Equal(wire.MustMarshal(v), e.Payload) || v.Node != keys.NodeID(e.Sigs[0].Kid)) {
			t.Fatal("verified something else")
		}
	})
}

// FuzzOpen: a datagram, and the same bytes as a plaintext that a member seals. What opens seals to the same bytes; nothing panics.
func FuzzOpen(f *testing.F) {
	ks := generationKeys(testMesh, 3, 2, 1)
	raw, err := announcement(1, 1, testTime).Sign(testMesh, signer(1))
	if err != nil {
		f.Fatal(err)
	}
	d, err := ks.Seal(Nonce{}, raw, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(d)
	f.Add(append([]byte{0, byte(len(raw))}, raw...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, g, err := ks.Open(nil, b); err != nil && (e != nil || g != 0) {
			t.Fatal("a result beside an error")
		}
		if len(b) > MaxBlocks*BlockSize {
			return
		}
		plain := make([]byte, (max(len(b), 1)+BlockSize-1)/BlockSize*BlockSize)
		copy(plain, b)
		d := ks.newestFirst[0].aead.Seal(make([]byte, nonceSize), make([]byte, nonceSize), plain, []byte(keys.BeaconAD))
		e, g, err := ks.Open(nil, d)
		if err != nil {
			if e != nil || g != 0 {
				t.Fatal("a result beside an error")
			}
			return
		}
		again, err := ks.Seal(Nonce{}, e, len(plain)/BlockSize)
		if err != nil || g != 3 || !bytes.Equal(again, d) {
			t.Fatalf("opened %x, sealed %x (%v)", d, again, err)
		}
	})
}

// FuzzReceive: what a member seals, through all the checks. Whatever is heard is signed by the node it names.
func FuzzReceive(f *testing.F) {
	for _, by := range []uint64{1, 2} {
		f.Add(identity.Seal(keys.LabelBeacon, testMesh, wire.MustMarshal(announcement(1, 1, testTime)), signer(by)).Encode())
	}
	f.Fuzz(func(t *testing.T, envelope []byte) {
		if len(envelope) == 0 || len(envelope) > MaxEnvelope {
			return
		}
		r := newRig(t)
		h, err := r.hear(sealEnvelope(t, envelope, 3), peerAddr)
		if (h == nil) == (err == nil) {
			t.Fatalf("heard %v and error %v", h, err)
		}
		if h == nil {
			return
		}
		a, err := ParseEnvelope(envelope, testMesh)
		if err != nil || a.Node != h.Node || !bytes.Equal(h.Envelope, envelope) {
			t.Fatalf("heard what does not verify: %v", err)
		}
	})
}
