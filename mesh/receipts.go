package mesh

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// A node that applies an entry which takes something away or gives it signs a receipt and sends it to the peer the entry came from; each
// node passes receipts on to where it has the entry from, so that they run back along the tree in which the entry spread, to the issuer
// that wrote it. Only the issuer verifies them; the others are bounded in what they pass on.

// entryID is one entry.
type entryID struct {
	issuer keys.PublicKey
	seq    uint64
}

// receipts belongs to Node.mu.
type receipts struct {
	sources map[entryID]keys.NodeID // where entries came from; zero: written here
	order   []entryID               // oldest first
	own     map[entryID]map[keys.NodeID]Applied
	signed  *rate.Limiter // receipts of this node
}

// Applied is what a node said of an entry it applied.
type Applied struct {
	Node              keys.NodeID
	At                time.Time // when its receipt or view arrived
	Sessions, Streams int       // closed there
	Signed            bool      // by a receipt, not only by the digest of a heartbeat
}

func newReceipts() receipts {
	return receipts{
		sources: map[entryID]keys.NodeID{}, own: map[entryID]map[keys.NodeID]Applied{}, signed: rate.NewLimiter(receiptsPerSecond, receiptsBurst),
	}
}

// note remembers where an entry came from.
func (r *receipts) note(id entryID, from keys.NodeID) {
	if _, ok := r.sources[id]; ok {
		return
	}
	if len(r.order) >= maxReceiptEntries {
		delete(r.sources, r.order[0])
		delete(r.own, r.order[0])
		r.order = r.order[1:]
	}
	r.sources[id] = from
	r.order = append(r.order, id)
	if from.IsZero() {
		r.own[id] = map[keys.NodeID]Applied{}
	}
}

// receipt answers an entry that was applied: to the peer it came from, or, if it was written here, by waiting for the others'. It runs in
// the loop, after the sweep, so that the counts are those of this entry.
func (n *Node) receipt(e core.TrustChanged, streams int) {
	sessions := 0
	if e.Change.Entry != nil {
		for _, o := range e.Change.Entry.Ops {
			if r, ok := o.(trust.OpRevokeNode); ok {
				sessions += n.cutCounts[r.Node].sessions
				streams += n.cutCounts[r.Node].streams
				delete(n.cutCounts, r.Node)
			}
		}
	}
	if e.Change.Entry == nil || e.Change.Stray || !e.Change.Entry.Receipted() {
		return
	}
	id := entryID{e.Change.Issuer, e.Change.Seq}
	n.mu.Lock()
	n.receipts.note(id, e.From)
	if e.From.IsZero() {
		n.receipts.own[id][n.self] = Applied{Node: n.self, At: time.Now(), Sessions: sessions, Streams: streams, Signed: true}
		n.wakeLocked()
	}
	n.mu.Unlock()
	if e.From.IsZero() || !n.receipts.signed.Allow() {
		return
	}
	raw, err := trust.NewReceipt(trust.Receipt{
		Mesh: n.mesh, Node: n.self, Issuer: id.issuer, Seq: id.seq, TimeMS: uint64(max(time.Now().UnixMilli(), 0)), Sessions: uint64(sessions),
		Streams: uint64(streams),
	}, n.cfg.Key)
	if err != nil {
		n.log.Error("no receipt", "err", err)
		return
	}
	n.sendReceipt(e.From, raw)
}

func (n *Node) sendReceipt(to keys.NodeID, raw []byte) {
	n.mu.Lock()
	var best *link
	for _, l := range n.links {
		if l.peer.Node == to && l.open() {
			best = l
		}
	}
	n.mu.Unlock()
	if best != nil {
		n.queueBody(best.id, session.Object{K: session.KindReceipt, Raw: raw})
	}
}

// receiptIn takes a receipt a peer sent: of its own, or passed on.
func (n *Node) receiptIn(l *link, raw []byte) error {
	if !l.receipts.of(receiptRate, receiptBurst).Allow() {
		n.count("receipt.limit")
		return nil
	}
	r, err := trust.ParseReceipt(raw, n.mesh)
	if err != nil {
		return err
	}
	id := entryID{r.Issuer, r.Seq}
	n.mu.Lock()
	from, known := n.receipts.sources[id]
	_, have := n.receipts.own[id][r.Node]
	n.mu.Unlock()
	switch {
	case !known || have:
		return nil
	case !from.IsZero():
		if from != l.peer.Node { // never back to where it came from
			n.sendReceipt(from, raw)
		}
		return nil
	}
	// For this node. Who is no member has nothing to say, and is not worth a verification.
	if !n.isMember(r.Node) {
		return nil
	}
	if err := r.Verify(); err != nil {
		n.count("receipt.invalid")
		return nil // whoever passed it on could not know
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if own := n.receipts.own[id]; own != nil && len(own) < maxReceipts {
		own[r.Node] = Applied{Node: r.Node, At: time.Now(), Sessions: int(r.Sessions), Streams: int(r.Streams), Signed: true}
		n.wakeLocked()
	}
	return nil
}

// AwaitApplied waits, at most for the given time, until everybody who can be reached has said that a change made here is applied, and
// returns who has. Peers with a session are waited for; of the others it is not known whether they are there, so it ends when no more
// receipts have come for receiptPause.
func (n *Node) AwaitApplied(ctx context.Context, id keys.PublicKey, seq uint64, wait time.Duration) map[keys.NodeID]Applied {
	late := time.NewTimer(wait)
	defer late.Stop()
	began := time.Now()
	have := map[keys.NodeID]Applied{}
	news := began
	for {
		n.mu.Lock()
		changed, missing := n.changed, 0
		now := time.Now()
		for node, a := range n.receipts.own[entryID{id, seq}] {
			if old, ok := have[node]; !ok || !old.Signed {
				if ok {
					a.At = old.At
				}
				have[node], news = a, now
			}
		}
		digest := n.store.Current().Digest()
		for _, l := range n.links {
			a, ok := have[l.peer.Node]
			switch {
			case !l.open():
			case !ok && l.showed(id, seq, digest):
				have[l.peer.Node], news = Applied{Node: l.peer.Node, At: now}, now
				missing++
			case !ok, !a.Signed && now.Sub(a.At) < receiptPause:
				missing++
			}
		}
		// Where everybody has a session with everybody, who has none is not there.
		everybody := n.membersAtMost(core.FullMesh) || n.membersAtMost(len(have))
		n.mu.Unlock()
		quiet := receiptPause - now.Sub(news)
		if missing == 0 && (everybody || quiet <= 0) {
			return have
		}
		again := time.NewTimer(max(quiet, time.Millisecond))
		select {
		case <-changed:
		case <-again.C:
		case <-late.C:
			again.Stop()
			return have
		case <-ctx.Done():
			again.Stop()
			return have
		}
		again.Stop()
	}
}

// membersAtMost reports whether the mesh has at most so many members.
func (n *Node) membersAtMost(most int) bool {
	count := 0
	for range n.State().Members() {
		if count++; count > most {
			return false
		}
	}
	return true
}

// showed reports whether the peer's vector, or the digest of its heartbeat, shows that it holds an entry.
func (l *link) showed(issuer keys.PublicKey, seq uint64, digest [8]byte) bool {
	if d := l.digest.Load(); d != nil && *d == digest {
		return true
	}
	v := l.vec.Load()
	if v == nil {
		return false
	}
	for _, p := range v.Issuers {
		if p.Issuer == issuer {
			return p.Seq >= seq
		}
	}
	return false
}
