package mesh

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/internal/durable"
	"github.com/sovereignmesh/meshkey/internal/enroll"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

type nodeID = keys.NodeID

// Config is what a node is made of. Every field without a remark must be set.
type Config struct {
	Key         *keys.SigningKey            // the node's identity
	Certificate *identity.SignedCertificate // its membership
	Secrets     *Secrets                    // the group secrets held
	Trust       *trust.Store                // the trust log, open
	Audit       *audit.Log                  // the audit log, open; its Run is the caller's
	Network     Network
	State       durable.FS       // where pins, and the addresses of others, are kept
	Epoch       uint64           // of the beacons, durable already: beacon.NextEpoch
	Boot        identity.BootID  // fresh at each start
	Seed        [32]byte         // of the core's generator, from the system's randomness
	AES         bool             // the processor has AES instructions
	Issuer      *enroll.Issuer   // nil on a node that enrols nobody
	Endpoints   []netip.AddrPort // announced beside the host's own addresses; may be empty
	Peers       [][]byte         // peer records (beacon envelopes) to begin with; may be empty
	Seeds       []string         // "host:port" of nodes to try; may be empty
	Version     string           // of the program, told in heartbeats
	Unrecorded  Unrecorded       // what to do while the audit log cannot be written
	// Save makes a renewed certificate durable before it is used; nil: it is kept in memory.
	Save   func(*identity.SignedCertificate) error
	Health func() Health // what the host knows of itself; may be nil
	// Leaving revokes a node that asks for it. then is called with the entry when it is durable and before it has an effect; nil on a node
	// that never issues.
	Leaving func(node keys.NodeID, then func(entry []byte)) error
	Log     *slog.Logger // diagnostics
}

// Unrecorded says what a node does while its audit log cannot be written. Removals work in every case.
type Unrecorded uint8

const (
	// UnrecordedDrain takes no new streams and enrolments, and cuts running streams after unrecordedGrace.
	UnrecordedDrain Unrecorded = iota
	// UnrecordedStop takes no new streams and cuts the running ones at once.
	UnrecordedStop
	// UnrecordedAllow goes on; the log will hold a signed record of the gap.
	UnrecordedAllow
)

// Health is the host's part of the health summary.
type Health struct {
	Load     uint64 // one-minute load average × 100
	DiskFree uint64 // bytes free where the state is kept
}

// Node is one member of a mesh, running. New makes it, Run runs it.
type Node struct {
	// immutable
	cfg       Config
	self      keys.NodeID
	mesh      keys.MeshID
	net       Network
	log       *slog.Logger
	audit     *audit.Log
	store     *trust.Store
	secrets   *Secrets
	aes       bool
	start     time.Time
	budget    *handshake.Budget
	acceptor  *handshake.Acceptor
	tags      *session.Tags
	tagLimit  *session.TagLimiter
	streams   *streamSet
	pins      *pins
	known     *whereabouts
	announcer *beacon.Announcer
	receiver  *beacon.Receiver
	events    chan core.Event
	ready     chan struct{}
	lots      maphash.Seed // draws who answers a newcomer on a crowded link

	// ends when everything of the node must end; made by New, so that the API may be called before Run
	ctx context.Context
	cut context.CancelFunc

	// set by Run before anything else runs
	packets Packets
	port    uint16

	wg         sync.WaitGroup
	taking     sync.Mutex    // held while a certificate is put into use
	renewals   *rate.Limiter // answered, of all peers
	doorLog    budget        // lines of newcomers that did not join
	trustKick  chan struct{} // capacity 1: the trust state changed
	svcKick    chan struct{} // capacity 1: services changed
	healthSeq  atomic.Uint64
	hub        hub
	counters   counters
	tally      tally
	sessionSeq atomic.Uint64
	connSeq    atomic.Uint64
	presented  atomic.Pointer[handshake.Local]
	endpointsA atomic.Pointer[[]netip.AddrPort] // announced
	heardOn    atomic.Pointer[heardOn]          // what datagrams count; nil: all
	record     atomic.Pointer[[]byte]           // own newest beacon envelope
	interval   atomic.Int64                     // of beacons, as announced, in ns
	crowd      atomic.Int64                     // others heard on the most crowded interface
	cert       atomic.Pointer[identity.SignedCertificate]
	guards     guards
	issuer     atomic.Pointer[enroll.Issuer] // nil on a node that enrols nobody

	// owned by the loop
	core      *core.Core
	timer     *time.Timer
	cutCounts map[keys.NodeID]cutCount // what was closed of nodes that were revoked, until the entry that did it is answered
	greet     []*link                  // sessions that became full in this step

	svcMu    sync.Mutex
	services map[string]*service // guarded by svcMu
	svcSeq   uint64              // guarded by svcMu

	mu         sync.Mutex
	links      map[core.SessionID]*link // guarded by mu, as all that follows
	receipts   receipts
	dials      map[core.DialID]context.CancelFunc //
	knownAddrs map[netip.Addr]int                 // addresses of the peer table
	fullAddrs  map[netip.Addr]int                 // addresses with a full session
	endpoints  map[keys.NodeID][]netip.AddrPort   // where peers accept connections, by their signed beacons
	presence   map[keys.NodeID]presence           //
	dialErrs   map[keys.NodeID]string             // why the last dial failed
	records    map[keys.NodeID][]byte             // newest beacon envelopes heard
	told       map[keys.NodeID]told               // what members without a session said of themselves, passed on
	signed     []byte                             // own health summary, for others to pass on
	signedAt   time.Time                          // when that was made
	refusals   map[keys.NodeID]refusal            // how peers ended sessions that never were full
	lifeAsked  map[core.SessionID]lifeQuestion    // what this node has asked about its own key
	newcomers  map[*Newcomer]struct{}             // enrolments under way here
	changed    chan struct{}                      // closed and replaced when a session's state changes
	interfaces []interfaceView                    //
}

// refusal is a peer's proven no.
type refusal struct {
	code session.Code
	at   time.Time
}

// presence is what the core said last of a peer.
type cutCount struct{ sessions, streams int }

type presence struct {
	is     core.Presence
	since  time.Time
	seen   time.Time // last beacon heard
	digest [8]byte   // of the trust view it told
	skew   bool
	issues bool   // its beacon says that it renews certificates
	gen    uint64 // of the group secret, as its beacon said
}

type interfaceView struct {
	name  string
	index int
	addrs []string
	mute  bool
}

// New checks the configuration and makes a node that has not started.
func New(cfg Config) (*Node, error) {
	switch {
	case cfg.Key == nil, cfg.Certificate == nil, cfg.Secrets == nil, cfg.Trust == nil, cfg.Audit == nil, cfg.Network == nil,
		cfg.State == nil, cfg.Log == nil, cfg.Epoch == 0:
		return nil, errors.New("mesh: incomplete configuration")
	case cfg.Certificate.Node != cfg.Key.NodeID():
		return nil, errors.New("mesh: the certificate is another node's")
	case cfg.Certificate.Mesh != cfg.Trust.Current().Mesh():
		return nil, errors.New("mesh: the certificate is of another mesh")
	}
	n := &Node{
		cfg: cfg, self: cfg.Key.NodeID(), mesh: cfg.Certificate.Mesh, net: cfg.Network, log: cfg.Log, audit: cfg.Audit,
		store: cfg.Trust, secrets: cfg.Secrets, aes: cfg.AES, start: time.Now(),
		budget: handshake.NewBudget(handshake.BudgetLimits{}), tags: session.NewTags(), tagLimit: session.NewTagLimiter(),
		streams: newStreamSet(), events: make(chan core.Event, eventQueue), receipts: newReceipts(), cutCounts: map[keys.NodeID]cutCount{}, renewals: rate.NewLimiter(renewsPerSecond, renewsPerSecond), ready: make(chan struct{}), lots: maphash.MakeSeed(),
		services: map[string]*service{}, links: map[core.SessionID]*link{}, dials: map[core.DialID]context.CancelFunc{},
		knownAddrs: map[netip.Addr]int{}, fullAddrs: map[netip.Addr]int{}, endpoints: map[keys.NodeID][]netip.AddrPort{},
		presence: map[keys.NodeID]presence{}, dialErrs: map[keys.NodeID]string{}, records: map[keys.NodeID][]byte{}, told: map[keys.NodeID]told{}, refusals: map[keys.NodeID]refusal{},
		lifeAsked: map[core.SessionID]lifeQuestion{}, newcomers: map[*Newcomer]struct{}{},
		changed: make(chan struct{}), trustKick: make(chan struct{}, 1), svcKick: make(chan struct{}, 1),
	}
	n.ctx, n.cut = context.WithCancel(context.Background())
	n.cert.Store(cfg.Certificate)
	n.issuer.Store(cfg.Issuer)
	var err error
	if n.pins, err = openPins(cfg.State, filePins); err != nil {
		return nil, err
	}
	if n.announcer, err = beacon.NewAnnouncer(beacon.AnnouncerConfig{
		Mesh: n.mesh, Node: cfg.Key, Boot: beacon.Boot(cfg.Boot[:8]), Epoch: cfg.Epoch,
	}); err != nil {
		return nil, err
	}
	n.receiver = beacon.NewReceiver(beacon.ReceiverConfig{
		Mesh: n.mesh, Self: n.self, Keys: n.secrets.beaconKeys, Standing: n.beaconStanding,
		Rand: rand.New(rand.NewChaCha8(cfg.Seed)),
	})
	n.acceptor = handshake.NewAcceptor(handshake.AcceptorConfig{
		Local: n.local, Gates: n.secrets.gates, Invite: n.invitePSK, Verify: n.verifyPeer, Now: n.trustNow, Budget: n.budget,
	})
	n.known = newWhereabouts(cfg.State, n.mesh, n.log)
	before := n.known.read()
	n.core = core.New(core.Config{
		Self: n.self, Boot: cfg.Boot, Seed: cfg.Seed, Ledger: n.store, Known: before.Known, Anchor: before.Anchor,
	})
	return n, nil
}

// Self returns the node's id.
func (n *Node) Self() keys.NodeID { return n.self }

// Mesh returns the mesh's id.
func (n *Node) Mesh() keys.MeshID { return n.mesh }

// State returns the trust state every decision is made by now.
func (n *Node) State() *trust.State { return n.store.Current() }

// trustNow is the time trust questions are asked at: the local clock, but never far behind what the log proves.
func (n *Node) trustNow() int64 { return n.store.Now(time.Now().Unix()) }

// Ready is closed once the node listens.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Port returns the TCP port the node accepts connections on, after Ready.
func (n *Node) Port() uint16 { return n.port }

// Run runs the node until ctx ends, tells its peers, and returns after everything it started has ended.
func (n *Node) Run(ctx context.Context) error {
	if err := n.rebind(time.Now()); err != nil {
		return err
	}
	ln, err := n.net.Listen(ctx)
	if err != nil {
		return fmt.Errorf("listening for peers: %w", err)
	}
	defer ln.Close()
	n.port = addrOf(ln.Addr()).Port()
	if n.packets, err = n.net.Packets(); err != nil {
		return err
	}
	defer n.packets.Close()
	n.usable(nil)

	// The inner context outlives ctx a little: peers are told before connections are cut.
	inner := n.ctx
	defer n.cut()
	failed := make(chan error, 4)
	spawn := func(name string, f func(context.Context) error) {
		n.wg.Go(func() {
			if err := f(inner); err != nil && inner.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	spawn("accepting connections", func(c context.Context) error { return n.acceptLoop(c, ln) })
	spawn("beacons", func(c context.Context) error { return n.packets.Run(c, n.datagram) })
	spawn("watching interfaces", func(c context.Context) error { return n.net.Watch(c, n.interfacesChanged) })
	spawn("housekeeping", n.housekeeping)
	spawn("seeds", n.trySeeds)
	spawn("keeping addresses", n.known.run)
	loopDone := make(chan struct{})
	n.wg.Go(func() { defer close(loopDone); n.loop(inner, ctx.Done()) })
	n.auditQuarantined()
	n.post(core.Start{})
	n.wg.Go(n.tellPeers)
	close(n.ready)

	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	ln.Close()
	n.post(core.Stop{})
	late, stopLate := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer stopLate()
	select {
	case <-loopDone:
	case <-late.Done():
	}
	n.streams.stop()
	n.linksEnded(late)
	n.cut()
	n.packets.Close()
	n.endLinks()
	n.wg.Wait()
	return err
}

// post hands an event to the core. It waits while the core is busy, and gives up when the node has ended.
func (n *Node) post(ev core.Event) {
	select {
	case n.events <- ev:
	case <-n.ctx.Done():
	}
}

// now reads both clocks for the core.
func (n *Node) now() core.Now {
	t := time.Now()
	return core.Now{Mono: t.Sub(n.start), Wall: t.UnixMilli(), Trust: n.store.Now(t.Unix())}
}

// loop owns the core: one event, one step, its effects, in order.
func (n *Node) loop(ctx context.Context, stopping <-chan struct{}) {
	n.timer = time.NewTimer(time.Hour)
	defer n.timer.Stop()
	for {
		var ev core.Event
		select {
		case ev = <-n.events:
		case <-n.timer.C:
			ev = core.Timer{}
		case <-n.streams.kick:
			for _, u := range n.streams.changes() {
				n.step(ctx, u)
			}
			continue
		case <-ctx.Done():
			return
		}
		n.step(ctx, ev)
		if _, ok := ev.(core.Stop); ok {
			return
		}
	}
}

// step carries out one step. What a session is told because it became full is sent last, behind the READY that allows it: sent
// before, it would break the protocol.
func (n *Node) step(ctx context.Context, ev core.Event) {
	if b, ok := ev.(barrier); ok {
		close(b.passed)
		return
	}
	var after []core.Effect
	for _, e := range n.core.Step(n.now(), ev) {
		if afterReady(e) {
			after = append(after, e)
			continue
		}
		n.effect(ctx, e)
	}
	for _, l := range n.greet {
		n.sendServices(l)
		n.wantGroupSecret(l)
	}
	n.greet = n.greet[:0]
	for _, e := range after {
		n.effect(ctx, e)
	}
}

// afterReady names the effects that only a full session may see the outcome of.
func afterReady(e core.Effect) bool {
	switch e := e.(type) {
	case core.TellSelf:
		return true
	case core.Send:
		return e.Body.Kind() == session.KindPeer || e.Body.Kind() == session.KindHealth || e.Body.Kind() == session.KindFind
	}
	return false
}

// barrier is passed when every event posted before it has had its effects. The core never sees it.
type barrier struct {
	core.Event
	passed chan struct{}
}
