package core

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// never is before every monotonic time.
const never = time.Duration(-1 << 62)

// peer is what is known of another node's whereabouts.
type peer struct {
	id       keys.NodeID
	born     time.Duration // when this record was made
	enrolled bool          // the log held here has an enrolment of it that is not revoked
	revoked  bool
	aes      bool

	// dialling
	addrs   []*address
	dialing int // dials under way, waiting and staggered
	dialT   *timer
	paused  time.Duration // no session with it before: it sent what no honest node sends
	shutOut time.Duration // not dialled before: it says that this node is revoked
	shuts   int           // how often it has said so in a row
	shutAt  time.Duration // when it said so last

	// overlay
	chosen   bool          // this node has picked it and is dialling it
	expected time.Duration // that counts as a session until then
	shunned  time.Duration // not picked before: a session with it was shed
	wantedTo time.Duration // a user wants a session with it, or did within idleData
	using    bool          // it has streams
	sought   time.Duration // when the neighbours were last asked where it is
	seekWait time.Duration // before they are asked again
	differs  int           // its last beacons in a row whose digest was another than this node's

	// sessions
	sessions []*sess // newest last
	rejected []time.Duration
	boots    []bootChange
	lastBoot identity.BootID

	// presence
	presence    Presence
	lastBeacon  time.Duration
	lastTraffic time.Duration
	heardOn     []hearing
	interval    time.Duration  // as its beacons say
	probeAt     netip.AddrPort // where its unicast beacon socket is
	countedFrom time.Duration  // the beginning of the silence that is counted
	probes      int            // sent in it
	lookT       *timer

	// its newest beacon
	record    []byte           // the envelope, forwarded to others
	health    []byte           // its newest signed summary of itself, forwarded beside the record
	healthIn  time.Duration    // when that came
	announced []netip.AddrPort // the addresses in it
	epoch     uint64
	counter   uint64
	boot8     beacon.Boot
}

type bootChange struct {
	at   time.Duration
	boot identity.BootID
}

// hearing is the last beacon of a peer on one interface.
type hearing struct {
	iface int
	at    time.Duration
}

// lastPresence is the last sign of life of any kind.
func (p *peer) lastPresence() time.Duration { return max(p.lastBeacon, p.lastTraffic) }

// working returns the session new streams use: the newest that is not draining, a full one if there is one.
func (p *peer) working() *sess {
	var best *sess
	for _, s := range p.sessions {
		if !s.draining && (best == nil || s.full() || !best.full()) {
			best = s
		}
	}
	return best
}

func (p *peer) suspect() bool {
	s := p.working()
	return s != nil && s.suspect
}

// sess is one control session.
type sess struct {
	id      SessionID
	peer    *peer
	role    keys.Role
	boot    identity.BootID
	connSeq uint64
	addr    *address // the address dialled; nil when the peer dialled
	cert    *identity.SignedCertificate
	rootVer uint64

	up       time.Duration
	lastRecv time.Duration
	suspect  bool
	draining bool
	loser    bool // another session with the peer is kept
	unsynced bool // full was given without other peers' views

	states    *session.States // what both sides said
	published SessionState    // what the shell was told last

	hbT    *timer
	lifeT  *timer
	limitT *timer
	vecT   *timer
	pullT  *timer
	showT  *timer
	shown  time.Duration // when the view was last shown without being asked
	asked  []*question   // pings that wait for an answer

	sync      *trust.Sync
	theirs    [8]byte // the digest the peer told last
	degree    uint64  // of the peer, as its heartbeats say; 0: not yet
	finds     bucket
	vecs      bucket
	pongs     bucket
	pushes    bucket
	floodFrom time.Duration
	floodBase uint64 // frames dropped before floodFrom
	surplus   uint64 // vectors dropped
}

// full reports whether streams may open: both sides said so.
func (s *sess) full() bool { return s.states.MayOpen() && !s.draining }

// ready reports whether the peer has said READY.
func (s *sess) ready() bool { return s.states.Peer() != 0 }

func compare(a, b keys.NodeID) int { return bytes.Compare(a[:], b[:]) }

func less(a, b keys.NodeID) bool { return compare(a, b) < 0 }
