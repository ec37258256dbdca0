package mesh

import (
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/beacon"
	"github.com/sovereignmesh/meshkey/keys"
	"github.com/sovereignmesh/meshkey/session"
	"github.com/sovereignmesh/meshkey/trust"
)

// summary is what a key says of itself at a time.
func (w *world) summary(key *keys.SigningKey, at time.Time, load uint64) []byte {
	w.t.Helper()
	body, err := session.EncodeHeartbeat(session.Heartbeat{Health: &session.Health{Version: "v", Load: load}})
	ok(w.t, err)
	h := beacon.Health{Node: key.NodeID(), TimeMS: uint64(at.UnixMilli()), Summary: body}
	raw, err := h.Sign(w.id, key)
	ok(w.t, err)
	return raw
}

func (h *host) peer(t testing.TB, other *host) PeerInfo {
	t.Helper()
	for _, p := range h.Peers() {
		if p.Node == other.key.NodeID() {
			return p
		}
	}
	t.Fatalf("%s is not listed", other.name)
	return PeerInfo{}
}

// A session's first heartbeat may tell of no health: what it tells of the view was told now, not in 1970.
func TestViewOfAHeartbeatWithoutHealth(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.run()
	b.run()
	l := full(a, b)
	l.health.Store(nil)
	l.healthAt.Store(0)
	l.beatAt.Store(0)
	before := time.Now()
	a.heartbeatIn(l, &session.Heartbeat{Digest: a.State().Digest()})
	p := a.peer(t, b)
	if p.View != "same" || p.ViewAt.Before(before) || p.Seen.Before(before) {
		t.Fatalf("%+v", p)
	}
}

// What a member without a session said of itself comes by way of others, with the time at which it was said; it is no sign of life.
func TestHealthIsPassedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b, c := w.member("a"), w.member("b"), w.member("c")
	a.run()
	b.run()
	neighbour := full(a, b)
	l := &link{peer: neighbour.peer} // its own bucket belongs to its reader
	now := time.Now()
	before := a.peer(t, c)
	a.healthTold(l, w.summary(c.key, now.Add(-time.Hour), 100))
	p := a.peer(t, c)
	if p.Health == nil || p.Health.Load != 100 || !p.HealthTold || p.HealthAt.UnixMilli() != now.Add(-time.Hour).UnixMilli() {
		t.Fatalf("told: %+v", p)
	}
	if p.State != before.State || !p.Seen.IsZero() || p.Address.IsValid() || p.View != "" {
		t.Fatalf("a sign of life: %+v", p)
	}
	a.healthTold(l, w.summary(c.key, now.Add(-time.Minute), 200))
	a.healthTold(l, w.summary(c.key, now.Add(-2*time.Minute), 300)) // older than the one held
	if p := a.peer(t, c); p.Health.Load != 200 {
		t.Fatalf("an older one took its place: %+v", p.Health)
	}
	a.mu.Lock()
	held200 := a.told[c.key.NodeID()].raw
	a.mu.Unlock()
	stranger := keys.NewSigningKey()
	empty := func() []byte {
		body, err := session.EncodeHeartbeat(session.Heartbeat{Degree: 1})
		ok(t, err)
		h := beacon.Health{Node: c.key.NodeID(), TimeMS: uint64(now.UnixMilli()), Summary: body}
		raw, err := h.Sign(w.id, c.key)
		ok(t, err)
		return raw
	}()
	for what, raw := range map[string][]byte{
		"of a stranger":     w.summary(stranger, now, 400),
		"of this node":      w.summary(a.key, now, 400),
		"from the future":   w.summary(c.key, now.Add(time.Hour), 400),
		"of yesterday":      w.summary(b.key, now.Add(-25*time.Hour), 400),
		"cut short":         w.summary(c.key, now, 400)[:50],
		"that says nothing": empty,
		"of no heartbeat at all": func() []byte {
			h := beacon.Health{Node: c.key.NodeID(), TimeMS: uint64(now.UnixMilli()), Summary: []byte{0x63, 'a', 'b', 'c'}}
			raw, err := h.Sign(w.id, c.key)
			ok(t, err)
			return raw
		}(),
	} {
		a.healthTold(l, raw)
		a.mu.Lock()
		for _, t2 := range a.told {
			if string(t2.raw) == string(raw) {
				t.Errorf("a summary %s was taken", what)
			}
		}
		if string(a.told[c.key.NodeID()].raw) != string(held200) {
			t.Errorf("a summary %s took the place of another", what)
		}
		a.mu.Unlock()
	}
	// A neighbour's own word counts, whatever others say.
	eventually(t, "b's own summary", patience, func() bool { return neighbour.health.Load() != nil })
	a.healthTold(l, w.summary(b.key, time.Now(), 999))
	if p := a.peer(t, b); p.HealthTold || p.Health.Load == 999 {
		t.Fatalf("of a neighbour: %+v", p)
	}
	w.sign(trust.OpRevokeNode{Node: c.key.NodeID(), Reason: 1})
	a.learn(trust.Change{Seq: func() uint64 { s, _, _ := w.author.Current().Position(w.issuer.Public()); return s }()})
	a.mu.Lock()
	delete(a.told, c.key.NodeID())
	a.mu.Unlock()
	a.healthTold(l, w.summary(c.key, time.Now(), 500))
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, held := a.told[c.key.NodeID()]; held {
		t.Fatal("of a revoked node")
	}
}

// What one peer passes on costs a signature check each, and is bounded.
func TestHealthFlood(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.member("a"), w.member("b"), w.member("c")
	a.run()
	l := &link{peer: linkPeer{Node: b.key.NodeID()}}
	raw := w.summary(c.key, time.Now(), 1)
	l.records.of(recordsPerSecond, recordsBurst).SetLimit(0) // nothing comes back while this test looks
	for range 2 * recordsBurst {
		a.healthTold(l, raw)
	}
	if got := a.Counters()["health.flood"]; got != recordsBurst {
		t.Fatalf("%d of %d were dropped", got, 2*recordsBurst)
	}
}

// What is remembered of others is bounded, and who is a member no more makes room for those who are.
func TestToldHealthIsBounded(t *testing.T) {
	w := newWorld(t)
	a, b, c := w.member("a"), w.member("b"), w.member("c")
	a.run()
	a.mu.Lock()
	for i := range maxEndpointPeers {
		a.told[keys.NodeID{1, byte(i), byte(i >> 8)}] = told{}
	}
	a.mu.Unlock()
	a.healthTold(&link{peer: linkPeer{Node: b.key.NodeID()}}, w.summary(c.key, time.Now(), 1))
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, held := a.told[c.key.NodeID()]; !held || len(a.told) != 1 {
		t.Fatalf("%d are remembered, a member's among them: %v", len(a.told), held)
	}
}

// A peer that becomes full is told this node's own summary, signed.
func TestOwnHealthIsTold(t *testing.T) {
	w := newWorld(t)
	a, b := w.member("a"), w.member("b")
	a.run()
	b.run()
	full(a, b)
	eventually(t, "b has a's signed summary", patience, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.told[a.key.NodeID()].raw != nil
	})
	if one := a.ownHealth(); string(one) != string(a.ownHealth()) {
		t.Fatal("every session costs a signature")
	}
}
