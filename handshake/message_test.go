package handshake

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/sovereignmesh/meshkey/identity"
	"github.com/sovereignmesh/meshkey/keys"
)

// largest is a member whose certificate, binding and hints are as long as the rules allow.
func largest(w *world) *member {
	m := w.member("x")
	m.cert.Name = strings.Repeat("n", identity.MaxName)
	m.cert.Serial, m.cert.NotAfter, m.cert.RenewUntil = math.MaxUint64, identity.MaxTime, identity.MaxTime
	m.cert.Tags = nil
	for i, size := 0, 0; i < identity.MaxTags && size < identity.MaxTagBytes; i++ {
		n := min(identity.MaxTag, identity.MaxTagBytes-size)
		if i >= identity.MaxTagBytes/identity.MaxTag {
			n = 1
		}
		m.cert.Tags = append(m.cert.Tags, string(rune('a'+i))+strings.Repeat("t", n-1))
		size += n
	}
	m.sign(w)
	m.local.RootVersion, m.local.GroupGen, m.local.Flags = math.MaxUint64, math.MaxUint64, math.MaxUint64
	m.local.Features, m.local.ConnSeq = math.MaxUint64, math.MaxUint64
	return m
}

// TestLargestPayload: every object at its maximum fits, and is sent.
func TestLargestPayload(t *testing.T) {
	w := newWorld("home")
	d, a := largest(w), largest(w)
	do, ao := runBoth(t, w.dialConfig(d, a, keys.SuiteAES), w.acceptor(a))
	if do.err != nil || ao.err != nil {
		t.Fatal(do.err, ao.err)
	}
	if ao.r.Peer.Features != math.MaxUint64 || len(ao.r.Peer.Certificate.Tags) != len(d.cert.Tags) {
		t.Errorf("peer %+v", ao.r.Peer)
	}
	// And where the bounds, not today's objects, are reached.
	p := payload{
		Certificate: make([]byte, identity.MaxCertificate), Binding: make([]byte, identity.MaxBinding), RootVersion: math.MaxUint64,
		GroupGen: math.MaxUint64, Flags: math.MaxUint64, Time: identity.MaxTime, ConnSeq: math.MaxUint64, Features: math.MaxUint64,
	}
	b, err := p.encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decodePayload(b); err != nil {
		t.Error(err)
	}
}

// TestPayloadBounds: the encoder writes nothing the decoder refuses.
func TestPayloadBounds(t *testing.T) {
	ok := payload{Certificate: []byte{1}, Binding: []byte{1}}
	for name, change := range map[string]func(p *payload){
		"certificate too long": func(p *payload) { p.Certificate = make([]byte, identity.MaxCertificate+1) },
		"binding too long":     func(p *payload) { p.Binding = make([]byte, identity.MaxBinding+1) },
		"no binding":           func(p *payload) { p.Binding = nil },
		"negative time":        func(p *payload) { p.Time = -1 },
		"time without end":     func(p *payload) { p.Time = identity.MaxTime + 1 },
	} {
		p := ok
		change(&p)
		if b, err := p.encode(nil); err == nil || b != nil {
			t.Errorf("%s: encoded", name)
		}
	}
	b := must(ok.encode([]byte("before")))
	if !bytes.HasPrefix(b, []byte("before")) || len(b) != 6+sizePayload {
		t.Errorf("encode does not append exactly %d bytes", sizePayload)
	}
	for _, n := range []int{0, 1, 2, sizePayload - 1, sizePayload + 1} {
		if p, err := decodePayload(make([]byte, n)); err == nil || p != nil {
			t.Errorf("payload of %d bytes accepted", n)
		}
	}
	for _, n := range []int{0, 1, 2, sizeP1 - 1, sizeP1 + 1} {
		b := make([]byte, n)
		if n > 0 {
			b[0] = versionP1
		}
		if ek, err := decodeP1(b); err == nil || ek != nil {
			t.Errorf("P1 of %d bytes accepted", n)
		}
	}
}

// TestReasonsHaveNames: each is one word of its own, for metrics.
func TestReasonsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for r := Reason(1); r < numReasons; r++ {
		if n := r.String(); n == "" || n == "unknown" || seen[n] || strings.ContainsAny(n, " _") {
			t.Errorf("reason %d is called %q", r, n)
		} else {
			seen[n] = true
		}
	}
	if Reason(0).String() != "unknown" || numReasons.String() != "unknown" {
		t.Error("reasons out of range")
	}
}

// TestStaticIsNotPrinted: no format shows a private key.
func TestStaticIsNotPrinted(t *testing.T) {
	s := NewStatic()
	for _, f := range []string{s.String(), s.GoString()} {
		if f != "[noise static key]" {
			t.Errorf("printed %q", f)
		}
	}
	if s.Public() == NewStatic().Public() {
		t.Error("two static keys are the same")
	}
}
