package sim

import (
	"fmt"
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/trust"
)

// What the mesh's admins do, and what a thief of their keys does.

// Publish writes ops as an issuer and gives the entry to a node, as its own admin would: it is durable there before anybody is sent it.
func (w *World) Publish(at *Node, issuer int, ops ...trust.Op) trust.Change {
	c := w.sign(w.law.books[issuer], issuer, ops...)
	at.learn(c)
	return c
}

// sign writes the next entry of an issuer's book.
func (w *World) sign(book *trust.Memory, issuer int, ops ...trust.Op) trust.Change {
	c, err := book.AppendOwn(w.law.issuers[issuer], epoch0+int64(w.now/time.Second), ops...)
	if err != nil {
		panic(fmt.Sprintf("sim: own entry: %v", err)) // the scenario is wrong
	}
	w.signed = append(w.signed, c.Entry)
	_, _ = w.reference.ApplyEntry(c.Entry, epoch0) // the other branch of a fork comes back as evidence
	return c
}

// Revoke revokes a member at a node.
func (w *World) Revoke(at, gone *Node) trust.Change {
	w.note(at, "revokes %d", gone.i)
	return w.Publish(at, 0, trust.OpRevokeNode{Node: gone.id, Reason: 1})
}

// Enrol enrols a newcomer at a node, and starts it a moment later with the log as it was at the beginning: its own entry comes by sync.
func (w *World) Enrol(at, newcomer *Node) {
	w.note(at, "enrols %d", newcomer.i)
	w.Publish(at, 0, trust.EnrollOp(newcomer.cert))
	newcomer.joined = true
	w.in(joinTime, newcomer.Start)
}

// joinTime is from an enrolment to the start of the newcomer's daemon.
const joinTime = 100 * time.Millisecond

// Fork lets a stolen issuer key contradict itself: two nodes are given different entries with one number, each of which revokes another
// node.
func (w *World) Fork(issuer int, at, other, gone, also *Node) (a, b trust.Change) {
	w.note(at, "is given one entry of issuer %d, and node %d another with its number", issuer, other.i)
	stolen := w.law.books[issuer].Clone()
	a = w.Publish(at, issuer, trust.OpRevokeNode{Node: gone.id, Reason: 2})
	b = w.sign(stolen, issuer, trust.OpRevokeNode{Node: also.id, Reason: 3})
	other.learn(b)
	return a, b
}

// CutOff signs the next root at a node: it ends an issuer's chain at an entry, and chooses the branch that entry is on.
func (w *World) CutOff(at *Node, issuer int, last trust.Change) {
	w.note(at, "signs a root that ends issuer %d at entry %d", issuer, last.Seq)
	w.nextRoot(at, func(r *trust.Root) {
		for i := range r.Issuers {
			if r.Issuers[i].ID == w.law.issuers[issuer].Public() {
				r.Issuers[i].Caps, r.Issuers[i].Cutoff = 0, &trust.Cutoff{Seq: last.Seq, Hash: last.Entry.Hash()}
			}
		}
	})
	w.cutAt = w.now // who was revoked by the other branch may come back
}

// Limit signs the next root at a node: a view without a head for so long is stale, and restricted if so wanted.
func (w *World) Limit(at *Node, stale time.Duration, restrict bool) {
	w.note(at, "signs a root by which a view is stale after %v", stale)
	w.nextRoot(at, func(r *trust.Root) {
		r.Params.MaxStale, r.Params.StaleAction = int64(stale/time.Second), 0
		if restrict {
			r.Params.StaleAction = 1
		}
	})
}

// nextRoot signs the next root and gives it to a node.
func (w *World) nextRoot(at *Node, change func(*trust.Root)) {
	raw, err := w.reference.Current().NewRoot(epoch0+int64(w.now/time.Second), change, w.law.root)
	if err != nil {
		panic(fmt.Sprintf("sim: own root: %v", err))
	}
	f := rawFrame(trust.KindRoot, raw)
	if _, err := w.reference.ApplyFrame(f, epoch0); err != nil {
		panic(fmt.Sprintf("sim: own root: %v", err))
	}
	for _, book := range w.law.books {
		_, _ = book.ApplyFrame(f, epoch0) // a book whose owner has not heard of what is cut off goes on
	}
	// The branch that was chosen may not be the one held: what was signed is read again until it is.
	for range len(w.signed) {
		for _, e := range w.signed {
			_, _ = w.reference.ApplyEntry(e, epoch0)
		}
	}
	c, err := at.ledger.ApplyFrame(f, at.clock().Trust)
	at.took(c, err)
}

// headEvery is how often an issuer signs a head, as in internal/daemon.
const headEvery = 300 * time.Second

// KeepHeads has a node sign heads of an issuer from now on, as its daemon would.
func (w *World) KeepHeads(n *Node, issuer int) {
	if n.awake() {
		raw, err := n.ledger.Current().NewHead(w.law.issuers[issuer], n.clock().Trust)
		if err != nil {
			panic(fmt.Sprintf("sim: own head: %v", err)) // the scenario is wrong
		}
		c, err := n.ledger.ApplyFrame(rawFrame(trust.KindHead, raw), n.clock().Trust)
		n.took(c, err)
	}
	w.in(headEvery, func() { w.KeepHeads(n, issuer) })
}

// rawFrame is the frame of a root or a head.
func rawFrame(kind uint8, raw []byte) trust.Frame {
	body := wire.MustMarshal(struct {
		_    struct{} `cbor:",toarray"`
		Kind uint64
		Raw  []byte
	}{Kind: uint64(kind), Raw: raw})
	return trust.Frame{Kind: kind, Body: body, Urgent: kind == trust.KindRoot}
}

// revoked reports whether the mesh has revoked a node.
func (w *World) revoked(id keys.NodeID) bool {
	_, gone := w.reference.Current().Revoked(id)
	return gone
}

// member reports whether a node is one, whatever its certificate's times.
func (w *World) member(n *Node) bool {
	_, ok := w.reference.Current().Member(n.id)
	return ok
}
