package beacon

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// largest has every field at its maximum.
func largest(n uint64) *Announcement {
	a := &Announcement{
		Node: signer(n).NodeID(), Epoch: 1<<64 - 1, Counter: 1<<64 - 1, TimeMS: 1<<64 - 1, Flags: 1<<64 - 1 - FlagProbe,
		GroupGen: 1<<64 - 1, IntervalMS: 1<<64 - 1, UnicastPort: 65535,
		Digest: Digest{255, 255, 255, 255, 255, 255, 255, 255}, Boot: Boot{255, 255, 255, 255, 255, 255, 255, 255},
	}
	for _, ap := range manyEndpoints()[:identity.MaxEndpoints] {
		a.Endpoints = append(a.Endpoints, identity.EndpointOf(ap))
	}
	return a
}

// Every field at its maximum: it fits the payload, an asking datagram, and comes out as it went in.
func TestLargestAnnouncementFits(t *testing.T) {
	a := largest(1)
	payload := wire.MustMarshal(a)
	if len(payload) > MaxPayload || len(payload) != 290 { // the figure in doc.go
		t.Errorf("payload of %d bytes", len(payload))
	}
	envelope, err := a.Sign(testMesh, signer(1))
	if err != nil {
		t.Fatal(err)
	}
	ks := generationKeys(testMesh, 1<<64-1)
	d, err := ks.Seal(Nonce{}, envelope, 1)
	if err != nil || len(d) > Overhead+AskingBlocks*BlockSize {
		t.Fatalf("datagram of %d bytes, %v", len(d), err)
	}
	r := newRig(t)
	r.keys = ks
	h := r.wantHeard(d, peerAddr)
	if !bytes.Equal(wire.MustMarshal(h.Announcement), payload) || !bytes.Equal(h.Envelope, envelope) {
		t.Error("it comes out differently")
	}
}

// A payload at the bound fills a datagram and no more, so the bound is the datagram's.
func TestPayloadBound(t *testing.T) {
	payload := make([]byte, MaxPayload)
	envelope := identity.Seal(keys.LabelBeacon, testMesh, payload, signer(1)).Encode()
	if len(envelope) > MaxEnvelope || MaxEnvelope-len(envelope) > 16 {
		t.Errorf("an envelope of %d bytes for a payload of %d; a datagram takes %d", len(envelope), MaxPayload, MaxEnvelope)
	}
	if _, err := generationKeys(testMesh, 1).Seal(Nonce{}, envelope, 1); err != nil {
		t.Error(err)
	}
	if _, err := parsePayload(make([]byte, MaxPayload+1)); err == nil || !strings.Contains(err.Error(), "at most 900") {
		t.Errorf("a longer payload: %v", err)
	}
}

// item writes one CBOR head: a second implementation, of exactly what doc.go says, that shares no code with the first.
func item(b []byte, major byte, n uint64) []byte {
	major <<= 5
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

func byHand(a *Announcement) []byte {
	field := func(b []byte, key, n uint64) []byte { return item(item(b, 0, key), 0, n) }
	text := func(b []byte, key uint64, s []byte) []byte {
		return append(item(item(b, 0, key), 2, uint64(len(s))), s...)
	}
	b := item(nil, 5, 11)
	b = text(b, 1, a.Node[:])
	b = field(b, 2, a.Epoch)
	b = field(b, 3, a.Counter)
	b = field(b, 4, a.TimeMS)
	b = item(item(b, 0, 5), 4, uint64(len(a.Endpoints)))
	for _, e := range a.Endpoints {
		b = item(b, 4, 2)
		b = append(item(b, 2, uint64(len(e.IP))), e.IP...)
		b = item(b, 0, uint64(e.Port))
	}
	b = text(b, 6, a.Digest[:])
	b = field(b, 7, uint64(a.Flags))
	b = field(b, 8, a.GroupGen)
	b = field(b, 9, a.IntervalMS)
	b = text(b, 10, a.Boot[:])
	return field(b, 11, uint64(a.UnicastPort))
}

func TestPayloadBytesByHand(t *testing.T) {
	none := announcement(1, 0, testTime)
	none.Endpoints = nil
	for name, a := range map[string]*Announcement{
		"usual": announcement(1, 300, testTime), "largest": largest(1), "no endpoints": none,
	} {
		if want, got := byHand(a), wire.MustMarshal(a); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", name, got, want)
		}
	}
}

// The bytes of version 1, committed: a change here is a change of the protocol.
func TestDatagramVector(t *testing.T) {
	b, err := os.ReadFile("testdata/datagram.hex")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join(strings.Fields(string(b)), "")
	envelope, err := announcement(1, 1, testTime).Sign(testMesh, signer(1))
	if err != nil {
		t.Fatal(err)
	}
	sum := keys.Sum([]byte("nonce"))
	d, err := generationKeys(testMesh, 3).Seal(Nonce(sum[:nonceSize]), envelope, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(d); got != want {
		t.Errorf("datagram is\n%s", got)
	}
}

func TestSignRefusesWhatReceiversDrop(t *testing.T) {
	for name, change := range map[string]func(*Announcement){
		"another node":    func(a *Announcement) { a.Node = signer(2).NodeID() },
		"no unicast port": func(a *Announcement) { a.UnicastPort = 0 },
		"probe and reply": func(a *Announcement) { a.Flags = FlagProbe | FlagReply },
		"nine endpoints": func(a *Announcement) {
			for len(a.Endpoints) < 9 {
				a.Endpoints = append(a.Endpoints, a.Endpoints[0])
			}
		},
		"multicast endpoint": func(a *Announcement) { a.Endpoints[0].IP = []byte{224, 0, 0, 1} },
	} {
		a := announcement(1, 1, testTime)
		change(a)
		if e, err := a.Sign(testMesh, signer(1)); e != nil || err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func TestParseEnvelope(t *testing.T) {
	a := announcement(1, 1, testTime)
	raw, err := a.Sign(testMesh, signer(1))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseEnvelope(raw, testMesh)
	if err != nil || !bytes.Equal(wire.MustMarshal(got), wire.MustMarshal(a)) {
		t.Fatalf("%+v %v", got, err)
	}
	forged := identity.Seal(keys.LabelBeacon, testMesh, wire.MustMarshal(a), signer(2)).Encode()
	for name, raw := range map[string][]byte{"nothing": nil, "forged": forged, "too long": make([]byte, MaxEnvelope+1)} {
		if got, err := ParseEnvelope(raw, testMesh); got != nil || !errors.Is(err, ErrAnnouncement) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
}

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		epoch, counter, thanEpoch, thanCounter uint64
		want                                   bool
	}{
		{2, 1, 1, 9, true}, {1, 2, 1, 1, true}, {1, 1, 1, 1, false}, {1, 1, 1, 2, false}, {1, 9, 2, 1, false},
	} {
		a, b := &Announcement{Epoch: c.epoch, Counter: c.counter}, &Announcement{Epoch: c.thanEpoch, Counter: c.thanCounter}
		if a.Newer(b) != c.want {
			t.Errorf("%+v", c)
		}
	}
}

// A flag of a later version is carried and changes nothing else.
func TestUnknownFlagsAreIgnored(t *testing.T) {
	r := newRig(t)
	a := announcement(1, 1, r.now)
	a.Flags = 1<<40 | FlagAES
	h := r.wantHeard(sealed(t, a, signer(1)), peerAddr)
	if h.Flags != a.Flags || h.Asks || !h.Flags.Has(FlagAES) {
		t.Errorf("flags %v", h.Flags)
	}
	if s := h.Flags.String(); s != "aes,0x10000000000" {
		t.Errorf("flags in words: %s", s)
	}
}

func TestNextEpoch(t *testing.T) {
	at := time.Unix(1_000, 0)
	for persisted, want := range map[uint64]uint64{0: 1000, 999: 1000, 1000: 1001, 5000: 5001} {
		if got := NextEpoch(persisted, at); got != want {
			t.Errorf("after %d: %d, want %d", persisted, got, want)
		}
	}
	if got := NextEpoch(7, time.Unix(-5, 0)); got != 8 {
		t.Errorf("before 1970: %d", got)
	}
}

func TestAnnouncer(t *testing.T) {
	an, err := NewAnnouncer(AnnouncerConfig{Mesh: testMesh, Node: signer(1), Boot: Boot{4}, Epoch: 77})
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	facts := Facts{
		Endpoints: append([]netip.AddrPort{
			netip.MustParseAddrPort("224.0.0.1:5"), netip.MustParseAddrPort("[::ffff:192.0.2.9]:5"), netip.MustParseAddrPort("[fe80::1%eth0]:5"),
		}, manyEndpoints()...),
		Digest: Digest{8}, AES: true, Interval: 7 * time.Second, UnicastPort: 4444,
	}
	seen := make(map[string]bool)
	for n := range uint64(5) {
		d, envelope, err := an.Announce(facts, 0, r.keys, r.now)
		if err != nil {
			t.Fatal(err)
		}
		if seen[string(d[:nonceSize])] {
			t.Fatal("a nonce was used twice")
		}
		seen[string(d[:nonceSize])] = true
		h := r.wantHeard(d, peerAddr)
		if h.Epoch != 77 || h.Counter != n+1 || h.Boot != (Boot{4}) || h.Digest != (Digest{8}) || h.IntervalMS != 7000 ||
			h.UnicastPort != 4444 || h.Flags != FlagAES || h.GroupGen != 3 || !bytes.Equal(h.Envelope, envelope) {
			t.Fatalf("heard %+v", h)
		}
		if got := h.Dialable(); len(got) != 8 || got[0].String() != "192.0.2.9:5" || got[1].String() != "[fe80::1%2]:5" {
			t.Fatalf("endpoints %v", got)
		}
		r.now = r.now.Add(time.Second)
	}
	for _, flags := range []Flags{FlagProbe, FlagSolicit} {
		d, _, err := an.Announce(Facts{UnicastPort: 1}, flags, r.keys, r.now)
		if err != nil || len(d) != Overhead+AskingBlocks*BlockSize {
			t.Errorf("%v: %d bytes, %v", flags, len(d), err)
		}
	}
	if d, _, err := an.Announce(Facts{UnicastPort: 1}, FlagReply, r.keys, r.now); err != nil || len(d) != Overhead+BlockSize {
		t.Errorf("a short reply has %d bytes, %v", len(d), err)
	}
	if d, e, err := an.Announce(Facts{}, 0, r.keys, r.now); d != nil || e != nil || err == nil {
		t.Error("announced without a unicast port")
	}
	if d, e, err := an.Announce(facts, 0, nil, r.now); d != nil || e != nil || err == nil {
		t.Error("announced without a key")
	}
	for name, cfg := range map[string]AnnouncerConfig{"no key": {Epoch: 1}, "no epoch": {Node: signer(1)}} {
		if an, err := NewAnnouncer(cfg); an != nil || err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
