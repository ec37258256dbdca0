package mesh

import (
	"context"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/mesh/core"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// Whoever applies a revocation says so, signed, with what it closed; who is not there is not in the list.
func TestReceipts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c, thief, off := w.member("b"), w.member("c"), w.member("thief"), w.member("off")
	a := w.admin()
	w.allow(thief, b, "echo")
	for _, h := range []*host{b, c, thief} {
		h.run()
	}
	b.echo("echo")
	for _, h := range []*host{b, c, thief} {
		full(h, a)
	}
	full(thief, b)
	s := thief.dial(b, "echo")
	ok(t, pings(s))
	began := time.Now()
	change, err := a.store.AppendOwn(w.issuer, time.Now().Unix(), trust.OpRevokeNode{Node: thief.key.NodeID()})
	ok(t, err)
	a.Publish(change)
	var got map[keys.NodeID]Applied
	eventually(t, "three signed answers", patience, func() bool {
		got = a.AwaitApplied(context.Background(), change.Issuer, change.Seq, 10*time.Second)
		for _, x := range got {
			if !x.Signed {
				return false // its heartbeat was faster
			}
		}
		return len(got) == 3
	})
	t.Logf("answered after %v", time.Since(began))
	for _, h := range []*host{a, b, c} {
		if x := got[h.key.NodeID()]; !x.Signed || h != c && x.Sessions == 0 {
			t.Fatalf("%s: %+v", h.name, x)
		}
	}
	if got[b.key.NodeID()].Streams != 1 || got[c.key.NodeID()].Streams != 0 {
		t.Fatal("streams are not counted where they were closed")
	}
	_ = off
}

// A receipt runs back to where the entry came from, and nowhere else. One that nobody asked for, of no member, or with another's
// signature says nothing.
func TestReceiptsAreChecked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b, c := w.member("b"), w.member("c")
	a := w.admin()
	b.run()
	c.run()
	full(a, b)
	full(c, b)
	full(a, c)
	l := a.link(b)
	change, err := a.store.AppendOwn(w.issuer, time.Now().Unix(), trust.OpRevokeNode{Node: keys.NewSigningKey().NodeID()})
	ok(t, err)
	id := entryID{change.Issuer, change.Seq}
	a.mu.Lock()
	a.receipts.note(id, keys.NodeID{})
	a.mu.Unlock()
	make := func(signer *keys.SigningKey, seq uint64) []byte {
		raw, err := trust.NewReceipt(trust.Receipt{Mesh: w.id, Node: signer.NodeID(), Issuer: id.issuer, Seq: seq}, signer)
		ok(t, err)
		return raw
	}
	have := func() int {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.receipts.own[id])
	}
	stranger := keys.NewSigningKey()
	ok(t, a.receiptIn(l, make(stranger, id.seq)))
	ok(t, a.receiptIn(l, make(b.key, id.seq+1)))
	forged := make(c.key, id.seq)
	forged[len(forged)-1] ^= 1
	ok(t, a.receiptIn(l, forged))
	if have() != 0 {
		t.Fatal("a receipt that says nothing counts")
	}
	if a.receiptIn(l, []byte{1}) == nil {
		t.Fatal("garbage is no error")
	}
	// b has the entry from a, and c from b: c's receipt comes by b.
	b.mu.Lock()
	b.receipts.note(id, a.key.NodeID())
	b.mu.Unlock()
	raw := make(c.key, id.seq)
	ok(t, b.receiptIn(b.link(c), raw))
	eventually(t, "passed on", patience, func() bool { return have() == 1 })
	// What is not this node's to know is forgotten, and the table is bounded.
	a.mu.Lock()
	for i := range uint64(2 * maxReceiptEntries) {
		a.receipts.note(entryID{id.issuer, 1000 + i}, b.key.NodeID())
	}
	n, own := len(a.receipts.sources), len(a.receipts.own)
	a.mu.Unlock()
	if n > maxReceiptEntries || own != 0 {
		t.Fatalf("%d entries, %d of them with receipts", n, own)
	}
	left := l.receipts.of(receiptRate, receiptBurst)
	left.SetLimit(0) // nothing comes back while this test looks
	for left.Allow() {
	}
	before := a.Counters()["receipt.limit"]
	ok(t, a.receiptIn(l, raw))
	if a.Counters()["receipt.limit"] == before {
		t.Fatal("not bounded")
	}
}

// What was closed is in the answer also if a sweep saw the revocation between its writing and its publishing: an issuer that says that it
// closed nothing sends its operator looking for streams that go on.
func TestWhatASweepClosedIsAnswered(t *testing.T) {
	a, l := byHand(t)
	a.fills(l)
	if !a.streams.join(&entry{peer: l.peer.Node, boot: l.peer.Boot}, func(session.Code) {}) {
		t.Fatal("no stream")
	}
	change := a.apply(a.w.sign(trust.OpRevokeNode{Node: l.peer.Node}).Seq)
	a.start = a.start.Add(-time.Minute) // a sweep is due
	a.step(t.Context(), core.Timer{})
	if l.open() || a.streams.count(l.peer.Node) != 0 {
		t.Fatal("no sweep, or it does not see what is written")
	}
	a.step(t.Context(), core.TrustIn{Changes: []trust.Change{change}})
	if got := a.receipts.own[entryID{change.Issuer, change.Seq}][a.self]; got.Sessions != 1 || got.Streams != 1 {
		t.Fatalf("%+v", got)
	}
	if len(a.cutCounts) != 0 {
		t.Fatal("left behind:", a.cutCounts)
	}
	a.streams.stop()
}
