package session

import (
	"bytes"
	"errors"
	"iter"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sovereignmesh/meshkey/internal/wire"
	"github.com/sovereignmesh/meshkey/keys"
)

// bodies is one legal body of every kind.
func bodies() []Body {
	obj := func(k Kind) Body { return Object{K: k, Raw: []byte{0x82, 1, 2}} }
	num := func(k Kind, n uint64) Body { return Number{K: k, N: n} }
	sync := func(k Kind) Body { return Sync{K: k, Raw: wire.MustMarshal([]any{uint64(k), "opaque"})} }
	return []Body{
		Ready{State: Full},
		Ready{State: SyncOnly, Unsynced: true},
		sync(KindVec), sync(KindWant), sync(KindRoot), sync(KindEntry), sync(KindEvidence), sync(KindHead), sync(KindHashAt),
		num(KindAck, 1), num(KindGroupGet, 0),
		Group{Generation: 3, Secret: [32]byte{1}},
		obj(KindCertUpdate), obj(KindRenew), num(KindDial, 4), num(KindSkip, 1<<40), obj(KindPeer),
		Find{Node: keys.NodeID{1}, Hops: MaxFindHops},
		obj(KindReceipt), num(KindGoAway, 2),
		Plain{K: KindRekeyAsk},
		Services{Seq: 1, List: []Service{
			{Name: "db", Proto: "tcp", State: ServiceUp, Since: 5},
			{Name: "web", State: ServiceDown, Since: 6, Reason: "connection refused"},
		}},
		obj(KindWitness), obj(KindEnroll),
		Granted{Certificate: []byte{1}, GroupGen: 1, GroupSecret: [32]byte{2}, Peers: [][]byte{{3}, {4}}},
		Plain{K: KindPending},
		Refused{Code: CodeExpired},
		Rotate{Request: []byte{1}, Signature: keys.Signature{2}},
		Answer{K: KindRotation, Raw: []byte("mk1i")},
		Answer{K: KindRotation, Code: CodeRevoked},
		obj(KindLeave),
		Answer{K: KindLeft, Raw: []byte{1}},
		Answer{K: KindLeft, Code: CodeLimit},
		obj(KindHealth),
	}
}

func TestBodiesRoundTrip(t *testing.T) {
	seen := map[Kind]bool{}
	for _, b := range bodies() {
		data, err := Encode(b)
		if err != nil {
			t.Fatalf("%s: %v", b.Kind(), err)
		}
		back, err := ParseBody(data)
		if err != nil {
			t.Fatalf("%s: %v", b.Kind(), err)
		}
		again, err := Encode(back)
		if err != nil || !bytes.Equal(again, data) || back.Kind() != b.Kind() {
			t.Fatalf("%s: %x became %x, %v", b.Kind(), data, again, err)
		}
		if n, _ := wire.Kind(data); Kind(n) != b.Kind() {
			t.Fatalf("%s is kind %d on the wire", b.Kind(), n)
		}
		seen[b.Kind()] = true
		// Strict: nothing after, nothing missing.
		if b.Kind() < KindVec || b.Kind() > KindHashAt {
			for _, bad := range [][]byte{append(bytes.Clone(data), 0), data[:len(data)-1]} {
				if got, err := ParseBody(bad); !errors.Is(err, ErrProtocol) || got != nil {
					t.Fatalf("%s: %x was read", b.Kind(), bad)
				}
			}
		}
	}
	for _, k := range append(slices.Collect(seq(KindReady, lastKind)), KindHealth) {
		if !seen[k] {
			t.Errorf("%s has no example", k)
		}
		if strings.HasPrefix(k.String(), "kind") {
			t.Errorf("kind %d has no name", k)
		}
	}
}

// seq counts from one kind to another.
func seq(from, to Kind) iter.Seq[Kind] {
	return func(yield func(Kind) bool) {
		for k := from; k <= to && yield(k); k++ {
		}
	}
}

func TestUnknownKinds(t *testing.T) {
	for _, k := range []uint64{0, 27, 127} {
		if b, err := ParseBody(wire.MustMarshal([]uint64{k})); !errors.Is(err, ErrProtocol) || b != nil {
			t.Errorf("kind %d: %v", k, err)
		}
	}
	for _, k := range []uint64{129, 200, 255} {
		b, err := ParseBody(wire.MustMarshal([]any{k, "of a later version"}))
		if u, ok := b.(Unknown); !ok || err != nil || u.Kind() != Kind(k) {
			t.Errorf("kind %d: %v %v", k, b, err)
		}
		if _, err := Encode(b); err == nil {
			t.Error("an unknown kind was encoded")
		}
	}
}

func TestBodyRules(t *testing.T) {
	long := func(n int) []byte { return make([]byte, n) }
	list := func(n int) (l []Service) {
		for i := range n {
			l = append(l, Service{Name: "s" + strings.Repeat("a", i/26) + string(rune('a'+i%26)), State: ServiceUp})
		}
		return l
	}
	for name, b := range map[string]Body{
		"state 0":               Ready{},
		"state closed":          Ready{State: Closed},
		"ack 0":                 Number{K: KindAck},
		"dial 0":                Number{K: KindDial},
		"dial 5":                Number{K: KindDial, N: maxDial + 1},
		"goaway 0":              Number{K: KindGoAway},
		"goaway 256":            Number{K: KindGoAway, N: 256},
		"no number":             Number{K: KindPeer},
		"no node":               Find{},
		"too many hops":         Find{Node: keys.NodeID{1}, Hops: MaxFindHops + 1},
		"no object":             Object{K: KindPeer},
		"object too long":       Object{K: KindPeer, Raw: long(maxObject + 1)},
		"witness too long":      Object{K: KindWitness, Raw: long(maxWitness + 1)},
		"object of sync":        Object{K: KindRoot, Raw: []byte{1}},
		"sync of another kind":  Sync{K: KindRoot, Raw: []byte{0x81, 5}},
		"sync of no sync kind":  Sync{K: KindPeer, Raw: []byte{0x81, 16}},
		"sync too long":         Sync{K: KindRoot, Raw: append([]byte{0x82, 4}, long(MaxBody)...)},
		"not plain":             Plain{K: KindReady},
		"grant, no certificate": Granted{},
		"grant, long":           Granted{Certificate: long(maxObject + 1)},
		"grant, many peers":     Granted{Certificate: []byte{1}, Peers: make([][]byte, maxGrantedPeers+1)},
		"grant, empty peer":     Granted{Certificate: []byte{1}, Peers: [][]byte{{}}},
		"refused 0":             Refused{},
		"services unsorted":     Services{List: []Service{{Name: "b", State: 1}, {Name: "a", State: 1}}},
		"services twice":        Services{List: []Service{{Name: "a", State: 1}, {Name: "a", State: 1}}},
		"services too many":     Services{List: list(maxServices + 1)},
		"service name":          Services{List: []Service{{Name: "A", State: 1}}},
		"service name empty":    Services{List: []Service{{State: 1}}},
		"service name long":     Services{List: []Service{{Name: strings.Repeat("a", maxServiceName+1), State: 1}}},
		"service proto":         Services{List: []Service{{Name: "a", Proto: "?", State: 1}}},
		"service state 0":       Services{List: []Service{{Name: "a"}}},
		"service state 4":       Services{List: []Service{{Name: "a", State: 4}}},
		"reason too long":       Services{List: []Service{{Name: "a", State: 1, Reason: strings.Repeat("x", maxReason+1)}}},
		"reason with escape":    Services{List: []Service{{Name: "a", State: 1, Reason: "\x1b[2J"}}},
	} {
		if _, err := Encode(b); err == nil {
			t.Errorf("%s: encoded", name)
		}
		// And if a peer encodes it all the same:
		raw := wireForm(t, b)
		if got, err := ParseBody(raw); err == nil {
			if _, isSync := got.(Sync); !isSync { // whose content trust checks
				t.Errorf("%s: parsed as %+v", name, got)
			}
		}
	}
}

// wireForm encodes a body without applying its rules.
func wireForm(t *testing.T, b Body) []byte {
	t.Helper()
	if s, ok := b.(Sync); ok {
		return s.Raw
	}
	v := reflect.New(reflect.TypeOf(b)).Elem()
	v.Set(reflect.ValueOf(b))
	if f := v.FieldByName("K"); f.IsValid() && f.Uint() == 0 {
		f.SetUint(uint64(b.Kind()))
	}
	return wire.MustMarshal(v.Interface())
}

// The largest body of every kind fits a record.
func TestLargestBodiesFit(t *testing.T) {
	var list []Service
	for i := range maxServices {
		name := strings.Repeat("a", maxServiceName-2) + string(rune('a'+i/16)) + string(rune('a'+i%16))
		list = append(list, Service{
			Name: name, Proto: strings.Repeat("p", maxServiceName), State: ServiceDraining, Since: 1 << 62,
			Reason: strings.Repeat("r", maxReason-60),
		})
	}
	peers := make([][]byte, maxGrantedPeers)
	for i := range peers {
		peers[i] = make([]byte, maxObject)
	}
	for _, b := range []Body{
		Services{Seq: 1 << 63, List: list},
		Granted{Certificate: make([]byte, maxObject), GroupGen: 1 << 63, Peers: peers},
		Object{K: KindWitness, Raw: make([]byte, maxWitness)},
	} {
		if data, err := Encode(b); err != nil {
			t.Errorf("%s: %v", b.Kind(), err)
		} else if _, err := ParseBody(data); err != nil {
			t.Errorf("%s: %v", b.Kind(), err)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	for _, b := range []Body{Group{Secret: [32]byte{0xab}}, Granted{GroupSecret: [32]byte{0xab}}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			if s := sprint(verb, b); strings.Contains(s, "171") || strings.Contains(strings.ToLower(s), "ab") {
				t.Errorf("%s prints %s", verb, s)
			}
		}
	}
}

func TestHeartbeat(t *testing.T) {
	full := Heartbeat{
		Health: &Health{
			Seq: 1, Version: "1.2.3", Uptime: 4, Load: 150, DiskFree: 1 << 40, ClockDrift: -20, Expiry: 1 << 31, Audit: AuditHealthy,
			AuditSize: 12, AuditHead: [32]byte{1}, Time: 1 << 41,
		},
		Degree: 8, Digest: [8]byte{1, 2}, Ping: 5, Pong: 6,
	}
	for _, h := range []Heartbeat{{}, {Pong: 9}, {Health: &Health{}}, full} {
		b, err := EncodeHeartbeat(h)
		if err != nil {
			t.Fatal(err)
		}
		got, ignored, err := ParseHeartbeat(b)
		if err != nil || ignored != 0 || !reflect.DeepEqual(got, h) {
			t.Fatalf("%+v became %+v: %v", h, got, err)
		}
	}
	for _, padding := range [][]byte{nil, {0}, make([]byte, 500)} {
		if h, n, err := ParseHeartbeat(padding); err != nil || n != 0 || h != (Heartbeat{}) {
			t.Fatal(h, n, err)
		}
	}
	for name, h := range map[string]Heartbeat{
		"version long": {Health: &Health{Version: strings.Repeat("v", maxVersion+1)}},
		"version bell": {Health: &Health{Version: "\a"}},
		"audit state":  {Health: &Health{Audit: 3}},
	} {
		if _, err := EncodeHeartbeat(h); err == nil {
			t.Errorf("%s: encoded", name)
		}
		if _, _, err := ParseHeartbeat(wire.MustMarshal(h)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHeartbeatUnknownKeys(t *testing.T) {
	enc := func(m map[uint64]any) []byte { return wire.MustMarshal(m) }
	h, n, err := ParseHeartbeat(enc(map[uint64]any{
		2: 7, 128: "later", 1000: []int{1}, 1: map[uint64]any{1: 5, 130: true, 131: "x"},
	}))
	if err != nil || n != 4 || h.Degree != 7 || h.Health.Seq != 5 {
		t.Fatalf("%+v %d %v", h, n, err)
	}
	for name, b := range map[string][]byte{
		"unknown low key":           enc(map[uint64]any{6: 1}),
		"unknown low key in health": enc(map[uint64]any{1: map[uint64]any{12: 1}}),
		"zero instead of absent":    enc(map[uint64]any{2: 0}),
		"wrong type":                enc(map[uint64]any{2: "x"}),
		"text key":                  wire.MustMarshal(map[string]any{"a": 1}),
		"an array":                  wire.MustMarshal([]int{1}),
		"trailing":                  append(enc(map[uint64]any{2: 7}), 0),
		"long form":                 {0xa1, 2, 0x18, 7},
		"digest of 7":               enc(map[uint64]any{3: make([]byte, 7)}),
		"too long":                  enc(map[uint64]any{200: make([]byte, 2*maxHealth)}),
		"health too long":           enc(map[uint64]any{1: map[uint64]any{200: make([]byte, maxHealth)}}),
	} {
		if h, n, err := ParseHeartbeat(b); !errors.Is(err, ErrProtocol) || n != 0 || h != (Heartbeat{}) {
			t.Errorf("%s: %+v %v", name, h, err)
		}
	}
}

// The largest heartbeat this side can make is one it would take.
func TestLargestHeartbeatFits(t *testing.T) {
	const most = 1<<64 - 1
	h := Heartbeat{
		Health: &Health{
			Seq: most, Version: strings.Repeat("v", maxVersion), Uptime: most, Load: most, DiskFree: most, ClockDrift: -1 << 63,
			Expiry: most, Audit: AuditDegraded, AuditSize: most, AuditHead: [32]byte{1}, Time: most,
		},
		Degree: most, Digest: [8]byte{1}, Ping: most, Pong: most,
	}
	b, err := EncodeHeartbeat(h)
	if err != nil || len(b) > maxHealth {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if _, _, err := ParseHeartbeat(b); err != nil {
		t.Fatal(err)
	}
}

func TestStates(t *testing.T) {
	begin := time.Unix(1e9, 0)
	ready := func(st State) Body { return Ready{State: st} }
	root := Sync{K: KindRoot, Raw: []byte{0x81, 4}}
	full := func(t *testing.T) *States {
		s := NewStates(begin, false)
		if err := s.Declare(Full); err != nil {
			t.Fatal(err)
		}
		if err := s.Received(ready(Full), 5); err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("READY first", func(t *testing.T) {
		s := NewStates(begin, false)
		s.Declare(Full)
		for _, b := range []Body{root, Unknown{200}} {
			if err := s.Received(b, 1); !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
		}
	})
	t.Run("nothing before our READY", func(t *testing.T) {
		s := NewStates(begin, false)
		s.Received(ready(Full), 1)
		for _, b := range []Body{root, Unknown{200}} {
			if err := s.Received(b, 1); !errors.Is(err, ErrProtocol) {
				t.Fatal(err)
			}
		}
	})
	t.Run("steps", func(t *testing.T) {
		for from := SyncOnly; from <= Draining; from++ {
			for to := State(0); to <= Closed+1; to++ {
				legal := to >= SyncOnly && to <= Draining && (from < Full || to >= from)
				s := NewStates(begin, false)
				s.Declare(from)
				if err := s.Declare(to); (err == nil) != legal {
					t.Errorf("we from %s to %s: %v", from, to, err)
				}
				s.Received(ready(from), 1)
				if err := s.Received(ready(to), 1); (err == nil) != legal {
					t.Errorf("peer from %s to %s: %v", from, to, err)
				}
			}
		}
	})
	t.Run("streams", func(t *testing.T) {
		for a := SyncOnly; a <= Draining; a++ {
			for b := SyncOnly; b <= Draining; b++ {
				s := NewStates(begin, false)
				s.Declare(a)
				s.Received(ready(b), 1)
				if s.MayOpen() != (a == Full && b == Full) {
					t.Errorf("streams while %s and %s: %v", a, b, s.MayOpen())
				}
			}
		}
		s := full(t)
		if s.End(CodeRevoked) != CodeRevoked || s.End(CodeNormal) != CodeRevoked {
			t.Fatal("the first reason does not win")
		}
		if s.MayOpen() || s.Local() != Closed {
			t.Fatal("streams after the end")
		}
		for _, b := range []Body{root, ready(Draining)} {
			if err := s.Received(b, 1); !errors.Is(err, ErrProtocol) {
				t.Fatal("records after the end")
			}
		}
	})
	t.Run("kinds", func(t *testing.T) {
		// local state, peer state → kinds taken
		want := map[[2]State]string{
			{Full, Full}:             "2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 27 28 28 29 30 30 128 200",
			{Draining, Full}:         "2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 27 28 28 29 30 30 128 200",
			{Restricted, Full}:       "2 3 4 5 6 7 8 9 19 128 200",
			{Restricted, Restricted}: "2 3 4 5 6 7 8 9 19 128 200",
			{RenewOnly, Full}:        "2 3 4 5 6 7 8 9 13 19 128 200",
			{SyncOnly, Full}:         "2 4 5 6 7 8 9 19 128 200",
			{Full, Restricted}:       "2 3 4 5 6 7 8 9 12 19 128 200",
			{Full, RenewOnly}:        "2 3 4 5 6 7 8 9 12 19 128 200",
			{Full, SyncOnly}:         "2 3 8 9 19 128 200",
		}
		for st, kinds := range want {
			var got []string
			for _, b := range bodies() {
				s := NewStates(begin, false)
				s.Declare(st[0])
				s.Received(ready(st[1]), 1)
				if b.Kind() == KindReady {
					continue
				}
				if err := s.Received(b, 1); err == nil {
					got = append(got, sprint("%d", uint64(b.Kind())))
				} else if !errors.Is(err, ErrProtocol) {
					t.Fatal(err)
				}
			}
			got = append(got, "200")
			s := NewStates(begin, false)
			s.Declare(st[0])
			s.Received(ready(st[1]), 1)
			if err := s.Received(Unknown{200}, 1); err != nil {
				t.Errorf("%v: unknown high kind: %v", st, err)
			}
			if strings.Join(got, " ") != kinds {
				t.Errorf("we %s, peer %s: %s, want %s", st[0], st[1], strings.Join(got, " "), kinds)
			}
		}
	})
	t.Run("enrolment", func(t *testing.T) {
		legal := "2 3 4 5 6 7 9 23 24 25 26"
		var got []string
		for _, b := range bodies() {
			if NewStates(begin, true).Received(b, 1) == nil {
				got = append(got, sprint("%d", uint64(b.Kind())))
			}
		}
		if strings.Join(got, " ") != legal {
			t.Fatalf("%s", strings.Join(got, " "))
		}
		if NewStates(begin, true).Declare(Full) == nil {
			t.Fatal("READY in an enrolment session")
		}
	})
	t.Run("limits", func(t *testing.T) {
		s := NewStates(begin, false)
		s.Declare(Restricted)
		s.Received(ready(Full), 10)
		if err := s.Received(root, LimitedBytes-10); err != nil {
			t.Fatal(err)
		}
		if err := s.Received(root, 1); !errors.Is(err, ErrLimited) {
			t.Fatalf("over the limit: %v", err)
		}
		if s.Expired(begin.Add(LimitedLife-1)) || !s.Expired(begin.Add(LimitedLife)) {
			t.Fatal("30 s")
		}
		f := full(t)
		if err := f.Received(root, LimitedBytes+1); err != nil || f.Expired(begin.Add(time.Hour)) {
			t.Fatal("a full session is limited")
		}
	})
}

func TestFeatures(t *testing.T) {
	const later = 1 << 40
	f := Common(uint64(FeatureRekey|FeatureWarm)|later, uint64(FeatureWarm)|later)
	if f != FeatureWarm || !f.Has(FeatureWarm) || f.Has(FeatureRekey) || f.Has(FeatureWarm|FeatureRekey) {
		t.Fatalf("%b", f)
	}
}
