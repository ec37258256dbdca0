package mesh

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/audit"
	"github.com/sovereignmesh/meshkey/handshake"
	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
)

// The keys of a session, and with them those of all its streams, are replaced by a handshake inside it:
//
//	dialer                                acceptor
//	R1, any record ─────────────────────→ verifies; takes the tags and stream keys of g+1
//	verifies; takes g+1, receives ←────── R2, the last record under its old key; sends under the new one
//	under it, sends R3, the last ───────→ receives under the new one; its own streams begin with g+1
//	record under its old key; all of
//	its streams go on with g+1
//
// So nobody meets a generation it does not know, on whatever connection it comes first. Any error ends the session, not its streams.

// offered are the optional parts of the protocol this version speaks, on every processor.
const offered = session.FeatureRekey | session.FeatureWarm | session.FeatureLife

// offers are the optional parts this node speaks.
func (n *Node) offers() session.Features {
	if n.aes {
		return offered | session.FeatureAES
	}
	return offered
}

// streamKeys are the keys that a session's streams come from. Their suite is that of both processors, which the handshake has proven,
// and not that of the session: its dialer may not have heard a beacon of the peer yet.
func streamKeys(k keys.Session, f session.Features) keys.Session {
	if f.Has(session.FeatureAES) {
		k.Suite = keys.SuiteAES
	}
	return k
}

// rekeying is a link's part in replacing its keys.
type rekeying struct {
	// immutable
	static *handshake.Static // proved in the session's handshake, whatever the node presents now
	peer   identity.StaticKey

	answered budget // R1s of the peer

	// guarded by mu
	mu       sync.Mutex
	current  keys.Session             // without its traffic keys
	dialer   *handshake.RekeyDialer   // R1 is out, R2 has not come
	acceptor *handshake.RekeyAcceptor // R2 is out, R3 has not come
	asked    time.Time                // when REKEY_ASK was sent or obeyed last

	// atomic: housekeeping looks at them, and does not wait for a rekey that waits for a peer
	moved  atomic.Uint64 // bytes the streams had moved when the keys were new
	half   atomic.Int64  // when R1 was taken, unix nanoseconds, while R3 has not come
	number atomic.Uint64 // of current
}

// begin notes the keys a session begins with.
func (r *rekeying) begin(res *handshake.Result) {
	r.static, r.peer = res.Static, res.Peer.Static
	r.setLocked(res.Keys, 0)
}

func (r *rekeying) setLocked(k keys.Session, moved uint64) {
	r.current = keys.Session{Suite: k.Suite, Generation: k.Generation, Exporter: k.Exporter, Hash: k.Hash}
	r.dialer, r.acceptor = nil, nil
	r.moved.Store(moved)
	r.half.Store(0)
	r.number.Store(k.Generation)
}

func (r *rekeying) configLocked(mesh keys.MeshID) handshake.RekeyConfig {
	return handshake.RekeyConfig{Mesh: mesh, Static: r.static, Peer: r.peer, Current: r.current}
}

// generation returns how often the session's keys have been replaced.
func (r *rekeying) generation() uint64 { return r.number.Load() }

// usage returns what the session and its streams did with the present keys, and whether anything but heartbeats moved on them: what
// keeps a trust log equal is part of being idle.
func (l *link) usage(now time.Time) (u session.Usage, busy bool) {
	u = l.ctl.Limits(now)
	s := l.ring.Usage()
	u.Busy, u.KeyBytes = false, max(u.KeyBytes, s.Heaviest)
	return u, s.Moved > l.rekey.moved.Load()
}

// beginRekey sends R1, on the dialer's side, unless that is under way.
func (n *Node) beginRekey(l *link) {
	if l.rekey.mu.TryLock() { // else a step of one is under way
		defer l.rekey.mu.Unlock()
		n.beginRekeyLocked(l)
	}
}

func (n *Node) beginRekeyLocked(l *link) {
	if l.rekey.dialer != nil || !l.usable() {
		return
	}
	d, r1, err := handshake.NewRekey(l.rekey.configLocked(n.mesh))
	if err != nil {
		n.log.Error("new keys for a session cannot be made", "peer", n.nameOf(l.peer.Node), "err", err)
		return
	}
	l.rekey.dialer = d
	n.queue(l.id, outFrame{session.RecordRekey, r1}, false)
}

// askRekey asks the dialer for new keys, not too often.
func (n *Node) askRekey(l *link) {
	if !l.rekey.mu.TryLock() {
		return
	}
	again := time.Since(l.rekey.asked) < rekeyAskPause
	if !again {
		l.rekey.asked = time.Now()
	}
	l.rekey.mu.Unlock()
	if !again && l.usable() {
		n.queueBody(l.id, session.Plain{K: session.KindRekeyAsk})
	}
}

// rekeyAsked obeys the acceptor, not too often.
func (n *Node) rekeyAsked(l *link) {
	l.rekey.mu.Lock()
	defer l.rekey.mu.Unlock()
	obey := l.role == keys.RoleDialer && l.may(session.FeatureRekey) && time.Since(l.rekey.asked) >= rekeyAskPause
	if !obey {
		n.count("rekey.ask-ignored")
		return
	}
	l.rekey.asked = time.Now()
	n.beginRekeyLocked(l)
}

// rekeyRecord acts on R1, R2 or R3, in the goroutine that reads the link: what follows the record may be under the new key. An error
// ends the session.
func (n *Node) rekeyRecord(ctx context.Context, l *link, body []byte) error {
	if !l.may(session.FeatureRekey) {
		return session.ErrProtocol // whoever sends what was not offered breaks the protocol
	}
	if !l.usable() {
		if n.passBarrier(ctx); !l.usable() {
			return session.ErrProtocol
		}
	}
	l.rekey.mu.Lock()
	defer l.rekey.mu.Unlock()
	var err error
	switch {
	case l.role == keys.RoleDialer && l.rekey.dialer != nil:
		err = n.readR2Locked(l, body)
	case l.role == keys.RoleDialer:
		err = errors.New("an answer to no rekey")
	case l.rekey.acceptor == nil:
		err = n.readR1Locked(l, body)
	default:
		err = n.readR3Locked(l, body)
	}
	if err != nil {
		n.count("rekey.failed")
		n.auditLater(audit.Event{Code: audit.RekeyFail, Actor: l.peer.Node.Compact(), Reason: err.Error(), Session: l.name()})
	}
	return err
}

func (n *Node) readR1Locked(l *link, r1 []byte) error {
	if !l.rekey.answered.of(rate.Every(rekeyPause), rekeyBurst).Allow() {
		return errors.New("too many rekeys")
	}
	a, r2, err := handshake.AnswerRekey(l.rekey.configLocked(n.mesh), r1)
	if err != nil {
		return err
	}
	next := a.Next()
	if err := n.tags.Install(l.ring, next.Generation, next.Exporter); err != nil {
		return err
	}
	l.rekey.acceptor = a
	l.rekey.half.Store(time.Now().UnixNano())
	return l.ctl.SendAndSwitch(session.RecordRekey, r2, next.K2)
}

func (n *Node) readR2Locked(l *link, r2 []byte) error {
	next, r3, err := l.rekey.dialer.ReadR2(r2)
	if err != nil {
		return err
	}
	if err := n.tags.Install(l.ring, next.Generation, next.Exporter); err != nil {
		return err
	}
	l.ctl.SwitchReceive(next.K2)
	if err := l.ctl.SendAndSwitch(session.RecordRekey, r3, next.K1); err != nil {
		return err
	}
	n.rekeyedLocked(l, next)
	return nil
}

func (n *Node) readR3Locked(l *link, r3 []byte) error {
	next, err := l.rekey.acceptor.ReadR3(r3)
	if err != nil {
		return err
	}
	l.ctl.SwitchReceive(next.K1)
	n.rekeyedLocked(l, next)
	return nil
}

// rekeyedLocked goes on with the next generation.
func (n *Node) rekeyedLocked(l *link, next keys.Session) {
	n.tags.Switch(l.ring, time.Now())
	l.rekey.setLocked(next, l.ring.Usage().Moved)
	l.due.Store(0)
	n.tally.rekey(l.peer.Node)
	n.count("session.rekeyed")
}
