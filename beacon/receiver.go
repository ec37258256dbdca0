package beacon

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

// Packet is one received datagram. Data is valid only during the call it is passed to.
type Packet struct {
	Data      []byte
	From      netip.AddrPort
	To        netip.Addr // where it was sent to, without zone; not valid if unknown
	Interface int        // index of the interface it came in by, 0 if unknown
	Unicast   bool       // received on this daemon's own unicast port
}

// Kind is how a beacon reached us.
type Kind uint8

const (
	// Broadcast came to the shared port; its question, if it carries one, is a solicitation.
	Broadcast Kind = iota
	// Unicast came to our own port and asks nothing.
	Unicast
	// Probe came to our own port and asks for one unicast beacon.
	Probe
	// Reply came to our own port as the answer to a probe or a solicitation.
	Reply
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case Broadcast:
		return "broadcast"
	case Unicast:
		return "unicast"
	case Probe:
		return "probe"
	case Reply:
		return "reply"
	}
	return "unknown"
}

// Standing is what the trust log says of a node id.
type Standing uint8

const (
	// Stranger is not enrolled as far as this node knows.
	Stranger Standing = iota
	// Enrolled has a live enrolment.
	Enrolled
	// Revoked is revoked or locally denied.
	Revoked
)

// Heard is a beacon that passed every check. It is a hint: it authorises, closes and resolves nothing.
type Heard struct {
	Announcement
	Envelope   []byte // the signed bytes, to be forwarded as the node's peer record; owned by the caller
	From       netip.AddrPort
	Interface  int
	Kind       Kind
	Generation uint64 // of the key that opened it
	ClockSkew  bool   // says nothing about when it was sent: no presence
	Known      bool   // enrolled; else it is a candidate
	Asks       bool   // may be answered by one unicast beacon, see Receiver.Answer
}

// ReplyTo is where a unicast beacon to the sender goes: its own port at the address it was heard from.
func (h *Heard) ReplyTo() netip.AddrPort { return netip.AddrPortFrom(h.From.Addr(), h.UnicastPort) }

// Dialable lists where to dial the sender, see [Announcement.Addresses].
func (h *Heard) Dialable() []netip.AddrPort { return h.Addresses(h.From.Addr(), h.Interface) }

// ReceiverConfig is what a receiver asks the rest of the node. The functions are called from within Receive.
type ReceiverConfig struct {
	Mesh     keys.MeshID
	Self     keys.NodeID
	Keys     func() *Keys                  // the keys held now; nil while there are none, and then nothing opens
	Standing func(id keys.NodeID) Standing // what the trust log says
	Rand     *rand.Rand                    // chooses which stranger is forgotten; not shared
}

// Receiver checks datagrams. It does no I/O and starts nothing. All methods but Counters are for one goroutine at a time.
type Receiver struct {
	// immutable
	cfg ReceiverConfig

	// owned by the receiving goroutine
	began     time.Time     // of the first datagram
	clock     time.Duration // since then, never going back
	sweepAt   time.Duration
	plain     [MaxBlocks * BlockSize]byte
	global    bucket
	older     bucket
	sources   *buckets[source]
	pairs     *buckets[pair]
	known     *memory
	strangers *memory
	answers   bucket
	answered  *buckets[source]

	// written by the receiving goroutine, read by any
	counts counters
}

// source is an address as far as budgets tell addresses apart: IPv6 hosts own a /64, but on a link each has its own address.
type source netip.Addr

type pair struct {
	from source
	node keys.NodeID
}

func sourceOf(a netip.Addr) source {
	a = a.Unmap().WithZone("")
	if a.Is6() && !a.IsLinkLocalUnicast() {
		p, _ := a.Prefix(64)
		a = p.Addr()
	}
	return source(a)
}

// NewReceiver returns a receiver that has heard nothing.
func NewReceiver(cfg ReceiverConfig) *Receiver {
	return &Receiver{
		cfg:       cfg,
		sources:   newBuckets[source](sourceEvery, sourceBurst, maxSources),
		pairs:     newBuckets[pair](pairEvery, pairBurst, maxSources),
		known:     newMemory(maxKnown, cfg.Rand),
		strangers: newMemory(maxStrangers, cfg.Rand),
		answered:  newBuckets[source](answerSourceEvery, answerSourceBurst, maxSources),
	}
}

// Counters returns what was counted so far. It may be called from any goroutine.
func (r *Receiver) Counters() Counters { return r.counts.snapshot() }

// tick turns a time into the receiver's own clock, on which a wall clock that is set back is a pause.
func (r *Receiver) tick(now time.Time) time.Duration {
	if r.began.IsZero() {
		r.began = now
	}
	r.clock = max(r.clock, now.Sub(r.began))
	if r.clock >= r.sweepAt {
		r.known.sweep(r.clock)
		r.strangers.sweep(r.clock)
		r.sweepAt = r.clock + sweepEvery
	}
	return r.clock
}

// Receive takes a datagram through the checks of protocol §8 in their order, the cheap before the dear. The error is a [Drop].
func (r *Receiver) Receive(p Packet, now time.Time) (*Heard, error) {
	at := r.tick(now)
	r.counts.received.Add(1)
	from := sourceOf(p.From.Addr())

	// 1: four lengths and no other.
	if !validSize(len(p.Data)) {
		return nil, r.counts.drop(DropSize)
	}
	// 2: who floods is cut off alone; all together cannot cost more than a tenth of a core.
	if !r.sources.take(from, at) {
		return nil, r.counts.drop(DropSource)
	}
	if !r.global.take(at, globalEvery, globalBurst) {
		return nil, r.counts.drop(DropGlobal)
	}
	// 3: what outsiders send ends here.
	ks := r.cfg.Keys()
	raw, generation, drop := r.open(ks, p.Data, at)
	if raw == nil {
		r.global.refund(unopenedRefund)
		return nil, r.counts.drop(drop)
	}
	// 4: one canonical announcement, sealed under the generation it names.
	a, e, err := parse(raw)
	if err != nil || a.GroupGen != generation {
		return nil, r.counts.drop(DropMalformed)
	}
	// 5: our own comes back from every broadcast; a revoked node is not worth a verification.
	if a.Node == r.cfg.Self {
		return nil, r.counts.drop(DropOwn)
	}
	standing := r.cfg.Standing(a.Node)
	if standing == Revoked {
		return nil, r.counts.drop(DropRevoked)
	}
	// 6: compare only; nothing is stored on the word of an unverified beacon.
	seen := r.find(a.Node, standing, at)
	if seen != nil && !newer(a.Epoch, a.Counter, seen.epoch, seen.counter) {
		return nil, r.counts.drop(DropReplay)
	}
	// 7: a member that uses another's id pays from its own address.
	if !r.pairs.take(pair{from, a.Node}, at) {
		return nil, r.counts.drop(DropPair)
	}
	// 8: the proof. Under a key that is not canonical or of small order nothing verifies.
	if e.VerifyOnly(keys.LabelBeacon, r.cfg.Mesh, a.Node.Public()) != nil {
		return nil, r.counts.drop(DropSignature)
	}
	if !r.store(a, standing, seen, at) {
		return nil, r.counts.drop(DropNode)
	}
	// 9 and 10: what it may be used for.
	return r.heard(p, a, raw, generation, standing, now), nil
}

// open tries the current and the previous key, and the older ones within their budget.
func (r *Receiver) open(ks *Keys, datagram []byte, at time.Duration) ([]byte, uint64, Drop) {
	if ks == nil {
		return nil, 0, DropSealed
	}
	raw, generation, err := ks.openRecent(r.plain[:0], datagram)
	if err == nil {
		return raw, generation, 0
	}
	if !ks.hasOlder() {
		return nil, 0, DropSealed
	}
	if !r.older.take(at, olderEvery, olderBurst) {
		return nil, 0, DropOlder
	}
	raw, generation, err = ks.openOlder(r.plain[:0], datagram)
	if err != nil {
		return nil, 0, DropSealed
	}
	r.counts.older.Add(1)
	return raw, generation, 0
}

// find looks the node up where its standing puts it. A stranger that was enrolled meanwhile keeps its sighting, so that its old
// beacons do not count as new.
func (r *Receiver) find(id keys.NodeID, standing Standing, at time.Duration) *sighting {
	here, there := r.strangers, r.known
	if standing == Enrolled {
		here, there = there, here
	}
	if s := here.find(id, at); s != nil {
		return s
	}
	s := there.find(id, at)
	if s != nil {
		there.forget(id)
		here.add(id, s)
	}
	return s
}

// store remembers a verified announcement and charges the node's budget. The sighting is stored even if the budget is empty:
// it is proven, and a later replay of it must fail.
func (r *Receiver) store(a *Announcement, standing Standing, seen *sighting, at time.Duration) bool {
	if seen == nil {
		seen = &sighting{}
		if standing == Enrolled {
			r.known.add(a.Node, seen)
		} else {
			r.strangers.add(a.Node, seen)
		}
	}
	seen.epoch, seen.counter, seen.last = a.Epoch, a.Counter, at
	return seen.budget.take(at, nodeEvery, nodeBurst)
}

func (r *Receiver) heard(p Packet, a *Announcement, raw []byte, generation uint64, standing Standing, now time.Time) *Heard {
	from := p.From.Addr().Unmap()
	if from.Is6() && from.IsLinkLocalUnicast() && p.Interface > 0 {
		from = from.WithZone(strconv.Itoa(p.Interface))
	}
	h := &Heard{
		Announcement: *a,
		Envelope:     bytes.Clone(raw),
		From:         netip.AddrPortFrom(from, p.From.Port()),
		Interface:    p.Interface,
		Generation:   generation,
		ClockSkew:    a.Skewed(now),
		Known:        standing == Enrolled,
	}
	switch {
	case !p.Unicast:
		h.Kind = Broadcast
	case a.Flags.Has(FlagReply):
		h.Kind = Reply
	case a.Flags.Has(FlagProbe):
		h.Kind = Probe
	default:
		h.Kind = Unicast
	}
	// Answered is only what was sent just now (a recorded question from a forged address is not), is at least as long as any
	// answer, and is no answer itself.
	asks := h.Kind == Probe || h.Kind == Broadcast && a.Flags.Has(FlagSolicit) && !a.Flags.Has(FlagReply)
	h.Asks = asks && !h.ClockSkew && len(p.Data) >= Overhead+AskingBlocks*BlockSize
	r.counts.heard.Add(1)
	if h.ClockSkew {
		r.counts.skewed.Add(1)
	}
	return h
}

// Answer charges the budgets for one unicast beacon in answer to h, and reports whether it may be sent. The answer carries
// FlagReply.
func (r *Receiver) Answer(h *Heard, now time.Time) bool {
	at := r.tick(now)
	if !h.Asks || !r.answered.take(sourceOf(h.From.Addr()), at) || !r.answers.take(at, answerEvery, answerBurst) {
		return false
	}
	r.counts.answered.Add(1)
	return true
}
