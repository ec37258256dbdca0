package mesh

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// PeerInfo is what this node knows of another member. What it learnt from where differs: identity from the log, State from
// sessions and beacons, Health and Services from the peer itself.
type PeerInfo struct {
	Node       keys.NodeID
	Name       string // empty when two live nodes hold it
	Tags       []string
	State      string // up, suspect, stale, offline, pruned, unseen, expired
	Since      time.Time
	Seen       time.Time // last beacon or session record
	NotAfter   time.Time
	Address    netip.AddrPort // of the session, or the last known
	Session    string         // state of the session, empty without one
	Suite      string
	RTT        time.Duration
	Streams    int
	BytesIn    uint64 // of the control session
	BytesOut   uint64
	LastDial   string // why the last dial failed
	Skewed     bool   // its clock is far off
	Conflict   bool   // its name is held by another live node too
	Health     *session.Health
	HealthAt   time.Time         // when that was said; by the peer's own clock if it was passed on
	HealthTold bool              // signed by the peer, passed on by others: it has no session with this node
	Services   []session.Service // that this node may use there
	// ServicesTold: the peer has told them in this session; none at all is also an answer.
	ServicesTold bool
	View         string    // its trust view against this node's: same, other; empty if it is not known
	ViewAt       time.Time // when it told
	HeadTime     int64     // of the newest head it holds, unix seconds; 0: it told of none
}

// Peers lists every member but this node, by name.
func (n *Node) Peers() []PeerInfo {
	st, now := n.State(), n.trustNow()
	digest := st.Digest()
	best := map[keys.NodeID]*link{}
	pres := map[keys.NodeID]presence{}
	errs := map[keys.NodeID]string{}
	said := map[keys.NodeID]told{}
	eps := map[keys.NodeID]netip.AddrPort{}
	n.mu.Lock()
	for _, l := range n.links {
		if b := best[l.peer.Node]; b == nil || l.open() && !b.open() || l.open() == b.open() && l.id > b.id {
			best[l.peer.Node] = l
		}
	}
	for id, p := range n.presence {
		pres[id] = p
	}
	for id, e := range n.dialErrs {
		errs[id] = e
	}
	for id, t := range n.told {
		said[id] = t
	}
	for id, e := range n.endpoints {
		if len(e) > 0 {
			eps[id] = e[0]
		}
	}
	n.mu.Unlock()
	var out []PeerInfo
	for m := range st.Members() {
		if m.Node == n.self {
			continue
		}
		p := pres[m.Node]
		i := PeerInfo{
			Node: m.Node, Name: m.Name, Tags: m.Tags, State: p.is.String(), Since: p.since, Seen: p.seen,
			NotAfter: time.Unix(m.NotAfter, 0), Address: eps[m.Node], LastDial: errs[m.Node], Skewed: p.skew,
			Streams: n.streams.count(m.Node), Conflict: st.NameConflict(m.Name, now),
		}
		if i.Conflict {
			i.Name = ""
		}
		if now >= m.NotAfter {
			i.State = "expired"
		}
		if !p.seen.IsZero() {
			i.View, i.ViewAt = compareViews(p.digest, digest), p.seen
		}
		i.healthOf(best[m.Node], said[m.Node], time.Now())
		if l := best[m.Node]; l != nil {
			n.describeLink(&i, l)
			if d := l.digest.Load(); d != nil {
				i.View, i.ViewAt = compareViews(*d, digest), time.Unix(0, l.beatAt.Load())
			}
			if v := l.vec.Load(); v != nil {
				for _, at := range v.Issuers {
					i.HeadTime = max(i.HeadTime, at.HeadTime)
				}
			}
		}
		out = append(out, i)
	}
	sort.Slice(out, func(a, b int) bool {
		if out[a].Name != out[b].Name {
			return out[a].Name < out[b].Name
		}
		return out[a].Node.String() < out[b].Node.String()
	})
	return out
}

func compareViews(theirs, mine [8]byte) string {
	if theirs == mine {
		return "same"
	}
	return "other"
}

func (n *Node) describeLink(i *PeerInfo, l *link) {
	u := l.ctl.Limits(time.Now())
	i.Address, i.Session, i.Suite = l.remote, session.State(l.state.Load()).String(), l.suite.String()
	i.RTT = time.Duration(l.rtt.Load())
	i.BytesIn, i.BytesOut = u.Received, u.Sent
	if at := l.beatAt.Load(); at != 0 {
		i.Seen = time.Unix(0, at)
		if time.Since(i.Seen) > core.Suspect && i.State == core.Up.String() {
			i.State = "suspect"
		}
	}
	if s := l.services.Load(); s != nil {
		i.Services, i.ServicesTold = s.List, true
	}
}

// ServiceInfo is one service this node offers.
type ServiceInfo struct {
	Name    string
	Proto   string
	State   ServiceState
	Streams int
	Refused uint64
}

// Services lists what this node offers, by name.
func (n *Node) Services() []ServiceInfo {
	n.svcMu.Lock()
	defer n.svcMu.Unlock()
	var out []ServiceInfo
	for _, name := range sortedKeys(n.services) {
		s := n.services[name]
		out = append(out, ServiceInfo{Name: s.name, Proto: s.proto, State: s.state, Streams: s.streams, Refused: s.refused})
	}
	return out
}

// StreamInfo is how many streams there are of one kind: a peer's to a service here, or this node's to a service of a peer.
type StreamInfo struct {
	Peer    keys.NodeID
	Inbound bool
	Service string
	Count   int
}

// Streams lists the open streams, in the order of peers and services.
func (n *Node) Streams() []StreamInfo {
	counts := map[StreamInfo]int{}
	n.streams.mu.Lock()
	for _, p := range n.streams.peers {
		for e := range p.streams {
			counts[StreamInfo{Peer: e.peer, Inbound: e.inbound, Service: e.service}]++
		}
	}
	n.streams.mu.Unlock()
	out := make([]StreamInfo, 0, len(counts))
	for s, count := range counts {
		s.Count = count
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b StreamInfo) int {
		return cmp.Or(bytes.Compare(a.Peer[:], b.Peer[:]), cmp.Compare(a.Service, b.Service), strings.Compare(strconv.FormatBool(a.Inbound), strconv.FormatBool(b.Inbound)))
	})
	return out
}

// InterfaceInfo is one network interface the node uses.
type InterfaceInfo struct {
	Name      string
	Addresses []string
	Mute      bool
}

// Interfaces lists the interfaces beacons are sent on.
func (n *Node) Interfaces() []InterfaceInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []InterfaceInfo
	for _, i := range n.interfaces {
		out = append(out, InterfaceInfo{Name: i.name, Addresses: i.addrs, Mute: i.mute})
	}
	return out
}

// Endpoints are the addresses this node announces.
func (n *Node) Endpoints() []netip.AddrPort {
	if p := n.endpointsA.Load(); p != nil {
		return *p
	}
	return nil
}

// Handshakes returns how many handshakes of others have succeeded here, and how many ended for each reason.
func (n *Node) Handshakes() (done uint64, refused map[string]uint64) {
	done, drops := n.acceptor.Counts()
	refused = map[string]uint64{}
	for r, v := range drops {
		refused[r.String()] += v
	}
	return done, refused
}

// Carried counts this node's sessions and streams.
func (n *Node) Carried() (sessions, streams int) {
	for _, p := range n.Peers() {
		if p.Session != "" {
			sessions++
		}
		streams += p.Streams
	}
	return sessions, streams
}

// Cut counts what a change of trust closed for a peer, for receipts.
func (n *Node) Cut(id keys.NodeID) (sessions, streams int) {
	n.mu.Lock()
	for _, l := range n.links {
		if l.peer.Node == id {
			sessions++
		}
	}
	n.mu.Unlock()
	return sessions, n.streams.count(id)
}

// Certificate returns the node's own certificate in use.
func (n *Node) CertificateNotAfter() time.Time { return time.Unix(n.cert.Load().NotAfter, 0) }
