package beacon

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// asking is a beacon of signer(1) with flags, in a number of blocks.
func (r *rig) asking(counter uint64, flags Flags, blocks int) []byte {
	r.t.Helper()
	a := announcement(1, counter, r.now)
	a.Flags = flags
	envelope, err := a.Sign(testMesh, signer(1))
	if err != nil {
		r.t.Fatal(err)
	}
	d, err := r.keys.Seal(Nonce{}, envelope, blocks)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func TestWhatAsks(t *testing.T) {
	for _, c := range []struct {
		name    string
		flags   Flags
		unicast bool
		blocks  int
		skew    time.Duration
		kind    Kind
		asks    bool
	}{
		{"probe", FlagProbe, true, AskingBlocks, 0, Probe, true},
		{"probe with hardware", FlagProbe | FlagAES, true, AskingBlocks, 0, Probe, true},
		{"probe on the shared port", FlagProbe, false, AskingBlocks, 0, Broadcast, false},
		{"probe shorter than an answer", FlagProbe, true, AskingBlocks - 1, 0, Probe, false},
		{"recorded probe", FlagProbe, true, AskingBlocks, maxSkew + time.Second, Probe, false},
		{"reply", FlagReply, true, AskingBlocks, 0, Reply, false},
		{"reply that solicits", FlagReply | FlagSolicit, false, AskingBlocks, 0, Broadcast, false},
		{"plain unicast", 0, true, AskingBlocks, 0, Unicast, false},
		{"plain broadcast", 0, false, AskingBlocks, 0, Broadcast, false},
		{"solicitation", FlagSolicit, false, AskingBlocks, 0, Broadcast, true},
		{"solicitation on our own port", FlagSolicit, true, AskingBlocks, 0, Unicast, false},
		{"solicitation shorter than an answer", FlagSolicit, false, AskingBlocks - 1, 0, Broadcast, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			d := r.asking(1, c.flags, c.blocks)
			r.now = r.now.Add(c.skew)
			h, err := r.Receive(Packet{Data: d, From: peerAddr, Unicast: c.unicast}, r.now)
			if err != nil {
				t.Fatal(err)
			}
			if h.Kind != c.kind || h.Asks != c.asks {
				t.Errorf("%v, asks %v; want %v, %v", h.Kind, h.Asks, c.kind, c.asks)
			}
			if got := r.Answer(h, r.now); got != c.asks {
				t.Errorf("answered: %v", got)
			}
		})
	}
}

// One source draws one answer a second, whoever it claims to be.
func TestAnswersPerSource(t *testing.T) {
	r := newRig(t)
	ask := func(from netip.AddrPort) *Heard { return &Heard{From: from, Asks: true} }
	for range answerSourceBurst {
		if !r.Answer(ask(peerAddr), r.now) {
			t.Fatal("an answer within the burst is refused")
		}
	}
	if r.Answer(ask(peerAddr), r.now) {
		t.Error("over the rate of a source, and answered")
	}
	if !r.Answer(ask(addr(1)), r.now) {
		t.Error("another source pays for it")
	}
	r.now = r.now.Add(answerSourceEvery)
	if !r.Answer(ask(peerAddr), r.now) || r.Answer(ask(peerAddr), r.now) {
		t.Error("not one answer after a second")
	}
}

func TestAnswersInAll(t *testing.T) {
	r := newRig(t)
	for i := range answerBurst {
		if !r.Answer(&Heard{From: addr(i), Asks: true}, r.now) {
			t.Fatalf("answer %d refused", i)
		}
	}
	if r.Answer(&Heard{From: addr(answerBurst), Asks: true}, r.now) {
		t.Error("over the rate of all, and answered")
	}
	r.now = r.now.Add(answerEvery)
	if !r.Answer(&Heard{From: addr(answerBurst + 1), Asks: true}, r.now) {
		t.Error("refused after a pause")
	}
	if n := r.Counters().Answered; n != answerBurst+1 {
		t.Errorf("counted %d", n)
	}
}

// Two nodes, each answering whatever may be answered: a probe is followed by one datagram, not longer, and then silence.
func TestProbeGetsExactlyOneReply(t *testing.T) {
	ks := generationKeys(testMesh, 3)
	type party struct {
		*Receiver
		an   *Announcer
		at   netip.AddrPort
		peer *party
	}
	newParty := func(n uint64, at netip.AddrPort) *party {
		an, err := NewAnnouncer(AnnouncerConfig{Mesh: testMesh, Node: signer(n), Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		return &party{at: at, an: an, Receiver: NewReceiver(ReceiverConfig{
			Mesh: testMesh, Self: signer(n).NodeID(), Keys: func() *Keys { return ks },
			Standing: func(keys.NodeID) Standing { return Enrolled },
		})}
	}
	a, b := newParty(1, addr(1)), newParty(2, addr(2))
	a.peer, b.peer = b, a
	d, _, err := a.an.Announce(Facts{UnicastPort: 1}, FlagProbe, ks, testTime)
	if err != nil {
		t.Fatal(err)
	}
	sent := [][]byte{d}
	for at := b; len(sent) < 10; at = at.peer {
		h, err := at.Receive(Packet{Data: sent[len(sent)-1], From: at.peer.at, Unicast: true}, testTime)
		if err != nil {
			t.Fatal(err)
		}
		if !at.Answer(h, testTime) {
			break
		}
		d, _, err := at.an.Announce(Facts{Endpoints: manyEndpoints(), UnicastPort: 1}, FlagReply, ks, testTime)
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, d)
	}
	if len(sent) != 2 {
		t.Fatalf("%d datagrams for one probe and one reply", len(sent))
	}
	if len(sent[1]) > len(sent[0]) {
		t.Errorf("a reply of %d bytes to a probe of %d", len(sent[1]), len(sent[0]))
	}
}
