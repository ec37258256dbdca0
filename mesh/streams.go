package mesh

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
)

// streamSet is every stream of this node, by peer: what the sweeper cuts. A stream joins before it is decided and leaves when it
// is closed, so no decision made under an older trust state can slip past a sweep.
type streamSet struct {
	grace time.Duration // streamGrace; immutable once the node runs

	cuts sync.WaitGroup // resets under way

	kick chan struct{} // capacity 1: a peer has streams that had none, or none any more

	denials denials

	mu    sync.Mutex
	epoch uint64 // counts sweeps; a decision is valid only if none came between
	peers map[keys.NodeID]*peerStreams
	using map[keys.NodeID]bool // what the core has been told, and dirty what has changed since
	dirty map[keys.NodeID]bool
}

// peerStreams is made with the peer's first full session; what only streams need is made with the first stream.
type peerStreams struct {
	streams map[*entry]struct{}
	opens   *rate.Limiter
	boots   []bootStreams // those with a full session, or with a stream in its grace
}

// bootStreams is one life of a peer. It has either full sessions, or, while streams of it wait for one, a timer.
type bootStreams struct {
	boot  identity.BootID
	full  int
	grace *time.Timer
}

// full counts the full sessions of a boot id.
func (p *peerStreams) full(boot identity.BootID) int {
	if p == nil {
		return 0
	}
	for i := range p.boots {
		if p.boots[i].boot == boot {
			return p.boots[i].full
		}
	}
	return 0
}

// of returns the record of a boot id, made if there is none.
func (p *peerStreams) of(boot identity.BootID) *bootStreams {
	for i := range p.boots {
		if p.boots[i].boot == boot {
			return &p.boots[i]
		}
	}
	p.boots = append(p.boots, bootStreams{boot: boot})
	return &p.boots[len(p.boots)-1]
}

// forget drops the record of a boot id.
func (p *peerStreams) forget(boot identity.BootID) {
	p.boots = slices.DeleteFunc(p.boots, func(b bootStreams) bool { return b.boot == boot })
}

// sessions reports whether the peer has a full session of any boot.
func (p *peerStreams) sessions() bool {
	return slices.ContainsFunc(p.boots, func(b bootStreams) bool { return b.full > 0 })
}

func (p *peerStreams) stopGrace() {
	for _, b := range p.boots {
		if b.grace != nil {
			b.grace.Stop()
		}
	}
}

// entry is one stream, in either direction, from before its decision until it is closed.
type entry struct {
	peer    keys.NodeID
	boot    identity.BootID
	session core.SessionID
	inbound bool
	service string

	// guarded by streamSet.mu
	cut  func(session.Code) // resets the connection, whatever it has become
	gone bool
	why  string // set when the set cut it
	code session.Code
}

func newStreamSet() *streamSet {
	return &streamSet{
		grace: streamGrace, peers: map[keys.NodeID]*peerStreams{}, kick: make(chan struct{}, 1), using: map[keys.NodeID]bool{},
		dirty: map[keys.NodeID]bool{},
	}
}

func (t *streamSet) peerLocked(id keys.NodeID) *peerStreams {
	p := t.peers[id]
	if p == nil {
		p = &peerStreams{}
		t.peers[id] = p
	}
	return p
}

// join puts a stream into its peer's set, if the peer still has a full session of that boot. cut resets what there is now.
func (t *streamSet) join(e *entry, cut func(session.Code)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[e.peer]
	if p.full(e.boot) == 0 {
		return false
	}
	if p.streams == nil {
		p.streams, p.opens = map[*entry]struct{}{}, rate.NewLimiter(opensPerSecond, opensPerSecond)
	}
	e.cut = cut
	p.streams[e] = struct{}{}
	t.usedLocked(e.peer, len(p.streams) > 0)
	return true
}

// usedLocked notes whether a peer has streams. The loop is kicked, not called: it may be the one that cuts.
func (t *streamSet) usedLocked(id keys.NodeID, streams bool) {
	if t.using[id] == streams {
		delete(t.dirty, id)
		return
	}
	t.dirty[id] = streams
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// changes returns what has changed since the last call.
func (t *streamSet) changes() []core.Using {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []core.Using
	for id, streams := range t.dirty {
		out = append(out, core.Using{Peer: id, Streams: streams})
		if streams {
			t.using[id] = true
		} else {
			delete(t.using, id)
		}
	}
	clear(t.dirty)
	return out
}

// leave takes a stream out. It returns why the set cut it, if it did.
func (t *streamSet) leave(e *entry) (why string, code session.Code) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropLocked(e)
	return e.why, e.code
}

func (t *streamSet) dropLocked(e *entry) {
	e.gone = true
	p := t.peers[e.peer]
	if p == nil {
		return
	}
	delete(p.streams, e)
	t.usedLocked(e.peer, len(p.streams) > 0)
	t.tidyLocked(e.peer, p)
}

func (t *streamSet) tidyLocked(id keys.NodeID, p *peerStreams) {
	if len(p.streams) == 0 && !p.sessions() {
		p.stopGrace()
		delete(t.peers, id)
	}
}

// now returns the sweep count, read before a decision.
func (t *streamSet) now() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch
}

// stillGood reports, under the lock, that the stream is in the set and no sweep came since the decision; commit runs under the
// same lock and must not block.
func (t *streamSet) stillGood(e *entry, epoch uint64, cut func(session.Code)) (good, gone bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.gone {
		return false, true
	}
	if t.epoch != epoch {
		return false, false
	}
	if cut != nil {
		e.cut = cut
	}
	return true, false
}

// replaceCut changes what cutting the stream means, after it became another object. It reports whether the stream is still in.
func (t *streamSet) replaceCut(e *entry, cut func(session.Code)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.gone {
		return false
	}
	e.cut = cut
	return true
}

// sweep asks keep of every stream and cuts those it refuses. Decisions in progress start over. It returns how many were cut.
func (t *streamSet) sweep(keep func(*entry) (ok bool, why string, code session.Code)) int {
	t.mu.Lock()
	t.epoch++
	var all []*entry
	for _, p := range t.peers {
		for e := range p.streams {
			all = append(all, e)
		}
	}
	t.mu.Unlock()
	n := 0
	for _, e := range all {
		if ok, why, code := keep(e); !ok {
			n += t.cutEntry(e, why, code)
		}
	}
	return n
}

// cutEntry takes one stream out and resets it. Telling the peer may wait some milliseconds for room in its socket; that is done aside, for
// a peer with thousands of stalled streams must not hold up the core, nor its own removal.
func (t *streamSet) cutEntry(e *entry, why string, code session.Code) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.gone {
		return 0
	}
	e.why, e.code = why, code
	cut := e.cut
	t.dropLocked(e)
	t.cuts.Go(func() { cut(code) })
	return 1
}

// cutPeer resets every stream of a node.
func (t *streamSet) cutPeer(id keys.NodeID, why string, code session.Code) int {
	return t.cutAll(func(e *entry) bool { return e.peer == id }, why, code)
}

// cutService resets every inbound stream of a service.
func (t *streamSet) cutService(name, why string) int {
	return t.cutAll(func(e *entry) bool { return e.inbound && e.service == name }, why, session.CodeNotAdmitted)
}

func (t *streamSet) cutAll(match func(*entry) bool, why string, code session.Code) int {
	t.mu.Lock()
	var hit []*entry
	for _, p := range t.peers {
		for e := range p.streams {
			if match(e) {
				hit = append(hit, e)
			}
		}
	}
	t.mu.Unlock()
	n := 0
	for _, e := range hit {
		n += t.cutEntry(e, why, code)
	}
	return n
}

// sessionFull notes a full session of a peer's boot: streams of other boots are another life of the peer and end at once.
func (t *streamSet) sessionFull(id keys.NodeID, boot identity.BootID) {
	t.mu.Lock()
	p := t.peerLocked(id)
	b := p.of(boot)
	b.full++
	if b.grace != nil {
		b.grace.Stop()
		b.grace = nil
	}
	t.mu.Unlock()
	t.cutAll(func(e *entry) bool { return e.peer == id && e.boot != boot }, "the peer restarted", session.CodeProtocol)
}

// sessionLost notes that a full session ended for a reason other than trust. Streams of its boot go on; if no full session of the
// same boot comes within streamGrace they are reset.
func (t *streamSet) sessionLost(id keys.NodeID, boot identity.BootID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	if p.full(boot) == 0 {
		return
	}
	b := p.of(boot)
	if b.full--; b.full > 0 {
		return
	}
	if len(p.streams) == 0 {
		p.forget(boot)
		t.tidyLocked(id, p)
		return
	}
	b.grace = time.AfterFunc(t.grace, func() {
		t.cutAll(func(e *entry) bool { return e.peer == id && e.boot == boot && !t.hasFull(id, boot) },
			"the session is gone", session.CodeNormal)
		t.graceOver(id, boot)
	})
}

// graceOver forgets a boot id that no full session came back for.
func (t *streamSet) graceOver(id keys.NodeID, boot identity.BootID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil && p.full(boot) == 0 {
		p.forget(boot)
		t.tidyLocked(id, p)
	}
}

// hasFull is called with the lock held, from cutAll's match.
func (t *streamSet) hasFull(id keys.NodeID, boot identity.BootID) bool {
	return t.peers[id].full(boot) > 0
}

// mayOpen charges one open to the peer.
func (t *streamSet) mayOpen(id keys.NodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peers[id]
	return p != nil && p.opens != nil && p.opens.Allow()
}

// count returns the number of streams of a peer.
func (t *streamSet) count(id keys.NodeID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.peers[id]; p != nil {
		return len(p.streams)
	}
	return 0
}

// stop cuts everything, ends the grace timers and waits for the resets.
func (t *streamSet) stop() {
	defer t.cuts.Wait()
	t.cutAll(func(*entry) bool { return true }, "shutting down", session.CodeShutdown)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.peers {
		p.stopGrace()
	}
}
