package mesh

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// link is one control session as the shell sees it: a reader and a queue, with a writer while there is something in it. What it means
// is the core's business.
type link struct {
	// immutable
	id      core.SessionID
	peer    linkPeer
	role    keys.Role
	suite   keys.Suite
	remote  netip.AddrPort
	ctl     *session.Control
	ring    *session.Keyring
	started time.Time
	jitter  float64   // of its rekey trigger, fixed
	told    int64     // the clock the peer told in the handshake, unix seconds
	hash    keys.Hash // channel binding of the handshake

	out outbox

	features   atomic.Uint64 // session.Features both sides offered; set before anybody sees the link
	state      atomic.Uint32 // session.State the core published
	wasFull    atomic.Bool
	registered atomic.Bool // its tags are in the table
	services   atomic.Pointer[session.Services]
	vec        atomic.Pointer[trust.Vector] // the newest the peer sent
	digest     atomic.Pointer[[8]byte]      // of its newest heartbeat
	beatAt     atomic.Int64                 // when that came; not every one tells of its health
	health     atomic.Pointer[session.Health]
	healthAt   atomic.Int64
	rtt        atomic.Int64  // nanoseconds
	due        atomic.Int64  // when its keys became due, 0 before
	pinged     atomic.Int64  // when the outstanding ping was sent
	asked      atomic.Uint64 // generation of the group secret the peer asked for before this node held it

	renewals budget // answered to the peer
	receipts budget // taken from the peer
	records  budget // taken from the peer
	rekey    rekeying
	warm     warmth

	// guarded by Node.mu
	code session.Code
	why  string

	// life makes becoming full and ending exclude each other: neither tags nor the count of full sessions outlive the link.
	life sync.Mutex
	over bool // guarded by life

	// duplicate: the session lost against another one with the same peer. Streams that were on their way over it are still taken.
	duplicate atomic.Bool
}

// linkPeer is what stays of a handshake's peer while the session lives.
type linkPeer struct {
	Node keys.NodeID
	Boot identity.BootID
}

// name is the session in the audit log.
func (l *link) name() string { return sessionName(l.id) }

func sessionName(id core.SessionID) string { return "s-" + strconv.FormatUint(uint64(id), 10) }

// open reports whether streams may open over the link now.
func (l *link) open() bool { return session.State(l.state.Load()) == session.Full }

// may reports whether the session may use an optional part of the protocol.
func (l *link) may(f session.Features) bool { return session.Features(l.features.Load()).Has(f) }

// usable reports whether both sides have said full, and the session has not ended.
func (l *link) usable() bool { return l.open() || session.State(l.state.Load()) == session.Draining }

// runSession takes over an admitted session's connection. It returns at once: the goroutine of the handshake, and the stack that grew
// in it, do not stay for the session's life.
func (n *Node) runSession(conn net.Conn, res *handshake.Result, dial core.DialID, seq uint64, remote netip.AddrPort) {
	l := &link{
		id: core.SessionID(n.sessionSeq.Add(1)), peer: linkPeer{res.Peer.Node, res.Peer.Binding.Boot}, role: res.Role,
		suite: res.Keys.Suite, remote: remote, ctl: session.NewControl(conn, res.Keys, res.Role), started: time.Now(),
		jitter: rand.Float64(), told: res.Peer.Time, hash: res.Keys.Hash,
	}
	l.features.Store(uint64(n.features(res.Peer)))
	l.rekey.begin(res)
	l.ring = session.NewKeyring(streamKeys(res.Keys, n.features(res.Peer)), res.Role, func(counter uint64) {
		n.queueBody(l.id, session.Number{K: session.KindSkip, N: counter})
	})
	n.mu.Lock()
	n.links[l.id] = l // from here on endLinks cuts it
	if n.ctx.Err() != nil {
		l.ctl.Reset()
	}
	n.mu.Unlock()
	n.tally.session(l.peer.Node)
	n.post(core.SessionUp{
		ID: l.id, Dial: dial, Peer: res.Peer.Node, Role: res.Role, Boot: res.Peer.Binding.Boot, ConnSeq: seq,
		Remote: remote, Certificate: res.Peer.Certificate.Lean(), RootVersion: res.Peer.RootVersion,
	})
	n.keepLink(l)
}

// keepLink reads a link's records, each in a goroutine that waited for it and hands the waiting for the next to a fresh one: reading
// records needs a deep stack, waiting a tiny one, and idle sessions only wait.
func (n *Node) keepLink(l *link) {
	n.wg.Go(func() {
		l.ctl.Await()
		if code, err := n.readLinkContained(l); err != nil {
			l.ctl.Release()
			n.endLink(l, code, err)
			return
		}
		n.keepLink(l)
	})
}

// writeLink writes queued records, revocations first, until there are none.
func (n *Node) writeLink(l *link) {
	defer n.recovered("session writer", l.ctl.Conn())
	for {
		f, ok := l.out.take()
		if !ok {
			return
		}
		if err := l.ctl.Send(f.kind, f.body); err != nil {
			// A CLOSE that crossed this write is still to be read. Then the reader ends the link.
			l.ctl.SetReadDeadline(time.Now().Add(lastWords))
			return
		}
	}
}

// readLinkContained is readLink with a bug contained: the session ends, and everything about it is tidied up, as after any other end.
func (n *Node) readLinkContained(l *link) (code session.Code, err error) {
	defer func() {
		if v := recover(); v != nil {
			n.panicked("session", v)
			code, err = 0, errors.New("a panic was contained")
		}
	}()
	return n.readLink(l)
}

// readLink reads one record and hands it to the core. An error means that the session has ended; the code is the peer's, if it gave one.
func (n *Node) readLink(l *link) (session.Code, error) {
	t, body, err := l.ctl.Receive()
	if err != nil {
		var ce *session.ClosedError
		if errors.As(err, &ce) {
			return ce.Code, err
		}
		return 0, err
	}
	switch t {
	case session.RecordHeartbeat:
		h, ignored, err := session.ParseHeartbeat(body)
		if err != nil {
			l.ctl.Close(session.CodeProtocol)
			return 0, err
		}
		n.add("control.unknown-key", ignored)
		n.heartbeatIn(l, &h)
	case session.RecordControl:
		b, err := session.ParseBody(body)
		if err != nil {
			l.ctl.Close(session.CodeProtocol)
			return 0, err
		}
		if b.Kind() == session.KindVec {
			if v, err := trust.ParseVector(body); err == nil {
				l.vec.Store(v)
				n.wake()
			}
		}
		n.post(core.FrameIn{ID: l.id, Body: b, Raw: bytes.Clone(body)})
		if err := n.shellFrame(n.ctx, l, b); err != nil {
			l.ctl.Close(session.CodeProtocol)
			return 0, err
		}
	case session.RecordRekey:
		if err := n.rekeyRecord(n.ctx, l, body); err != nil {
			l.ctl.Close(session.CodeProtocol)
			return 0, err
		}
	case session.RecordClose:
		code, err := session.ParseClose(body)
		if err != nil {
			return 0, err
		}
		return code, &session.ClosedError{Code: code}
	}
	return 0, nil
}

func (n *Node) heartbeatIn(l *link, h *session.Heartbeat) {
	// When it was said comes first: whoever sees what was said has a time for it.
	now := time.Now().UnixNano()
	l.beatAt.Store(now)
	if h.Health != nil {
		l.healthAt.Store(now)
		l.health.Store(h.Health)
	}
	if at := l.pinged.Load(); h.Pong != 0 && at != 0 {
		l.rtt.Store(time.Now().UnixNano() - at)
		l.pinged.Store(0)
	}
	l.digest.Store(&h.Digest)
	n.wake()
	n.post(core.HeartbeatIn{ID: l.id, Digest: h.Digest, Degree: h.Degree, Ping: h.Ping, Pong: h.Pong})
}

// endLink forgets a link after its reader has ended.
func (n *Node) endLink(l *link, code session.Code, err error) {
	l.out.close()
	l.ctl.Reset()
	l.life.Lock()
	l.over = true
	n.mu.Lock()
	delete(n.links, l.id)
	if l.wasFull.Load() {
		decrement(n.fullAddrs, l.remote.Addr().WithZone(""))
	}
	switch code {
	case session.CodeNotAdmitted, session.CodeRevoked, session.CodeExpired:
		if _, ok := n.refusals[l.peer.Node]; ok || len(n.refusals) < maxEndpointPeers {
			n.refusals[l.peer.Node] = refusal{code: code, at: time.Now()}
		}
		n.wakeLocked()
	}
	if l.code == 0 {
		l.code = code
	}
	if l.why == "" && err != nil {
		l.why = err.Error()
	}
	why, ended := l.why, l.code
	l.state.Store(uint32(session.Closed))
	n.wakeLocked()
	n.mu.Unlock()
	grace := time.Duration(0)
	if ended == session.CodeDuplicate {
		grace = session.DuplicateGrace
		l.duplicate.Store(true)
	}
	n.tags.Unregister(l.ring, grace, time.Now())
	if l.wasFull.Load() {
		n.streams.sessionLost(l.peer.Node, l.peer.Boot)
	}
	l.life.Unlock() // before the event: the loop may be waiting for it
	n.post(core.SessionDown{ID: l.id, Code: code})
	n.auditSessionClose(l, ended, why)
}

func decrement[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}
