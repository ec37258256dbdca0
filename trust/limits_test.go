package trust

import (
	"fmt"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/keys"
)

func count(fs []Frame, kind uint8) (n int) {
	for _, f := range fs {
		if f.Kind == kind {
			n++
		}
	}
	return n
}

func (s *Sync) mustReceive(t testing.TB, f Frame, mono time.Duration) []Frame {
	t.Helper()
	r, err := s.Receive(f, mono, epoch0)
	if err != nil {
		t.Fatal(err)
	}
	return r.Send
}

// TestSyncAsksWithinItsRate: whatever many peers claim, no more is asked for than a quarter of a core verifies.
func TestSyncAsksWithinItsRate(t *testing.T) {
	var issuers []Issuer
	for i := range 32 {
		issuers = append(issuers, issuerOf(fmt.Sprintf("i%d", i), allCaps))
	}
	w := worldWith(t, 1, issuers...)
	m, s := liar(t, w)
	v := w.start.Vector()
	for i := range v.Issuers {
		v.Issuers[i].Seq = 100_000
	}
	asked := 0
	note := func(fs []Frame) {
		for _, f := range fs {
			if f.Kind == KindWant {
				x, err := parseWant(f.Body)
				if err != nil {
					t.Fatalf("an invalid WANT: %v", err)
				}
				asked += int(x.To - x.From + 1)
			}
		}
	}
	var all []*Sync
	for range 32 {
		p := s.hub.NewSync(false)
		all = append(all, p)
		note(p.mustReceive(t, v.frame(), 0))
	}
	if asked == 0 || asked > 2*maxWants*wantSpan {
		t.Fatalf("%d entries asked for at once", asked)
	}
	asked = 0
	for sec := range 60 {
		for _, p := range all {
			note(p.Tick(time.Duration(sec+1) * time.Second))
		}
	}
	if asked > 60*requestRate {
		t.Fatalf("%d entries asked for in a minute", asked)
	}
	_ = m
}

// TestSyncAsksNotBeyondACutoff: a peer that still has an older root claims more than can count.
func TestSyncAsksNotBeyondACutoff(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	for range 10 {
		a.add(revokeNode("x"))
	}
	m, s := liar(t, w)
	if _, err := m.ApplyFrame(rawFrame(KindRoot, w.root(w.start, func(r *Root) { cutoff(r, a.key.Public(), 10, a.prev) })), 0); err != nil {
		t.Fatal(err)
	}
	v := w.start.Vector()
	v.Issuers[0].Seq = 500
	var wants []*wantWire
	for _, f := range append(s.mustReceive(t, v.frame(), 0), s.Tick(time.Second)...) {
		if f.Kind == KindWant {
			x, err := parseWant(f.Body)
			if err != nil {
				t.Fatalf("an invalid WANT: %v", err)
			}
			wants = append(wants, x)
		}
	}
	if len(wants) != 1 || wants[0].From != 1 || wants[0].To != 10 {
		t.Fatalf("%+v", wants)
	}
}

// TestSyncSearchesOnceAPause: a peer that lies about hashes costs one search per pause, and answers nobody asked for cost nothing.
func TestSyncSearchesOnceAPause(t *testing.T) {
	w := newWorld(t, 1, "a")
	m, s := liar(t, w)
	a := w.writer("a")
	for range 20 {
		if _, err := m.ApplyEntry(a.add(revokeNode("x")), 0); err != nil {
			t.Fatal(err)
		}
	}
	lie := keys.Sum([]byte("lie"))
	answer := func(issuer keys.PublicKey, seq uint64) Frame {
		return frameOf(KindHashAt, hashAtWire{Kind: KindHashAt, Issuer: issuer, Seq: seq, Hash: &lie})
	}
	if got := s.mustReceive(t, answer(a.key.Public(), 5), 0); len(got) != 0 {
		t.Fatalf("an answer nobody asked for led to %d frames", len(got))
	}
	v := w.start.Vector()
	v.Issuers[0].Seq, v.Issuers[0].Hash = 16, lie
	questions := 0
	for i := range 29 {
		questions += count(s.mustReceive(t, v.frame(), time.Duration(i)*time.Second), KindHashAt)
	}
	if questions != 1 {
		t.Fatalf("%d searches in one pause", questions)
	}
	if got := s.mustReceive(t, answer(a.key.Public(), 5), 0); len(got) != 0 {
		t.Fatal("an answer to another question moved the search")
	}
	for _, q := range []hashAtWire{{Kind: KindHashAt, Issuer: a.key.Public(), Seq: 99}, {Kind: KindHashAt, Issuer: keyOf("x").Public(), Seq: 1}} {
		if got := s.mustReceive(t, frameOf(KindHashAt, q), 0); len(got) != 0 {
			t.Fatal("an answer about what is not held")
		}
	}
}

func TestSyncSynced(t *testing.T) {
	w := newWorld(t, 1, "a")
	a := w.writer("a")
	e := a.add(a.enroll("one"))
	ahead := must(t, w.start, e)
	m, s := liar(t, w)
	if s.Synced() {
		t.Fatal("synced with a peer that has said nothing")
	}
	v := ahead.Vector()
	s.mustReceive(t, v.frame(), 0)
	if s.Synced() {
		t.Fatal("synced although an entry is missing")
	}
	s.mustReceive(t, rawFrame(KindEntry, e.raw), 0)
	if !s.Synced() {
		t.Fatal("not synced")
	}
	next := mustRoot(t, ahead, w.root(ahead, func(*Root) {})).Vector()
	s.mustReceive(t, next.frame(), 0)
	if s.Synced() {
		t.Fatal("synced although a root is missing")
	}
	_ = m
}

// TestSyncQuietKeepsCount: what was not sent to a quiet peer is sent once it is not quiet.
func TestSyncQuietKeepsCount(t *testing.T) {
	w := newWorld(t, 1, "a")
	m, s := liar(t, w)
	s.SetQuiet(true)
	a := w.writer("a")
	c, err := m.ApplyEntry(a.add(a.enroll("one")), 0)
	if err != nil {
		t.Fatal(err)
	}
	s.mustReceive(t, frameOf(KindWant, wantWire{Kind: KindWant, Issuer: a.key.Public(), From: 1, To: 1}), 0)
	s.SetQuiet(false)
	if len(s.Push(c)) != 1 {
		t.Fatal("counted as sent")
	}
	s.SetQuiet(true)
	a.add(a.enroll("two"))
	s.mustReceive(t, rawFrame(KindEntry, a.add(a.enroll("three")).raw), 0) // leaves a gap to ask for
	if got := s.Tick(time.Minute); len(got) != 0 {
		t.Fatalf("%d frames while quiet", len(got))
	}
	s.SetQuiet(false)
	if got := s.Tick(time.Minute); count(got, KindWant) != 1 || count(got, KindVec) != 1 {
		t.Fatalf("%+v", got)
	}
}

// forgetful is a Log whose disk cannot be read.
type forgetful struct{ *Memory }

func (forgetful) Entry(keys.PublicKey, uint64) []byte { return nil }

func TestSyncServesNothingItCannotRead(t *testing.T) {
	w := newWorld(t, 1, "a")
	m, _ := liar(t, w)
	a := w.writer("a")
	if _, err := m.ApplyEntry(a.add(a.enroll("one")), 0); err != nil {
		t.Fatal(err)
	}
	s := NewHub(forgetful{m}).NewSync(false)
	if got := s.mustReceive(t, frameOf(KindWant, wantWire{Kind: KindWant, Issuer: a.key.Public(), From: 1, To: 1}), 0); len(got) != 0 {
		t.Fatalf("%+v", got)
	}
}

func TestSyncPushesEvidenceOnce(t *testing.T) {
	w, honest, thief := forked(t)
	m, s := liar(t, w)
	for _, e := range honest.all {
		if _, err := m.ApplyEntry(e, 0); err != nil {
			t.Fatal(err)
		}
	}
	c, err := m.ApplyEntry(thief.all[1], 0)
	if err != nil || c.Kind != KindEvidence {
		t.Fatal(err)
	}
	if fs := s.Push(c); len(fs) != 1 || !fs[0].Urgent || len(s.Push(c)) != 0 {
		t.Fatal("not once")
	}
	other := s.hub.NewSync(false)
	other.mustReceive(t, c.Frame, 0)
	if len(s.hub.claims) != 0 {
		t.Fatal("a claim without a want")
	}
}

func TestSyncCloseGivesClaimsBack(t *testing.T) {
	w := newWorld(t, 1, "a")
	_, s := liar(t, w)
	v := w.start.Vector()
	v.Issuers[0].Seq = 10
	if count(s.mustReceive(t, v.frame(), 0), KindWant) != 1 {
		t.Fatal("not asked")
	}
	next := s.hub.NewSync(false)
	if count(next.mustReceive(t, v.frame(), 0), KindWant) != 0 {
		t.Fatal("two are asked at once")
	}
	s.Close()
	if count(next.mustReceive(t, v.frame(), 0), KindWant) != 1 {
		t.Fatal("the claim outlives its session")
	}
}
